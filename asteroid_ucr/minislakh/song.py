"""Composes whole songs: style, key, form, and the parts of all players."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from asteroid_ucr.minislakh import extras
from asteroid_ucr.minislakh.bass import Bassist
from asteroid_ucr.minislakh.comping import Pianist
from asteroid_ucr.minislakh.context import Bar
from asteroid_ucr.minislakh.drums import Drummer
from asteroid_ucr.minislakh.harmony import Chord, is_minor, lay_out, pick_progressions, voice
from asteroid_ucr.minislakh.score import Note, Part, Section, Song, choose, humanise, swing
from asteroid_ucr.minislakh.styles import STYLES, Style

_FORMS = (
    ("intro", "verse", "chorus", "break", "chorus"),
    ("verse", "chorus", "verse", "chorus"),
    ("intro", "chorus", "verse", "break", "chorus"),
    ("verse", "break", "chorus", "verse", "chorus"),
    ("chorus", "verse", "chorus", "break", "chorus"),
)
_BARS = {"intro": 2, "verse": 4, "chorus": 4, "break": 2}
_ENERGY = {"intro": 0.4, "verse": 0.6, "chorus": 0.95, "break": 0.35}
# Who may pause while the others go on.
_RESTS = (
    ("Drums",),
    ("Bass",),
    ("Piano",),
    ("Drums", "Bass"),
    ("Bass", "Piano"),
    ("Drums", "Piano"),
    (),
)


def song_rng(seed: int, index: int, purpose: str) -> np.random.Generator:
    """Chance for one purpose in one song: independent of every other song and purpose."""
    return np.random.default_rng([seed, index, zlib.crc32(purpose.encode())])


def compose(seed: int, index: int, seconds: float) -> Song:
    """Composes song `index` of the collection `seed`; it depends on nothing else.

    Args:
        seed: of the collection, 0 or more.
        index: of the song, 0 or more.
        seconds: length.

    Returns:
        A song with drums, bass and piano, and often one to three further parts.
    """
    rng = song_rng(seed, index, "song")
    # Styles come round in an order of their own per seed, so that small sets are varied too.
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
    song = Song(name, tempo, style.bar_beats, key, minor, seconds, sections, chords, [])
    triplets = drummer.groove.steps == 12 and style.bar_beats == 4

    drum_notes: list[Note] = []
    for section in sections:
        if "Drums" not in section.resting:
            drum_notes += drummer.play(section, section is sections[-1])
    song.parts.append(Part("Drums", choose(rng, style.kits), True, drum_notes))

    def bars_for(part: str) -> Callable[[Section, int], Bar]:
        def make(section: Section, bar: int) -> Bar:
            start = section.start + bar * style.bar_beats
            return Bar(
                start, style.bar_beats, bar, section, chords,
                drummer.kick_steps(bar, section.label), key, minor, triplets,
                song_rng(seed, index, f"{part} {section.label} {bar % 2}"),
                song_rng(seed, index, f"{part} {start}"),
            )  # fmt: skip

        return make

    # Basses go from a low D to well into the piano's left hand.
    bassist = Bassist(choose(rng, style.bass), int(rng.integers(26, 37)))
    notes = _play(sections, "Bass", bassist.bar, bars_for("bass"))
    final = chords[-1]
    notes.append(Note(final.start, final.length, bassist.root(final), 92))
    song.parts.append(Part("Bass", choose(rng, style.basses), False, notes))

    left = int(rng.integers(26, 41))
    pianist = Pianist(choose(rng, style.piano), int(rng.integers(54, 70)), left)
    notes = _play(sections, "Piano", pianist.bar, bars_for("piano"))
    held = (pianist.bottom(final), *pianist.chord(final))
    notes += [Note(final.start, final.length, p, 84) for p in held]
    song.parts.append(Part("Piano", choose(rng, style.pianos), False, notes))

    for extra in style.extras:
        if len(song.parts) < 6 and rng.random() < extra.chance:
            player = extras.Player(choose(rng, extra.styles))
            part = bars_for(f"{extra.inst_class} {player.style}")
            notes = _play(sections, extra.inst_class, player.bar, part)
            if triplets and player.style in extras.STRAIGHT:
                notes = swing(notes, 2 / 3, 1.0)
            if not notes:
                continue
            if player.style != "lead":
                held = voice(final, 50, 72)
                notes += [Note(final.start, final.length, p, 74) for p in held]
            song.parts.append(Part(extra.inst_class, choose(rng, extra.programs), False, notes))
    ratio = float(rng.uniform(*style.swing))
    for number, part in enumerate(song.parts):
        chance = song_rng(seed, index, f"feel {number}")
        swung = swing(part.notes, ratio, style.swing_unit)
        lag = 0.0 if part.is_drum else float(chance.normal(0.004, 0.006)) * tempo / 60
        looseness = float(chance.uniform(0.003, 0.009)) * tempo / 60
        part.notes = humanise(swung, chance, looseness, lag, float(chance.uniform(3, 7)))
        part.notes.sort(key=lambda note: (note.start, note.pitch))
    return song


def _whole_bars(tempo: float, bar_beats: float, seconds: float) -> int:
    """The number of bars that fills a length at nearly the given tempo, within 70 to 160."""
    slowest, fastest = (seconds * limit / 60 / bar_beats for limit in (70.0, 160.0))
    bars = round(seconds * tempo / 60 / bar_beats)
    return max(1, int(np.clip(bars, np.ceil(slowest), np.floor(fastest))))


def _form(rng: np.random.Generator, bars: int, bar_beats: float) -> list[Section]:
    """Cuts a number of bars into sections; the last bar is the final chord's."""
    factor = 1 if bars < 28 else 2 if bars < 72 else 4
    labels = list(choose(rng, _FORMS))
    sections: list[Section] = []
    used = 0
    while used < bars:
        if len(sections) == len(labels):
            labels += ("verse", "chorus", "break", "chorus")
        label = labels[len(sections)]
        length = min(_BARS[label] * factor, bars - used)
        if bars - used - length < 2:
            length = bars - used
        sparse = label in ("intro", "break")
        resting: tuple[str, ...] = choose(rng, _RESTS) if sparse else ()
        if label == "verse" and rng.random() < 0.12:
            resting = choose(rng, _RESTS[:3])
        others = ("Guitar", "Organ", "Strings (continued)", "Brass", "Reed", "Pipe", "Synth Lead")
        quiet = [c for c in others if rng.random() < (0.15 if label == "chorus" else 0.5)]
        energy = float(np.clip(_ENERGY[label] + rng.normal(0, 0.08), 0.15, 1.0))
        sections.append(
            Section(label, used * bar_beats, length, energy, frozenset((*resting, *quiet)))
        )
        used += length
    last = sections[-1]
    core = frozenset(last.resting) - {"Drums", "Bass", "Piano"}
    sections[-1] = Section(last.label, last.start, last.bars, last.energy, core)
    return sections


