"""Bass lines that follow the harmony, in several styles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asteroid_ucr.minislakh.context import Bar
from asteroid_ucr.minislakh.harmony import Chord, nearest, scale_tones
from asteroid_ucr.minislakh.score import Note, choose


class Bassist:
    """Plays one style within one register.

    Args:
        style: a key of `STYLES`.
        low: lowest pitch, 26 to 40. Roots lie within the octave above it.
    """

    def __init__(self, style: str, low: int) -> None:
        self.style = style
        self.low = low
        self.last = low + 5

    def bar(self, bar: Bar) -> list[Note]:
        """The notes of one bar."""
        notes = STYLES[self.style](self, bar)
        if notes:
            self.last = notes[-1].pitch
        return notes

    def root(self, chord: Chord) -> int:
        """The chord's root in this player's lowest octave."""
        return self.low + (chord.root - self.low) % 12

    def tone(self, pitch_class: int, target: float) -> int:
        """A pitch of a class near a target, within two octaves."""
        return nearest(pitch_class, target, self.low, self.low + 24)

    def approach(self, bar: Bar, target: int) -> int:
        """A tone a step below or above the next root: from the scale, or chromatic."""
        side = 1 if self.last > target else -1
        if bar.free.random() < 0.5:
            return target + side
        scale = scale_tones(bar.key, bar.minor, bar.chord(bar.beats - 0.5))
        steps = [p for p in (target + side, target + 2 * side) if p % 12 in scale]
        return steps[0] if steps else target + side


def eighths(player: Bassist, bar: Bar) -> list[Note]:
    """Driving eighths on the root, with a step up to the next chord at times."""
    notes = []
    step = 1 / 3 if bar.triplets else 0.5
    every = 2 if bar.triplets else 1
    jump = bar.riff.random() < 0.4
    for i in np.arange(0, round(bar.beats / step)):
        offset = float(i * step)
        if bar.triplets and i % 3 == every - 1:
            continue
        root = player.root(bar.chord(offset))
        pitch = root + 12 if jump and i % 8 == 7 else root
        notes.append(Note(bar.start + offset, step * 0.85, pitch, bar.loud(100 if i % 2 else 92)))
    upcoming = player.root(bar.chord(bar.beats))
    if upcoming != player.root(bar.chord(bar.beats - 0.5)) and bar.free.random() < 0.6:
        final = notes[-1]
        notes[-1] = Note(final.start, final.length, player.approach(bar, upcoming), final.velocity)
    return notes


def root_fifth(player: Bassist, bar: Bar) -> list[Note]:
    """Root and fifth in long notes, with a pick-up into the next bar."""
    notes = []
    dotted = bar.riff.random() < 0.5 and not bar.triplets
    for offset, length, chord in bar.spans():
        root = player.root(chord)
        fifth = player.tone(chord.fifth, root + choose(bar.riff, (-4, 7)))
        at = bar.start + offset
        first = length * (0.375 if dotted and length >= 4 else 0.5)
        notes.append(Note(at, first * 0.95, root, bar.loud(104)))
        if length >= 2:
            notes.append(Note(at + length / 2, length * 0.4, fifth, bar.loud(94)))
        if dotted and length >= 4:
            notes.append(Note(at + 1.5, 0.45, root, bar.loud(80)))
    if bar.closing or bar.free.random() < 0.3:
        target = player.root(bar.chord(bar.beats))
        pitch = player.approach(bar, target)
        notes.append(Note(bar.start + bar.beats - 0.5, 0.45, pitch, bar.loud(86)))
    return notes


def walking(player: Bassist, bar: Bar) -> list[Note]:
    """Quarter notes: the root on the chord, then chord and scale tones, then a leading tone."""
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
            notes.append(Note(at, 0.9, pitch, bar.loud(102 if beat % 2 else 94)))
            if bar.free.random() < 0.12:
                skip = 2 / 3 if bar.triplets else 0.5
                notes.append(Note(at + skip, 0.25, pitch, bar.loud(60)))
    return notes


def octaves(player: Bassist, bar: Bar) -> list[Note]:
    """Disco: low and high root in turn."""
    notes = []
    busy = bar.riff.random() < 0.4
    for i in range(round(bar.beats * 2)):
        root = player.root(bar.chord(i * 0.5))
        at = bar.start + i * 0.5
        if i % 2 == 0:
            notes.append(Note(at, 0.3, root, bar.loud(100)))
            if busy and i % 4 == 2:
                notes.append(Note(at + 0.25, 0.18, root, bar.loud(72)))
        else:
            notes.append(Note(at, 0.32, root + 12, bar.loud(96)))
    return notes


def funk(player: Bassist, bar: Bar) -> list[Note]:
    """A syncopated riff on the sixteenths: with the kick, octaves and sevenths in the gaps."""
    marks: dict[float, str] = dict.fromkeys(bar.kicks, "root")
    marks[0.0] = "root"
    for step in range(3, round(bar.beats * 4)):
        if step / 4 not in marks and bar.riff.random() < (0.3 if step % 2 else 0.2):
            marks[step / 4] = choose(bar.riff, ("octave", "seventh", "fifth", "dead", "root"))
    notes = []
    onsets = sorted(marks)
    for onset, following in zip(onsets, [*onsets[1:], bar.beats], strict=True):
        chord = bar.chord(onset)
        root = player.root(chord)
        seventh = chord.tones[3] if len(chord.tones) > 3 else chord.fifth
        pitch = {
            "root": root,
            "octave": root + 12,
            "seventh": player.tone(seventh, root + 10),
            "fifth": player.tone(chord.fifth, root + 7),
            "dead": root,
        }[marks[onset]]
        dead = marks[onset] == "dead"
        length = 0.08 if dead else min(following - onset, choose(bar.riff, (0.2, 0.4, 0.7)))
        velocity = 55 if dead else (108 if marks[onset] == "octave" else 98)
        notes.append(Note(bar.start + onset, length, pitch, bar.loud(velocity)))
    return notes


def locked(player: Bassist, bar: Bar) -> list[Note]:
    """One note with every stroke of the bass drum, held until the next."""
    onsets = sorted({0.0, *bar.kicks})
    notes = []
    for onset, following in zip(onsets, [*onsets[1:], bar.beats], strict=True):
        chord = bar.chord(onset)
        root = player.root(chord)
        pitch = root if onset == 0 or bar.riff.random() < 0.7 else player.tone(chord.fifth, root)
        length = (following - onset) * choose(bar.riff, (0.6, 0.92))
        notes.append(Note(bar.start + onset, length, pitch, bar.loud(100)))
    if bar.closing:
        target = player.root(bar.chord(bar.beats))
        notes.append(
            Note(bar.start + bar.beats - 0.5, 0.4, player.approach(bar, target), bar.loud(84))
        )
    return notes


def pedal(player: Bassist, bar: Bar) -> list[Note]:
    """Long notes on the root, with a short step before most changes of chord."""
    notes = []
    leads = bar.riff.random() < 0.7
    for offset, length, chord in bar.spans():
        root = player.root(chord)
        target = player.root(bar.chord(offset + length))
        at = bar.start + offset
        step = 1 / 3 if bar.triplets else 0.5
        if leads and length >= 2 and target != root:
            player.last = root
            notes.append(Note(at, (length - 2 * step) * 0.97, root, bar.loud(96)))
            fifth = player.tone(chord.fifth, (root + target) / 2)
            notes.append(Note(at + length - 2 * step, step * 0.9, fifth, bar.loud(82)))
            coming = player.approach(bar, target)
            notes.append(Note(at + length - step, step * 0.9, coming, bar.loud(86)))
        else:
            first = length * (0.625 if length >= 4 else 0.97)
            notes.append(Note(at, first * 0.97, root, bar.loud(96)))
            if length >= 4:
                fifth = player.tone(chord.fifth, root + 7)
                notes.append(Note(at + first, length - first, fifth, bar.loud(84)))
    return notes


def arpeggio(player: Bassist, bar: Bar) -> list[Note]:
    """Broken chords: root, fifth, octave, tenth, in the order of the song's own figure."""
    notes = []
    figure = choose(bar.riff, ((0, 1, 2, 1), (0, 1, 2, 3), (0, 2, 1, 3), (0, 0, 1, 2)))
    step = 1 / 3 if bar.triplets else 0.5
    for offset, length, chord in bar.spans():
        root = player.root(chord)
        line = (root, player.tone(chord.fifth, root + 7), root + 12, root + 12)
        third = player.tone(chord.third, root + 15)
        for i in range(round(length / step)):
            place = figure[i % len(figure)]
            pitch = third if place == 3 else line[place]
            at = bar.start + offset + i * step
            notes.append(Note(at, step * 0.9, pitch, bar.loud(100 if i == 0 else 86)))
    return notes


