"""The table of a benchmark's measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.console import Console

from asteroid_ucr.reports.tables import Cell, Table


def cost_table(results: Mapping[str, Any]) -> Table:
    """A row per measurement and a column per network, from what `run_benchmark` returns."""
    settings = results["settings"]
    crops = f"{settings['batch']} × {settings['crop_seconds']:g} s, {settings['training_device']}"
    columns = {model["label"]: _column(model, crops) for model in results["models"]}
    return Table(pd.DataFrame(columns))


def _column(model: Mapping[str, Any], crops: str) -> dict[str, Cell | str]:
    """The measurements of one network."""
    cells: dict[str, Cell | str] = {
        "parameters, million": Cell(model["parameters"] / 1e6),
        "GFLOP per second of audio": Cell(model["gflops"]),
    }
    for title, speed in model["speed"].items():
        cells[f"times real time, {title}"] = _range(speed)
        cells[f"time relative to ours, {title}"] = Cell(speed["ratio"])
    for length, peak in model["memory_mib"].items():
        seconds = float(length)
        text = f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:.3g} min"
        cells[f"peak memory in MiB, {text}"] = Cell(peak, digits=0)
    speed = model["training"]
    cells[f"training steps per second, {crops}"] = Cell(speed["steps_per_second"], digits=2)
    return {**cells, "training time relative to ours": Cell(speed["ratio"])}


def _range(speed: Mapping[str, float]) -> str:
    """The median speed, with the slowest and the fastest round in brackets."""
    digits = 0 if speed["median"] >= 10 else 1
    median, low, high = (f"{speed[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low}–{high})"


def print_costs(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the table."""
    (console or Console()).print(cost_table(results).rich())
