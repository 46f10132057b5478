"""Listens to a stem: damage, silence, clipping, level, and whether it is in tune with its MIDI."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pretty_midi
import soundfile as sf
from scipy.ndimage import gaussian_filter1d

from asteroid_ucr.utils.audio import read_audio, resample
from asteroid_ucr.utils.chroma import Array, chroma

_BLOCK = 1 << 20
_FULL_SCALE = 0.9999
_CLIPPED_RUN = 4  # neighbouring samples at full scale
MOST_SEMITONES = 0.5  # that a stem may be off
_RATE, _WINDOW = 22_050, 8192
_SECONDS = 60.0  # of a stem that are compared with its MIDI
_BINS = 36  # per octave
_FEWEST_NOTES = 4
_SUREST = 0.35  # correlation from which on an offset is believed


@dataclass(frozen=True)
class Sound:
    """What a stem sounds like.

    Attributes:
        damage: What is wrong with the file, or "".
        rms: Level in dBFS over the whole stem; minus infinity if it is silent.
        clipped: Number of runs of samples at full scale.
        offset: Semitones that the audio lies above its MIDI notes, from -6 to 6 (octaves are not
            told apart); NaN where it cannot be told.
    """

    damage: str = ""
    rms: float = -math.inf
    clipped: int = 0
    offset: float = math.nan


def hear(path: Path, midi: Path | None) -> Sound:
    """Reads a whole stem.

    Args:
        path: Audio file.
        midi: MIDI file of the stem's notes, or None not to compare with it (as for drums).
    """
    power, frames, clipped = 0.0, 0, 0
    try:
        with sf.SoundFile(path) as file:
            for block in file.blocks(_BLOCK, dtype="float32"):
                frames += len(block)
                if not np.isfinite(block).all():
                    return Sound("holds samples that are not numbers")
                block = block.reshape(len(block), -1)
                power += float(np.square(block, dtype=np.float64).mean(1).sum())
                full = np.abs(block).max(1) >= _FULL_SCALE
                runs = np.convolve(full, np.ones(_CLIPPED_RUN), "valid") == _CLIPPED_RUN
                clipped += int((np.diff(runs.astype(int), prepend=0) == 1).sum())
            # Damage at the end of a file is common.
            if frames < file.frames:
                return Sound(f"ends after {frames} of {file.frames} samples")
    except (sf.LibsndfileError, RuntimeError) as error:
        return Sound(f"breaks off while it is read: {error}")
    if not power:
        return Sound()
    offset = pitch_offset(path, midi) if midi is not None and midi.is_file() else math.nan
    return Sound("", 10 * math.log10(power / frames), clipped, offset)


def pitch_offset(path: Path, midi: Path) -> float:
    """Semitones that a stem's audio lies above its MIDI notes, from -6 to 6.

    The chroma of the first minute with notes is correlated with that of the notes, each with six
    harmonics, at all shifts. NaN stands for fewer than four notes, or for audio that agrees with
    the notes at no shift (correlation below 0.35): effects, percussion.
    """
    try:
        parts = pretty_midi.PrettyMIDI(str(midi)).instruments
    except Exception:
        # The parser raises errors of all kinds on damaged files.
        return math.nan
    notes = [note for part in parts if not part.is_drum for note in part.notes]
    start = min((note.start for note in notes), default=0.0)
    wav, rate = read_audio(path, mono=True)
    wave = wav[0, round(start * rate) : round((start + _SECONDS) * rate)]
    notes = [note for note in notes if note.start < start + len(wave) / rate]
    if len(notes) < _FEWEST_NOTES:
        return math.nan
    heard, loudness = chroma(resample(wave, rate, _RATE).numpy(), _RATE, _BINS, _WINDOW)
    written = _expected(notes, start, heard.shape[1])
    weight = loudness * written.any(0)
    shifts = [np.roll(written, k, 0) for k in range(_BINS)]
    scores = np.array([(weight * (heard * s).sum(0)).sum() for s in shifts])
    scores /= max(float(weight.sum()), 1e-12)
    best = int(scores.argmax())
    if scores[best] < _SUREST:
        return math.nan
    # A parabola through the best shift and its neighbours.
    before, top, after = scores[best - 1], scores[best], scores[(best + 1) % _BINS]
    bend = before - 2 * top + after
    shift = best + (0.5 * (before - after) / bend if bend else 0.0)
    return float((shift * 12 / _BINS + 6) % 12 - 6)


def _expected(notes: list[pretty_midi.Note], start: float, frames: int) -> Array:
    """Chroma `(bins, frames)` of notes with six harmonics, like that of `chroma`."""
    per_second, width = 2 * _RATE / _WINDOW, _BINS // 12
    result = np.zeros((_BINS, frames))
    for note in notes:
        first, last = ((t - start) * per_second for t in (note.start, note.end))
        for harmonic in range(1, 7):
            tone = round((note.pitch + 12 * math.log2(harmonic)) * width) % _BINS
            result[tone, math.ceil(first) : max(math.ceil(first), int(last)) + 1] += 1 / harmonic
    result = gaussian_filter1d(result, 0.8, axis=0, mode="wrap")
    result -= result.mean(0)
    return result / np.maximum(np.linalg.norm(result, axis=0), 1e-12)
