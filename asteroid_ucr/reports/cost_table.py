"""The table of a benchmark's measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Console

from asteroid_ucr.reports.tables import Cell, Table


def cost_table(results: Mapping[str, Any]) -> Table:
    """A row per measurement and a column per network.

    Args:
        results: What `run_benchmark` returns.
    """
    models, settings = results["models"], results["settings"]
    rows: dict[str, list[str]] = {
        "parameters, million": [str(Cell(m["parameters"] / 1e6)) for m in models],
        "GFLOP per second of audio": [str(Cell(m["gflops"])) for m in models],
    }
    for title in models[0]["speed"]:
        speeds = [m["speed"][title] for m in models]
        rows[f"times real time, {title}"] = [_range(speed) for speed in speeds]
        rows[f"time relative to ours, {title}"] = [str(Cell(speed["ratio"])) for speed in speeds]
    for length in models[0]["memory_mib"]:
        peaks = [m["memory_mib"][length] for m in models]
        seconds = float(length)
        text = f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:.3g} min"
        rows[f"peak memory in MiB, {text}"] = [str(Cell(peak, digits=0)) for peak in peaks]
    crops = f"{settings['batch']} × {settings['crop_seconds']:g} s, {settings['training_device']}"
    training = [m["training"] for m in models]
    steps = [str(Cell(speed["steps_per_second"], digits=2)) for speed in training]
    rows[f"training steps per second, {crops}"] = steps
    rows["training time relative to ours"] = [str(Cell(speed["ratio"])) for speed in training]
    labels = [m["label"] for m in models]
    return Table(pd.DataFrame.from_dict(rows, orient="index", columns=labels))


def _range(speed: Mapping[str, float]) -> str:
    """The median speed, with the slowest and the fastest round in brackets."""
    digits = 0 if speed["median"] >= 10 else 1
    median, low, high = (f"{speed[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def print_costs(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the table."""
    (console or Console()).print(cost_table(results).rich())
