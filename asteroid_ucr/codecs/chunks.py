"""Long sounds through EnCodec's networks in bounded memory, with the result of the whole.

Convolutions of a causal SEANet see a limited past: a chunk with that much of it in front gives the
same output as the whole. Recurrent layers see all of the past, but they run at the latents' rate,
where the whole is small. So convolutions run in chunks, and recurrent layers run once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import torch
from encodec.modules import SLSTM
from torch import Tensor, nn

CHUNK_FRAMES = 2250  # 30 s: about 1 GB at EnCodec's own width
# Beyond the computed past: rounding to frames, and the reflection that fills a last frame.
MARGIN = 2


def run_in_chunks(layers: nn.Sequential, x: Tensor, frames: int = CHUNK_FRAMES) -> Tensor:
    """The output of `layers(x)`, computed piece by piece if it is long.

    Args:
        layers: `model` of a causal SEANet encoder or decoder.
        x: `(batch, channels, time)`.
        frames: Latent frames of a chunk, besides its past.
    """
    strides = [_stride(layer) for layer in layers]
    hop = math.prod(down for down, _ in strides)  # input samples of a latent frame
    for part in _parts(layers):
        down = math.prod(_stride(layer)[0] for layer in part)
        up = math.prod(_stride(layer)[1] for layer in part)
        if x.shape[-1] <= frames * hop or isinstance(part[0], SLSTM):
            x = part(x)
        else:
            x = _run_part(part, x, frames, hop, hop * up // down)
        hop = hop * up // down
    return x


def past_frames(part: nn.Sequential, hop: int) -> int:
    """Latent frames before an output's own that it depends on, by the convolutions' windows.

    Args:
        part: Layers without recurrence.
        hop: Input samples of a latent frame.
    """
    reach, step = Fraction(0), Fraction(1)  # in input samples
    for layer in part:
        # A residual block's shortcut sees no more than its branch.
        for conv in getattr(layer, "block", layer).modules():
            if isinstance(conv, nn.Conv1d):
                reach += (conv.kernel_size[0] - 1) * conv.dilation[0] * step
                step *= conv.stride[0]
            elif isinstance(conv, nn.ConvTranspose1d):
                reach += (conv.kernel_size[0] - 1) // conv.stride[0] * step
                step /= conv.stride[0]
    return math.ceil(reach / hop)


def _run_part(part: nn.Sequential, x: Tensor, frames: int, hop: int, hop_out: int) -> Tensor:
    past, pieces = past_frames(part, hop) + MARGIN, []
    for start in range(0, math.ceil(x.shape[-1] / hop), frames):
        first = max(0, start - past)
        piece = part(x[..., first * hop : (start + frames) * hop])
        pieces.append(piece[..., (start - first) * hop_out :])
    return torch.cat(pieces, dim=-1)


def _parts(layers: nn.Sequential) -> Iterator[nn.Sequential]:
    """Splits layers around those that are recurrent."""
    part: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, SLSTM):
            yield nn.Sequential(*part)
            yield nn.Sequential(layer)
            part = []
        else:
            part.append(layer)
    yield nn.Sequential(*part)


def _stride(layer: nn.Module) -> tuple[int, int]:
    """By how much a layer divides and multiplies the rate."""
    for conv in layer.modules():
        if isinstance(conv, nn.Conv1d) and conv.stride[0] > 1:
            return conv.stride[0], 1
        if isinstance(conv, nn.ConvTranspose1d):
            return 1, conv.stride[0]
    return 1, 1
