"""Tables of figures with intervals, as text, Markdown or HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader
from rich import table as rich_table

_LARGEST = 99.9  # Scores are limited to 100 dB, which represents infinity.
TEMPLATES = Environment(
    loader=PackageLoader("asteroid_ucr.reports", "templates"),
    autoescape=lambda name: str(name).endswith(".html"),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class Cell:
    """A figure and its uncertainty.

    Attributes:
        value: The figure; None or NaN if it could not be measured.
        half_width: Half-width of its 95 % confidence interval.
        seed_std: Standard deviation over seeds.
        digits: Number of decimals to show.
        limited: Whether a value of 100 or more represents infinity, as in scores in dB.
    """

    value: float | None = None
    half_width: float | None = None
    seed_std: float | None = None
    digits: int = 1
    limited: bool = False

    @property
    def figure(self) -> str:
        """The figure without its interval, with a typographic minus sign; or a dash."""
        if pd.isna(self.value):
            return "–"
        if self.limited and abs(self.value) > _LARGEST:
            return "∞" if self.value > 0 else "−∞"
        rounded = round(self.value, self.digits) + 0.0  # Adding zero turns −0.0 into 0.0.
        return f"{rounded:.{self.digits}f}".replace("-", "−")

    @property
    def interval(self) -> str:
        """The interval, such as "±0.5"; empty where it is unknown or the figure is infinite."""
        if pd.isna(self.half_width) or self.figure.endswith(("–", "∞")):
            return ""
        return f"±{self.half_width:.{self.digits}f}"

    def __str__(self) -> str:
        return f"{self.figure} {self.interval}".rstrip()


class Line(NamedTuple):
    """A row as it is printed: its group, labels, cells and note."""

    group: str
    labels: list[str]
    cells: list[Cell | str]
    note: str


@dataclass(frozen=True)
class Table:
    """Rows and columns of cells.

    Attributes:
        frame: The cells, `Cell` or text. The levels of its index are the columns of labels, and
            their names are the headings of these columns.
        groups: Group of every row, if rows are grouped; the rows of a group are adjacent.
        titles: Titles of the groups, for HTML.
        notes: Explanation of every row; empty if there is none.
        help: Meaning of the columns, by heading.
        caption: The protocol of the measurement, in one line.
        highlight: Group whose rows are printed in bold.
    """

    frame: pd.DataFrame
    groups: Sequence[str] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    help: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    highlight: str = "ours"

    @property
    def label_headings(self) -> list[str]:
        """Headings of the columns of labels."""
        return [str(name or "") for name in self.frame.index.names]

    def lines(self) -> Iterator[Line]:
        """The rows, from top to bottom."""
        for number, label in enumerate(self.frame.index):
            labels = [str(part) for part in (label if isinstance(label, tuple) else (label,))]
            group = self.groups[number] if self.groups else ""
            note = self.notes[number] if self.notes else ""
            yield Line(group, labels, list(self.frame.iloc[number]), note)

    def grouped(self) -> list[tuple[str, list[Line]]]:
        """The rows of each group."""
        return [(group, list(lines)) for group, lines in groupby(self.lines(), lambda r: r.group)]

    def rich(self) -> rich_table.Table:
        """The table for a terminal."""
        table = rich_table.Table(box=None, pad_edge=False, header_style="bold")
        for heading in self.label_headings:
            table.add_column(heading)
        for heading in self.frame.columns:
            table.add_column(heading, justify="right")
        for number, (group, lines) in enumerate(self.grouped()):
            if number:
                table.add_section()
            style = "bold" if group == self.highlight else None
            for line in lines:
                table.add_row(*line.labels, *map(str, line.cells), style=style)
        return table

    def markdown(self) -> str:
        """The table in Markdown, followed by its caption."""
        labels = self.label_headings
        lines = [
            "| " + " | ".join([*labels, *self.frame.columns]) + " |",
            "|" + "---|" * len(labels) + "---:|" * self.frame.shape[1],
        ]
        for row in self.lines():
            mark = "**" if row.group == self.highlight else ""
            texts = [*(f"{mark}{label}{mark}" for label in row.labels), *map(str, row.cells)]
            lines.append("| " + " | ".join(texts) + " |")
        return "\n".join(lines) + "\n" + (f"\n*{self.caption}*\n" if self.caption else "")

    def html(self) -> str:
        """The table as an HTML element; intervals are small, and help is shown on hovering."""
        return TEMPLATES.get_template("table.html").render(table=self)
