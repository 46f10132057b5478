"""Measures of how well two stems agree: in rhythm by onsets, in harmony by chroma and pitch.

All take two waveforms `(time,)` of the same length and their sample rate in Hz.
"""

from __future__ import annotations

import math

import librosa
import numpy as np
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from asteroid_ucr.utils.chroma import chroma

HOP = 512  # librosa's default; 21 ms at 24 kHz.
BLUR_SECONDS = 0.03  # Listeners hear onsets that are this close as one.
ONSET_SECONDS = 0.02  # Largest error of an onset that counts as kept.
BASS = {"fmin": 30.0, "fmax": 500.0, "resolution": 0.25}  # Hz, Hz and semitones.


def onset_correlation(a: Tensor, b: Tensor, sample_rate: int = 24_000) -> float:
    """Pearson correlation of two onset-strength envelopes, in [−1, 1]; NaN without onsets.

    The envelopes (`librosa.onset.onset_strength`: spectral flux of the mel spectrogram) are blurred
    by 30 ms, so that the timing differences of human players count as playing together.
    """
    envelopes = [
        gaussian_filter1d(
            librosa.onset.onset_strength(y=wav.numpy(), sr=sample_rate, hop_length=HOP),
            BLUR_SECONDS * sample_rate / HOP,
        )
        for wav in (a, b)
    ]
    if min(envelope.std() for envelope in envelopes) < 1e-6:
        return math.nan
    return float(np.corrcoef(*envelopes)[0, 1])


def chroma_agreement(a: Tensor, b: Tensor, sample_rate: int = 24_000) -> float:
    """Mean correlation of the chroma vectors of each frame, in [−1, 1].

    The chroma vectors are those of `librosa.feature.chroma_stft` with standard tuning. Their mean
    over pitch classes is removed, so that noise, whose chroma is flat, does not correlate with
    anything. Frames are weighted by the product of their levels. The result is NaN where the stems
    never sound together.
    """
    (first, loud), (second, soft) = (chroma(wav.numpy(), sample_rate) for wav in (a, b))
    weight = loud * soft
    if not weight.sum() > 1e-9:
        return math.nan
    return float((weight * (first * second).sum(0)).sum() / weight.sum())


def pitch_kept(true: Tensor, heard: Tensor, sample_rate: int = 24_000) -> float:
    """Share of the voiced frames of a melody whose pitch is heard, within half a semitone.

    Pitches are those of pYIN (Mauch & Dixon 2014) from 30 to 500 Hz, so that the measure makes
    sense for a bass. The result is NaN if the true stem has no voiced frames.
    """
    found = [
        librosa.pyin(wav.numpy(), sr=sample_rate, frame_length=4096, **BASS)
        for wav in (true, heard)
    ]
    pitches = np.stack([pitch for pitch, _, _ in found])  # NaN where a frame is not voiced
    voiced = np.isfinite(pitches[0])
    if not voiced.any():
        return math.nan
    semitones = 12 * np.abs(np.diff(np.log2(pitches), axis=0)[0])
    return float((semitones[voiced] < 0.5).mean())


def onsets_kept(true: Tensor, heard: Tensor, sample_rate: int = 24_000) -> float:
    """Share of the onsets of a stem that are heard within 20 ms; NaN if it has none."""
    times = [
        librosa.onset.onset_detect(
            y=wav.numpy(), sr=sample_rate, hop_length=HOP // 4, units="time", sparse=True
        )
        for wav in (true, heard)
    ]
    if not len(times[0]):
        return math.nan
    distances = np.abs(np.subtract.outer(times[0], times[1])).min(1, initial=math.inf)
    return float((distances <= ONSET_SECONDS).mean())
