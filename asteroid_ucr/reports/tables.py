"""Tables of figures with intervals, as text, Markdown or HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from jinja2 import Environment, PackageLoader

from asteroid_ucr.evaluation.rows import GROUPS

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


@dataclass(frozen=True)
class Table:
    """Rows and columns of cells.

    Attributes:
        frame: The cells, `Cell` or text. The levels of its index are the columns of labels, and
            their names are the headings of these columns.
        groups: Group of every row, a key of `GROUPS`; the rows of a group are adjacent.
        notes: Explanation of every row.
        help: Meaning of the columns, by heading.
        caption: The protocol of the measurement, in one line.
    """

    frame: pd.DataFrame
    groups: Sequence[str] = ()
    notes: Sequence[str] = ()
    help: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""

    @property
    def label_headings(self) -> list[str]:
        """Headings of the columns of labels."""
        return [name or "" for name in self.frame.index.names]

    def lines(self) -> list[tuple[str, list[str], list[Cell | str], str]]:
        """Group, labels, cells and note of every row; group and note may be empty."""
        labels = self.frame.index.to_frame().values.tolist()
        empty = [""] * len(labels)
        cells = self.frame.values.tolist()
        return list(zip(self.groups or empty, labels, cells, self.notes or empty, strict=True))

    def text(self) -> str:
        """The table in columns of plain text."""
        return self.frame.map(str).to_string() + "\n"

    def markdown(self) -> str:
        """The table in Markdown, with our own rows in bold, followed by its caption."""
        labels = self.label_headings
        lines = [
            "| " + " | ".join([*labels, *self.frame.columns]) + " |",
            "|" + "---|" * len(labels) + "---:|" * self.frame.shape[1],
        ]
        for group, names, cells, _ in self.lines():
            mark = "**" if group == "ours" else ""
            texts = [*(f"{mark}{name}{mark}" for name in names), *map(str, cells)]
            lines.append("| " + " | ".join(texts) + " |")
        return "\n".join(lines) + "\n" + (f"\n*{self.caption}*\n" if self.caption else "")

    def html(self) -> str:
        """The table as an HTML element; intervals are small, and help is shown on hovering."""
        return TEMPLATES.get_template("table.html").render(table=self, titles=GROUPS)
