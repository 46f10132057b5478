"""Drum grooves, fills and crashes.

A groove is written as one line per drum and bar, one character per step: `X` accent, `x` stroke,
`o` ghost note, `.` nothing. Bars have sixteen steps in common time, twelve in triplets and in 3/4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asteroid_ucr.minislakh.score import Note, Section, choose

KEYS = {
    "kick": 36,
    "rim": 37,
    "snare": 38,
    "clap": 39,
    "hat": 42,
    "pedal": 44,
    "open": 46,
    "ride": 51,
    "bell": 53,
    "crash": 49,
    "crash2": 57,
    "china": 52,
    "low": 41,
    "floor": 43,
    "tom": 45,
    "mid": 47,
    "high": 50,
    "tamb": 54,
    "cowbell": 56,
    "conga": 63,
    "mute": 62,
    "bongo": 60,
    "shaker": 70,
}
_VELOCITY = {"X": 112, "x": 88, "o": 42}


@dataclass(frozen=True)
class Groove:
    """A groove: drums with a bar each, kick variants, and the drums that the chorus changes."""

    steps: int
    kicks: tuple[str, ...]
    drums: dict[str, str]
    chorus: dict[str, str]
    ghosts: float = 0.0


GROOVES: dict[str, Groove] = {
    "rock": Groove(
        16,
        ("X.....x.X.......", "X.......x.X.....", "X..x....X.x.....", "X.x.....X.....x."),
        {"snare": "....X.......X...", "hat": "X.x.X.x.X.x.X.x."},
        {"ride": "X.x.X.x.X.x.X.x.", "hat": "................"},
        0.1,
    ),
    "pop": Groove(
        16,
        ("X.......x.x.....", "X.....x...x.....", "X.......X..x....", "X..x..x...x....."),
        {"snare": "....X.......X...", "hat": "x.x.X.x.x.x.X.x."},
        {"hat": "x.xxX.x.x.xxX.x.", "tamb": "....x.......x...", "clap": "....o.......o..."},
        0.15,
    ),
    "disco": Groove(
        16,
        ("X...X...X...X...", "X...X...X...X..x"),
        {"snare": "....X.......X...", "open": "..X...X...X...X.", "hat": "x.ox..oxx.oxx.ox"},
        {"tamb": "x.x.X.x.x.x.X.x.", "clap": "....x.......x..."},
    ),
    "funk": Groove(
        16,
        ("X..x......X..x..", "X.x.......x..x..", "X.....x..xX.....", "X.x....x..X....."),
        {"snare": "....X..o.o..X..o", "hat": "X.xxX.x.X.xxx.x."},
        {"hat": "X.x.X.xxX.x.X...", "open": "..............X."},
        0.35,
    ),
    "sixteenths": Groove(
        16,
        ("X.....X...X.....", "X..x..x...X..x..", "X.........x....."),
        {"snare": "....X.......X...", "hat": "XxxxXxxxXxxxXxxx"},
        {"open": "......X.......X.", "hat": "XxxxXx..XxxxXx.."},
        0.2,
    ),
    "bossa": Groove(
        16,
        ("X..xX..xX..xX..x", "X..xX...X..xX..."),
        {"rim": "X..x..x...x..x..", "hat": "x.x.x.x.x.x.x.x.", "shaker": "xoxoxoxoxoxoxoxo"},
        {"ride": "x.x.x.x.x.x.x.x.", "hat": "................", "conga": "......x.......xx"},
    ),
    "swing": Groove(
        12,
        ("o..o..o..o..", "o...........", "......o....x"),
        {"ride": "X..X.xX..X.x", "pedal": "...x.....x.."},
        {"ride": "X..X.xX..X.x", "snare": ".....o.....o"},
        0.25,
    ),
    "shuffle": Groove(
        12,
        ("X.....X.....", "X....xX.....", "X..X..X..X.."),
        {"snare": "...X.....X..", "hat": "X.xX.xX.xX.x"},
        {"ride": "X.xX.xX.xX.x", "hat": "............"},
        0.3,
    ),
    "ballad": Groove(
        16,
        ("X.......x.......", "X.........x.....", "X......x..x....."),
        {"rim": "....X.......X...", "hat": "x.o.x.o.x.o.x.o."},
        {"rim": "................", "snare": "....X.......X...", "ride": "x.x.x.x.x.x.x.x."},
        0.1,
    ),
    "halftime": Groove(
        16,
        ("X.....x.........", "X..x......x..x..", "X.x.......X....."),
        {"snare": "........X.......", "hat": "x.x.x.xxx.x.xxx."},
        {"hat": "xxx.xxxxx.xxx.xx", "clap": "........X......."},
        0.1,
    ),
    "reggae": Groove(
        16,
        ("........X.......", "........X.....x.", "X.......X......."),
        {"rim": "........X...o...", "hat": "..x...X...x...X."},
        {"rim": "................", "snare": "........X.......", "hat": "x.x.X.x.x.x.X.xx"},
    ),
    "motown": Groove(
        16,
        ("X.....x.X.....x.", "X..x..x.X..x..x.", "X.......X.x....."),
        {"snare": "X...X...X...X...", "hat": "x.x.x.x.x.x.x.x.", "tamb": "..x...X...x...X."},
        {"snare": "....X.......X.X.", "tamb": "x.x.X.x.x.x.X.x."},
    ),
    "punk": Groove(
        16,
        ("X...X...X...X...", "X.x...x.X.x...x.", "X.......X.x....."),
        {"snare": "....X.......X...", "hat": "X.X.X.X.X.X.X.X."},
        {"snare": "..X...X...X...X.", "crash2": "X.......X.......", "hat": "................"},
    ),
    "house": Groove(
        16,
        ("X...X...X...X...",),
        {"clap": "....X.......X...", "open": "..X...X...X...X.", "shaker": "x.xox.xox.xox.xo"},
        {"hat": "xxx.xxx.xxx.xxx.", "ride": "..x...x...x...x.", "snare": ".......o.o....o."},
    ),
    "latin": Groove(
        16,
        ("X..xX...X..xX...", "...x....X..x...."),
        {"rim": "..X...X.X...X...", "cowbell": "X.x.X.xxX.x.X.xx", "conga": "......X.......XX"},
        {"bell": "X.xxX.x.X.xxX.x.", "mute": "x.x...x.x.x.....", "bongo": "x.oxx.ooX.oxx.oo"},
    ),
    "waltz": Groove(
        12,
        ("X...........", "X.........x.", "X...........", "X.....x....."),
        {"snare": "....x...x...", "hat": "x.x.X.x.X.x."},
        {"ride": "X...x.x.x...", "hat": "............"},
        0.15,
    ),
    "gospel": Groove(
        12,
        ("X.....X.....", "X....xX..x..", "X..x..X....x"),
        {"snare": "...X.....X..", "hat": "xxxXxxxxxXxx"},
        {"ride": "X.xX.xX.xX.x", "tamb": "...x.....x..", "hat": "............"},
        0.2,
    ),
}

# Fills by the steps they last, backwards from the end of the bar.
_FILLS16 = (
    {"snare": "....XxXx", "tom": "........"},
    {"high": "Xx......", "tom": "..Xx....", "floor": "....Xx..", "snare": "......Xx"},
    {"snare": "X..X..X."},
    {"snare": "x.xxX.Xx", "kick": "X...X..."},
    {"snare": "oxoxxxXX"},
    {"high": "X.x.....", "mid": "....X.x.", "low": "......X."},
    {
        "snare": "Xxxx............",
        "high": "....Xxxx........",
        "tom": "........Xxxx....",
        "floor": "............Xxxx",
    },
    {
        "snare": "X..xX..x....X...",
        "tom": "......X..x......",
        "floor": "..........X...Xx",
        "kick": "..x..x......x...",
    },
)
_FILLS12 = (
    {"snare": "X.xXxx"},
    {"high": "Xxx...", "floor": "...Xxx"},
    {"snare": "xxxxXX"},
    {
        "snare": "Xxx.........",
        "high": "...Xxx......",
        "tom": "......Xxx...",
        "floor": ".........Xxx",
    },
)


class Drummer:
    """Plays one groove through a song, with this song's own habits."""

    def __init__(self, name: str, bar_beats: float, rng: np.random.Generator) -> None:
        self.groove = GROOVES[name]
        self.step = bar_beats / self.groove.steps
        self.bar_beats = bar_beats
        self.rng = rng
        order = rng.permutation(len(self.groove.kicks))
        self.kicks = [self.groove.kicks[i] for i in order]
        self.fills = _FILLS16 if self.groove.steps == 16 else _FILLS12
        self.crash = choose(rng, ("crash", "crash2"))
        self.crashes = rng.random() < 0.8

    def kick_steps(self, bar: int, label: str) -> list[float]:
        """Onsets of the kick in beats from the bar's start: what a bass player listens to."""
        kicks = self._kick(bar, label)
        return [i * self.step for i, mark in enumerate(kicks) if mark in "Xx"]

    def _kick(self, bar: int, label: str) -> str:
        variant = 1 if label == "chorus" else 0
        # The second bar of a pair answers the first.
        return self.kicks[(variant + (bar % 4 == 3)) % len(self.kicks)]

    def play(self, section: Section, last: bool) -> list[Note]:
        """Notes of a section; `last` for the song's final one."""
        notes: list[Note] = []
        for bar in range(section.bars):
            start = section.start + bar * self.bar_beats
            closing = bar == section.bars - 1
            if last and closing:
                return notes + self._ending(start)
            fill: dict[str, str] = {}
            if (closing and self.rng.random() < 0.85) or (bar % 4 == 3 and self.rng.random() < 0.3):
                fill = choose(self.rng, self.fills)
            notes += self._bar(section, bar, start, fill)
        if self.crashes and section.energy > 0.45:
            notes.append(Note(section.start, 2.0, KEYS[self.crash], int(60 + 50 * section.energy)))
        return notes

    def _lines(self, section: Section, bar: int) -> dict[str, str]:
        lines = {"kick": self._kick(bar, section.label), **self.groove.drums}
        if section.label == "chorus":
            lines |= self.groove.chorus
        if section.label in ("intro", "break") and section.energy < 0.4:
            keep = ("hat", "ride", "shaker", "pedal", "rim") + (("kick",) if bar % 2 else ())
            lines = {name: line for name, line in lines.items() if name in keep}
        return lines

    def _bar(self, section: Section, bar: int, start: float, fill: dict[str, str]) -> list[Note]:
        lines = self._lines(section, bar)
        length = len(next(iter(fill.values()))) if fill else 0
        cut = self.groove.steps - length
        notes = []
        for name, line in lines.items():
            for i, mark in enumerate(line):
                if mark == "." or (i >= cut and name != "pedal"):
                    continue
                notes.append(self._note(start, i, name, mark, section.energy))
        if "snare" in lines:
            notes += self._ghosts(lines, start, cut, section.energy)
        for name, line in fill.items():
            for i, mark in enumerate(line):
                if mark != ".":
                    swell = 0.8 + 0.25 * i / length
                    notes.append(self._note(start, cut + i, name, mark, section.energy * swell))
        return notes

    def _ghosts(self, lines: dict[str, str], start: float, cut: int, energy: float) -> list[Note]:
        """Soft snare strokes between the written ones, never beside an accent's own step."""
        notes = []
        for i in range(1, cut):
            free = lines["snare"][i] == "." and lines["kick"][i] == "."
            off = i % 2 == 1 if self.groove.steps == 16 else i % 3 == 2
            if free and off and self.rng.random() < self.groove.ghosts * 0.6:
                notes.append(self._note(start, i, "snare", "o", energy))
        return notes

    def _note(self, start: float, i: int, name: str, mark: str, energy: float) -> Note:
        velocity = _VELOCITY[mark] * (0.72 + 0.32 * energy)
        return Note(
            start + i * self.step, self.step, KEYS[name], int(np.clip(round(velocity), 1, 127))
        )

    def _ending(self, start: float) -> list[Note]:
        return [Note(start, 3.0, KEYS[self.crash], 105), Note(start, 0.5, KEYS["kick"], 105)]
