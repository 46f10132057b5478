"""The networks that are measured, at the sizes that their authors published."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asteroid_ucr.baselines.neural import ConvTasNetSeparator, HDemucsSeparator
from asteroid_ucr.masking import MASK_RATE
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.errors import UserError

OURS = "ours"


@dataclass(frozen=True)
class Contender:
    """A network to measure.

    Attributes:
        name: Name on the command line and in files.
        label: Name in tables.
        sample_rate: Sample rate of its input, in Hz.
        channels: Channels of its input.
        build: Function that builds the network; the cost does not depend on the weights.
        separate: Function that runs the network on waveforms `(1, channels, time)`.
        segment: Seconds of audio on which the arithmetic is counted.
    """

    name: str
    label: str
    sample_rate: int
    channels: int
    build: Callable[[], nn.Module]
    separate: Callable[[nn.Module, Tensor], Any] = lambda model, wav: model(wav)
    segment: float = 2.0

    def audio(self, seconds: float, batch: int = 1) -> Tensor:
        """Makes noise `(batch, channels, time)` as its input."""
        shape = (batch, self.channels, round(seconds * self.sample_rate))
        return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def contenders(model: str | Path | None, against: list[str]) -> list[Contender]:
    """Lists our network and the networks that it is compared with.

    Args:
        model: A trained model; None takes the reference configuration, untrained.
        against: Names of `OTHERS`.

    Raises:
        UserError: If a name is unknown, or its package is not installed.
    """
    unknown = [name for name in against if name not in OTHERS]
    if unknown:
        raise UserError(f"{unknown[0]} cannot be measured: choose from {', '.join(OTHERS)}.")
    if "htdemucs" in against and not has_demucs():
        raise UserError("htdemucs needs the package demucs: pip install demucs, or leave it out.")
    label = "Ours, reference size" if model is None else "Ours"

    def build() -> UCRSeparator:
        return UCRSeparator() if model is None else UCRSeparator.from_pretrained(model)

    return [Contender(OURS, label, MASK_RATE, 1, build), *(OTHERS[name] for name in against)]


def has_demucs() -> bool:
    """Whether the package demucs is installed."""
    return importlib.util.find_spec("demucs") is not None


def _htdemucs() -> nn.Module:
    from demucs.htdemucs import HTDemucs

    return HTDemucs(["drums", "bass", "other", "vocals"])


def _in_segments(model: nn.Module, wav: Tensor) -> Tensor:
    from demucs.apply import apply_model

    # The overlap is the default of the command demucs.
    return apply_model(model, wav, shifts=0, overlap=0.25)


_OTHERS = (
    Contender(
        "convtasnet", "Conv-TasNet, Asteroid's size, 24 kHz mono", MASK_RATE, 1, ConvTasNetSeparator
    ),
    Contender("hdemucs", "HDemucs, torchaudio's size, 24 kHz mono", MASK_RATE, 1, HDemucsSeparator),
    Contender(
        "htdemucs",
        "HTDemucs, published size, 44.1 kHz stereo",
        44_100,
        2,
        _htdemucs,
        _in_segments,
        segment=7.8,  # Shorter inputs are padded to this length.
    ),
)
OTHERS = {contender.name: contender for contender in _OTHERS}
