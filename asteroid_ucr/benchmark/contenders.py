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
        label: Name in tables.
        build: Function that builds the network; the cost does not depend on the weights.
        sample_rate: Sample rate of its input, in Hz.
        channels: Channels of its input.
        separate: Function that runs the network on waveforms `(1, channels, time)`.
        segment: Seconds of audio on which the arithmetic is counted.
    """

    label: str
    build: Callable[[], nn.Module]
    sample_rate: int = MASK_RATE
    channels: int = 1
    separate: Callable[[nn.Module, Tensor], Any] = lambda model, wav: model(wav)
    segment: float = 2.0

    def audio(self, seconds: float, batch: int = 1) -> Tensor:
        """Makes noise `(batch, channels, time)` as its input."""
        shape = (batch, self.channels, round(seconds * self.sample_rate))
        return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def contenders(model: str | Path | None, against: list[str]) -> dict[str, Contender]:
    """Lists our network, as "ours", and those of `OTHERS` that it is compared with.

    Without a trained model, ours is the reference configuration, untrained.

    Raises:
        UserError: If a name is unknown, or its package is not installed.
    """
    unknown = [name for name in against if name not in OTHERS]
    if unknown:
        raise UserError(f"{unknown[0]} cannot be measured: choose from {', '.join(OTHERS)}.")
    if "htdemucs" in against and not has_demucs():
        raise UserError("htdemucs needs the package demucs: pip install demucs, or leave it out.")
    if model is None:
        ours = Contender("Ours, reference size", UCRSeparator)
    else:
        ours = Contender("Ours", lambda: UCRSeparator.from_pretrained(model))
    return {OURS: ours} | {name: OTHERS[name] for name in against}


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


OTHERS = {
    "convtasnet": Contender("Conv-TasNet, Asteroid's size, 24 kHz mono", ConvTasNetSeparator),
    "hdemucs": Contender("HDemucs, torchaudio's size, 24 kHz mono", HDemucsSeparator),
    "htdemucs": Contender(
        "HTDemucs, published size, 44.1 kHz stereo",
        _htdemucs,
        sample_rate=44_100,
        channels=2,
        separate=_in_segments,
        segment=7.8,  # Shorter inputs are padded to this length.
    ),
}
