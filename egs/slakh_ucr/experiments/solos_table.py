"""Writes a page with the scores of several runs of ours.

Without options these are the runs of experiments/solos.sh, and the page is docs/results_solos.md.
docs/training.md has the options that compare the rounds of the bundled models.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from asteroid_ucr import __version__
from asteroid_ucr.commands import exit_code
from asteroid_ucr.data.clips import slakh_clips
from asteroid_ucr.evaluation.model_rows import model_rows
from asteroid_ucr.evaluation.rows import ceiling_rows, classical_rows, floor_rows
from asteroid_ucr.evaluation.separation import assign_components, score_rows
from asteroid_ucr.evaluation.statistics import summarise
from asteroid_ucr.reports.tables import Cell, Table
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import atomic_path

HEAD = """\
# SI-SDR of {runs}

<!-- Written by egs/slakh_ucr/experiments/solos_table.py; do not edit. -->

Measured with version {version}. SI-SDR in dB, mean over the sources and over the test songs of
`{root}` with its 95 % interval; up to {max_clips} clips of 7 s; one sampling step, masks on the
mixture. {about}
"""
ABOUT = """\
Each run is the training of `local/bundled.yml` with 400 steps, on the solos that taggers find, and
with one thing changed; `experiments/solos.sh` lists the runs. *stems* are runs with true stems
instead of solos, *plain* runs are the paper's method on mixtures of all three sources, *unet1d* has
a denoiser over time alone."""
KINDS = ("drums-bass", "drums-piano", "bass-piano", "drums-piano-bass")


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description="Writes a page with the scores of several runs.")
    parser.add_argument("--exp", type=Path, default=Path("exp/solos"), help="folder of the runs")
    parser.add_argument("--runs", nargs="+", help="names of the runs (default: all)")
    parser.add_argument("--about", default=ABOUT, help="what the runs are")
    parser.add_argument("--root", default="data/bundled", help="whose test songs are scored")
    parser.add_argument("--max_clips", type=int, default=24)
    parser.add_argument("--document", type=Path, default=Path("../../docs/results_solos.md"))
    options = parser.parse_args()
    runs = options.runs or sorted(path.parent.name for path in options.exp.glob("*/best_model.pth"))
    models = {name: UCRSeparator.from_pretrained(options.exp / name) for name in runs}
    for name, model in models.items():
        if name.startswith("plain"):
            # Such a model does not know its outputs' names, so they are fitted on validation clips.
            assign_components(
                model, slakh_clips(options.root, "validation", model.sources, max_clips=24)
            )
    columns = {kind: _column(models, kind, options.root, options.max_clips) for kind in KINDS}
    table = Table(
        pd.DataFrame(columns).map(lambda cell: cell if isinstance(cell, Cell) else Cell())
    )
    with atomic_path(options.document) as temporary:
        names = {**vars(options), "runs": ", ".join(models), "version": __version__}
        temporary.write_text(f"{HEAD.format(**names)}\n{table.markdown()}")
    print(f"wrote {options.document}; append the table of solo_purity.py to it")


def _column(models: dict[str, UCRSeparator], kind: str, root: str, max_clips: int) -> pd.Series:
    """SI-SDR of every row on mixtures of one kind."""
    sources = kind.split("-")
    splits = ("test", "validation")
    test, validation = (list(slakh_clips(root, s, sources, max_clips=max_clips)) for s in splits)
    codec = next(iter(models.values())).codec
    rows = [*floor_rows(validation), classical_rows()[0]]
    for name, model in models.items():
        (row,) = model_rows(model.select(sources), steps=[1])
        rows.append(replace(row, name=name, label=name))
    rows.append(ceiling_rows(codec)[1])  # The oracle mask through the codec.
    lines = score_rows(rows, test, bss_eval=False).assign(run=0)
    figures = {}
    for row in rows:
        summary = summarise(lines[lines["row"] == row.name], "si_sdr")
        figures[row.label] = Cell(summary.mean, summary.half_width)
    return pd.Series(figures)


if __name__ == "__main__":
    sys.exit(exit_code(main))