def bossa(player: Bassist, bar: Bar) -> list[Note]:
    """Dotted quarter and eighth, root and fifth."""
    notes = []
    pushed = bar.riff.random() < 0.35
    for onset, fifth in ((0.0, False), (1.5, True), (2.0, True), (3.5, False)):
        if onset >= bar.beats or (onset == 1.5 and bar.riff.random() < 0.5):
            continue
        # The last eighth may bring the next bar's root early.
        chord = bar.chord(bar.beats if pushed and onset == 3.5 else onset)
        root = player.root(chord)
        pitch = player.tone(chord.fifth, root + choose(bar.riff, (-5, 7))) if fifth else root
        length = 1.35 if onset in (0.0, 2.0) else 0.45
        notes.append(Note(bar.start + onset, length, pitch, bar.loud(96 if length > 1 else 82)))
    return notes


def tumbao(player: Bassist, bar: Bar) -> list[Note]:
    """Latin: the fifth on the second off-beat, the coming root one beat early."""
    chord, coming = bar.chord(1.5), bar.chord(bar.beats)
    root = player.root(chord)
    notes = [
        Note(bar.start + 1.5, 1.3, player.tone(chord.fifth, root + 5), bar.loud(94)),
        Note(bar.start + 3.0, 1.4, player.root(coming), bar.loud(104)),
    ]
    if bar.index == 0:
        notes.insert(0, Note(bar.start, 1.2, root, bar.loud(100)))
    return notes


