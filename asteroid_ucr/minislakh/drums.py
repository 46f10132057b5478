"""Drum grooves, fills, solos and crashes.

A groove is written as one line per drum and bar, one character per step: `X` accent, `x` stroke,
`o` ghost note, `.` nothing. Steps are sixteenths, or twelve to a bar of four beats in triplets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from asteroid_ucr.minislakh.notes import Note
from asteroid_ucr.minislakh.score import Section
from asteroid_ucr.utils.seeding import choose

KEYS = {
    "kick": 36, "rim": 37, "snare": 38, "clap": 39, "hat": 42, "pedal": 44, "open": 46, "ride": 51,
    "bell": 53, "crash": 49, "crash2": 57, "china": 52, "low": 41, "floor": 43, "tom": 45,
    "mid": 47, "high": 50, "tamb": 54, "cowbell": 56, "conga": 63, "mute": 62, "bongo": 60,
    "shaker": 70,
}  # fmt: skip
_CYMBALS = ("hat", "pedal", "open", "ride", "bell", "tamb", "shaker", "cowbell")
_VELOCITY = {"X": 112, "x": 86, "o": 36}


@dataclass(frozen=True)
class Groove:
    """One bar: variants of the kick, the other drums, what the chorus changes, ghost notes."""

    kicks: tuple[str, ...]
    drums: dict[str, str]
    chorus: dict[str, str]
    ghosts: float = 0.0

    @property
    def steps(self) -> int:
        """Steps in a bar."""
        return len(self.kicks[0])


GROOVES: dict[str, Groove] = {
    "rock": Groove(("X.....x.X.......", "X.......x.X.....", "X..x....X.x.....", "X.x.....X.....x."),
        {"snare": "....X.......X...", "hat": "X.x.X.x.X.x.X.x."},
        {"ride": "X.x.X.x.X.x.X.x.", "hat": "................"}, 0.1),
    "pop": Groove(("X.......x.x.....", "X.....x...x.....", "X.......X..x....", "X..x..x...x....."),
        {"snare": "....X.......X...", "hat": "x.x.X.x.x.x.X.x."},
        {"hat": "x.xxX.x.x.xxX.x.", "tamb": "....x.......x...", "clap": "....o.......o..."}, 0.15),
    "disco": Groove(("X...X...X...X...", "X...X...X...X..x"),
        {"snare": "....X.......X...", "open": "..X...X...X...X.", "hat": "x.ox..oxx.oxx.ox"},
        {"tamb": "x.x.X.x.x.x.X.x.", "clap": "....x.......x..."}),
    "funk": Groove(("X..x......X..x..", "X.x.......x..x..", "X.....x..xX.....", "X.x....x..X....."),
        {"snare": "....X..o.o..X..o", "hat": "X.xxX.x.X.xxx.x."},
        {"hat": "X.x.X.xxX.x.X...", "open": "..............X."}, 0.35),
    "sixteenths": Groove(("X.....X...X.....", "X..x..x...X..x..", "X.........x....."),
        {"snare": "....X.......X...", "hat": "XxxxXxxxXxxxXxxx"},
        {"open": "......X.......X.", "hat": "XxxxXx..XxxxXx.."}, 0.2),
    "bossa": Groove(("X..xX..xX..xX..x", "X..xX...X..xX..."),
        {"rim": "X..x..x...x..x..", "hat": "x.x.x.x.x.x.x.x.", "shaker": "xoxoxoxoxoxoxoxo"},
        {"ride": "x.x.x.x.x.x.x.x.", "hat": "................", "conga": "......x.......xx"}),
    "swing": Groove(("o..o..o..o..", "o...........", "......o....x"),
        {"ride": "X..X.xX..X.x", "pedal": "...x.....x.."},
        {"ride": "X..X.xX..X.x", "snare": ".....o.....o"}, 0.25),
    "shuffle": Groove(("X.....X.....", "X....xX.....", "X..X..X..X.."),
        {"snare": "...X.....X..", "hat": "X.xX.xX.xX.x"},
        {"ride": "X.xX.xX.xX.x", "hat": "............"}, 0.3),
    "ballad": Groove(("X.......x.......", "X.........x.....", "X......x..x....."),
        {"rim": "....X.......X...", "hat": "x.o.x.o.x.o.x.o."},
        {"rim": "................", "snare": "....X.......X...", "ride": "x.x.x.x.x.x.x.x."}, 0.1),
    "halftime": Groove(("X.....x.........", "X..x......x..x..", "X.x.......X....."),
        {"snare": "........X.......", "hat": "x.x.x.xxx.x.xxx."},
        {"hat": "xxx.xxxxx.xxx.xx", "clap": "........X......."}, 0.1),
    "reggae": Groove(("........X.......", "........X.....x.", "X.......X......."),
        {"rim": "........X...o...", "hat": "..x...X...x...X."},
        {"rim": "................", "snare": "........X.......", "hat": "x.x.X.x.x.x.X.xx"}),
    "motown": Groove(("X.....x.X.....x.", "X..x..x.X..x..x.", "X.......X.x....."),
        {"snare": "X...X...X...X...", "hat": "x.x.x.x.x.x.x.x.", "tamb": "..x...X...x...X."},
        {"snare": "....X.......X.X.", "tamb": "x.x.X.x.x.x.X.x."}),
    "punk": Groove(("X...X...X...X...", "X.x...x.X.x...x.", "X.......X.x....."),
        {"snare": "....X.......X...", "hat": "X.X.X.X.X.X.X.X."},
        {"snare": "..X...X...X...X.", "crash2": "X.......X.......", "hat": "................"}),
    "house": Groove(("X...X...X...X...",),
        {"clap": "....X.......X...", "open": "..X...X...X...X.", "shaker": "x.xox.xox.xox.xo"},
        {"hat": "xxx.xxx.xxx.xxx.", "ride": "..x...x...x...x.", "snare": ".......o.o....o."}),
    "latin": Groove(("X..xX...X..xX...", "...x....X..x...."),
        {"rim": "..X...X.X...X...", "cowbell": "X.x.X.xxX.x.X.xx", "conga": "......X.......XX"},
        {"bell": "X.xxX.x.X.xxX.x.", "mute": "x.x...x.x.x.....", "bongo": "x.oxx.ooX.oxx.oo"}),
    "waltz": Groove(("X...........", "X.........x.", "X...........", "X.....x....."),
        {"snare": "....x...x...", "hat": "x.x.X.x.X.x."},
        {"ride": "X...x.x.x...", "hat": "............"}, 0.15),
    "gospel": Groove(("X.....X.....", "X....xX..x..", "X..x..X....x"),
        {"snare": "...X.....X..", "hat": "xxxXxxxxxXxx"},
        {"ride": "X.xX.xX.xX.x", "tamb": "...x.....x..", "hat": "............"}, 0.2),
    "tribal": Groove(("X..x..X...x.X...", "X.....x.X..x..x.", "X..X..X..X..X.X."),
        {"floor": "x.xxx.xxx.xxx.xX", "tom": "....X.......X...", "mid": "......x.......x."},
        {"snare": "....X.......X...", "floor": "x.xXx.xxx.xXx.xx"}),
    "train": Groove(("X...X...X...X...", "X.......X.......", "X...x...X...x..."),
        {"snare": "oxoXoxoXoxoXoxoX", "pedal": "....x.......x..."},
        {"snare": "oxoXoxoXoxoXoxXX", "tamb": "....x.......x..."}),
    "breakbeat": Groove(("X.X.......XX....", "X..x......X..x..", "X.X.......X...x."),
        {"snare": "....X..o.o..X..o", "hat": "x.x.x.x.x.x.x.x."},
        {"snare": "....X..x.o..X.ox", "ride": "x.x.x.x.x.x.x.x.", "hat": "................"}, 0.3),
    "trap": Groove(("X.....x...x.....", "X..x......X...x.", "X.........Xx...."),
        {"clap": "........X.......", "hat": "x.x.x.xxx.x.xoxx"},
        {"snare": "........X.....o.", "hat": "xxx.x.xxxoxox.xx", "open": "..............x."}),
    "tresillo": Groove(("X...X...X...X...", "X..x..X.X..x..X."),
        {"snare": "...X..X....X..X.", "shaker": "x.x.x.x.x.x.x.x."},
        {"snare": "...X..X....X..X.", "hat": "x.x.X.x.x.x.X.x.", "clap": "......x.......x."}),
    "samba": Groove(("X..xX..xX..xX..x", "x..XX..xx..XX..x"),
        {"rim": "x.x..x.x.xx..x.x", "shaker": "XoxxXoxxXoxxXoxx"},
        {"snare": "x.xx.xxox.xx.xxo", "floor": "....X.......X...", "shaker": "XoxxXoxxXoxxXoxx"}),
    "linear": Groove(("X..x...x..X..x..", "X...x..x..x...x.", "X.x....x.X...x.."),
        {"snare": "....X.o..o..X.o.", "hat": ".xx..x.ox..x...x"},
        {"snare": "....X.o..o..X.oo", "open": "..x.......x.....", "hat": ".x...x..x..x...x"}, 0.2),
    "stomp": Groove(("X...X...X...X...", "X.......X.......", "X.X.....X.X....."),
        {"clap": "....X.......X...", "tom": "....x.......x..."},
        {"snare": "....X.......X...", "tamb": "x.x.x.x.x.x.x.x.", "clap": "....x.......x..."}),
    "brushes": Groove(("x.......x.......", "x.........o....."),
        {"snare": "o.o.x.o.o.o.x.o.", "pedal": "....o.......o..."},
        {"snare": "o.oox.o.o.oox.oo", "ride": "x...x.x.x...x.x."}),
    "halfshuffle": Groove(("X....x..x...", "X.......xX..", "X.x.....x..."),
        {"snare": ".o..o.Xo..o.", "hat": "x.xx.xx.xx.x"},
        {"snare": ".o..o.Xo..oo", "ride": "x.xx.xx.xx.x", "hat": "............"}, 0.2),
    "six": Groove(("X.........x.", "X...x.....x.", "X.......x..."),
        {"snare": "......X.....", "hat": "x.x.x.x.x.x."},
        {"snare": "......X...o.", "ride": "X.x.x.X.x.x.", "hat": "............"}, 0.15),
    "five": Groove(("X.....x.....X.......", "X.........x.X...x...", "X..x........X......."),
        {"snare": "....X...x.......X...", "ride": "x...x.x.x...x.x.x.x."},
        {"snare": "....X..ox.......X..o", "hat": "x.x.x.x.x.x.x.x.x.x."}, 0.15),
    "seven": Groove(("X.....x.X.....", "X..x....X...x.", "X.......X.x..."),
        {"snare": "....X.......X.", "hat": "x.x.x.x.x.x.x."},
        {"snare": "....X.......X.", "ride": "x.x.x.x.x.x.x.", "hat": ".............."}, 0.1),
    "polka": Groove(("X.......", "X...x..."),
        {"snare": "....X...", "pedal": "....x..."},
        {"snare": "..o.X.o.", "hat": "x.x.x.x."}),
}  # fmt: skip
# fmt: off
# Fills, which end with the bar; those for bars of twelve steps are in triplets.
_FILLS16 = (
    {"snare": "....XxXx"},
    {"high": "Xx......", "tom": "..Xx....", "floor": "....Xx..", "snare": "......Xx"},
    {"snare": "X..X..X."},
    {"snare": "x.xxX.Xx", "kick": "X...X..."},
    {"snare": "oxoxxxXX"},
    {"high": "X.x.....", "mid": "....X.x.", "low": "......X."},
    {"snare": "oXoo", "kick": "...x"},
    {"snare": "X.oo....", "floor": "....X.x.", "kick": "..x...xx"},
)
_LONG16 = (
    {"snare": "Xxxx............", "high": "....Xxxx........",
     "tom": "........Xxxx....", "floor": "............Xxxx"},
    {"snare": "X..xX..x....X...", "tom": "......X..x......",
     "floor": "..........X...Xx", "kick": "..x..x......x..."},
    {"snare": "X.oox.ooX.ooxxXX", "kick": "X...X...X...X..."},
    {"kick": "X.xX..x.X.xX..x.", "snare": "....X..o....X.ox", "floor": ".......x.......X"},
    {"snare": "oooooxoxoxxxxXXX", "kick": "X.......X......."},
    {"high": "X..x..X.........", "floor": "........X..x..X.", "kick": "..x..x....x..x.X"},
)
_FILLS12 = ({"snare": "X.xXxx"}, {"high": "Xxx...", "floor": "...Xxx"}, {"snare": "xxxxXX"})
_LONG12 = (
    {"snare": "Xxx.........", "high": "...Xxx......",
     "tom": "......Xxx...", "floor": ".........Xxx"},
    {"snare": "X.oX.oX.oXxX", "kick": "X..X..X..X.."},
    {"kick": "X.x..xX.x..x", "snare": ".o.X...o.X.o", "floor": "....x.....X."},
)
# fmt: on


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
        short, long = (_FILLS12, _LONG12) if self.groove.steps == 12 else (_FILLS16, _LONG16)
        self.fills = [f for f in (*short, *long) if _length(f) <= self.groove.steps]
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
            notes += [self._note(start, *stroke) for stroke in self._strokes(section, bar, fill)]
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
        self, section: Section, bar: int, fill: dict[str, str]
    ) -> Iterator[tuple[int, str, str, float]]:
        """Strokes of one bar as (step, drum, mark, energy): groove, ghost notes and fill."""
        lines = self._lines(section, bar)
        length = _length(fill)
        cut = self.groove.steps - length
        for name, line in lines.items():
            for i, mark in enumerate(line):
                skipped = self.thin and name in _CYMBALS and mark != "X" and i % 4
                if mark != "." and not skipped and (i < cut or name == "pedal"):
                    yield i, name, mark, section.energy
        for i in range(1, cut if "snare" in lines else 1):
            free = lines["snare"][i] == "." and lines["kick"][i] == "."
            off = i % 3 == 2 if self.groove.steps == 12 else i % 2 == 1
            if free and off and self.rng.random() < self.groove.ghosts * 0.6:
                yield i, "snare", "o", section.energy
        for name, line in fill.items():
            for i, mark in enumerate(line):
                if mark != ".":
                    yield cut + i, name, mark, section.energy * (0.8 + 0.25 * i / length)

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
