"""Chroma: the strength of each pitch class, summed over octaves."""

from __future__ import annotations

import librosa
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def chroma(
    wave: Array, sample_rate: int, bins: int = 12, window: int = 4096
) -> tuple[Array, Array]:
    """Chroma vectors of a signal `(time,)`, tuned to A = 440 Hz, with a hop of half a window.

    Returns:
        Vectors `(bins, frames)` of mean zero and norm one (zero in silence), the first bin at C,
        and the amplitude of each frame, `(frames,)`.
    """
    spectrum = np.abs(librosa.stft(wave, n_fft=window, hop_length=window // 2)) ** 2
    features = librosa.feature.chroma_stft(
        S=spectrum, sr=sample_rate, n_fft=window, norm=None, tuning=0.0, n_chroma=bins
    )
    features = features - features.mean(0)
    length = np.linalg.norm(features, axis=0)
    return features / np.maximum(length, 1e-12), np.sqrt(spectrum.sum(0))
