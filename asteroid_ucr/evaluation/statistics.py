"""Means with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

INTERVAL_METHOD = (
    "mean over tracks of each track's mean over its clips; 95 % Student-t interval over tracks"
)


class Summary(NamedTuple):
    """A mean and its uncertainty; NaN where too few values are known."""

    mean: float  # Over tracks.
    half_width: float  # Of the 95 % interval over tracks; it needs two tracks.
    tracks: int  # Number of tracks that have a score.
    clips: int  # Number of clips that have a score.
    runs: int  # Number of runs (training or sampling seeds).
    seed_std: float  # Sample standard deviation of the means of the runs; it needs two runs.


def t_half_width(values: Iterable[float]) -> float:
    """Half-width of Student's 95 % interval of the mean of `values`; NaN for fewer than two."""
    array = np.asarray(list(values), dtype=float)
    if len(array) < 2:
        return math.nan
    quantile = stats.t.ppf(0.975, len(array) - 1)
    return float(quantile * array.std(ddof=1) / math.sqrt(len(array)))


def summarise(scores: pd.DataFrame, column: str) -> Summary:
    """Computes the mean of a score, its interval over tracks and its spread over runs.

    Clips of one track are not independent, nor are the sources of a clip or two runs on it. They
    are averaged into one value per track, and the interval is Student's t over the tracks. NaN
    scores are ignored. The lines have the columns `track`, `clip`, `run` and `column`.
    """
    scored = scores[scores[column].notna()]
    if scored.empty:
        return Summary(math.nan, math.nan, 0, 0, 0, math.nan)
    # The first mean is per run and track, so that a run with failures has the same weight.
    by_run = scored.groupby(["run", "track"])[column].mean()
    by_track = by_run.groupby("track").mean()
    run_means = by_run.groupby("run").mean()
    return Summary(
        float(by_track.mean()),
        t_half_width(by_track),
        len(by_track),
        int(scored["clip"].nunique()),
        len(run_means),
        float(run_means.std(ddof=1)),
    )
