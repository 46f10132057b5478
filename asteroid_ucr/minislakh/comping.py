"""Piano accompaniment in several styles: two hands, voice-led chords."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asteroid_ucr.minislakh.context import Bar
from asteroid_ucr.minislakh.harmony import Chord, nearest, scale_tones, voice
from asteroid_ucr.minislakh.score import Note, choose

_RHYTHMS = (
    (0.0, 1.5),
    (0.0, 1.5, 3.0),
    (0.5, 2.5),
    (0.0, 2.5, 3.5),
    (1.0, 2.5),
    (0.0, 0.75, 1.5, 2.5),
    (0.0, 1.5, 2.0, 3.5),
)


class Pianist:
    """Plays one style.

    Args:
        style: a key of `STYLES`.
        centre: middle of the right hand's range, 54 to 70.
        left: lowest pitch of the left hand, 26 to 40: it may lie in the bass's own range.
    """

    def __init__(self, style: str, centre: int, left: int) -> None:
        self.style = style
        self.low, self.high = centre - 12, centre + 12
        self.left = left
        self.voicing: tuple[int, ...] = ()

    def bar(self, bar: Bar) -> list[Note]:
        """The notes of one bar: the style's figure, and a lick where a phrase ends."""
        notes = STYLES[self.style](self, bar)
        if bar.closing and bar.free.random() < 0.55 and self.style not in ("montuno", "stabs"):
            notes += self.lick(bar)
        return notes

    def chord(self, chord: Chord, size: int = 4, rootless: bool = False) -> tuple[int, ...]:
        """The next voicing of the right hand."""
        self.voicing = voice(chord, self.low, self.high, self.voicing, size, rootless)
        return self.voicing

    def bottom(self, chord: Chord) -> int:
        """The root for the left hand."""
        return self.left + (chord.root - self.left) % 12

    def hit(
        self, pitches: tuple[int, ...], at: float, length: float, velocity: int, roll: float = 0.0
    ) -> list[Note]:
        """A chord, its tones rolled upwards by `roll` beats each, the top one a little louder."""
        top = len(pitches) - 1
        return [
            Note(at + i * roll, length, p, min(127, velocity + (8 if i == top else 0)))
            for i, p in enumerate(pitches)
        ]

    def lick(self, bar: Bar) -> list[Note]:
        """A short run in the right hand over the last beats of a phrase, ending on a chord tone."""
        chord, coming = bar.chord(bar.beats - 1), bar.chord(bar.beats)
        scale = [t for t in scale_tones(bar.key, bar.minor, chord)]
        step = 1 / 3 if bar.triplets else 0.25
        count = int(bar.free.integers(3, 7))
        goal = nearest(choose(bar.free, coming.tones), self.high + 4, self.low, self.high + 12)
        direction = choose(bar.free, (-1, 1))
        pitch, run = goal, []
        for i in range(count):
            run.append(
                Note(
                    bar.start + bar.beats - (i + 1) * step, step, pitch, bar.loud(84 + 3 * (i == 0))
                )
            )
            moves = (pitch + direction * m for m in (range(1, 5) if i % 3 else range(2, 6)))
            pitch = next((p for p in moves if p % 12 in scale), pitch + direction)
        return run


def block(player: Pianist, bar: Bar) -> list[Note]:
    """Full chords on the beats, the left hand in octaves."""
    notes: list[Note] = []
    every = 1.0 if bar.riff.random() < 0.6 else 2.0
    for offset, length, chord in bar.spans():
        pitches = player.chord(chord)
        for i in np.arange(0, length, every):
            strong = 94 if i == 0 else 78
            notes += player.hit(pitches, bar.start + offset + i, every * 0.9, bar.loud(strong))
        root = player.bottom(chord)
        notes += player.hit((root, root + 12), bar.start + offset, length * 0.95, bar.loud(84))
    return notes


def eighths(player: Pianist, bar: Bar) -> list[Note]:
    """Pop: chords in eighths, accents on the beat or against it."""
    notes: list[Note] = []
    accents = choose(bar.riff, ((0, 2, 4, 6), (0, 3, 6), (0, 3, 4, 7)))
    step = 1 / 3 if bar.triplets else 0.5
    for offset, length, chord in bar.spans():
        pitches = player.chord(chord, 3)
        for i in range(round(length / step)):
            velocity = bar.loud(92 if i in accents else 68)
            notes += player.hit(pitches, bar.start + offset + i * step, step * 0.8, velocity)
        notes.append(Note(bar.start + offset, length * 0.9, player.bottom(chord), bar.loud(86)))
    return notes


