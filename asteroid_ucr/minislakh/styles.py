"""Musical styles: the grooves, bass lines, piano figures and harmonies that go together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """A further instrument: its Slakh class, programs and ways to play, and its probability."""

    inst_class: str
    programs: tuple[int, ...]
    styles: tuple[str, ...]
    chance: float


@dataclass(frozen=True)
class Style:
    """One style.

    Attributes:
        tempo: Range in beats per minute.
        grooves: Names in `drums.GROOVES`.
        bass: Names in `bass.FIGURES` or `bass.PLAYERS`.
        piano: Names in `comping.PIANO`.
        harmony: Names in `harmony.PROGRESSIONS`.
        basses: General MIDI programs of the bass.
        pianos: General MIDI programs of the piano.
        kits: General MIDI programs of the drums.
        extras: Further instruments that may join.
        bar_beats: Quarter notes in a bar.
        swing: Range of the share of a swung pair that its first half takes.
        swing_unit: Length of a swung pair in beats.
    """

    tempo: tuple[int, int]
    grooves: tuple[str, ...]
    bass: tuple[str, ...]
    piano: tuple[str, ...]
    harmony: tuple[str, ...]
    basses: tuple[int, ...]
    pianos: tuple[int, ...]
    kits: tuple[int, ...]
    extras: tuple[Extra, ...] = ()
    bar_beats: float = 4.0
    swing: tuple[float, float] = (0.5, 0.5)
    swing_unit: float = 0.5


_ACOUSTIC = Extra("Guitar", (24, 25), ("strum", "picking"), 0.5)
_CLEAN = Extra("Guitar", (26, 27, 28), ("chops", "picking"), 0.5)
_CRUNCH = Extra("Guitar", (29, 30), ("power",), 0.7)
_ORGAN = Extra("Organ", (16, 17, 18), ("carpet", "bubble"), 0.35)
_STRINGS = Extra("Strings (continued)", (48, 49, 50, 52), ("carpet",), 0.35)
_LEADS = (
    Extra("Brass", (56, 60, 61), ("lead",), 0.15),
    Extra("Reed", (64, 65, 66, 71), ("lead",), 0.2),
    Extra("Pipe", (73, 75), ("lead",), 0.12),
    Extra("Synth Lead", (80, 81, 87), ("lead",), 0.12),
)

STYLES: dict[str, Style] = {
    "rock": Style((96, 152), ("rock", "sixteenths", "tribal", "stomp"),
        ("eighths", "locked", "root_fifth", "gallop", "syncopated"),
        ("block", "eighths", "pushed", "pad"), ("rock", "pop"), (33, 34), (0, 1, 2), (0, 8, 16),
        (_CRUNCH, _ORGAN, *_LEADS[3:])),
    "pop": Style((80, 128), ("pop", "rock", "sixteenths", "linear"),
        ("eighths", "locked", "root_fifth", "arpeggio", "syncopated", "pedal"),
        ("eighths", "arpeggio", "block", "alberti", "pushed", "pad", "tune"), ("pop", "pop_minor"),
        (33, 34, 35, 39), (0, 1, 2, 4), (0, 8, 24), (_ACOUSTIC, _STRINGS, *_LEADS)),
    "disco": Style((112, 130), ("disco",), ("octaves", "riff", "syncopated"),
        ("pushed", "stabs", "eighths"), ("pop_minor", "soul"), (33, 36, 38), (0, 2, 4, 5),
        (0, 8, 24), (_CLEAN, _STRINGS, _LEADS[0])),
    "funk": Style((86, 116), ("funk", "sixteenths", "linear", "breakbeat"),
        ("riff", "locked", "syncopated"), ("comping", "pad", "stabs"), ("funk", "soul"),
        (36, 37, 33), (4, 5, 7, 0), (0, 8, 16), (_CLEAN, _ORGAN, _LEADS[0]), swing=(0.5, 0.6)),
    "bossa": Style((110, 150), ("bossa", "brushes"), ("bossa",), ("comping", "pad", "tune"),
        ("bossa", "jazz"), (32, 35, 33), (0, 4, 0), (0, 40), (_ACOUSTIC, *_LEADS[1:3])),
    "samba": Style((92, 124), ("samba",), ("bossa", "tresillo", "syncopated"),
        ("comping", "pushed", "stabs"), ("bossa", "latin"), (32, 33), (0, 4), (0, 8),
        (_ACOUSTIC, _LEADS[0], _LEADS[2])),
    "swing": Style((100, 176), ("swing",), ("walking",), ("comping", "comping", "stride", "tune"),
        ("jazz", "blues"), (32, 32, 35, 33), (0, 1, 3), (40, 0, 32), (*_LEADS[:2],)),
    "shuffle": Style((80, 132), ("shuffle", "halfshuffle"), ("boogie", "walking", "triplets"),
        ("boogie", "comping", "triplets"), ("blues",), (32, 33, 34), (0, 1, 3), (0, 8, 16),
        (Extra("Guitar", (26, 27, 29), ("strum", "power"), 0.5), _ORGAN)),
    "ballad": Style((60, 88), ("ballad", "pop", "brushes"),
        ("pedal", "root_fifth", "arpeggio", "locked"), ("ballad", "arpeggio", "alberti", "tune"),
        ("pop", "pop_minor", "soul"), (32, 33, 35), (0, 1, 4, 5), (0, 8, 40),
        (_STRINGS, _ACOUSTIC, *_LEADS[1:3])),
    "halftime": Style((64, 96), ("halftime", "trap"), ("locked", "pedal", "dub", "sub"),
        ("pad", "arpeggio", "stabs"), ("pop_minor", "house", "soul"), (38, 39, 33, 35),
        (4, 5, 0, 2), (24, 25, 8),
        (Extra("Synth Pad", (88, 89, 90, 94), ("carpet",), 0.4), _LEADS[3]), swing=(0.5, 0.6)),
    "reggae": Style((66, 94), ("reggae",), ("dub", "root_fifth"), ("offbeat", "offbeat", "pad"),
        ("reggae",), (33, 32, 39), (0, 3, 4), (0, 8),
        (Extra("Guitar", (27, 28), ("skank",), 0.6), _ORGAN), swing=(0.5, 0.6)),
    "motown": Style((100, 132), ("motown", "stomp"),
        ("walking", "locked", "arpeggio", "syncopated"), ("block", "pushed", "eighths"),
        ("soul", "doowop"), (33, 34), (0, 1, 2), (0, 8), (_CLEAN, _STRINGS, *_LEADS[:2])),
    "latin": Style((90, 124), ("latin",), ("tumbao", "tresillo"), ("montuno", "montuno", "tune"),
        ("latin",), (32, 33, 35), (0, 1, 3), (0, 8, 16), (_LEADS[0], _LEADS[2])),
    "dancehall": Style((84, 104), ("tresillo",), ("sub", "tresillo", "locked"),
        ("stabs", "offbeat", "arpeggio"), ("pop_minor", "latin"), (38, 39, 33), (0, 2, 5),
        (24, 25, 0), (_CLEAN, _LEADS[3])),
    "punk": Style((130, 180), ("punk", "rock"), ("eighths", "root_fifth", "gallop"),
        ("block", "eighths"), ("rock", "pop"), (34, 33), (1, 0, 2), (16, 0), (_CRUNCH, _ORGAN)),
    "house": Style((116, 130), ("house", "disco", "stomp"),
        ("octaves", "offbeat", "locked", "riff"), ("stabs", "pad", "pushed"), ("house",),
        (38, 39, 36), (0, 2, 5), (24, 25, 8),
        (Extra("Synth Pad", (89, 90, 95), ("carpet",), 0.4), _STRINGS, _LEADS[3])),
    "breaks": Style((120, 176), ("breakbeat",), ("sub", "pedal", "syncopated"),
        ("pad", "stabs", "arpeggio"), ("house", "pop_minor"), (38, 39, 33), (0, 4, 5), (24, 25, 0),
        (_STRINGS, _LEADS[3])),
    "country": Style((84, 132), ("train", "pop", "brushes"), ("root_fifth", "walking", "polka"),
        ("stride", "block", "alberti"), ("rock", "doowop", "pop"), (32, 33), (0, 1, 3), (0, 40),
        (_ACOUSTIC, _LEADS[1])),
    "polka": Style((96, 132), ("polka",), ("polka", "root_fifth"), ("stride", "tune", "offbeat"),
        ("waltz", "doowop"), (32, 33), (0, 1, 3), (0, 40), (_LEADS[1], _LEADS[2]), bar_beats=2.0),
    "waltz": Style((84, 165), ("waltz",), ("root_fifth", "walking", "arpeggio", "pedal"),
        ("arpeggio", "block", "alberti", "tune"), ("waltz",), (32, 33, 35), (0, 1, 3, 6), (0, 40),
        (_STRINGS, _ACOUSTIC, *_LEADS[1:3]), bar_beats=3.0),
    "six_eight": Style((66, 130), ("six",), ("six", "pedal"), ("six", "ballad", "pad"),
        ("pop_minor", "doowop"), (33, 34, 32), (0, 1, 4), (0, 8, 16), (_STRINGS, _ACOUSTIC, _ORGAN),
        bar_beats=3.0),
    "five": Style((110, 170), ("five",), ("root_fifth", "arpeggio", "walking"),
        ("pushed", "pad", "tune"), ("jazz", "pop_minor"), (32, 35, 33), (0, 1, 4), (0, 40),
        (*_LEADS[1:3],), bar_beats=5.0),
    "seven": Style((110, 160), ("seven",), ("seven", "pedal"), ("arpeggio", "pushed", "pad"),
        ("pop_minor", "rock"), (33, 34, 38), (0, 2, 4), (0, 16), (_CRUNCH, *_LEADS[3:]),
        bar_beats=3.5),
    "gospel": Style((66, 100), ("gospel", "halfshuffle"), ("triplets", "walking", "locked"),
        ("triplets", "broken", "pad"), ("doowop", "soul"), (33, 34, 32), (0, 1, 5), (0, 8, 16),
        (_ORGAN, _STRINGS, _LEADS[1])),
}  # fmt: skip
