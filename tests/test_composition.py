"""Composed songs: their grammar, their pauses, and how far they differ from each other."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest

from asteroid_ucr.minislakh import songbook as book
from asteroid_ucr.minislakh.bass import PLAYERS
from asteroid_ucr.minislakh.collection import compose_recording
from asteroid_ucr.minislakh.drums import KEYS
from asteroid_ucr.minislakh.harmony import chord_at, lay_out, voice
from asteroid_ucr.minislakh.notes import Part
from asteroid_ucr.minislakh.score import CORE, Song
from asteroid_ucr.minislakh.song import compose

STEP = 0.02  # seconds
WINDOW = 1.3  # seconds: the length of a passage that a finder of solos looks at


@pytest.fixture(scope="module")
def songs() -> list[Song]:
    return [compose(0, index, 30.0) for index in range(100)]


def core(song: Song) -> dict[str, Part]:
    return {part.inst_class: part for part in song.parts if part.inst_class in CORE}


def sounding(song: Song, part: Part) -> np.ndarray:
    """Whether a part has a note held, by steps of 20 ms; drum strokes count as 0.25 s."""
    grid = np.zeros(int(song.seconds / STEP) + 1, dtype=bool)
    for note in part.notes:
        start = song.to_seconds(note.start)
        length = 0.25 if part.is_drum else song.to_seconds(note.length)
        grid[int(start / STEP) : int((start + length) / STEP) + 1] = True
    return grid


def playing(song: Song, part: Part) -> np.ndarray:
    """The same, where gaps shorter than a window count as playing."""
    grid = sounding(song, part)
    on = np.flatnonzero(grid)
    for a, b in pairwise(on):
        if (b - a) * STEP < WINDOW:
            grid[a:b] = True
    return grid


def test_the_songbook_is_well_formed() -> None:
    for groove in book.GROOVES.values():
        lines = [*groove.kicks, *groove.drums.values(), *filter(None, groove.chorus.values())]
        assert all(len(line) == groove.steps and set(line) <= set("Xxo.") for line in lines)
        assert {*groove.drums, *groove.chorus} <= set(KEYS)
    for fill in (*book.FILLS["sixteenths"], *book.FILLS["triplets"]):
        assert len({len(line) for line in fill.values()}) == 1 and set(fill) <= set(KEYS)
    for style in book.STYLES.values():
        assert set(style.grooves) <= set(book.GROOVES) and set(style.piano) <= set(book.PIANOS)
        assert set(style.bass) <= {*book.BASSES, *PLAYERS} and set(style.harmony) <= set(
            book.PROGRESSIONS
        )
        assert all(set(book.EXTRAS[name].styles) <= set(book.OTHERS) for name in style.extras)
    hands = [*book.PIANOS.values(), *book.OTHERS.values()]
    for figures, marks in (
        (book.BASSES.values(), "R3456789xaN.-"),
        ((hand.right for hand in hands), "CcUPpm012345.-"),
        ((hand.left for hand in hands), "RO568T.-"),
    ):
        for figure in (f for group in figures for f in group):
            assert len(figure) in (8, 12, 16) and set(figure) <= set(marks), figure


def test_progressions_can_be_voiced() -> None:
    for progression in (p for pool in book.PROGRESSIONS.values() for p in pool):
        previous: tuple[int, ...] = ()
        for chord in lay_out(progression, 5, 8, 4.0, 0.0):
            previous = voice(chord, 50, 74, previous)
            assert {p % 12 for p in previous} <= set(chord.tones)
            assert all(50 <= p <= 74 for p in previous)


def test_songs_follow_from_seed_and_number() -> None:
    assert compose(5, 7, 20.0) == compose(5, 7, 20.0)
    assert compose(5, 7, 20.0) != compose(6, 7, 20.0) != compose(6, 8, 20.0)


def test_each_instrument_is_alone_in_its_pairs(songs: list[Song]) -> None:
    """Passages of one instrument alone in mixtures of two are what the method learns from."""
    shares: dict[tuple[str, str], list[float]] = {pair: [] for pair in permutations(CORE, 2)}
    for song in songs:
        grids = {name: playing(song, part) for name, part in core(song).items()}
        for one, other in shares:
            shares[one, other].append(float(np.mean(grids[one] & ~grids[other])))
    for pair, found in shares.items():
        assert 0.09 < np.mean(found) < 0.25, pair
        assert np.mean(np.array(found) > 0.04) > 0.7, pair


def test_songs_are_varied(songs: list[Song]) -> None:
    assert len({(song.key, song.minor) for song in songs}) >= 20
    assert {song.bar_beats for song in songs} == {2.0, 3.0, 3.5, 4.0, 5.0}
    tempi = np.array([song.tempo for song in songs])
    assert tempi.min() >= 60 and tempi.max() <= 180 and np.std(tempi) > 20
    spread = [
        np.ptp(np.percentile([n.velocity for n in core(s)["Drums"].notes], (5, 95))) for s in songs
    ]
    assert np.mean(spread) > 70  # of 127
    bass = np.concatenate([[n.pitch for n in core(s)["Bass"].notes] for s in songs])
    low, high = np.percentile(bass, (5, 95))
    assert low < 33 and high > 50
    assert 0.25 < np.mean(bass >= 40) < 0.7  # fundamentals above 80 Hz


def test_pianos_ring_and_most_leave_the_depths_to_the_bass(songs: list[Song]) -> None:
    lows, rates, ring = [], [], []
    for song in songs:
        part = core(song)["Piano"]
        present = playing(song, part)
        onsets = {round(song.to_seconds(note.start) / 0.05) for note in part.notes}
        lows.append(np.percentile([note.pitch for note in part.notes], 5))
        rates.append(len(onsets) / (present.sum() * STEP))
        ring.append(sounding(song, part)[present].mean())
    assert 46 <= np.median(lows) <= 55 and np.mean(np.array(lows) < 41) > 0.05
    assert 1.0 < np.median(rates) < 2.1 and np.mean(ring) > 0.85


def test_the_bass_follows_the_harmony_and_all_notes_are_playable(songs: list[Song]) -> None:
    on_beat, on_change = [], []
    for song in songs[:50]:
        for part in song.parts:
            assert all(0 < n.pitch < 128 and n.length > 0 and n.start >= 0 for n in part.notes)
            assert all(1 <= n.velocity <= 127 for n in part.notes)
        bass = core(song)["Bass"]
        assert bass.program in range(32, 40) and len(bass.notes) >= 6
        for note in bass.notes:
            beat = round(note.start)
            if abs(note.start - beat) < 0.1:
                chord = chord_at(song.chords, beat)
                on_beat.append(note.pitch % 12 in chord.tones)
                if abs(chord.start - beat) < 1e-6:
                    on_change.append(note.pitch % 12 == chord.root)
    # Walking basses and solos pass through other notes; chance alone gives one in three.
    assert np.mean(on_beat) > 0.85
    assert np.mean(on_change) > 0.8


@pytest.mark.parametrize("seconds", [3.0, 10.0, 90.0])
def test_songs_of_any_length_hold_drums_bass_and_piano(seconds: float) -> None:
    for index in range(24):
        recording = compose_recording(0, index, seconds)
        assert set(CORE) <= {stem.inst_class for stem in recording.parts}
