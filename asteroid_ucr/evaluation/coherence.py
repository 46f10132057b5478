"""Do two stems fit together? Rhythm by onsets, harmony by chroma."""

from __future__ import annotations

import math

import librosa
import numpy as np
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from asteroid_ucr.utils.chroma import chroma

HOP = 512  # librosa's; 21 ms at 24 kHz
BLUR_SECONDS = 0.03  # onsets this close are one to the ear


def onset_correlation(a: Tensor, b: Tensor, sample_rate: int = 24_000) -> float:
    """Pearson correlation of two onset-strength envelopes.

    The envelopes (`librosa.onset.onset_strength`: spectral flux of the mel spectrogram) are blurred
    by 30 ms, so that players who are as close as humans are count as together.

    Args:
        a: `(time,)`.
        b: of the same length.
        sample_rate: of both, in Hz.

    Returns:
        In [−1, 1]; NaN where one of them has no onsets.
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
    """Mean correlation of the two chroma vectors of each frame (`librosa.feature.chroma_stft`).

    Tuning is taken as standard. The mean over pitch classes is removed first, so that noise, whose
    chroma is flat, agrees with nothing; frames are weighted by the product of their loudnesses.

    Args:
        a: `(time,)`.
        b: of the same length.
        sample_rate: of both, in Hz.

    Returns:
        In [−1, 1]; NaN where they never sound together.
    """
    (first, loud), (second, soft) = (chroma(wav.numpy(), sample_rate) for wav in (a, b))
    weight = loud * soft
    if not weight.sum() > 1e-9:
        return math.nan
    return float((weight * (first * second).sum(0)).sum() / weight.sum())
