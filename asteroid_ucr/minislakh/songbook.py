"""The songbook: styles, and the figures that players choose from, as written in `songbook.yml`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from asteroid_ucr.utils.yaml_files import YAML_LOADER


@dataclass(frozen=True)
class Groove:
    """One bar of drums."""

    kicks: list[str]  # variants of the bass drum
    drums: dict[str, str]  # all other drums
    chorus: dict[str, str]  # what choruses change
    ghosts: float = 0.0  # density of ghost notes on the snare drum, 0 to 1

    @property
    def steps(self) -> int:
        """Steps in a bar."""
        return len(self.kicks[0])


@dataclass(frozen=True)
class Figure:
    """A way to accompany."""

    right: list[str]  # figures of the right hand, or of instruments without a left hand
    left: list[str] = field(default_factory=list)
    pedal: float = 0.0  # probability that notes ring until the chord changes, throughout a song
    size: int = 4  # number of tones of a chord
    rootless: bool = False  # whether the root is left to the bass
    touch: float = 0.93  # share of the written length that a note sounds
    roll: float = 0.0  # delay in beats between the tones of a chord
    lows: tuple[int, int] = (45, 60)  # range of the lowest pitch of the right hand


@dataclass(frozen=True)
class Extra:
    """A further instrument."""

    inst_class: str  # Slakh's name of its family
    programs: list[int]  # General MIDI programs
    styles: list[str]  # names in `OTHERS`
    chance: float  # probability that it joins


@dataclass(frozen=True)
class Style:
    """What goes together in a song: names in the songbook, and General MIDI programs."""

    tempo: tuple[int, int]  # range in beats per minute
    grooves: list[str]
    bass: list[str]  # names in `BASSES` or `bass.PLAYERS`
    piano: list[str]
    harmony: list[str]  # names in `PROGRESSIONS`
    basses: list[int]  # programs of the bass, of the piano and of the drums
    pianos: list[int]
    kits: list[int]
    extras: list[str]
    bar_beats: float = 4.0  # quarter notes in a bar
    # Range of the share of each pair of sixteenths that its first takes.
    swing: tuple[float, float] = (0.5, 0.5)


_TEXT = Path(__file__).with_suffix(".yml").read_text(encoding="utf-8")
_BOOK: dict[str, dict[str, Any]] = yaml.load(_TEXT, Loader=YAML_LOADER)

PROGRESSIONS: dict[str, list[str]] = _BOOK["progressions"]
FILLS: dict[str, list[dict[str, str]]] = _BOOK["fills"]
BASSES: dict[str, list[str]] = _BOOK["basses"]
GROOVES = {name: Groove(**fields) for name, fields in _BOOK["grooves"].items()}
PIANOS = {name: Figure(**fields) for name, fields in _BOOK["pianos"].items()}
OTHERS = {name: Figure(**fields) for name, fields in _BOOK["others"].items()}
EXTRAS = {name: Extra(**fields) for name, fields in _BOOK["extras"].items()}
STYLES = {name: Style(**fields) for name, fields in _BOOK["styles"].items()}
