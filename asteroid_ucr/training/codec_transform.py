"""A start at which the codec is a cosine transform, and the part of the network that stays one.

A short training of a narrow SEANet from noise ends near 10 dB. The same network can hold the lowest
coefficients of a block's cosine transform (DCT-II), more than 20 dB, exactly: strided convolutions
gather the samples of a frame, the last of them transforms, and the decoder undoes both. Channels on
this way carry an offset that keeps them in the linear part of the ELUs. They are frozen; all other
channels, and the latents that are left, learn what the transform lacks: the treble, above all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from encodec import EncodecModel
from encodec.modules.seanet import SEANetResnetBlock
from torch import Tensor, nn

from asteroid_ucr.errors import UserError

SAMPLE_OFFSET = 1.5  # samples above −1.5 stay linear
FRAME_OFFSET = 16.0  # and so do the coefficients of a frame that loud
LEARNT_SCALE = 0.3  # of the learnt latents at the start, beside coefficients of about one
OUTPUT_SCALE = 0.005  # of the learnt channels in the waveform at the start
# Directions of normalised weights turn the more slowly, the longer their vectors are. In the last
# convolution, steps as large as elsewhere would be heard: the offset makes them a constant tone.
SLOWNESS = 50.0


def cosine_transform(size: int) -> Tensor:
    """The orthonormal DCT-II, `(coefficient, sample)`."""
    angles = torch.arange(size)[:, None] * (torch.arange(size) + 0.5) * (math.pi / size)
    rows = angles.cos() * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


@torch.no_grad()
def start_as_transform(model: EncodecModel, kept: int) -> None:
    """Makes some channels of an initialised network a cosine transform.

    The first `kept` latents become the lowest coefficients of their frame; the decoder's output is
    their inverse, and nearly nothing of the other channels.

    Args:
        model: from `initialise`.
        kept: number of coefficients.

    Raises:
        UserError: if the network has no room for the transform.
    """
    widths = _check(model, kept)
    for parameter, mask in _trainable(model, kept):
        parameter.mul_(mask)  # also where a free channel reads or writes a frozen one

    first, *scaled, last = _main(model.encoder)
    strides = [conv.stride[0] for conv in scaled]
    gathered = [_gather(w, s) for w, s in zip(widths, strides[:-1], strict=False)]
    framed = _framed(cosine_transform(math.prod(strides))[:kept], strides)
    _set_rows(first, torch.ones(1, 1, 1), 0.0, SAMPLE_OFFSET)
    for conv, weight in zip(scaled[:-1], gathered, strict=True):
        _set_rows(conv, weight, SAMPLE_OFFSET, SAMPLE_OFFSET)
    _set_rows(scaled[-1], framed, SAMPLE_OFFSET, FRAME_OFFSET)
    _set_rows(last, torch.eye(kept)[..., None], FRAME_OFFSET, 0.0)
    last.weight_g[kept:] *= LEARNT_SCALE

    first, *scaled, last = _main(model.decoder)
    _set_rows(first, torch.eye(kept)[..., None], 0.0, FRAME_OFFSET)
    # What the offsets add up to differs from sample to sample: a constant channel undoes it.
    first.weight_v[kept] = 1.0
    first.bias[kept] = 1.0
    constant = SAMPLE_OFFSET - FRAME_OFFSET * framed.sum(0, keepdim=True)
    _set_inputs(scaled[0], torch.cat([framed, constant]))
    for conv, weight in zip(scaled[1:], gathered[::-1], strict=True):
        _set_inputs(conv, weight)
    row = OUTPUT_SCALE * last.weight_v / last.weight_v.norm()
    row[0, 0, -1] = 1.0
    last.weight_v.copy_(SLOWNESS * row)
    last.weight_g.fill_(row.norm().item())
    last.bias.fill_(-SAMPLE_OFFSET)


def freeze_transform(model: EncodecModel, kept: int) -> None:
    """Makes the gradients of the transform's weights zero, so that training leaves it alone.

    Raises:
        UserError: if the network has no room for the transform.
    """
    _check(model, kept)
    for parameter, mask in _trainable(model, kept):
        parameter.register_hook(lambda gradient, mask=mask: gradient * mask.to(gradient.device))


def _check(model: EncodecModel, kept: int) -> list[int]:
    """Channels that hold the transform: at the audio's rate, and after each stride."""
    first, *scaled, last = _main(model.encoder)
    widths = [math.prod(c.stride[0] for c in scaled[:n]) for n in range(len(scaled))] + [kept]
    room = [first.out_channels, *(conv.out_channels for conv in scaled)]
    whole = any(isinstance(m, nn.LSTM) for m in model.modules()) or not all(
        isinstance(block.shortcut, nn.Identity) for _, block in _blocks(model)
    )
    if whole or kept >= last.out_channels or any(w >= r for w, r in zip(widths, room, strict=True)):
        raise UserError(
            f"training.transform {kept} does not fit the network: give less than "
            f"{last.out_channels}, network.n_filters 8 or more, lstm 0 and true_skip true."
        )
    return widths


