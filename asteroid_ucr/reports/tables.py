"""Aggregated results as text, Markdown or HTML: every table that is shown is made here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from asteroid_ucr.utils.errors import UserError


@dataclass(frozen=True)
class Column:
    """A column of the table: a score, or one of the figures beside it."""

    key: str
    title: str
    help: str
    digits: int = 1
    better: str = "higher"


COLUMNS = (
    Column(
        "si_sdr",
        "SI-SDR",
        "dB, higher is better. How much of the estimate is the source, whatever its loudness.",
    ),
    Column("si_sdri", "SI-SDRi", "dB. SI-SDR less that of the untouched mixture."),
    Column("si_sir", "SI-SIR", "dB, higher is better. How little of the other sources is left."),
    Column("si_sar", "SI-SAR", "dB, higher is better. How little there is that no source has."),
    Column("sdr", "SDR", "dB, higher is better. BSS-eval v4, median over 3.5 s windows."),
    Column("sir", "SIR", "dB, higher is better. BSS-eval v4, median over 3.5 s windows."),
    Column("sar", "SAR", "dB, higher is better. BSS-eval v4, median over 3.5 s windows."),
    Column(
        "lsd",
        "LSD",
        "dB, lower is better. Distance between the log spectra, at equal loudness.",
        better="lower",
    ),
    Column(
        "frequency_r2",
        "R²",
        "Share of the masks' variance that frequency alone explains; 1 is a fixed equaliser.",
        digits=2,
        better="",
    ),
    Column(
        "si_sdr_permuted",
        "perm.",
        "dB. SI-SDR if the outputs were reordered clip by clip with knowledge of the truth; for "
        "comparison with papers only.",
    ),
)
_WIDE = 110
_ESSENTIAL = ("si_sdr", "si_sir", "si_sar", "sdr", "frequency_r2")
GROUP_TITLES = {
    "floor": "Floors",
    "classical": "Without training",
    "supervised": "Trained on stems",
    "unsupervised": "Other methods trained on mixtures alone",
    "ours": "Trained on mixtures alone",
    "published": "Published outputs",
    "ceiling": "Ceilings (they know the truth)",
}


@dataclass(frozen=True)
class Cell:
    """A figure, its 95 % half-width and its spread over seeds; None where there is none."""

    value: float | None
    half_width: float | None = None
    seed_std: float | None = None

    def text(self, digits: int = 1) -> str:
        """The figure and its half-width for people; a dash where there is none."""
        if self.value is None:
            return "–"
        if abs(self.value) > 99.9:  # the scores' limit
            return "∞" if self.value > 0 else "−∞"
        # A minus sign that lines up, and no "−0.0".
        rounded = round(self.value, digits) + 0.0
        figure = f"{rounded:.{digits}f}".replace("-", "−")
        return figure if self.half_width is None else f"{figure} ±{self.half_width:.{digits}f}"


def load_results(path: str | Path) -> dict[str, Any]:
    """Reads `final_metrics.json`, or that of an experiment's folder.

    Raises:
        UserError: if there is none, or it is not one.
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


def cell(entry: dict[str, Any], column: str, reference: str = "true", source: str = "all") -> Cell:
    """One figure of an aggregated row; for R² and "all", the mean over the sources."""
    if column == "frequency_r2":
        shares = entry["frequency_r2"]
        chosen = [shares[source]] if source in shares else list(shares.values())
        known = [share for share in chosen if share is not None]
        return Cell(sum(known) / len(known) if known else None)
    summary = entry["scores"].get(reference, {}).get(source, {}).get(column)
    if summary is None:
        return Cell(None)
    return Cell(summary["mean"], summary["half_width"], summary["seed_std"])


def shown_columns(results: dict[str, Any], reference: str = "true") -> list[Column]:
    """The columns in which some row has a figure."""
    return [
        column
        for column in COLUMNS
        if any(cell(entry, column.key, reference).value is not None for entry in results["rows"])
    ]


def protocol_line(results: dict[str, Any], reference: str = "true") -> str:
    """The protocol in one line, which belongs to every table."""
    protocol = results["protocol"]
    silences = sum(protocol["silent_references"].values())
    parts = [
        f"{' + '.join(protocol['sources'])}, mix: {protocol['mix']}",
        f"{protocol['sample_rate'] / 1000:g} kHz mono",
        f"{_count(protocol['clips'], 'clip')} of {protocol['segment_seconds']:.3g} s "
        f"from {_count(protocol['tracks'], 'track')}",
        "references: " + ("true stems" if reference == "true" else "codec-decoded stems"),
        f"assignment: {protocol['permutation']}",
        f"{_count(silences, 'silent reference')}, {_count(protocol['failures'], 'failure')}",
        f"± 95 % t-interval over {_count(protocol['tracks'], 'track')}",
    ]
    if len(protocol["models"]) > 1:
        parts.append(f"{len(protocol['models'])} training seeds")
    return " · ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _grouped(results: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    groups = [
        (title, [entry for entry in results["rows"] if entry["group"] == group])
        for group, title in GROUP_TITLES.items()
    ]
    return [(title, entries) for title, entries in groups if entries]


