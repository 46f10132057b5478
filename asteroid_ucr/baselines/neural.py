"""Conv-TasNet and Hybrid Demucs with the interface of this package, registered with Asteroid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from asteroid.dsp.consistency import mixture_consistency
from asteroid.models import ConvTasNet, register_model
from torch import Tensor, nn
from torchaudio.models import HDemucs

from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.masking import MASK_RATE
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.errors import UserError


class WaveSeparator(SeparatorModel):
    """A network from waveforms to waveforms, each of whose outputs belongs to a source.

    Args:
        sources: Names of the sources.
        outputs: Number of outputs of the network, at least the number of sources.
        sample_rate: Sample rate in Hz.
        shortest: Number of samples that the network needs; shorter inputs are padded.

    Raises:
        UserError: If there are fewer outputs than sources, or a source is named twice.
    """

    network: nn.Module
    _args: dict[str, Any]  # Constructor arguments of the subclass.

    def __init__(self, sources: Sequence[str], outputs: int, sample_rate: int, shortest: int):
        super().__init__(sources, sample_rate)
        if outputs < len(sources):
            raise UserError(f"outputs is {outputs}: {len(sources)} sources need at least as many.")
        self.shortest = shortest
        # Output m belongs to source owner[m]. A network trained on stems has one output per source.
        self.register_buffer("owner", torch.arange(outputs) % len(sources))

    def components(self, wav: Tensor) -> Tensor:
        """Network outputs at the input's level, `(batch, 1, time)` to `(batch, outputs, time)`.

        The network receives the mixture at the level of the training data.
        """
        gain = level_gain(wav)
        length = wav.shape[-1]
        padded = F.pad(wav * gain, (0, max(0, self.shortest - length)))
        return self.network(padded).flatten(1, -2)[..., :length] / gain

    def forward(self, wav: Tensor) -> Tensor:
        """Separates `(batch, 1, time)`, `(batch, time)` or `(time,)` at `sample_rate`.

        Returns:
            `(batch, n_src, time)`, or `(n_src, time)` for an input without batch.

        Raises:
            UserError: If the shape is not valid.
        """
        mixture = self._as_batch(wav)
        parts = self.components(mixture)
        sources = parts.new_zeros(len(parts), self.n_src, parts.shape[-1])
        sources = sources.index_add(1, self.owner, parts)
        return sources[0] if wav.ndim == 1 else sources

    def get_model_args(self) -> dict[str, Any]:
        """Constructor arguments, as plain values."""
        return dict(self._args)

    def assign(self, owner: Sequence[int]) -> None:
        """Sets the source of each output.

        Raises:
            ValueError: If there is not one source number for each output.
        """
        if len(owner) != len(self.owner) or not set(owner) <= set(range(self.n_src)):
            raise ValueError(f"{list(owner)} does not name a source for each output.")
        self.owner.copy_(torch.as_tensor(list(owner), device=self.device))


class ConvTasNetSeparator(WaveSeparator):
    """Asteroid's Conv-TasNet (Luo & Mesgarani 2019), with the paper's 2 ms filters at any rate.

    Args:
        sources: Names of the sources.
        outputs: Number of outputs; None takes one per source. MixIT needs more.
        consistent: Whether to make the outputs add up to the mixture (Wisdom et al. 2019).
        sample_rate: Sample rate in Hz.
        n_filters: Number of filters of the filter bank.
        bn_chan: Channels of the bottleneck.
        hid_chan: Channels of the convolutional blocks.
        skip_chan: Channels of the skip connections.
        n_blocks: Convolutional blocks in each repeat.
        n_repeats: Number of repeats.
    """

    def __init__(
        self,
        sources: Sequence[str] = ("drums", "bass"),
        outputs: int | None = None,
        consistent: bool = False,
        sample_rate: int = MASK_RATE,
        n_filters: int = 512,
        bn_chan: int = 128,
        hid_chan: int = 512,
        skip_chan: int = 128,
        n_blocks: int = 8,
        n_repeats: int = 3,
    ):
        outputs = len(sources) if outputs is None else outputs
        stride = round(8 * sample_rate / 8000)
        super().__init__(sources, outputs, sample_rate, shortest=2 * stride)
        sizes = {
            "n_filters": n_filters,
            "bn_chan": bn_chan,
            "hid_chan": hid_chan,
            "skip_chan": skip_chan,
            "n_blocks": n_blocks,
            "n_repeats": n_repeats,
        }
        self.network = ConvTasNet(
            outputs, kernel_size=2 * stride, stride=stride, sample_rate=sample_rate, **sizes
        )
        self.consistent = consistent
        self._args = {"sources": list(sources), "outputs": outputs, "consistent": consistent}
        self._args |= {"sample_rate": sample_rate, **sizes}

    def components(self, wav: Tensor) -> Tensor:
        """Outputs of the network; they add up to the mixture if `consistent` is set."""
        parts = super().components(wav)
        if not self.consistent:
            return parts
        equal = torch.ones(1, parts.shape[1], 1, device=parts.device)
        return mixture_consistency(wav, parts, equal)


class HDemucsSeparator(WaveSeparator):
    """Torchaudio's Hybrid Demucs (Défossez 2021), mono.

    Args:
        sources: Names of the sources.
        sample_rate: Sample rate in Hz.
        channels: Channels of the first layer; each further layer has twice as many.
        depth: Number of layers.
        nfft: FFT size of the spectral branch; 2048 is torchaudio's choice for 16 to 32 kHz.
    """

    def __init__(
        self,
        sources: Sequence[str] = ("drums", "bass"),
        sample_rate: int = MASK_RATE,
        channels: int = 48,
        depth: int = 6,
        nfft: int = 2048,
    ):
        super().__init__(sources, len(sources), sample_rate, shortest=nfft)
        sizes = {"channels": channels, "depth": depth, "nfft": nfft}
        self.network = HDemucs(list(sources), audio_channels=1, **sizes)
        self._args = {"sources": list(sources), "sample_rate": sample_rate, **sizes}


register_model(ConvTasNetSeparator)
register_model(HDemucsSeparator)