def _harmony(
    rng: np.random.Generator, style: Style, key: int, sections: list[Section]
) -> tuple[list[Chord], bool]:
    """Chords of all sections: one progression for verses, one for choruses, the tonic to end on."""
    verse, chorus = pick_progressions(choose(rng, style.harmony), rng)
    minor = is_minor(verse)
    chords: list[Chord] = []
    # A last chorus a whole tone higher is an old trick; it is used now and then.
    lift = 2 if rng.random() < 0.12 and len(sections) > 3 else 0
    for section in sections:
        progression = chorus if section.label in ("chorus", "break") else verse
        raised = lift if section is sections[-1] else 0
        chords += lay_out(progression, key + raised, section.bars, style.bar_beats, section.start)
    end = sections[-1].start + sections[-1].bars * style.bar_beats
    final = end - style.bar_beats
    raised = lift
    chords = [c for c in chords if c.start < final - 1e-6]
    chords.append(Chord(final, style.bar_beats, (key + raised) % 12, "m" if minor else ""))
    return chords, minor


def _play(
    sections: list[Section],
    inst_class: str,
    player: Callable[[Bar], list[Note]],
    bars: Callable[[Section, int], Bar],
) -> list[Note]:
    notes: list[Note] = []
    for section in sections:
        final = section is sections[-1]
        for bar in range(section.bars - final):
            if inst_class not in section.resting:
                notes += player(bars(section, bar))
    return notes
