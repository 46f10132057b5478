"""Drum grooves, fills, solos and crashes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from asteroid_ucr.minislakh.notes import Note
from asteroid_ucr.minislakh.score import Section
from asteroid_ucr.minislakh.songbook import FILLS, GROOVES
from asteroid_ucr.utils.seeding import choose

KEYS = {
    "kick": 36, "rim": 37, "snare": 38, "clap": 39, "hat": 42, "pedal": 44, "open": 46, "ride": 51,
    "bell": 53, "crash": 49, "crash2": 57, "china": 52, "low": 41, "floor": 43, "tom": 45,
    "mid": 47, "high": 50, "tamb": 54, "cowbell": 56, "conga": 63, "mute": 62, "bongo": 60,
    "shaker": 70,
}  # fmt: skip
_CYMBALS = ("hat", "pedal", "open", "ride", "bell", "tamb", "shaker", "cowbell")
_VELOCITY = {"X": 112, "x": 86, "o": 36}


class Drummer:
    """Plays one groove through a song, with habits drawn for this song.

    Args:
        name: A key of `GROOVES`.
        bar_beats: Quarter notes in a bar.
        rng: Random stream.
    """

    def __init__(self, name: str, bar_beats: float, rng: np.random.Generator) -> None:
        self.groove = GROOVES[name]
        self.step = bar_beats / self.groove.steps
        self.bar_beats = bar_beats
        self.rng = rng
        order = rng.permutation(len(self.groove.kicks))
        self.kicks = [self.groove.kicks[i] for i in order]
        fills = FILLS["triplets" if self.groove.steps == 12 else "sixteenths"]
        self.fills = [f for f in fills if _length(f) <= self.groove.steps]
        self.long = [f for f in self.fills if _length(f) == _length(self.fills[-1])]
        self.crash = choose(rng, ("crash", "crash2"))
        self.crashes = rng.random() < 0.6
        # How loud the cymbals are, how much strokes differ, and whether the hands play every step.
        self.cymbals = float(rng.uniform(0.35, 0.85))
        self.depth = float(rng.uniform(0.1, 0.6))
        self.thin = rng.random() < 0.35

    def kick_steps(self, bar: int, label: str) -> list[float]:
        """Onsets of the kick in beats from the start of the bar, for the bass to follow."""
        kicks = self._kick(bar, label)
        return [i * self.step for i, mark in enumerate(kicks) if mark in "Xx"]

    def _kick(self, bar: int, label: str) -> str:
        # The second bar of a pair answers the first, and the chorus has a variant of its own.
        return self.kicks[((label == "chorus") + (bar % 4 == 3)) % len(self.kicks)]

    def play(self, section: Section, last: bool) -> list[Note]:
        """Notes of a section; `last` says whether it ends the song."""
        notes: list[Note] = []
        solo = section.features("Drums")
        for bar in range(section.bars):
            start = section.start + bar * self.bar_beats
            closing = bar == section.bars - 1
            if last and closing:
                notes.append(Note(start, 3.0, KEYS[self.crash], 100))
                return [*notes, Note(start, 0.5, KEYS["kick"], 105)]
            fill: dict[str, str] = {}
            if solo and (closing or self.rng.random() < 0.7):
                fill = choose(self.rng, self.long if closing else self.fills)
            elif self.rng.random() < (0.8 if closing else 0.3 * (bar % 4 == 3)):
                fill = choose(self.rng, self.fills)
            notes += self._strokes(section, bar, start, fill)
        if self.crashes and section.energy > 0.45 and section.label != "fill":
            loud = int((55 + 50 * section.energy) * (0.5 + 0.5 * self.cymbals))
            notes.append(Note(section.start, 2.0, KEYS[self.crash], loud))
        return notes

    def _lines(self, section: Section, bar: int) -> dict[str, str]:
        lines = {"kick": self._kick(bar, section.label), **self.groove.drums}
        if section.label == "chorus":
            lines |= self.groove.chorus
        if section.label in ("intro", "break") and section.energy < 0.4 and not section.soloist:
            keep = ("hat", "ride", "shaker", "pedal", "rim", "floor") + ("kick",) * (bar % 2)
            lines = {name: line for name, line in lines.items() if name in keep} or lines
        return lines

    def _strokes(
        self, section: Section, bar: int, start: float, fill: dict[str, str]
    ) -> Iterator[Note]:
        """Strokes of one bar: groove, ghost notes and fill."""
        lines, energy = self._lines(section, bar), section.energy
        length = _length(fill)
        cut = self.groove.steps - length
        for name, line in lines.items():
            for i, mark in enumerate(line):
                skipped = self.thin and name in _CYMBALS and mark != "X" and i % 4
                if mark != "." and not skipped and (i < cut or name == "pedal"):
                    yield self._note(start, i, name, mark, energy)
        for i in range(1, cut if "snare" in lines else 1):
            free = lines["snare"][i] == "." and lines["kick"][i] == "."
            off = i % 3 == 2 if self.groove.steps == 12 else i % 2 == 1
            if free and off and self.rng.random() < self.groove.ghosts * 0.6:
                yield self._note(start, i, "snare", "o", energy)
        for name, line in fill.items():
            for i, mark in enumerate(line):
                if mark != ".":
                    louder = energy * (0.8 + 0.25 * i / length)
                    yield self._note(start, cut + i, name, mark, louder)

    def _note(self, start: float, i: int, name: str, mark: str, energy: float) -> Note:
        velocity = _VELOCITY[mark] * (0.62 + 0.42 * energy)
        if name in _CYMBALS:
            velocity *= self.cymbals
        if i * self.step % 1:
            velocity *= 1 - self.depth * float(self.rng.uniform(0.2, 1)) * (mark != "X")
        onset = start + i * self.step
        return Note(onset, self.step, KEYS[name], int(np.clip(round(velocity), 1, 127)))


def _length(fill: dict[str, str]) -> int:
    return len(next(iter(fill.values()), ""))
