"""The results page: tables and a plot in Markdown, from evaluations and a benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from asteroid_ucr.benchmark.run import benchmark_table
from asteroid_ucr.evaluation.results import aggregate
from asteroid_ucr.reports import figures
from asteroid_ucr.reports.tables import cell, load_results, notes, overview, to_markdown
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.errors import UserError

PROTOCOL = """\
Scores are in dB, one per source and clip, and follow [the protocol](evaluation.md): the same clips
for every row, outputs assigned to sources once on validation clips, silent references counted and
not scored. A figure is the mean over a track's clips, then over tracks; ± is half of Student's 95 %
interval over tracks. *perm.* alone reorders outputs clip by clip with knowledge of the truth.
"""
OVERVIEWS = {"si_sdr": "SI-SDR of all evaluations", "si_sir": "SI-SIR of all evaluations"}


def write_results(
    folders: Sequence[str | Path], out: str | Path, benchmark: str | Path | None = None
) -> Path:
    """Writes the page, and for each evaluation a plot of quality against cost beside it.

    Args:
        folders: of evaluations, with `all_metrics.csv` and `final_metrics.json`.
        out: the Markdown file.
        benchmark: JSON file of `asteroid-ucr benchmark`, for the table of costs.

    Returns:
        The page's path.

    Raises:
        UserError: if an evaluation or the benchmark is missing, two folders have one name, or the
            page cannot be written.
    """
    out = Path(out)
    lines = ["# Results", "", "<!-- Written by `asteroid-ucr results`; do not edit. -->", ""]
    lines.append(PROTOCOL)
    evaluations = {Path(folder).resolve().name: rescored(Path(folder)) for folder in folders}
    if len(evaluations) < len(folders):
        raise UserError("Two evaluations' folders have one name, which titles them: rename one.")
    if len(evaluations) > 1:
        for column, title in OVERVIEWS.items():
            lines += [f"## {title}", "", overview(evaluations, column)]
    if benchmark is not None:
        lines += _costs(Path(benchmark))
    noted = [notes(results) for results in evaluations.values()]
    common = [note for note in noted[0] if all(note in others for others in noted)]
    for name, results in evaluations.items():
        lines += _section(name, results, out, common)
    lines += ["## What the rows are", "", *map(_item, common)]
    with atomic_path(out) as temporary:
        temporary.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return out


def rescored(folder: Path) -> dict[str, Any]:
    """An evaluation's results, its scores averaged anew from the lines of `all_metrics.csv`.

    Raises:
        UserError: if the folder holds no evaluation.
    """
    results = load_results(folder)
    path = folder / "all_metrics.csv"
    if not path.is_file():
        raise UserError(f"{path} does not exist: run the evaluation again.")
    # Left to itself, pandas reads a column of "true" as booleans.
    texts = {"reference": str, "error": str, "model": str}
    lines = pd.read_csv(path, dtype=texts).fillna({"error": "", "model": ""})
    rows = [
        SimpleNamespace(**{**entry, "gflops": partial(entry.get, "gflops")})
        for entry in results["rows"]
    ]
    return {**results, "rows": aggregate(lines, rows)}


def _section(
    name: str, results: dict[str, Any], out: Path, common: Sequence[tuple[str, str]]
) -> list[str]:
    """Tables and plot of an evaluation, and what its rows are if that is not common to all."""
    lines = [f"## {name}", "", "Mean over the sources:", "", to_markdown(results)]
    points = cost_points(results)
    if points:
        plot = out.with_name(f"{out.stem}-{name}.svg")
        with atomic_path(plot) as temporary:
            temporary.write_text(figures.quality_against_cost(points), encoding="utf-8")
        lines += [f"![SI-SDR against GFLOP per second of audio]({plot.name})", ""]
    for source in results["protocol"]["sources"]:
        lines += [f"### {source.capitalize()} in {name}", "", to_markdown(results, source=source)]
    if any("codec" in entry["scores"] for entry in results["rows"]):
        lines += ["### Against codec-decoded stems", "", to_markdown(results, "codec")]
    lines += [_item(note) for note in notes(results) if note not in common]
    failed = [(e["label"], e["failures"], e["errors"]) for e in results["rows"] if e["failures"]]
    lines += [f"- {label} failed on {count} clips: {errors}" for label, count, errors in failed]
    return [*lines, ""]


def _item(note: tuple[str, str]) -> str:
    label, text = note
    return f"- **{label}**: {text}."


def cost_points(results: dict[str, Any]) -> list[figures.CostPoint]:
    """What the plot shows: rows whose arithmetic is known, and floor and ceiling as lines."""
    points = []
    for entry in results["rows"]:
        figure = cell(entry, "si_sdr")
        cost = entry["gflops"]
        level = entry["name"] in ("mixture", "static_eq", "hpss", "oracle_wiener")
        if figure.value is not None and (cost is not None or level):
            points.append(
                figures.CostPoint(
                    entry["label"], cost, figure.value, figure.half_width, entry["group"] == "ours"
                )
            )
    return points if any(point.gflops is not None for point in points) else []


def _costs(path: Path) -> list[str]:
    try:
        results = json.loads(path.read_text())
        heading, rows = benchmark_table(results)
        machine, settings = results["machine"], results["settings"]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run asteroid-ucr benchmark first.") from None
    except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
        raise UserError(f"{path} is no benchmark: run asteroid-ucr benchmark again.") from error
    load = "" if machine["load"] is None else f", load {machine['load']:.1f} at the end"
    return [
        "## What it costs",
        "",
        f"Measured by `asteroid-ucr benchmark` on {machine['processor']} ({machine['cores']} cores"
        f"{load}), torch {machine['torch']}; ours is {settings['model']}. Times are medians of "
        f"{settings['repeats']} rounds in which every network had its turn on "
        f"{settings['seconds']:g} s of audio, with the slowest and the fastest round in brackets. "
        "Peak memory is that of a process of its own, libraries included; ours separates a file in "
        "pieces, the others the whole waveform at once, and only up to a minute.",
        "",
        "| " + " | ".join(heading) + " |",
        "|---|" + "---:|" * (len(heading) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