def arpeggio(player: Pianist, bar: Bar) -> list[Note]:
    """Broken chords over two octaves, the pedal held for the length of a chord."""
    notes: list[Note] = []
    step = 1 / 3 if bar.triplets else choose(bar.riff, (0.5, 0.25))
    figure = choose(bar.riff, ((0, 1, 2, 3, 2, 1), (0, 2, 1, 3), (0, 1, 2, 3), (3, 2, 1, 0, 1, 2)))
    for offset, length, chord in bar.spans():
        pitches = player.chord(chord)
        pitches = pitches if len(pitches) > 3 else (*pitches, pitches[0] + 12)
        root = player.bottom(chord)
        notes.append(Note(bar.start + offset, length * 0.98, root, bar.loud(88)))
        if length >= 2:
            fifth = nearest(chord.fifth, root + 7, root, root + 12)
            notes.append(Note(bar.start + offset + step, length * 0.9, fifth, bar.loud(66)))
        for i in range(round(length / step)):
            at = i * step
            pitch = pitches[figure[i % len(figure)]]
            rest = min(length - at, 2.0)
            notes.append(Note(bar.start + offset + at, rest, pitch, bar.loud(84 if i % 4 else 70)))
    return notes


def offbeat(player: Pianist, bar: Bar) -> list[Note]:
    """Reggae and ska: short chords off the beat."""
    notes: list[Note] = []
    double = bar.riff.random() < 0.3
    for beat in range(round(bar.beats)):
        pitches = player.chord(bar.chord(beat), 3)
        notes += player.hit(pitches, bar.start + beat + 0.5, 0.2, bar.loud(92))
        if double and beat % 2:
            notes += player.hit(pitches, bar.start + beat + 0.75, 0.15, bar.loud(64))
    if bar.riff.random() < 0.5:
        root = player.bottom(bar.chord())
        notes += [Note(bar.start + b, 0.35, root, bar.loud(72)) for b in (1.0, 3.0)]
    return notes


def syncopated(player: Pianist, bar: Bar) -> list[Note]:
    """Jazz and soul: rootless voicings in short and long chords against the beat."""
    notes: list[Note] = []
    rhythm = [o for o in choose(bar.riff, _RHYTHMS) if o < bar.beats]
    for onset, following in zip(rhythm, [*rhythm[1:], bar.beats], strict=True):
        placed = int(onset) + 2 / 3 if bar.triplets and onset % 1 else onset
        # An off-beat just before a change belongs to the coming chord.
        chord = bar.chord(onset + 0.5)
        length = 0.3 if bar.riff.random() < 0.45 else (following - onset) * 0.9
        pitches = player.chord(chord, 4, rootless=True)
        notes += player.hit(pitches, bar.start + placed, length, bar.loud(86))
    if bar.riff.random() < 0.5:
        notes.append(Note(bar.start, 1.5, player.bottom(bar.chord()), bar.loud(76)))
    return notes


def ballad(player: Pianist, bar: Bar) -> list[Note]:
    """Low root and tenth, a rolled chord, and a melody above it."""
    notes: list[Note] = []
    for offset, length, chord in bar.spans():
        at = bar.start + offset
        root = player.bottom(chord)
        notes += [
            Note(at, length * 0.98, root, bar.loud(82)),
            Note(at + 0.5, length - 0.5, nearest(chord.fifth, root + 7, root, root + 12), 62),
        ]
        notes += player.hit(player.chord(chord), at, length * 0.95, bar.loud(74), roll=0.04)
        if length >= 2:
            notes += player.hit(player.voicing[1:], at + length / 2, length * 0.45, bar.loud(66))
        tune = [nearest(t, player.high + 2, player.low, player.high + 12) for t in chord.tones]
        onset = 1.0
        while onset < length:
            size = choose(bar.riff, (0.5, 1.0, 1.5))
            if bar.riff.random() < 0.7:
                notes.append(Note(at + onset, size * 0.95, choose(bar.riff, tune), bar.loud(86)))
            onset += size
    return notes


