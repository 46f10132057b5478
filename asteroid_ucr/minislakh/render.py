"""Renders the stems of a song: instruments, effects and levels, drawn for each song."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyloudnorm

from asteroid_ucr.minislakh import effects as fx
from asteroid_ucr.minislakh.notes import SAMPLE_RATE, Part, Recording, Wave
from asteroid_ucr.minislakh.sounds import Preset, Source, draw_preset
from asteroid_ucr.utils.seeding import song_rng

# Slakh brings each stem to this loudness in LUFS.
NORMALIZATION = -13.0


@dataclass(frozen=True)
class RenderedStem:
    """A stem as it sounds."""

    part: Part  # the notes, with the program that was drawn
    sound: str  # name of the soundfont or kit, and of the instrument
    wave: Wave  # `(time,)` at 44.1 kHz, close to `NORMALIZATION`; zeros if the stem is silent
    loudness: float  # LUFS before normalisation, at least -70


def render_stems(
    recording: Recording, seed: int, sources: Sequence[Source], varied: bool = False
) -> list[RenderedStem]:
    """Renders every stem of a song.

    Args:
        recording: The song.
        seed: Seed of the collection.
        sources: Soundfonts and drum kits, of which each stem draws one.
        varied: Whether to draw programs within their families, and levels up to 15 dB apart.
    """

    def stream(purpose: str) -> np.random.Generator:
        return song_rng(seed, recording.index, purpose)

    frames = round(recording.seconds * SAMPLE_RATE)
    room = fx.reverb(stream("room"), plate=False)
    rendered = []
    for number, part in enumerate(recording.parts):
        rng = stream(f"effects {number}")
        preset = draw_preset(part, sources, stream(f"sound {number}"), varied)
        effects = fx.draw_effects(rng, part)
        wave = fx.apply_effects(_play(part, preset, effects, frames), effects, room, rng)
        level = loudness(wave)
        spread = float(rng.uniform(-7.5, 7.5) if varied else np.clip(rng.normal(0, 1.5), -3, 3))
        if np.isfinite(level):
            wave = wave * np.float32(10 ** ((NORMALIZATION + spread - level) / 20))
        played = part if part.is_drum else replace(part, program=preset.program)
        rendered.append(RenderedStem(played, preset.name, wave, max(level, -70.0)))
    return rendered


def _play(part: Part, preset: Preset, effects: fx.Effects, frames: int) -> Wave:
    """Plays a stem without its effects; the kick drum is tuned and shaped by itself."""
    if not part.is_drum:
        return preset.play(part.notes, frames)
    notes = tuple(
        replace(note, velocity=max(1, round(127 * (note.velocity / 127) ** effects.touch)))
        for note in part.notes
    )
    gains = {key: 10 ** (gain / 20) for key, gain in effects.keys}
    kicks = tuple(note for note in notes if note.pitch in fx.KICKS and effects.kick)
    others = tuple(note for note in notes if note not in kicks)
    wave = preset.play(others, frames, gains, effects.tuning)
    if effects.kick and kicks:
        kick = preset.play(kicks, frames, gains, effects.kick[0])
        wave = wave + fx.shape_kick(kick, kicks, effects)
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
