"""Tables of separation scores.

They read two files that `evaluation` writes; a change of their layout there needs a change here.

- `final_metrics.json`: `protocol` describes the measurement, `examples` lists the clips written as
  audio, and `rows` has an entry per row: `name`, `label`, `group`, `note`, `gflops`, `failures`,
  `errors`, `frequency_r2[source]` and `scores[reference][source or "all"][score]` with `mean`,
  `half_width` and `seed_std`.
- `generation.json`, which `generation_tables.py` shows: `protocol`, `frechet`, `fit`,
  `memorisation`, `curve`, `kept_mse`, `seconds_each`, `examples` and `random_examples`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from asteroid_ucr.evaluation.published import msdm_text
from asteroid_ucr.evaluation.rows import GROUPS
from asteroid_ucr.reports.tables import Cell, Table
from asteroid_ucr.utils.errors import UserError

_WINDOWS = "dB, higher is better. BSS-eval v4, median over windows of 3.5 s."
# Heading and meaning of every measure, in the order of the tables.
COLUMNS = {
    "si_sdr": (
        "SI-SDR",
        "dB, higher is better. Similarity of estimate and source, at any loudness.",
    ),
    "si_sdri": ("SI-SDRi", "dB. Improvement of SI-SDR over the unprocessed mixture."),
    "si_sir": ("SI-SIR", "dB, higher is better. Suppression of the other sources."),
    "si_sar": ("SI-SAR", "dB, higher is better. Absence of artefacts."),
    "sdr": ("SDR", _WINDOWS),
    "sir": ("SIR", _WINDOWS),
    "sar": ("SAR", _WINDOWS),
    "lsd": ("LSD", "dB, lower is better. Log-spectral distance at equal loudness."),
    "frequency_r2": (
        "R²",
        "Share of the masks' variance that frequency alone explains; 1 is a fixed equaliser.",
    ),
    "si_sdr_permuted": (
        "perm.",
        "dB. SI-SDR after the best reordering of the outputs of every clip, which needs the true "
        "stems; only for comparison with papers.",
    ),
}
_COMPARED = {
    "static_eq": "a static equaliser",
    "hpss": "HPSS",
    "oracle_wiener": "the oracle mask",
}
_WIDE = 110  # Characters that the whole table takes in a terminal.
_ESSENTIAL = ("si_sdr", "si_sir", "si_sar", "sdr", "frequency_r2")


def load_results(path: str | Path) -> dict[str, Any]:
    """Reads `final_metrics.json`, or the one in the folder of an experiment.

    Raises:
        UserError: If the file is missing or is not a results file.
    """
    path = Path(path)
    path = path / "final_metrics.json" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path} does not exist: run the evaluation first.")
    try:
        results = json.loads(path.read_text())
        results["protocol"], results["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no evaluation results: run the evaluation again.") from error
    return results


def score_cell(
    entry: Mapping[str, Any], column: str, reference: str = "true", source: str = "all"
) -> Cell:
    """One figure of an aggregated row; R² of "all" sources is the mean over the sources."""
    if column == "frequency_r2":
        shares = pd.Series(entry["frequency_r2"], dtype=float)
        return Cell(shares.get(source, shares.mean()), digits=2)
    summary = entry["scores"].get(reference, {}).get(source, {}).get(column)
    if summary is None:
        return Cell()
    return Cell(summary["mean"], summary["half_width"], summary["seed_std"], limited=True)


def score_table(
    results: Mapping[str, Any],
    reference: str = "true",
    source: str = "all",
    columns: Iterable[str] = COLUMNS,
) -> Table:
    """The scores of all rows; empty columns are left out.

    The reference is "true" for the true stems, or "codec" for codec-decoded ones. The source "all"
    is the mean over the sources.
    """
    entries = sorted(results["rows"], key=lambda entry: list(GROUPS).index(entry["group"]))
    cells = {
        COLUMNS[key][0]: [score_cell(entry, key, reference, source) for entry in entries]
        for key in columns
    }
    known = {
        title: column
        for title, column in cells.items()
        if any(pd.notna(cell.value) for cell in column)
    }
    return Table(
        pd.DataFrame(known, index=[entry["label"] for entry in entries]),
        groups=[entry["group"] for entry in entries],
        notes=[entry["note"] for entry in entries],
        help=dict(COLUMNS.values()),
        caption=protocol_line(results, reference),
    )


def overview(evaluations: Mapping[str, Mapping[str, Any]], column: str) -> Table:
    """One score of several evaluations: a row for each label and a column for each evaluation."""
    groups = {e["label"]: e["group"] for r in evaluations.values() for e in r["rows"]}
    labels = sorted(groups, key=lambda label: list(GROUPS).index(groups[label]))
    cells = {
        name: pd.Series({e["label"]: score_cell(e, column) for e in results["rows"]})
        for name, results in evaluations.items()
    }
    frame = pd.DataFrame(cells).reindex(labels)
    return Table(frame.where(frame.notna(), Cell()), [groups[label] for label in labels])


def protocol_line(results: Mapping[str, Any], reference: str = "true") -> str:
    """The protocol in one line, the caption of every table of scores."""
    protocol = results["protocol"]
    tracks = _count(protocol["tracks"], "track")
    parts = [
        f"{' + '.join(protocol['sources'])}, mix: {protocol['mix']}",
        f"{protocol['sample_rate'] / 1000:g} kHz mono",
        f"{_count(protocol['clips'], 'clip')} of {protocol['segment_seconds']:.3g} s from {tracks}",
        "references: " + ("true stems" if reference == "true" else "codec-decoded stems"),
        f"assignment: {protocol['permutation']}",
        f"{_count(sum(protocol['silent_references'].values()), 'silent reference')}, "
        f"{_count(protocol['failures'], 'failure')}",
        f"± 95 % t-interval over {tracks}",
    ]
    if len(protocol["models"]) > 1:
        parts.append(f"{len(protocol['models'])} training seeds")
    return " · ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def references(results: Mapping[str, Any]) -> list[str]:
    """The kinds of references that the estimates were scored against."""
    return [k for k in ("true", "codec") if any(k in e["scores"] for e in results["rows"])]


def notes(results: Mapping[str, Any], groups: Container[str] = GROUPS) -> list[tuple[str, str]]:
    """Label and note of the rows of some groups: what a row is and, if trained, its budget."""
    return [(e["label"], e["note"]) for e in results["rows"] if e["group"] in groups]


def failures(results: Mapping[str, Any]) -> list[str]:
    """A sentence for every row that failed on some clips."""
    return [
        f"{e['label']} failed on {_count(e['failures'], 'clip')}: {'; '.join(e['errors'])}"
        for e in results["rows"]
        if e["failures"]
    ]


def print_results(results: Mapping[str, Any]) -> None:
    """Prints the table against each kind of reference, below its protocol line.

    Only SI-SDR is printed with its interval. A narrow terminal shows the most important columns.
    """
    columns = COLUMNS if shutil.get_terminal_size().columns >= _WIDE else _ESSENTIAL
    for kind in references(results):
        table = score_table(results, kind, columns=columns)
        figures = table.frame.map(lambda cell: cell.figure)
        if "SI-SDR" in figures:
            figures["SI-SDR"] = table.frame["SI-SDR"].map(str)
        print(f"\n{table.caption}\n{figures.to_string()}")
    described = notes(results, ("supervised", "unsupervised", "ours"))
    print("\n".join([*(f"{label}: {note}" for label, note in described), *failures(results)]))
    if results.get("msdm"):
        print(msdm_text(results["msdm"]))


def summary_sentence(results: Mapping[str, Any]) -> str:
    """The result in a sentence: our best row compared with floors and the ceiling."""
    cells = {entry["name"]: score_cell(entry, "si_sdr") for entry in results["rows"]}
    known = {name: cell for name, cell in cells.items() if cell.value is not None}
    ours = [e for e in results["rows"] if e["group"] == "ours" and e["name"] in known]
    if not ours:
        return ""
    entry = max(ours, key=lambda e: known[e["name"]].value)
    best, comparisons = known[entry["name"]], []
    for name, label in _COMPARED.items():
        if name in known:
            gap = best.value - known[name].value
            comparisons.append(f"{abs(gap):.1f} dB {'above' if gap >= 0 else 'below'} {label}")
    text = f"{entry['label']}: {best} dB SI-SDR on average"
    return f"{text}, {listed(comparisons)}." if comparisons else f"{text}."


def listed(words: list[str]) -> str:
    """Joins words with commas and "and"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
