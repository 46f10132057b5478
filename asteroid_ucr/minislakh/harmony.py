"""Keys, chords, progressions and voice leading."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asteroid_ucr.minislakh.songbook import PROGRESSIONS
from asteroid_ucr.utils.seeding import choose

QUALITIES = {
    "": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11), "m7": (0, 3, 7, 10),
    "m7b5": (0, 3, 6, 10), "dim7": (0, 3, 6, 9), "sus4": (0, 5, 7), "6": (0, 4, 7, 9),
    "m6": (0, 3, 7, 9), "9": (0, 4, 7, 10, 14), "maj9": (0, 4, 7, 11, 14), "m9": (0, 3, 7, 10, 14),
    "add9": (0, 4, 7, 14), "5": (0, 7), "13": (0, 4, 10, 14, 21),
}  # fmt: skip
_STEPS = {"I": 0, "II": 2, "III": 4, "IV": 5, "V": 7, "VI": 9, "VII": 11}
_ROMAN = re.compile(r"([b#]?)(VII|VI|V|IV|III|II|I|vii|vi|v|iv|iii|ii|i)(.*)")
MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)


@dataclass(frozen=True)
class Chord:
    """A chord of a song: onset and length in beats, pitch class of its root, and quality."""

    start: float
    length: float
    root: int
    quality: str

    @property
    def tones(self) -> tuple[int, ...]:
        """Pitch classes, the root first."""
        return tuple((self.root + step) % 12 for step in QUALITIES[self.quality])

    @property
    def third(self) -> int:
        """Pitch class of the third, or of the fourth or root in chords without a third."""
        steps = QUALITIES[self.quality]
        return (self.root + next((s for s in (3, 4, 5) if s in steps), 0)) % 12

    @property
    def fifth(self) -> int:
        """Pitch class of the fifth, which is diminished in some chords."""
        steps = QUALITIES[self.quality]
        return (self.root + next((s for s in (7, 6) if s in steps), 7)) % 12


def parse_chord(text: str, key: int) -> tuple[int, str]:
    """Root pitch class and quality of a chord in Roman numerals, such as "bVI", "ii7", "V13"."""
    match = _ROMAN.fullmatch(text)
    if match is None:
        raise ValueError(f"not a chord: {text}")
    accidental, numeral, suffix = match.groups()
    root = key + _STEPS[numeral.upper()] + {"": 0, "b": -1, "#": 1}[accidental]
    minor = numeral.islower() and not suffix.startswith(("m", "dim", "sus", "5"))
    quality = "m" + suffix if minor else suffix
    if quality not in QUALITIES:
        raise ValueError(f"unknown quality of {text}")
    return root % 12, quality


def is_minor(progression: str) -> bool:
    """Whether a progression is in minor: it has a minor chord on the first degree."""
    return any(re.fullmatch(r"i(?![iv]).*", c) for c in re.split("[ ,]", progression))


def lay_out(progression: str, key: int, bars: int, bar_beats: float, start: float) -> list[Chord]:
    """Writes a progression over a number of bars, repeating it as often as it takes."""
    written = progression.split(" ")
    chords = []
    for bar in range(bars):
        names = written[bar % len(written)].split(",")
        length = bar_beats / len(names)
        for i, name in enumerate(names):
            root, quality = parse_chord(name, key)
            chords.append(Chord(start + bar * bar_beats + i * length, length, root, quality))
    return chords


def chord_at(chords: list[Chord], beat: float) -> Chord:
    """The chord sounding at a position; the last one after the end."""
    for chord in reversed(chords):
        if chord.start <= beat + 1e-6:
            return chord
    return chords[0]


def voice(
    chord: Chord,
    low: int,
    high: int,
    previous: tuple[int, ...] = (),
    size: int = 4,
    rootless: bool = False,
) -> tuple[int, ...]:
    """Voices a chord within a range, moving as little as possible from the previous voicing.

    Args:
        chord: Chord to voice.
        low: Lowest pitch.
        high: Highest pitch.
        previous: Previous voicing; empty at the beginning.
        size: Largest number of notes.
        rootless: Whether to leave the root of chords of four tones or more to the bass.

    Returns:
        Pitches in ascending order.
    """
    tones = list(dict.fromkeys(chord.tones))
    if rootless and len(tones) >= 4:
        tones = tones[1:]
    if len(tones) > size:
        # The fifth says the least about a chord.
        tones = [t for t in tones if t != chord.fifth][:size]
    centre = sum(previous) / len(previous) if previous else (low + high) / 2
    best: tuple[float, tuple[int, ...]] = (np.inf, ())
    for bottom in range(low, high + 1):
        if bottom % 12 not in tones:
            continue
        pitches = [bottom]
        start = tones.index(bottom % 12)
        for tone in sorted(tones[:start] + tones[start + 1 :], key=lambda t: (t - bottom) % 12):
            pitches.append(bottom + (tone - bottom) % 12)
        shapes = [pitches]
        if len(pitches) > 3:
            # In open position, the second note from the top goes an octave down ("drop two").
            shapes.append(sorted([*pitches[:-2], pitches[-2] - 12, pitches[-1]]))
        for shape in shapes:
            if shape[-1] > high or shape[0] < low:
                continue
            cost = 0.3 * abs(sum(shape) / len(shape) - centre)
            cost += sum(min(abs(p - q) for q in previous) for p in shape) if previous else 0.0
            # Seconds in low registers sound muddy.
            cost += sum(2.0 for a, b in pairwise(shape) if b - a < 3 and a < 55)
            cost += 0.1 * abs(sum(shape) / len(shape) - (low + high) / 2)
            best = min(best, (cost, tuple(shape)))
    return best[1] or (low + (chord.root - low) % 12,)


def nearest(pitch_class: int, target: float, low: int, high: int) -> int:
    """The pitch of a class nearest to a target, within a range of an octave or more."""
    options = [p for p in range(low, high + 1) if p % 12 == pitch_class % 12]
    return min(options, key=lambda p: abs(p - target))


def scale_tones(key: int, minor: bool, chord: Chord) -> list[int]:
    """The scale of the key, altered where the chord has a tone that the scale lacks."""
    tones = {(key + step) % 12 for step in (MINOR if minor else MAJOR)}
    for tone in chord.tones:
        if tone not in tones:
            tones -= {(tone + 1) % 12, (tone - 1) % 12} - set(chord.tones)
            tones.add(tone)
    return sorted(tones)


def pick_progressions(pool: str, rng: np.random.Generator) -> tuple[str, str]:
    """Two different progressions of a pool in the same mode: for verses and for choruses."""
    first = choose(rng, PROGRESSIONS[pool])
    others = [p for p in PROGRESSIONS[pool] if p != first and is_minor(p) == is_minor(first)]
    return first, choose(rng, others) if others else first
