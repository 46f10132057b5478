"""What a player knows about the bar to be played."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asteroid_ucr.minislakh.harmony import Chord, chord_at
from asteroid_ucr.minislakh.score import Section


@dataclass(frozen=True)
class Bar:
    """One bar of a song, as a player sees it.

    Attributes:
        start: First beat; `beats` long, in quarter notes.
        index: Number of the bar within its section.
        section: Where in the song it is.
        chords: Chords of the whole song.
        kicks: Onsets of the bass drum, in beats from the start of the bar.
        key: Tonic's pitch class, and whether the song is in `minor`.
        triplets: Whether the beat is divided in three.
        riff: Chance that repeats with every pair of bars of sections of the same name, so that a
            figure, once found, is kept.
        free: Chance that never repeats.
    """

    start: float
    beats: float
    index: int
    section: Section
    chords: list[Chord]
    kicks: list[float]
    key: int
    minor: bool
    triplets: bool
    riff: np.random.Generator
    free: np.random.Generator

    @property
    def closing(self) -> bool:
        """Whether this is the last bar of its section."""
        return self.index == self.section.bars - 1

    def chord(self, offset: float = 0.0) -> Chord:
        """The chord at an offset in beats from the start of the bar."""
        return chord_at(self.chords, self.start + offset)

    def spans(self) -> list[tuple[float, float, Chord]]:
        """Chords of this bar as (offset, length, chord), in beats."""
        edges = [c.start - self.start for c in self.chords]
        inner = [e for e in edges if 1e-6 < e < self.beats - 1e-6]
        points = [0.0, *inner, self.beats]
        return [(a, b - a, self.chord(a)) for a, b in pairwise(points)]

    def strokes(self, figure: str) -> list[tuple[float, float, str]]:
        """Reads a figure written for four beats, one character per step.

        `.` is a rest, `-` holds the stroke before it, and anything else is a stroke. Shorter bars
        take the figure's beginning, longer ones repeat it. Off-beat eighths swing with triplets.

        Returns:
            Strokes as (offset, length, mark), the first two in beats.
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
        """A velocity, scaled by the section's energy."""
        return int(np.clip(round(velocity * (0.75 + 0.28 * self.section.energy)), 1, 127))
