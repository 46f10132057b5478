"""Means with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
INTERVAL_METHOD = (
    "mean over tracks of each track's mean over its clips; 95 % Student-t interval over tracks"
)


@dataclass(frozen=True)
class Summary:
    """A mean and its uncertainty.

    Attributes:
        mean: Mean over tracks; NaN where nothing could be scored.
        half_width: Half-width of the 95 % interval over tracks; NaN for fewer than two tracks.
        tracks: Number of tracks that have a score.
        clips: Number of clips that have a score.
        runs: Number of runs (training or sampling seeds).
        seed_std: Sample standard deviation of the means of the runs; NaN for a single run.
    """

    mean: float
    half_width: float
    tracks: int
    clips: int
    runs: int = 1
    seed_std: float = math.nan

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values for JSON, with None for NaN."""
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in asdict(self).items()
        }


def t_half_width(values: Iterable[float], confidence: float = CONFIDENCE) -> float:
    """Half-width of Student's t interval of the mean of `values`; NaN for fewer than two."""
    array = np.asarray(list(values), dtype=float)
    if len(array) < 2:
        return math.nan
    quantile = stats.t.ppf(0.5 + confidence / 2, len(array) - 1)
    return float(quantile * array.std(ddof=1) / math.sqrt(len(array)))


def summarise(scores: pd.DataFrame, column: str) -> Summary:
    """Computes the mean of a score, its interval over tracks and its spread over runs.

    Clips of one track are not independent, nor are the sources of a clip or two runs on it. They
    are averaged into one value per track, and the interval is Student's t over the tracks. NaN
    scores are ignored.

    Args:
        scores: Lines with the columns `track`, `clip`, `run` (any hashable) and `column`.
        column: Name of the score.
    """
    scored = scores[scores[column].notna()]
    if scored.empty:
        return Summary(math.nan, math.nan, 0, 0, 0)
    # The first mean is per run and track, so that a run with failures has the same weight.
    by_run = scored.groupby(["run", "track"])[column].mean()
    by_track = by_run.groupby("track").mean()
    run_means = by_run.groupby("run").mean()
    return Summary(
        mean=float(by_track.mean()),
        half_width=t_half_width(by_track),
        tracks=len(by_track),
        clips=int(scored["clip"].nunique()),
        runs=len(run_means),
        seed_std=float(run_means.std(ddof=1)) if len(run_means) > 1 else math.nan,
    )