def dub(player: Bassist, bar: Bar) -> list[Note]:
    """Reggae: a melodic figure full of holes, the same in every other bar."""
    places = choose(
        bar.riff,
        ((0, 0.5, 1.5, 2, 3), (0.5, 1, 2, 2.5, 3.5), (0, 0.75, 1.5, 3, 3.5), (0, 1, 2.5, 3)),
    )
    notes = []
    for onset in places:
        chord = bar.chord(onset)
        root = player.root(chord)
        tone = choose(bar.riff, (chord.root, chord.root, chord.third, chord.fifth))
        pitch = root if onset == places[0] else player.tone(tone, root + 4)
        notes.append(Note(bar.start + onset, 0.42, pitch, bar.loud(106)))
    return notes


def boogie(player: Bassist, bar: Bar) -> list[Note]:
    """Blues: root, third, fifth, sixth, seventh and down again."""
    figure = choose(bar.riff, ((0, 4, 7, 9, 10, 9, 7, 4), (0, 0, 7, 7, 9, 9, 7, 7), (0, 4, 7, 9)))
    long = 2 / 3 if bar.triplets else 0.5
    notes = []
    for i in range(round(bar.beats * 2)):
        chord = bar.chord(i * 0.5)
        step = figure[i % len(figure)] if len(figure) > 4 else figure[(i // 2) % 4]
        if step == 4:
            step = (chord.third - chord.root) % 12
        at = bar.start + i // 2 + (long if i % 2 else 0.0)
        length = (1 - long if i % 2 else long) * 0.85
        notes.append(Note(at, length, player.root(chord) + step, bar.loud(82 if i % 2 else 102)))
    return notes


STYLES: dict[str, Callable[[Bassist, Bar], list[Note]]] = {
    "eighths": eighths,
    "root_fifth": root_fifth,
    "walking": walking,
    "octaves": octaves,
    "funk": funk,
    "locked": locked,
    "pedal": pedal,
    "arpeggio": arpeggio,
    "bossa": bossa,
    "tumbao": tumbao,
    "dub": dub,
    "boogie": boogie,
}
