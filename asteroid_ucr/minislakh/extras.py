"""Guitar, organ, strings and a lead voice: the stems that only some songs have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asteroid_ucr.minislakh.context import Bar
from asteroid_ucr.minislakh.harmony import nearest, scale_tones, voice
from asteroid_ucr.minislakh.score import Note, choose


class Player:
    """Plays one of the `STYLES`, remembering its last voicing and its tune."""

    def __init__(self, style: str) -> None:
        self.style = style
        self.voicing: tuple[int, ...] = ()
        self.pitch = 74

    def bar(self, bar: Bar) -> list[Note]:
        """The notes of one bar."""
        return STYLES[self.style](self, bar)


def strum(player: Player, bar: Bar) -> list[Note]:
    """Guitar chords, down and up strokes over the strings."""
    pattern = choose(bar.riff, ("D.DU.UDU", "D..UD.DU", "D.D.D.DU", "D.DUDUDU"))
    notes = []
    for i, stroke in enumerate(pattern[: round(bar.beats * 2)]):
        if stroke == ".":
            continue
        player.voicing = voice(bar.chord(i / 2), 45, 69, player.voicing, 4)
        order = player.voicing if stroke == "D" else player.voicing[::-1][:3]
        for k, pitch in enumerate(order):
            velocity = bar.loud(86 if stroke == "D" else 66)
            notes.append(Note(bar.start + i / 2 + 0.02 * k, 0.5, pitch, velocity))
    return notes


def power(player: Player, bar: Bar) -> list[Note]:
    """Rock guitar: fifths in eighths, damped between the accents."""
    accents = choose(bar.riff, ((0, 3, 6), (0, 4), (0, 3, 5), (0, 2, 4, 6)))
    notes = []
    for i in range(round(bar.beats * 2)):
        root = 40 + (bar.chord(i / 2).root - 40) % 12
        held = i in accents
        for pitch in (root, root + 7, root + 12) if held else (root, root + 7):
            velocity = bar.loud(104 if held else 70)
            notes.append(Note(bar.start + i / 2, 0.7 if held else 0.15, pitch, velocity))
    return notes


def picking(player: Player, bar: Bar) -> list[Note]:
    """Broken guitar chords, thumb and fingers."""
    notes = []
    step = 1 / 3 if bar.triplets else 0.5
    figure = choose(bar.riff, ((0, 2, 1, 3, 2, 1), (0, 1, 2, 3, 2, 1), (0, 3, 1, 2)))
    for offset, length, chord in bar.spans():
        player.voicing = voice(chord, 45, 71, player.voicing, 4)
        strings = (
            player.voicing if len(player.voicing) > 3 else (*player.voicing, 12 + player.voicing[0])
        )
        for i in range(round(length / step)):
            pitch = strings[figure[i % len(figure)]]
            at = bar.start + offset + i * step
            notes.append(Note(at, step * 2, pitch, bar.loud(88 if i % 4 == 0 else 70)))
    return notes


def chops(player: Player, bar: Bar) -> list[Note]:
    """Funk guitar: short chords on the sixteenths, some of them damped."""
    notes = []
    for i in range(round(bar.beats * 4)):
        if bar.riff.random() > 0.45:
            continue
        player.voicing = voice(bar.chord(i / 4), 57, 76, player.voicing, 3, rootless=True)
        damped = bar.riff.random() < 0.5
        for pitch in player.voicing:
            at = bar.start + i / 4
            notes.append(Note(at, 0.06 if damped else 0.18, pitch, bar.loud(58 if damped else 90)))
    return notes


def skank(player: Player, bar: Bar) -> list[Note]:
    """Reggae guitar: the off-beats."""
    notes = []
    for beat in range(round(bar.beats)):
        player.voicing = voice(bar.chord(beat), 55, 74, player.voicing, 3)
        notes += [Note(bar.start + beat + 0.5, 0.16, p, bar.loud(84)) for p in player.voicing]
    return notes


def carpet(player: Player, bar: Bar) -> list[Note]:
    """Long chords for strings, choirs and organs."""
    notes = []
    for offset, length, chord in bar.spans():
        player.voicing = voice(chord, 52, 76, player.voicing, 4)
        notes += [Note(bar.start + offset, length, p, bar.loud(76)) for p in player.voicing]
    return notes


def bubble(player: Player, bar: Bar) -> list[Note]:
    """Organ chords with a rhythm of their own."""
    places = choose(bar.riff, ((0, 1.5, 2.5), (0, 0.75, 1.5, 2.5), (0, 2), (0.5, 1.5, 2.5, 3.5)))
    places = tuple(p for p in places if p < bar.beats)
    notes = []
    for onset, following in zip(places, (*places[1:], bar.beats), strict=True):
        player.voicing = voice(bar.chord(onset), 55, 77, player.voicing, 3)
        length = (following - onset) * 0.8
        notes += [Note(bar.start + onset, length, p, bar.loud(80)) for p in player.voicing]
    return notes


def lead(player: Player, bar: Bar) -> list[Note]:
    """A tune: a rhythmic motif that returns, chord tones on the beats, steps between them."""
    notes = []
    onset = choose(bar.riff, (0.0, 0.5, 1.0))
    unit = 1 / 3 if bar.triplets else 0.5
    while onset < bar.beats - 0.25:
        length = choose(bar.riff, (1, 1, 2, 2, 3)) * unit
        chord = bar.chord(onset)
        near = player.pitch + float(bar.riff.normal(0, 3.5)) - 0.3 * (player.pitch - 74)
        strong = abs(onset - round(onset)) < 1e-6
        allowed = chord.tones if strong else scale_tones(bar.key, bar.minor, chord)
        options = [nearest(tone, near, 60, 88) for tone in allowed]
        player.pitch = min(options, key=lambda p: abs(p - near))
        if bar.riff.random() < 0.85:
            size = min(length, bar.beats - onset) * float(
                np.clip(bar.riff.normal(0.9, 0.1), 0.4, 1)
            )
            notes.append(Note(bar.start + onset, size, player.pitch, bar.loud(92)))
        onset += length
    # Phrases breathe: every fourth bar is left to the others.
    return [] if bar.index % 4 == 3 else notes


# Those that divide the beat in two and have to be swung in songs that divide it in three.
STRAIGHT = ("strum", "power", "chops", "skank", "bubble")

STYLES: dict[str, Callable[[Player, Bar], list[Note]]] = {
    "strum": strum,
    "power": power,
    "picking": picking,
    "chops": chops,
    "skank": skank,
    "carpet": carpet,
    "bubble": bubble,
    "lead": lead,
}
