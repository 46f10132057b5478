"""Renders the stems of a song: instruments, effects and levels, drawn for each song."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyloudnorm

from asteroid_ucr.minislakh.effects import (
    KICKS,
    Effects,
    apply_effects,
    draw_effects,
    reverb,
    shape_kick,
    touched,
)
from asteroid_ucr.minislakh.kits import Kit
from asteroid_ucr.minislakh.notes import SAMPLE_RATE, Part, Recording, Wave
from asteroid_ucr.minislakh.soundfont import SoundFont
from asteroid_ucr.minislakh.sounds import Preset, draw_preset
from asteroid_ucr.utils.seeding import song_rng

# Slakh brings each stem to this loudness in LUFS.
NORMALIZATION = -13.0


@dataclass(frozen=True)
class RenderedStem:
    """A stem as it sounds.

    Attributes:
        stem: Its notes, on the program that was drawn.
        sound: Name of the soundfont or kit, and of the instrument.
        wave: Audio `(time,)` at 44.1 kHz, at `NORMALIZATION` more or less; zeros if silent.
        loudness: Loudness in LUFS before normalisation, at least -70.
    """

    stem: Part
    sound: str
    wave: Wave
    loudness: float


def render_stems(
    recording: Recording, seed: int, sources: Sequence[SoundFont | Kit], varied: bool = False
) -> list[RenderedStem]:
    """Renders every stem of a song.

    Args:
        recording: The song.
        seed: Seed of the collection.
        sources: Soundfonts and drum kits, of which each stem draws one.
        varied: Draw programs within their families, and levels up to 15 dB apart.
    """
    frames = round(recording.seconds * SAMPLE_RATE)
    room = reverb(song_rng(seed, recording.index, "room"), plate=False)
    rendered = []
    for number, stem in enumerate(recording.parts):
        rng = song_rng(seed, recording.index, f"effects {number}")
        preset = draw_preset(
            stem, sources, song_rng(seed, recording.index, f"sound {number}"), varied
        )
        effects = draw_effects(rng, stem)
        wave = _play(stem, preset, effects, frames)
        level = loudness(wave := apply_effects(wave, effects, room, rng))
        spread = float(rng.uniform(-7.5, 7.5) if varied else np.clip(rng.normal(0, 1.5), -3, 3))
        if np.isfinite(level):
            wave = wave * np.float32(10 ** ((NORMALIZATION + spread - level) / 20))
        played = stem if stem.is_drum else replace(stem, program=preset.program)
        rendered.append(RenderedStem(played, preset.name, wave, max(level, -70.0)))
    return rendered


def _play(stem: Part, preset: Preset, effects: Effects, frames: int) -> Wave:
    """Plays a stem without its effects; the kick drum has a sound of its own."""
    if not stem.is_drum:
        return preset.play(stem.notes, False, frames)
    notes = touched(stem.notes, effects.touch)
    gains = {key: 10 ** (gain / 20) for key, gain in effects.keys}
    kicks = tuple(note for note in notes if note.pitch in KICKS and effects.kick)
    others = tuple(note for note in notes if note not in kicks)
    wave = preset.play(others, True, frames, gains, effects.tuning)
    if effects.kick and kicks:
        kick = preset.play(kicks, True, frames, gains, effects.kick[0])
        wave = wave + shape_kick(kick, kicks, effects)
    return wave


def loudness(wave: Wave) -> float:
    """Integrated loudness of `(time,)` in LUFS (ITU-R BS.1770-4); minus infinity for silence."""
    if not wave.any():
        return -np.inf
    short = max(0, round(0.4 * SAMPLE_RATE) + 1 - len(wave))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        meter = pyloudnorm.Meter(SAMPLE_RATE)
        return float(meter.integrated_loudness(np.pad(wave, (0, short)).astype(np.float64)))
