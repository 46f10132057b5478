"""Notes, parts and songs: what the composer hands to the renderer. Times are in beats."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from asteroid_ucr.minislakh.harmony import Chord

CORE = ("Drums", "Bass", "Piano")


@dataclass(frozen=True)
class Note:
    """One note: onset and length in beats, MIDI pitch 0 to 127, velocity 1 to 127."""

    start: float
    length: float
    pitch: int
    velocity: int


@dataclass
class Part:
    """What one instrument plays.

    Attributes:
        inst_class: Slakh's name of the instrument family, such as "Bass".
        program: General MIDI program 0 to 127; for drums the kit's program on channel 10.
        is_drum: Whether the pitches are drum keys.
        notes: Notes in any order.
    """

    inst_class: str
    program: int
    is_drum: bool
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A stretch of a song.

    Attributes:
        label: "verse" or "chorus", where all play, or "intro", "break", "solo" or "fill".
        start: First beat.
        bars: Length in bars.
        energy: 0 (quiet) to 1 (full).
        resting: Instrument classes that pause.
    """

    label: str
    start: float
    bars: int
    energy: float
    resting: frozenset[str]

    @property
    def soloist(self) -> str | None:
        """The one of drums, bass and piano that plays while the other two rest."""
        playing = [name for name in CORE if name not in self.resting]
        return playing[0] if len(playing) == 1 else None


@dataclass
class Song:
    """A composed song: its parts, its tempo in beats per minute, its harmony and its form."""

    style: str
    tempo: float
    bar_beats: float
    key: int
    minor: bool
    seconds: float
    sections: list[Section]
    chords: list[Chord]
    parts: list[Part]

    def to_seconds(self, beats: float) -> float:
        """Time in seconds of a position in beats."""
        return beats * 60.0 / self.tempo


def swing(notes: list[Note], ratio: float, unit: float) -> list[Note]:
    """Delays the off-beats.

    Args:
        notes: Notes played straight.
        ratio: Share of each unit that its first half takes: 0.5 straight, 2/3 triplets.
        unit: Length in beats of the pair that is swung: 1.0 for eighths, 0.5 for sixteenths.
    """
    if ratio == 0.5:
        return notes

    def warp(beat: float) -> float:
        whole, part = divmod(beat / unit, 1.0)
        bent = part * 2 * ratio if part < 0.5 else ratio + (part - 0.5) * 2 * (1 - ratio)
        return (whole + bent) * unit

    return [
        replace(n, start=warp(n.start), length=warp(n.start + n.length) - warp(n.start))
        for n in notes
    ]


def humanise(
    notes: list[Note], rng: np.random.Generator, timing: float, lag: float, spread: float
) -> list[Note]:
    """Moves onsets and velocities a little, as players do.

    Args:
        notes: Notes as written.
        rng: Source of chance.
        timing: Standard deviation of the onsets, in beats.
        lag: Constant delay, in beats: behind (positive) or ahead of the beat.
        spread: Standard deviation of the velocities.
    """
    result = []
    for note in notes:
        shift = lag + float(np.clip(rng.normal(0, timing), -2 * timing, 2 * timing))
        velocity = int(np.clip(round(note.velocity + rng.normal(0, spread)), 1, 127))
        result.append(replace(note, start=max(0.0, note.start + shift), velocity=velocity))
    return result
