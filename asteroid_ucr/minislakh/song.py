"""Composes whole songs: style, key, form, and the parts of all players."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from asteroid_ucr.minislakh.bass import Bassist
from asteroid_ucr.minislakh.comping import Accompanist
from asteroid_ucr.minislakh.drums import Drummer
from asteroid_ucr.minislakh.harmony import Chord, is_minor, lay_out, pick_progressions
from asteroid_ucr.minislakh.notes import Note, Part
from asteroid_ucr.minislakh.score import CORE, Bar, Section, Song, humanise, swing
from asteroid_ucr.minislakh.songbook import EXTRAS, OTHERS, PIANOS, STYLES, Style
from asteroid_ucr.utils.seeding import choose, song_rng

_FORMS = (
    "intro verse fill chorus break chorus",
    "verse chorus solo verse fill chorus",
    "intro verse chorus solo chorus",
    "verse fill chorus break solo chorus",
    "intro fill verse break verse chorus",
    "chorus verse break fill chorus",
    "intro chorus solo verse break chorus",
)
_SPARSE = ("intro", "break", "solo", "fill")
# Length of a section, as a share of the song or of 28 bars.
_SHARE = {"intro": 0.13, "verse": 0.22, "chorus": 0.24, "break": 0.13, "solo": 0.14, "fill": 0.08}
_ENERGY = {"intro": 0.4, "verse": 0.6, "chorus": 0.95, "break": 0.35, "solo": 0.7, "fill": 0.75}
# Who plays in sparse sections. The three solos together, like the three duos, let each instrument
# be heard without each of the others.
_SOLOS = (("Drums",), ("Bass",), ("Piano",))
_DUOS = (("Drums", "Bass"), ("Bass", "Piano"), ("Drums", "Piano"))
_OTHERS = (
    "Guitar", "Organ", "Strings (continued)", "Brass", "Reed", "Pipe", "Synth Lead", "Synth Pad",
)  # fmt: skip


def compose(seed: int, index: int, seconds: float) -> Song:
    """Composes song `index` of the collection `seed`, which depends on nothing else.

    Args:
        seed: Seed of the collection, 0 or more.
        index: Number of the song, 0 or more.
        seconds: Length of the song.

    Returns:
        A song with drums, bass and piano, and often one to three further parts.
    """
    rng = song_rng(seed, index, "song")
    # Each seed has its own order of styles, so that small collections are varied too.
    names = sorted(STYLES)
    turn, place = divmod(index, len(names))
    order = np.random.default_rng([seed, turn, zlib.crc32(b"styles")]).permutation(len(names))
    name = names[order[place]]
    style = STYLES[name]
    tempo = float(rng.uniform(*style.tempo))
    key = int(rng.integers(12))
    bars = _whole_bars(tempo, style.bar_beats, seconds)
    tempo = bars * style.bar_beats * 60 / seconds
    sections = _form(rng, bars, style.bar_beats)
    chords, minor = _harmony(rng, style, key, sections)
    drummer = Drummer(choose(rng, style.grooves), style.bar_beats, song_rng(seed, index, "drums"))
    triplets = drummer.groove.steps == 12 and style.bar_beats == 4

    def play(part: str, player: Bassist | Accompanist) -> list[Note]:
        notes: list[Note] = []
        for section in sections:
            final = section is sections[-1]
            for number in range(section.bars - final if part not in section.resting else 0):
                start = section.start + number * style.bar_beats
                kicks = drummer.kick_steps(number, section.label)
                riff = song_rng(seed, index, f"{part} {section.label} {number % 2}")
                free = song_rng(seed, index, f"{part} {start}")
                where = (start, style.bar_beats, number, section)
                notes += player.bar(Bar(*where, chords, kicks, key, minor, triplets, riff, free))
        return notes

    def end(pitches: list[int], velocity: int) -> list[Note]:
        return [Note(chords[-1].start, chords[-1].length, p, velocity) for p in pitches]

    # Pairs of a program and the notes that it plays; the drums come first.
    notes = [
        note
        for section in sections
        if "Drums" not in section.resting
        for note in drummer.play(section, section is sections[-1])
    ]
    played = [(choose(rng, style.kits), notes)]

    # Basses reach from a low D to well into the piano's left hand.
    low = int(rng.integers(26, 34)) if rng.random() < 0.55 else int(rng.integers(33, 44))
    bassist = Bassist(choose(rng, style.bass), low, float(rng.uniform(0.5, 1.0)))
    notes = play("Bass", bassist) + end([bassist.root(chords[-1])], 92)
    played.append((choose(rng, style.basses), notes))

    # Most left hands stay clear of the bass; some share its range, and some songs have none.
    left = choose(rng, ((28, 41), (38, 48), (41, 50), (46, 55), None))
    figure = PIANOS[choose(rng, style.piano)]
    left_hand = left and int(rng.integers(*left))
    pianist = Accompanist(figure, song_rng(seed, index, "pianist"), left_hand)
    notes = play("Piano", pianist) + end(pianist.final(chords[-1]), 84)
    played.append((choose(rng, style.pianos), notes))

    for extra in (EXTRAS[name] for name in style.extras):
        if len(played) < 6 and rng.random() < extra.chance:
            way = choose(rng, extra.styles)
            player = Accompanist(OTHERS[way], song_rng(seed, index, extra.inst_class))
            if notes := play(extra.inst_class, player):
                notes += [] if way == "lead" else end(player.final(chords[-1]), 74)
                played.append((choose(rng, extra.programs), notes))

    parts, ratio = [], float(rng.uniform(*style.swing))
    for number, (program, notes) in enumerate(played):
        chance = song_rng(seed, index, f"feel {number}")
        lag = float(chance.normal(0.004, 0.006)) * tempo / 60 if number else 0.0
        looseness = float(chance.uniform(0.003, 0.009)) * tempo / 60
        swung = swing(notes, ratio)
        notes = humanise(swung, chance, looseness, lag, float(chance.uniform(3, 8)))
        ordered = sorted(notes, key=lambda note: (note.start, note.pitch))
        parts.append(Part(program, number == 0, tuple(ordered)))
    return Song(name, tempo, style.bar_beats, key, minor, seconds, sections, chords, parts)


def _whole_bars(tempo: float, bar_beats: float, seconds: float) -> int:
    """The number of bars that fills a length at about the given tempo, within 60 to 180."""
    slowest, fastest = (seconds * limit / 60 / bar_beats for limit in (60.0, 180.0))
    bars = round(seconds * tempo / 60 / bar_beats)
    return max(1, int(np.clip(bars, np.ceil(slowest), np.floor(fastest))))


def _form(rng: np.random.Generator, bars: int, bar_beats: float) -> list[Section]:
    """Divides a number of bars into sections; the last bar holds the final chord."""
    labels = choose(rng, _FORMS).split() if bars >= 6 else ["verse", "chorus"]
    textures: list[tuple[str, ...]] = []
    sections: list[Section] = []
    used = 0
    while used < bars:
        label = labels[len(sections) % len(labels)]
        sparse = label in _SPARSE
        length = max(1 if sparse else 2, round(_SHARE[label] * min(bars, 28)))
        if bars - used - length < 2 or (not sparse and bars < 6):
            label, sparse, length = label if not sparse else "chorus", False, bars - used
        playing: tuple[str, ...] = CORE
        if sparse or (label == "verse" and rng.random() < 0.15):
            if not textures:
                groups = (_SOLOS, _DUOS)[:: choose(rng, (1, -1))]
                textures = [group[i] for group in groups for i in rng.permutation(3)]
            playing = textures.pop(0)
        quiet = 1.0 if len(playing) == 1 else 0.15 if label == "chorus" else 0.5
        resting = [c for c in CORE if c not in playing]
        resting += [c for c in _OTHERS if rng.random() < quiet]
        energy = float(np.clip(_ENERGY[label] + rng.normal(0, 0.12), 0.15, 1.0))
        start = used * bar_beats
        sections.append(Section(label, start, length, energy, frozenset(resting)))
        used += length
    sections[-1] = replace(sections[-1], resting=sections[-1].resting - set(CORE))
    return sections


def _harmony(
    rng: np.random.Generator, style: Style, key: int, sections: list[Section]
) -> tuple[list[Chord], bool]:
    """Chords of all sections, and whether they are in minor."""
    verse, chorus = pick_progressions(choose(rng, style.harmony), rng)
    minor = is_minor(verse)
    chords: list[Chord] = []
    # Some songs raise their last section by a whole tone.
    lift = 2 if rng.random() < 0.12 and len(sections) > 3 else 0
    for section in sections:
        progression = chorus if section.label in ("chorus", "break", "solo") else verse
        raised = lift if section is sections[-1] else 0
        chords += lay_out(progression, key + raised, section.bars, style.bar_beats, section.start)
    end = sections[-1].start + sections[-1].bars * style.bar_beats
    final = end - style.bar_beats
    chords = [c for c in chords if c.start < final - 1e-6]
    chords.append(Chord(final, style.bar_beats, (key + lift) % 12, "m" if minor else ""))
    return chords, minor
