"""A codec without weights that preserves the waveform: the modified discrete cosine transform."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from asteroid_ucr.codecs.base import Codec
from asteroid_ucr.masking import MASK_HOP, MASK_RATE


class MdctCodec(Codec):
    """Lowest MDCT coefficients of 27 ms sine windows, 75 frames/s (Princen & Bradley 1986).

    It has EnCodec's shape (24 kHz, 128 channels, 75 frames/s) and needs no weights, and its latents
    are linear in the waveform. All 320 coefficients give perfect reconstruction; 128 coefficients
    preserve the band below 4.8 kHz.

    Args:
        channels: Number of coefficients per frame, 1 to 320.
    """

    name = "mdct"
    sample_rate = MASK_RATE
    hop = MASK_HOP
    # At the training level, an RMS of 0.1, the latents of mixtures have a power of about one.
    scale = 10.0

    def __init__(self, channels: int = 128):
        super().__init__()
        self.channels = channels
        hop = self.hop
        n = torch.arange(2 * hop, dtype=torch.float64) + 0.5
        k = torch.arange(channels, dtype=torch.float64)[:, None] + 0.5
        window = torch.sin(math.pi * n / (2 * hop))
        basis = window * torch.cos(math.pi / hop * (n + hop / 2) * k) * math.sqrt(2 / hop)
        self.register_buffer("basis", basis.float()[:, None], persistent=False)
        # One window instead of two covers half a hop at either end of a sound; see `_extend`.
        rise, fall = window[hop // 2 : hop], window[: hop // 2].flip(0)
        self.register_buffer("edge", (rise * (rise + fall)).float(), persistent=False)

    @property
    def options(self) -> dict[str, Any]:
        return {"channels": self.channels}

    @property
    def fingerprint(self) -> str:
        return f"mdct-v1 channels={self.channels} hop={self.hop}"

    def encode(self, wav: Tensor) -> Tensor:
        return self.scale * F.conv1d(self._extend(wav), self.basis, stride=self.hop)

    def decode(self, latents: Tensor, length: int) -> Tensor:
        half = self.hop // 2
        wav = F.conv_transpose1d(latents / self.scale, self.basis, stride=self.hop)
        wav = wav[..., half:-half]
        ones = self.edge.new_ones(wav.shape[-1] - 2 * half)
        wav = wav / torch.cat([self.edge, ones, self.edge.flip(0)])
        return F.pad(wav, (0, length - wav.shape[-1]))

    def _extend(self, wav: Tensor) -> Tensor:
        """Pads to whole frames, and extends either end by half a hop.

        The extensions have the symmetries of the MDCT's aliasing: odd at the start and even at the
        end. The aliasing there equals the sound itself, so that no further frame has to cancel it.
        """
        half = self.hop // 2
        wav = F.pad(wav, (0, -wav.shape[-1] % self.hop))
        return torch.cat([-wav[..., :half].flip(-1), wav, wav[..., -half:].flip(-1)], dim=-1)
