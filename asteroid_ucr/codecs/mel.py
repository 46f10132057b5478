"""A codec without weights: the compressed mel spectrogram."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

from asteroid_ucr.codecs.base import Codec
from asteroid_ucr.masking import MASK_FFT, MASK_HOP, MASK_RATE, stft

# Added to the power before compression, so that the gradient at silence is finite. It is about
# 114 dB below a sine at full scale, near the quantisation noise of 16-bit audio.
FLOOR = 1e-6
_EPS = 1e-14  # power of silence in Griffin-Lim, whose gradient is infinite at zero


class MelCodec(Codec):
    """Mel spectrogram of 128 bands at 75 frames/s, compressed by a power law.

    It has EnCodec's shape (24 kHz, 128 channels, 75 frames/s) and needs no weights. It discards the
    phase; `decode` estimates one (fast Griffin-Lim, Perraudin et al. 2013), which is audible.

    Args:
        bands: Number of mel bands (Slaney's scale, 0 to 12 kHz).
        exponent: Exponent of the power. The default corresponds to magnitudes to the power of 0.3,
            which is usual in speech enhancement and close to loudness.
        iterations: Number of iterations of Griffin-Lim.
    """

    name = "mel"
    sample_rate = MASK_RATE
    hop = MASK_HOP
    has_power = True

    def __init__(self, bands: int = 128, exponent: float = 0.15, iterations: int = 32):
        super().__init__()
        self.channels = bands
        self.exponent = exponent
        self.iterations = iterations
        weights = torchaudio.functional.melscale_fbanks(
            MASK_FFT // 2 + 1, 0.0, MASK_RATE / 2, bands, MASK_RATE, mel_scale="slaney"
        ).T
        self.register_buffer("widths", weights.sum(1, keepdim=True), persistent=False)
        # A band has the mean power of its bins, so that its level does not depend on its width.
        self.register_buffer("analysis", weights / weights.sum(1, keepdim=True), persistent=False)
        # In the other direction, a bin has the mean power of the bands that cover it.
        spread = weights.T / weights.sum(0).clamp(min=1e-6)[:, None]
        # No band covers 0 Hz and the Nyquist frequency: these bins copy their neighbours.
        spread[0], spread[-1] = spread[1], spread[-2]
        self.register_buffer("synthesis", spread, persistent=False)

    @property
    def options(self) -> dict[str, Any]:
        return {"bands": self.channels, "exponent": self.exponent}

    @property
    def fingerprint(self) -> str:
        return (
            f"mel-v1 bands={self.channels} exponent={self.exponent} fft={MASK_FFT} hop={self.hop}"
        )

    def encode(self, wav: Tensor) -> Tensor:
        power = self.analysis @ stft(wav[:, 0]).abs().square()
        # The transform has a frame at either end, and the codec has one frame per hop.
        return self.from_power(power)[..., : self.frames(wav.shape[-1])]

    def encode_sum(self, parts: Tensor) -> Tensor:
        """Latents of a sum, and of what masks on the sum can take of its parts.

        In each band, the mask that leaves the smallest error is Re Σ S·X* / Σ |X|², for a part S of
        the sum X (the phase-sensitive filter, Erdogan et al. 2015, eq. 9). It depends on how the
        parts' phases meet, and differs from the part's share of the power. The masks are clipped to
        0 and 1, and sum to one.
        """
        spec = stft(parts)
        total = spec.sum(0, keepdim=True)
        power = self.analysis @ (torch.cat([total, spec]) * total.conj()).real
        taken = power[1:].clamp(min=0)
        taken = taken * (power[:1] / taken.sum(0).clamp(min=1e-12))
        latents = self.from_power(torch.cat([power[:1], taken]))
        return latents[..., : self.frames(parts.shape[-1])]

    def to_power(self, latents: Tensor) -> Tensor:
        return (latents.relu() + FLOOR**self.exponent).pow(1 / self.exponent) - FLOOR

    def from_power(self, power: Tensor) -> Tensor:
        return (power + FLOOR).pow(self.exponent) - FLOOR**self.exponent

    def spectrogram(self, latents: Tensor, length: int) -> Tensor:
        power = self.synthesis @ self.to_power(latents)
        missing = 1 + length // self.hop - power.shape[-1]
        return F.pad(power, (0, missing), mode="replicate") if missing > 0 else power

    def decode(self, latents: Tensor, length: int) -> Tensor:
        # On a CPU, one item at a time is more than twice as fast, because of the caches.
        size = 1 if latents.device.type == "cpu" else len(latents)
        return torch.cat([self._invert(part, length) for part in latents.split(size)])

    def _invert(self, latents: Tensor, length: int) -> Tensor:
        """Estimates the phase by Griffin-Lim."""
        padded = max(length, 2 * MASK_FFT)  # Griffin-Lim needs more than one window
        latents = F.pad(latents, (0, self.frames(padded) - latents.shape[-1]))
        wav = torchaudio.functional.griffinlim(
            self.spectrogram(latents, padded).clamp(min=_EPS),
            window=torch.hann_window(MASK_FFT, device=latents.device),
            n_fft=MASK_FFT,
            hop_length=self.hop,
            win_length=MASK_FFT,
            power=2.0,
            n_iter=self.iterations,
            momentum=0.99,
            length=padded,
            rand_init=False,  # the same latents give the same sound
        )
        return wav[:, None, :length]
