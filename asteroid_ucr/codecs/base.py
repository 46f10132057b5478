"""The interface of a codec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from asteroid_ucr.masking import stft


class Codec(nn.Module, ABC):
    """A frozen map between waveforms and latents.

    Attributes:
        name: What configurations call it.
        sample_rate: Sample rate of the waveform, in Hz.
        hop: Samples per latent frame.
        channels: Channels of the latents.
        has_power: Whether the latents are magnitudes, so that `to_power` and `from_power` exist,
            and `widths`, the frequency bins that each channel stands for, `(channels, 1)`.
    """

    name: str
    sample_rate: int
    hop: int
    channels: int
    has_power: bool = False
    widths: Tensor

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.sample_rate / self.hop

    def frames(self, samples: int) -> int:
        """Latent frames of a waveform of that many samples."""
        return -(-samples // self.hop)

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Constructor arguments that determine the latents, as plain values."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Changes whenever the latents of some waveform would: settings and weights."""

    @abstractmethod
    def encode(self, wav: Tensor) -> Tensor:
        """`(batch, 1, time)` at `sample_rate` to `(batch, channels, frames(time))`."""

    @abstractmethod
    def decode(self, latents: Tensor, length: int) -> Tensor:
        """`(batch, channels, frames)` to `(batch, 1, length)`, `length` in samples."""

    def spectrogram(self, latents: Tensor, length: int) -> Tensor:
        """Power spectrogram of what the latents stand for, on the grid of `asteroid_ucr.masking`.

        Args:
            latents: `(batch, channels, frames)`.
            length: Length of the waveform, in samples.

        Returns:
            `(batch, freq, 1 + length // hop)`.
        """
        return stft(self.decode(latents, length)[:, 0], self.sample_rate).abs().square()

    def to_power(self, latents: Tensor) -> Tensor:
        """Latents to the powers that they stand for, elementwise."""
        raise NotImplementedError(f"The latents of {self.name} have no power.")

    def from_power(self, power: Tensor) -> Tensor:
        """Inverse of `to_power` where the latents are not negative."""
        raise NotImplementedError(f"The latents of {self.name} have no power.")
