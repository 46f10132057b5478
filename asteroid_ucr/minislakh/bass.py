"""Bass lines that follow the harmony: figures of the songbook, walking lines, riffs and solos."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from asteroid_ucr.minislakh.harmony import Chord, nearest, scale_tones
from asteroid_ucr.minislakh.notes import Note
from asteroid_ucr.minislakh.score import Bar
from asteroid_ucr.minislakh.songbook import BASSES
from asteroid_ucr.utils.seeding import choose


class Bassist:
    """Plays one style within one register, with an articulation of its own.

    Args:
        style: A key of `BASSES` or `PLAYERS`.
        low: Lowest pitch, 26 to 44. Roots lie within the octave above it.
        touch: Share of each note that sounds, from 0.4 (short) to 1.
    """

    def __init__(self, style: str, low: int, touch: float = 0.9) -> None:
        self.style, self.low, self.touch = style, low, touch
        self.last = low + 5

    def bar(self, bar: Bar) -> list[Note]:
        """The notes of one bar: the line of the style, or a solo where the section has one."""
        if bar.section.features("Bass"):
            notes = solo(self, bar)
        elif self.style in PLAYERS:
            notes = PLAYERS[self.style](self, bar)
        else:
            notes = self.figure(bar, choose(bar.riff, BASSES[self.style]))
        if notes:
            self.last = notes[-1].pitch
        return notes

    def figure(self, bar: Bar, figure: str) -> list[Note]:
        """Plays a written figure over the bar's chords."""
        notes = []
        for offset, length, mark in bar.strokes(figure):
            coming = bar.chord(offset + length)
            chord = coming if mark == "N" else bar.chord(offset)
            root = self.root(chord)
            seventh = chord.tones[3] if len(chord.tones) > 3 else chord.fifth
            if mark == "a":
                pitch = self.approach(bar, self.root(coming))
            elif mark in "3457":
                classes = {"3": chord.third, "4": chord.fifth, "5": chord.fifth, "7": seventh}
                pitch = self.tone(classes[mark], root + {"4": -4}.get(mark, 2 * int(mark) - 3))
            else:
                pitch = root + {"8": 12, "6": 9}.get(mark, 0)
            velocity = 102 if offset == 0 else 86 if offset % 1 else 96
            velocity = 48 if mark == "x" else velocity + 8 * (mark == "8")
            sounding = 0.09 if mark == "x" else length * self.touch
            notes.append(bar.note(offset, sounding, pitch, velocity))
        return notes

    def root(self, chord: Chord) -> int:
        """The chord's root in this player's lowest octave."""
        return self.low + (chord.root - self.low) % 12

    def tone(self, pitch_class: int, target: float) -> int:
        """A pitch of a class near a target, within two octaves."""
        return nearest(pitch_class, target, self.low, self.low + 24)

    def approach(self, bar: Bar, target: int) -> int:
        """A tone a step below or above the next root, from the scale or chromatic."""
        side = 1 if self.last > target else -1
        if bar.free.random() < 0.5:
            return target + side
        scale = scale_tones(bar.key, bar.minor, bar.chord(bar.beats - 0.5))
        steps = [p for p in (target + side, target + 2 * side) if p % 12 in scale]
        return steps[0] if steps else target + side


def walking(player: Bassist, bar: Bar) -> list[Note]:
    """Quarter notes: the root of a chord, chord and scale tones, and a leading tone at its end."""
    notes = []
    for offset, length, chord in bar.spans():
        beats = max(1, round(length))
        target = player.tone(bar.chord(offset + length).root, player.last)
        # The line keeps its direction within a chord and turns at the edges of its range.
        pitch = player.tone(chord.root, player.last)
        up = pitch < player.low + 9 or (pitch < player.low + 15 and bar.free.random() < 0.5)
        scale = scale_tones(bar.key, bar.minor, chord)
        for beat in range(beats):
            if beat > 0 and beat == beats - 1:
                pitch = player.approach(bar, target)
            elif beat > 0:
                wanted = chord.tones if beat % 2 == 0 or bar.free.random() < 0.6 else scale
                moves = range(1, 8) if up else range(-1, -8, -1)
                pitch = next((pitch + m for m in moves if (pitch + m) % 12 in wanted), pitch)
            pitch = int(np.clip(pitch, player.low - 2, player.low + 24))
            player.last = pitch
            at = bar.start + offset + beat
            skips = bar.free.random() < 0.15
            skip = 2 / 3 if bar.triplets else 0.5
            length_played = skip if skips else 0.95
            notes.append(Note(at, length_played, pitch, bar.loud(102 if beat % 2 else 94)))
            if skips:
                notes.append(Note(at + skip, 0.25, pitch, bar.loud(60)))
    return notes


def riff(player: Bassist, bar: Bar) -> list[Note]:
    """A figure in sixteenths that is drawn for the song, with the kick and between its strokes."""
    marks = dict.fromkeys((round(k * 4) for k in bar.kicks), "R") | {0: "R"}
    for step in range(3, round(bar.beats * 4)):
        if step not in marks and bar.riff.random() < (0.3 if step % 2 else 0.2):
            marks[step] = choose(bar.riff, "875xRR")
    line = "".join(marks.get(i, choose(bar.riff, "-.-")) for i in range(round(bar.beats * 4)))
    return player.figure(bar, line.ljust(16, "-")[:16])


def locked(player: Bassist, bar: Bar) -> list[Note]:
    """One note with every stroke of the bass drum, held until the next."""
    onsets = sorted({0.0, *bar.kicks})
    fifths = bar.riff.random() < 0.5
    notes = []
    for onset, following in pairwise([*onsets, bar.beats]):
        chord = bar.chord(onset)
        root = player.root(chord)
        high = fifths and onset > 0 and bar.riff.random() < 0.4
        pitch = player.tone(chord.fifth, root + 7) if high else root
        notes.append(bar.note(onset, (following - onset) * player.touch, pitch, 100))
    return notes


def solo(player: Bassist, bar: Bar) -> list[Note]:
    """A melodic line over two octaves, with chord tones on the beats and steps between them."""
    unit = 1 / 3 if bar.triplets else choose(bar.riff, (0.5, 0.5, 0.25))
    notes: list[Note] = []
    onset, pitch = 0.0, player.tone(bar.chord().root, player.last)
    while onset < bar.beats - 0.1:
        length = min(choose(bar.free, (1, 1, 1, 2, 2, 3)) * unit, bar.beats - onset)
        chord = bar.chord(onset)
        tones = chord.tones if onset % 1 == 0 else scale_tones(bar.key, bar.minor, chord)
        if notes:
            goal = pitch + bar.free.normal(0, 4) + 0.3 * (player.low + 12 - pitch)
            pitch = min((player.tone(t, goal) for t in tones), key=lambda p: abs(p - goal))
        velocity = 58 if bar.free.random() < 0.12 else 100 if onset % 1 == 0 else 88
        notes.append(bar.note(onset, length * player.touch, pitch, velocity))
        onset += length
    return notes


_Player = Callable[[Bassist, Bar], list[Note]]
PLAYERS: dict[str, _Player] = {"walking": walking, "riff": riff, "locked": locked}