def to_rich(
    results: dict[str, Any], reference: str = "true", source: str = "all", width: int = 120
) -> Table:
    """The table for a terminal of `width` columns; intervals for SI-SDR only.

    Narrow terminals get the columns that matter most.
    """
    columns = shown_columns(results, reference)
    if width < _WIDE:
        columns = [column for column in columns if column.key in _ESSENTIAL]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
    for number, (_, entries) in enumerate(_grouped(results)):
        if number:
            table.add_section()
        for entry in entries:
            cells = [cell(entry, c.key, reference, source) for c in columns]
            texts = [
                (c if c_.key == "si_sdr" else Cell(c.value)).text(c_.digits)
                for c, c_ in zip(cells, columns, strict=True)
            ]
            bold = "bold" if entry["group"] == "ours" else None
            table.add_row(entry["label"], *texts, style=bold)
    return table


def print_table(results: dict[str, Any], console: Console | None = None) -> None:
    """Prints the table against each kind of reference, under its protocol line."""
    console = console or Console()
    kinds = {kind for entry in results["rows"] for kind in entry["scores"]}
    for kind in sorted(kinds, reverse=True):
        console.print()
        console.print(protocol_line(results, kind), style="dim", highlight=False)
        console.print(to_rich(results, kind, width=console.width))
    for label, note in notes(results, ("supervised", "unsupervised", "ours")):
        console.print(f"{label}: {note}", style="dim", highlight=False)
    for entry in results["rows"]:
        for error in entry["errors"]:
            console.print(f"{entry['label']}: {entry['failures']} failed, {error}", style="red")


def notes(results: dict[str, Any], groups: Iterable[str] = GROUP_TITLES) -> list[tuple[str, str]]:
    """Label and note of each row of some groups: what it is and, if trained, its budget."""
    chosen = set(groups)
    return [(e["label"], e["note"]) for e in results["rows"] if e["group"] in chosen]


def to_markdown(results: dict[str, Any], reference: str = "true", source: str = "all") -> str:
    """The table in Markdown, followed by its protocol line."""
    columns = shown_columns(results, reference)
    lines = [
        "| | " + " | ".join(column.title for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for _, entries in _grouped(results):
        for entry in entries:
            texts = [cell(entry, c.key, reference, source).text(c.digits) for c in columns]
            label = f"**{entry['label']}**" if entry["group"] == "ours" else entry["label"]
            lines.append(f"| {label} | " + " | ".join(texts) + " |")
    return "\n".join([*lines, "", f"*{protocol_line(results, reference)}*", ""])


def overview(evaluations: Mapping[str, dict[str, Any]], column: str = "si_sdr") -> str:
    """One score of several evaluations in Markdown: a line for each row, a column for each."""
    entries = [
        {entry["label"]: entry for entry in results["rows"]} for results in evaluations.values()
    ]
    groups: dict[str, str] = {}
    for found in entries:
        groups |= {label: entry["group"] for label, entry in found.items()}
    order = list(GROUP_TITLES)
    lines = [f"| | {' | '.join(evaluations)} |", "|---|" + "---:|" * len(entries)]
    for label, group in sorted(groups.items(), key=lambda item: order.index(item[1])):
        cells = [cell(e[label], column) if label in e else Cell(None) for e in entries]
        name = f"**{label}**" if group == "ours" else label
        lines.append(f"| {name} | " + " | ".join(c.text() for c in cells) + " |")
    return "\n".join(lines) + "\n"


def to_html(results: dict[str, Any], reference: str = "true", source: str = "all") -> str:
    """The table in HTML: one `tbody` per group, intervals in `small`, help in `title`."""
    columns = shown_columns(results, reference)
    head = "".join(f'<th title="{escape(c.help)}">{escape(c.title)}</th>' for c in columns)
    bodies = []
    for title, entries in _grouped(results):
        lines = [
            f'<tr class="group"><th colspan="{len(columns) + 1}" scope="rowgroup">'
            f"<span>{escape(title)}</span></th></tr>"
        ]
        for entry in entries:
            cells = "".join(_html_cell(cell(entry, c.key, reference, source), c) for c in columns)
            lines.append(
                f'<tr class="{entry["group"]}"><th scope="row" title="{escape(entry["note"])}">'
                f"{escape(entry['label'])}</th>{cells}</tr>"
            )
        bodies.append(f"<tbody>{''.join(lines)}</tbody>")
    return f"<table><thead><tr><th></th>{head}</tr></thead>{''.join(bodies)}</table>"


def _html_cell(figure: Cell, column: Column) -> str:
    text = escape(Cell(figure.value).text(column.digits))
    if figure.value is not None and figure.half_width is not None:
        text += f"<small>±{figure.half_width:.{column.digits}f}</small>"
    spread = "" if figure.seed_std is None else f' title="± {figure.seed_std:.2f} over seeds"'
    return f"<td{spread}>{text}</td>"
