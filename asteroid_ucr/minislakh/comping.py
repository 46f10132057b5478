"""Chords, broken chords and tunes, for the piano with two hands and for all further instruments."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from asteroid_ucr.minislakh.harmony import Chord, nearest, scale_tones, voice
from asteroid_ucr.minislakh.notes import Note
from asteroid_ucr.minislakh.score import Bar
from asteroid_ucr.minislakh.songbook import PIANOS, Figure


class Accompanist:
    """Plays one style, and remembers the last voicing and the last note of its tune.

    Args:
        style: The way to accompany.
        rng: Random stream for the habits of the player: register, density, pedal.
        left: Lowest pitch of the left hand, 28 to 55; None plays without a left hand.
    """

    def __init__(self, style: Figure, rng: np.random.Generator, left: int | None = None) -> None:
        self.style = style
        self.left = left if style.left else None
        self.low = int(rng.integers(*style.lows, endpoint=True))
        self.high = self.low + 24
        self.pedal = rng.random() < style.pedal
        self.busy = float(rng.normal(-0.3, 0.3))
        self.voicing: tuple[int, ...] = ()
        self.pitch = float(self.high - 2)

    def bar(self, bar: Bar) -> list[Note]:
        """The notes of one bar: the accompaniment, or a solo where the section has one."""
        style = self.style
        if bar.section.features("Piano"):
            style = PIANOS["broken" if bar.triplets else "tune"]
        notes: list[Note] = []
        for figures, play in ((style.right, self._right), (style.left, self._left)):
            if not figures or (play == self._left and self.left is None):
                continue
            place = (bar.section.energy + self.busy) * len(figures) + bar.riff.normal(0, 0.6)
            figure = figures[int(np.clip(place, 0, len(figures) - 1))]
            for offset, length, mark in bar.strokes(figure):
                ends = [at + size for at, size, _ in bar.spans() if at + size > offset + 1e-6]
                ring = self.pedal and mark not in "mp"
                sounding = (min(ends) - offset if ring else length * style.touch) or length
                notes += play(bar, offset, sounding, mark)
        return _once(notes)

    def chord(self, chord: Chord) -> tuple[int, ...]:
        """The next voicing of the right hand."""
        size, rootless = self.style.size, self.style.rootless
        self.voicing = voice(chord, self.low, self.high, self.voicing, size, rootless)
        return self.voicing

    def final(self, chord: Chord) -> list[int]:
        """Pitches of the song's last chord."""
        bottom = [] if self.left is None else [self._bottom(chord)]
        return sorted({*bottom, *self.chord(chord)})

    def _bottom(self, chord: Chord) -> int:
        low = self.left or self.low
        return low + (chord.root - low) % 12

    def _right(self, bar: Bar, offset: float, length: float, mark: str) -> list[Note]:
        # An off-beat before a change belongs to the coming chord.
        chord = bar.chord(offset + (0.5 if offset % 1 and length > 0.5 else 0.0))
        at = bar.start + offset
        accent = 90 if offset % 1 == 0 else 82
        if mark == "m":
            return [bar.note(offset, length, self._tune(bar, offset), 94 + bar.free.normal(0, 8))]
        pitches = self.chord(chord)
        if mark in "Pp":
            root = self.low + (chord.root - self.low) % 12
            fifth = nearest(chord.fifth, root + 7, root, root + 12)
            pitches = (root, fifth, root + 12) if mark == "P" else (root, fifth)
            length = length if mark == "P" else 0.15
        elif mark.isdigit():
            octave, tone = divmod(int(mark), len(pitches))
            pitches = (pitches[tone] + 12 * octave,)
            accent -= 8
        elif mark == "U":
            pitches = pitches[::-1][:3]
        velocity = bar.loud(accent - 18 * (mark in "cpU"))
        rolled = self.style.roll
        return [Note(at + i * rolled, length, p, velocity) for i, p in enumerate(pitches)]

    def _left(self, bar: Bar, offset: float, length: float, mark: str) -> list[Note]:
        chord = bar.chord(offset)
        root = self._bottom(chord)
        fifth = nearest(chord.fifth, root + 7, root, root + 12)
        rocking = fifth if offset % 2 < 1 else root + 9
        tenth = nearest(chord.third, root + 15, root + 6, root + 18)
        chosen = {
            "R": (root,), "O": (root, root + 12), "5": (fifth,), "6": (root, rocking),
            "8": (root + 12,), "T": (tenth,),
        }[mark]  # fmt: skip
        return [bar.note(offset, length, pitch, 80) for pitch in chosen]

    def _tune(self, bar: Bar, offset: float) -> int:
        """A note of a tune: chord tones on the beats, scale tones between them."""
        chord = bar.chord(offset)
        centre = self.high - 2
        near = self.pitch + float(bar.riff.normal(0, 3.5)) - 0.3 * (self.pitch - centre)
        allowed = chord.tones if offset % 1 == 0 else scale_tones(bar.key, bar.minor, chord)
        options = [nearest(tone, near, centre - 12, centre + 12) for tone in allowed]
        self.pitch = min(options, key=lambda p: abs(p - near))
        return int(self.pitch)


def _once(notes: list[Note]) -> list[Note]:
    """Drops repeated notes of equal pitch and onset; ends notes where their key is struck again."""
    unique = {(n.pitch, n.start): n for n in notes}
    ordered = sorted(unique.values(), key=lambda n: (n.pitch, n.start))
    for i, (note, following) in enumerate(pairwise(ordered)):
        gap = following.start - note.start
        if note.pitch == following.pitch and gap < note.length:
            ordered[i] = Note(note.start, gap, note.pitch, note.velocity)
    return ordered