def montuno(player: Pianist, bar: Bar) -> list[Note]:
    """Latin: octaves and inner tones in syncopated eighths."""
    steps = choose(
        bar.riff, ((0, 1.0, 1.5, 2.5, 3.5), (0.5, 1.5, 2.5, 3.5), (0, 0.5, 1.5, 2.5, 3.5))
    )
    notes: list[Note] = []
    for i, onset in enumerate(steps):
        chord = bar.chord(onset + 0.5)
        pitches = player.chord(chord)
        lead = pitches[0]
        length = 0.45
        if i % 2 == 0:
            notes += player.hit((lead, lead + 12), bar.start + onset, length, bar.loud(94))
        else:
            notes += player.hit(pitches[1:], bar.start + onset, length, bar.loud(84))
        if bar.riff.random() < 0.5:
            notes.append(Note(bar.start + onset, length, lead - 12, bar.loud(76)))
    return notes


def stabs(player: Pianist, bar: Bar) -> list[Note]:
    """House: short chords in threes against the four."""
    places = choose(
        bar.riff, ((0, 0.75, 1.5, 2.5, 3.25), (0, 1.5, 3.0), (0.5, 1.25, 2.5, 3.25), (0, 0.75, 1.5))
    )
    notes: list[Note] = []
    for onset in places:
        pitches = player.chord(bar.chord(onset), 4)
        notes += player.hit(pitches, bar.start + onset, 0.35, bar.loud(100))
        notes.append(Note(bar.start + onset, 0.35, player.bottom(bar.chord(onset)), bar.loud(82)))
    return notes


def boogie(player: Pianist, bar: Bar) -> list[Note]:
    """Blues: the left hand rocks between fifth and sixth, the right hand answers."""
    notes: list[Note] = []
    late = 2 / 3 if bar.triplets else 0.5
    for beat in range(round(bar.beats)):
        chord = bar.chord(beat)
        root = player.bottom(chord)
        upper = root + (7 if beat % 2 == 0 else 9)
        for shift, velocity in ((0.0, 88), (late, 70)):
            at = bar.start + beat + shift
            notes += player.hit((root, upper), at, 0.3, bar.loud(velocity))
        if bar.riff.random() < 0.55:
            pitches = player.chord(chord, 3, rootless=True)
            notes += player.hit(pitches, bar.start + beat + late, 0.3, bar.loud(90))
    return notes


def alberti(player: Pianist, bar: Bar) -> list[Note]:
    """Low, high, middle, high in eighths, with a tune of chord tones above."""
    notes: list[Note] = []
    step = 1 / 3 if bar.triplets else 0.5
    for offset, length, chord in bar.spans():
        low = voice(chord, player.left + 8, player.left + 26, (), 3)
        order = [low[0], low[-1], low[len(low) // 2], low[-1]]
        for i in range(round(length / step)):
            at = bar.start + offset + i * step
            notes.append(Note(at, step * 1.1, order[i % 4], bar.loud(76)))
        top = player.chord(chord)[-1]
        notes.append(Note(bar.start + offset, length * 0.7, top, bar.loud(92)))
        if length > 2:
            second = nearest(choose(bar.riff, chord.tones), top, player.low, player.high + 7)
            notes.append(
                Note(bar.start + offset + length * 0.75, length * 0.24, second, bar.loud(84))
            )
    return notes


def pad(player: Pianist, bar: Bar) -> list[Note]:
    """Long chords, as electric pianos play them, broken up once a bar."""
    notes: list[Note] = []
    for offset, length, chord in bar.spans():
        pitches = player.chord(chord, 4, rootless=bar.riff.random() < 0.5)
        notes += player.hit(pitches, bar.start + offset, length * 0.97, bar.loud(82), roll=0.02)
        notes.append(Note(bar.start + offset, length * 0.9, player.bottom(chord), bar.loud(74)))
        if length >= 3:
            at = bar.start + offset + choose(bar.riff, (1.5, 2.5, length - 0.5))
            notes += player.hit(pitches[-2:], at, 0.4, bar.loud(70))
    return notes


STYLES: dict[str, Callable[[Pianist, Bar], list[Note]]] = {
    "block": block,
    "eighths": eighths,
    "arpeggio": arpeggio,
    "offbeat": offbeat,
    "syncopated": syncopated,
    "ballad": ballad,
    "montuno": montuno,
    "stabs": stabs,
    "boogie": boogie,
    "alberti": alberti,
    "pad": pad,
}
