"""Integrated loudness of mono signals, as ITU-R BS.1770-4 defines it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import sosfilt


def _k_weighting(sample_rate: int) -> NDArray[np.float64]:
    """The two filters of BS.1770: a shelf for the head's effect, and a high-pass."""
    sections = []
    for kind, centre, gain, quality in (
        ("shelf", 1500.0, 4.0, 1 / np.sqrt(2)),
        ("highpass", 38.0, 0.0, 0.5),
    ):
        w = 2 * np.pi * centre / sample_rate
        a, alpha, cos = 10 ** (gain / 40), np.sin(w) / (2 * quality), np.cos(w)
        if kind == "shelf":
            root = 2 * np.sqrt(a) * alpha
            b = [
                a * ((a + 1) + (a - 1) * cos + root),
                -2 * a * ((a - 1) + (a + 1) * cos),
                a * ((a + 1) + (a - 1) * cos - root),
            ]
            d = [
                (a + 1) - (a - 1) * cos + root,
                2 * ((a - 1) - (a + 1) * cos),
                (a + 1) - (a - 1) * cos - root,
            ]
        else:
            b = [(1 + cos) / 2, -(1 + cos), (1 + cos) / 2]
            d = [1 + alpha, -2 * cos, 1 - alpha]
        sections.append(np.array([*b, *d]) / d[0])
    return np.stack(sections)


def loudness(wave: NDArray[np.float32], sample_rate: int) -> float:
    """Gated loudness of a mono signal `(time,)` in LUFS; minus infinity for silence.

    Blocks of 0.4 s overlap by 75 %; those below -70 LUFS, then those more than 10 LU below the mean
    of the rest, do not count.
    """
    weighted = sosfilt(_k_weighting(sample_rate), wave)
    hop = round(0.1 * sample_rate)
    if len(weighted) < 4 * hop:
        weighted = np.pad(weighted, (0, 4 * hop - len(weighted)))
    steps = np.square(weighted[: len(weighted) // hop * hop]).reshape(-1, hop).mean(1)
    power = np.convolve(steps, np.full(4, 0.25), "valid")
    power = power[power > 10 ** ((-70 + 0.691) / 10)]
    if not len(power):
        return -np.inf
    power = power[power > 0.1 * power.mean()]
    return float(-0.691 + 10 * np.log10(power.mean()))