def _trainable(model: EncodecModel, kept: int) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Parameters and masks: zero on the transform, and where others would read its channels."""
    widths = _check(model, kept)

    def mask(parameter: nn.Parameter, *frozen: tuple) -> tuple[nn.Parameter, Tensor]:
        free = torch.ones_like(parameter)
        for where in frozen:
            free[where] = 0.0
        return parameter, free

    first, *scaled, last = _main(model.encoder)
    inputs = [0, *widths]
    for conv, read, made in zip([first, *scaled, last], inputs, [*widths, kept], strict=True):
        rows = (slice(made),)
        yield mask(conv.weight_v, rows, (slice(None), slice(read)))
        yield mask(conv.weight_g, rows)
        yield mask(conv.bias, rows)
    first, *scaled, last = _main(model.decoder)
    for part in ("weight_v", "weight_g", "bias"):
        yield mask(getattr(first, part), (slice(kept + 1),))
    inputs = [kept + 1, *widths[-2::-1]]
    for conv, read, made in zip(scaled, inputs[:-1], inputs[1:], strict=True):
        yield mask(conv.weight_v, (slice(read),), (slice(None), slice(made)))
        yield mask(conv.weight_g, (slice(read),))
        yield mask(conv.bias, (slice(made),))
    yield mask(last.weight_v, (slice(None), slice(1)))
    yield mask(last.weight_g, (slice(None),))
    for width, block in _blocks(model):
        hidden, out = (m for m in block.block.modules() if isinstance(m, nn.Conv1d))
        yield mask(hidden.weight_v, (slice(None), slice(width)))
        yield mask(out.weight_g, (slice(width),))
        yield mask(out.bias, (slice(width),))


def _main(part: nn.Module) -> list[nn.Conv1d | nn.ConvTranspose1d]:
    """The convolutions outside the residual blocks, in order."""
    return [
        module
        for layer in part.model
        if not isinstance(layer, SEANetResnetBlock)
        for module in layer.modules()
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d))
    ]


def _blocks(model: EncodecModel) -> Iterator[tuple[int, SEANetResnetBlock]]:
    """Residual blocks, each with the number of the transform's channels there."""
    for part in (model.encoder.model, model.decoder.model):
        strides = [c.stride[0] for c in _main(model.encoder)[1:-1]]
        done = 0 if part is model.encoder.model else len(strides)
        for layer in part:
            if isinstance(layer, SEANetResnetBlock):
                yield math.prod(strides[:done]), layer
            elif any(getattr(m, "stride", (1,))[0] > 1 for m in layer.modules()):
                done += 1 if part is model.encoder.model else -1


def _gather(width: int, stride: int) -> Tensor:
    """`(width · stride, width, stride)`: moves the samples of a step to channels of their own."""
    return torch.eye(width * stride).view(width * stride, width, stride)


def _framed(basis: Tensor, strides: list[int]) -> Tensor:
    """A transform of frames, `(kept, channels, steps)`, in the order that gathering leaves."""
    order = torch.arange(math.prod(strides))
    # Each gathering splits time into (step, sample in it) and puts the sample after the channel.
    order = order.view(-1, 1)
    for stride in strides[:-1]:
        order = order.view(-1, stride, order.shape[1]).transpose(1, 2).flatten(1)
    return basis[:, order.T]


def _set_rows(conv: nn.Conv1d, weight: Tensor, offset: float, target: float) -> None:
    """Sets the first output channels from the first input ones, at the last taps of the window."""
    rows, columns, taps = weight.shape
    conv.weight_v[:rows, :columns, -taps:] = weight
    conv.weight_g[:rows] = weight.flatten(1).norm(dim=1)[:, None, None]
    conv.bias[:rows] = target - offset * weight.sum((1, 2))


def _set_inputs(conv: nn.ConvTranspose1d, weight: Tensor) -> None:
    """Sets what the first input channels write, at the first taps, to the first output ones."""
    rows, columns, taps = weight.shape
    conv.weight_v[:rows, :columns, :taps] = weight
    conv.weight_g[:rows] = weight.flatten(1).norm(dim=1)[:, None, None]
