"""Runs EnCodec's networks on long sounds in bounded memory, with the result of the whole.

An output of a causal SEANet depends on a limited past through its convolutions, so that a chunk
preceded by that past gives the same output as the whole signal. Its recurrent layers depend on all
of the past, but they run at the latents' low rate. Therefore the convolutions run in chunks, and
the recurrent layers run once over the whole signal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import groupby

import torch
from encodec.modules import SLSTM
from torch import Tensor, nn

CHUNK_FRAMES = 2250  # 30 s, which takes about 1 GB at EnCodec's own width
MARGIN = 2  # frames beyond the computed past, for rounding and for the padding of a last frame


def run_in_chunks(layers: nn.Sequential, x: Tensor, frames: int = CHUNK_FRAMES) -> Tensor:
    """The output of a causal SEANet's layers for `(batch, channels, time)`.

    Inputs longer than `frames` latent frames are processed in chunks of this length, plus past.
    """
    hop = max(1, int(_window(layers)[1]))  # input samples per latent frame
    for recurrent, group in groupby(layers, lambda layer: isinstance(layer, SLSTM)):
        part = nn.Sequential(*group)
        hop_out = int(hop / _window(part)[1])
        if recurrent or x.shape[-1] <= frames * hop:
            x = part(x)
        else:
            past, pieces = past_frames(part, hop) + MARGIN, []
            for start in range(0, math.ceil(x.shape[-1] / hop), frames):
                first = max(0, start - past)
                piece = part(x[..., first * hop : (start + frames) * hop])
                pieces.append(piece[..., (start - first) * hop_out :])
            x = torch.cat(pieces, dim=-1)
        hop = hop_out
    return x


def past_frames(part: Iterable[nn.Module], hop: int) -> int:
    """Past latent frames, of `hop` input samples each, that an output of convolutions needs."""
    return math.ceil(_window(part)[0] / hop)


def _window(layers: Iterable[nn.Module]) -> tuple[Fraction, Fraction]:
    """Past input samples that an output depends on, and input samples per output sample."""
    reach, step = Fraction(0), Fraction(1)
    for layer in layers:
        # The shortcut of a residual block depends on no more than its main branch.
        for conv in getattr(layer, "block", layer).modules():
            if isinstance(conv, nn.Conv1d):
                reach += (conv.kernel_size[0] - 1) * conv.dilation[0] * step
                step *= conv.stride[0]
            elif isinstance(conv, nn.ConvTranspose1d):
                reach += (conv.kernel_size[0] - 1) // conv.stride[0] * step
                step /= conv.stride[0]
    return reach, step
