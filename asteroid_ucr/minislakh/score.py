"""Songs on paper: sections, and the bars that players see. All times are in beats."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from asteroid_ucr.minislakh.harmony import Chord, chord_at
from asteroid_ucr.minislakh.notes import Note, Part

CORE = ("Drums", "Bass", "Piano")


@dataclass(frozen=True)
class Section:
    """A stretch of a song."""

    label: str  # "verse" or "chorus", where all play, or "intro", "break", "solo" or "fill"
    start: float  # first beat
    bars: int
    energy: float  # intensity from 0 (quiet) to 1 (full)
    resting: frozenset[str]  # instrument classes that pause

    @property
    def soloist(self) -> str | None:
        """The one of drums, bass and piano that plays while the other two rest."""
        playing = [name for name in CORE if name not in self.resting]
        return playing[0] if len(playing) == 1 else None

    def features(self, name: str) -> bool:
        """Whether an instrument has a solo here."""
        return self.soloist == name and self.label in ("solo", "fill")


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Bar:
    """One bar of a song, as a player sees it."""

    start: float  # first beat
    beats: float  # length in quarter notes
    index: int  # within the section
    section: Section
    chords: list[Chord]  # of the whole song
    kicks: list[float]  # onsets of the bass drum, counted from the start of the bar
    key: int  # pitch class of the tonic
    minor: bool
    triplets: bool  # whether beats are divided in three
    # Random streams. The first repeats with every pair of bars in sections of the same name, so
    # that players repeat their figures; the second never repeats.
    riff: np.random.Generator
    free: np.random.Generator

    def chord(self, offset: float = 0.0) -> Chord:
        """The chord at an offset from the start of the bar."""
        return chord_at(self.chords, self.start + offset)

    def spans(self) -> list[tuple[float, float, Chord]]:
        """Chords of this bar as (offset, length, chord)."""
        edges = [c.start - self.start for c in self.chords]
        inner = [e for e in edges if 1e-6 < e < self.beats - 1e-6]
        return [(a, b - a, self.chord(a)) for a, b in pairwise([0.0, *inner, self.beats])]

    def strokes(self, figure: str) -> list[tuple[float, float, str]]:
        """Reads a figure written for four beats, one character per step.

        `.` is a rest, `-` holds the stroke before it, and any other character is a stroke. Shorter
        bars take the beginning of the figure, longer ones repeat it. Off-beat eighths swing where
        beats are divided in three.

        Returns:
            Strokes as (offset, length, character).
        """
        unit = 4 / len(figure)
        steps = round(self.beats / unit)
        marks = (figure * (steps // len(figure) + 1))[:steps]
        strokes = []
        for hit in re.finditer("[^.-]-*", marks):
            start, end = hit.start() * unit, hit.end() * unit
            if self.triplets and unit == 0.5:
                start, end = (t + (1 / 6 if t % 1 else 0.0) for t in (start, end))
            strokes.append((start, end - start, hit[0][0]))
        return strokes

    def loud(self, velocity: float) -> int:
        """A velocity, scaled by the energy of the section."""
        return int(np.clip(round(velocity * (0.75 + 0.28 * self.section.energy)), 1, 127))

    def note(self, offset: float, length: float, pitch: int, velocity: float) -> Note:
        """A note at an offset from the start of the bar, as loud as the section asks for."""
        return Note(self.start + offset, length, pitch, self.loud(velocity))


def swing(notes: list[Note], ratio: float) -> list[Note]:
    """Delays every second sixteenth.

    Args:
        notes: Notes played straight.
        ratio: Share of each pair that its first half takes: 0.5 is straight, 2/3 is triplets.
    """
    if ratio == 0.5:
        return notes

    def warp(beat: float) -> float:
        whole, part = divmod(2 * beat, 1.0)
        bent = part * 2 * ratio if part < 0.5 else ratio + (part - 0.5) * 2 * (1 - ratio)
        return (whole + bent) / 2

    return [
        replace(n, start=warp(n.start), length=warp(n.start + n.length) - warp(n.start))
        for n in notes
    ]


def humanise(
    notes: list[Note], rng: np.random.Generator, timing: float, lag: float, spread: float
) -> list[Note]:
    """Moves onsets and velocities slightly, as players do.

    Args:
        notes: Notes as written.
        rng: Random stream.
        timing: Standard deviation of the onsets.
        lag: Constant delay, positive behind the beat and negative ahead of it.
        spread: Standard deviation of the velocities.
    """
    result = []
    for note in notes:
        shift = lag + float(np.clip(rng.normal(0, timing), -2 * timing, 2 * timing))
        velocity = int(np.clip(round(note.velocity + rng.normal(0, spread)), 1, 127))
        result.append(replace(note, start=max(0.0, note.start + shift), velocity=velocity))
    return result
