"""The interface of a codec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from asteroid_ucr.masking import stft


class Codec(nn.Module, ABC):
    """A frozen map between waveforms and latents.

    Attributes:
        name: Name in configurations.
        sample_rate: Sample rate of the waveform, in Hz.
        hop: Samples per latent frame.
        channels: Channels of the latents.
        has_power: Whether the latents are compressed powers; then `to_power`, `from_power` and
            `widths` exist.
        widths: Number of frequency bins per channel, `(channels, 1)`.
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
        """Number of latent frames of a waveform with this number of samples."""
        return -(-samples // self.hop)

    @property
    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Constructor arguments that determine the latents, as plain values."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A text that changes whenever settings or weights change the latents."""

    @abstractmethod
    def encode(self, wav: Tensor) -> Tensor:
        """`(batch, 1, time)` at `sample_rate` to `(batch, channels, frames(time))`."""

    @abstractmethod
    def decode(self, latents: Tensor, length: int) -> Tensor:
        """`(batch, channels, frames)` to `(batch, 1, length)`, `length` in samples."""

    def encode_sum(self, parts: Tensor) -> Tensor:
        """Latents `(1 + n, channels, frames)` of the sum of parts `(n, time)`, and of the parts."""
        return self.encode(torch.cat([parts.sum(0, keepdim=True), parts])[:, None])

    def spectrogram(self, latents: Tensor, length: int) -> Tensor:
        """Power spectrogram of the decoded latents, on the grid of `asteroid_ucr.masking`.

        Args:
            latents: `(batch, channels, frames)`.
            length: Length of the waveform, in samples.

        Returns:
            `(batch, freq, 1 + length // hop)`.
        """
        return stft(self.decode(latents, length)[:, 0], self.sample_rate).abs().square()

    def to_power(self, latents: Tensor) -> Tensor:
        """Latents to powers, elementwise."""
        raise NotImplementedError(f"The latents of {self.name} have no power.")

    def from_power(self, power: Tensor) -> Tensor:
        """Inverse of `to_power` for latents that are not negative."""
        raise NotImplementedError(f"The latents of {self.name} have no power.")
