"""The results page: tables and plots of evaluations and a benchmark, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from asteroid_ucr.reports import figures
from asteroid_ucr.reports.score_tables import (
    failures,
    load_results,
    notes,
    overview,
    references,
    score_cell,
    score_table,
)
from asteroid_ucr.reports.tables import TEMPLATES, Cell, Table
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.errors import UserError

_LEVELS = ("mixture", "static_eq", "hpss", "oracle_wiener")  # Drawn as lines in the plots.


def write_results(
    folders: Sequence[str | Path], out: str | Path, benchmark: str | Path | None = None
) -> Path:
    """Writes the page, and beside it a plot of quality against cost for each evaluation.

    The JSON file of a benchmark adds the table of costs.

    Returns:
        The page's path.

    Raises:
        UserError: If an evaluation or the benchmark is missing, two folders have the same name, or
            the page cannot be written.
    """
    out = Path(out)
    evaluations = {Path(folder).resolve().name: load_results(folder) for folder in folders}
    if len(evaluations) < len(folders):
        raise UserError("Two evaluations have folders of the same name: rename one of them.")
    common = set.intersection(*(set(notes(results)) for results in evaluations.values()))
    versions = {r["protocol"]["versions"]["asteroid-ucr"] for r in evaluations.values()}
    page = TEMPLATES.get_template("results.md").render(
        versions=sorted(versions),
        scores=overview(evaluations, "si_sdr"),
        interference=overview(evaluations, "si_sir"),
        benchmark=None if benchmark is None else _benchmark(Path(benchmark)),
        sections=[_section(name, results, out, common) for name, results in evaluations.items()],
        notes=[note for note in notes(next(iter(evaluations.values()))) if note in common],
    )
    with atomic_path(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out


def _section(
    name: str, results: Mapping[str, Any], out: Path, common: set[tuple[str, str]]
) -> dict[str, Any]:
    """Tables and plot of an evaluation, and the notes that other evaluations do not share."""
    points, plot = cost_points(results), None
    if points["gflops"].notna().any():
        plot = f"{out.stem}-{name}.svg"
        figures.save(figures.quality_against_cost(points), out.with_name(plot))
    sources = results["protocol"]["sources"]
    return {
        "name": name,
        "plot": plot,
        "table": score_table(results),
        "by_source": {source: score_table(results, source=source) for source in sources},
        "decoded": score_table(results, "codec") if "codec" in references(results) else None,
        "notes": [note for note in notes(results) if note not in common],
        "failures": failures(results),
    }


def cost_points(results: Mapping[str, Any]) -> pd.DataFrame:
    """The rows that `quality_against_cost` draws: rows with known cost, floors and a ceiling."""
    rows = []
    for entry in results["rows"]:
        cell = score_cell(entry, "si_sdr")
        if cell.value is not None and (entry["gflops"] is not None or entry["name"] in _LEVELS):
            ours = entry["group"] == "ours"
            rows.append((entry["label"], entry["gflops"], cell.value, cell.half_width, ours))
    points = pd.DataFrame(rows, columns=["label", "gflops", "si_sdr", "half_width", "ours"])
    return points.astype({"gflops": float, "half_width": float})


def _benchmark(path: Path) -> dict[str, Any]:
    """Reads a benchmark and adds its table."""
    try:
        results = json.loads(path.read_text())
        results["machine"]["processor"], results["settings"]["model"]
        return {**results, "table": cost_table(results)}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run asteroid-ucr benchmark first.") from None
    except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
        raise UserError(f"{path} is not a benchmark: run asteroid-ucr benchmark again.") from error


def cost_table(results: Mapping[str, Any]) -> Table:
    """A row per measurement and a column per network, from what `run_benchmark` returns."""
    settings = results["settings"]
    crops = f"{settings['batch']} × {settings['crop_seconds']:g} s, {settings['training_device']}"
    columns = {}
    for model in results["models"]:
        cells = columns[model["label"]] = {
            "parameters, million": Cell(model["parameters"] / 1e6),
            "GFLOP per second of audio": Cell(model["gflops"]),
        }
        for title, speed in model["speed"].items():
            # The median, with the slowest and the fastest round in brackets.
            digits = 0 if speed["median"] >= 10 else 1
            median, low, high = (f"{speed[key]:.{digits}f}" for key in ("median", "low", "high"))
            cells[f"times real time, {title}"] = f"{median} ({low}–{high})"
            cells[f"time relative to ours, {title}"] = Cell(speed["ratio"])
        for length, peak in model["memory_mib"].items():
            seconds = float(length)
            text = f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:.3g} min"
            cells[f"peak memory in MiB, {text}"] = Cell(peak, digits=0)
        speed = model["training"]
        cells[f"training steps per second, {crops}"] = Cell(speed["steps_per_second"], digits=2)
        cells["training time relative to ours"] = Cell(speed["ratio"])
    return Table(pd.DataFrame(columns))
