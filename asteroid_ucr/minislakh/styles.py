"""Musical styles: which groove, bass line, piano figure and harmony go together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """An instrument that joins at times: Slakh's class, its programs, how it may play, a chance."""

    inst_class: str
    programs: tuple[int, ...]
    styles: tuple[str, ...]
    chance: float


@dataclass(frozen=True)
class Style:
    """One style.

    Attributes:
        tempo: range in beats per minute.
        grooves, bass, piano: names in `drums.GROOVES`, `bass.STYLES` and `comping.STYLES`.
        harmony: names in `harmony.PROGRESSIONS`.
        basses, pianos, kits: General MIDI programs.
        extras: further instruments.
        bar_beats: quarter notes in a bar.
        swing: lowest and highest share of a pair that its first half takes.
        swing_unit: beats that a swung pair lasts.
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
    "rock": Style(
        (100, 150), ("rock", "sixteenths"), ("eighths", "locked", "root_fifth"),
        ("block", "eighths"), ("rock", "pop"), (33, 34), (0, 1, 2), (0, 8, 16),
        (_CRUNCH, _ORGAN, *_LEADS[3:]),
    ),
    "pop": Style(
        (85, 128), ("pop", "rock", "sixteenths"), ("eighths", "locked", "root_fifth", "arpeggio"),
        ("eighths", "arpeggio", "block", "alberti"), ("pop", "pop_minor"), (33, 34, 35, 39),
        (0, 1, 2, 4), (0, 8, 24), (_ACOUSTIC, _STRINGS, *_LEADS),
    ),
    "disco": Style(
        (112, 130), ("disco",), ("octaves", "funk"), ("syncopated", "stabs", "eighths"),
        ("pop_minor", "soul"), (33, 36, 38), (0, 2, 4, 5), (0, 8, 24),
        (_CLEAN, _STRINGS, _LEADS[0]),
    ),
    "funk": Style(
        (90, 116), ("funk", "sixteenths"), ("funk", "locked"), ("syncopated", "pad", "stabs"),
        ("funk", "soul"), (36, 37, 33), (4, 5, 7, 0), (0, 8, 16), (_CLEAN, _ORGAN, _LEADS[0]),
        swing=(0.5, 0.6),
    ),
    "bossa": Style(
        (110, 150), ("bossa",), ("bossa",), ("syncopated", "pad"), ("bossa", "jazz"), (32, 35, 33),
        (0, 4, 0), (0, 40), (_ACOUSTIC, _LEADS[1], _LEADS[2]),
    ),
    "swing": Style(
        (100, 160), ("swing",), ("walking",), ("syncopated", "syncopated", "boogie"),
        ("jazz", "blues"), (32, 32, 35, 33), (0, 1, 3), (40, 0, 32), (*_LEADS[:2],),
    ),
    "shuffle": Style(
        (84, 132), ("shuffle",), ("boogie", "walking", "eighths"), ("boogie", "syncopated"),
        ("blues",), (32, 33, 34), (0, 1, 3), (0, 8, 16),
        (Extra("Guitar", (26, 27, 29), ("strum", "power"), 0.5), _ORGAN),
    ),
    "ballad": Style(
        (70, 88), ("ballad", "pop"), ("pedal", "root_fifth", "arpeggio", "locked"),
        ("ballad", "arpeggio", "alberti"), ("pop", "pop_minor", "soul"), (32, 33, 35),
        (0, 1, 4, 5), (0, 8, 40), (_STRINGS, _ACOUSTIC, *_LEADS[1:3]),
    ),
    "halftime": Style(
        (70, 96), ("halftime",), ("locked", "pedal", "dub"), ("pad", "arpeggio", "stabs"),
        ("pop_minor", "house", "soul"), (38, 39, 33, 35), (4, 5, 0, 2), (24, 25, 8),
        (Extra("Synth Pad", (88, 89, 90, 94), ("carpet",), 0.4), _LEADS[3]),
        swing=(0.5, 0.6),
    ),
    "reggae": Style(
        (70, 94), ("reggae",), ("dub", "root_fifth"), ("offbeat",), ("reggae",), (33, 32, 39),
        (0, 3, 4), (0, 8), (Extra("Guitar", (27, 28), ("skank",), 0.6), _ORGAN, _LEADS[0]),
        swing=(0.5, 0.6),
    ),
    "motown": Style(
        (100, 132), ("motown",), ("walking", "locked", "arpeggio", "funk"), ("block", "syncopated"),
        ("soul", "doowop"), (33, 34), (0, 1, 2), (0, 8), (_CLEAN, _STRINGS, *_LEADS[:2]),
    ),
    "latin": Style(
        (90, 120), ("latin",), ("tumbao",), ("montuno",), ("latin",), (32, 33, 35), (0, 1, 3),
        (0, 8, 16), (_LEADS[0], _LEADS[2]),
    ),
    "punk": Style(
        (130, 160), ("punk",), ("eighths", "root_fifth"), ("block", "eighths"), ("rock", "pop"),
        (34, 33), (1, 0, 2), (16, 0), (_CRUNCH, _ORGAN),
    ),
    "house": Style(
        (116, 130), ("house", "disco"), ("octaves", "funk", "locked"), ("stabs", "pad"), ("house",),
        (38, 39, 36), (0, 2, 5), (24, 25, 8),
        (Extra("Synth Pad", (89, 90, 95), ("carpet",), 0.4), _STRINGS, _LEADS[3]),
    ),
    "waltz": Style(
        (90, 150), ("waltz",), ("root_fifth", "walking", "arpeggio", "pedal"),
        ("arpeggio", "block", "alberti"), ("waltz",), (32, 33, 35), (0, 1, 3, 6), (0, 40),
        (_STRINGS, _ACOUSTIC, *_LEADS[1:3]), bar_beats=3.0,
    ),
    "gospel": Style(
        (70, 100), ("gospel",), ("arpeggio", "walking", "eighths"),
        ("eighths", "arpeggio", "ballad"),
        ("doowop", "soul"), (33, 34, 32), (0, 1, 5), (0, 8, 16), (_ORGAN, _STRINGS, _LEADS[1]),
    ),
}  # fmt: skip
