"""Writes docs/results_codecs.md from the runs of experiments/codecs.sh."""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from asteroid_ucr import __version__
from asteroid_ucr.codecs import Codec, build_codec
from asteroid_ucr.commands import exit_code
from asteroid_ucr.reports.score_tables import load_results, protocol_line, score_cell
from asteroid_ucr.reports.tables import Cell, Table
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.flops import gflop_per_second

PREFIX = "train_ucr_codecs_"
HEAD = """\
# Codecs, compositions and numbers of sources

<!-- Written by egs/slakh_ucr/experiments/codec_table.py; do not edit. -->

Measured with version {version}.

SI-SDR in dB, mean over tracks with its 95 % interval; *spread* is the standard deviation over
training seeds. *masks* are Wiener masks on the mixture, *raw* are estimates as they are, *decoded
refs* are stems that went through the codec. Names are codec, composition and number of sources;
*no_alpha* denoisers are not told α.
"""
FLOORS = ("mixture", "static_eq", "hpss", "oracle_wiener")


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp", type=Path, default=Path("exp"), help="folder of the runs")
    parser.add_argument("--document", type=Path, default=Path("../../docs/results_codecs.md"))
    options = parser.parse_args()
    runs = {
        folder.name.removeprefix(PREFIX): load_results(folder)
        for folder in sorted(options.exp.glob(f"{PREFIX}*"))
        if (folder / "final_metrics.json").is_file()
    }
    if not runs:
        raise UserError(f"{options.exp} has no results: run experiments/codecs.sh first.")
    kinds = sorted({tuple(r["protocol"]["sources"]) for r in runs.values()}, key=len)
    tables = [
        scores({name: r for name, r in runs.items() if tuple(r["protocol"]["sources"]) == kind})
        for kind in kinds
    ]
    tables.append(costs(sorted({results["protocol"]["codec"] for results in runs.values()})))
    parts = [HEAD.format(version=__version__), *(table.markdown() for table in tables)]
    with atomic_path(options.document) as temporary:
        temporary.write_text("\n".join(parts))
    print(f"wrote {len(runs)} runs to {options.document}")


def scores(runs: dict[str, dict[str, Any]]) -> Table:
    """Scores of the runs on mixtures of the same sources, then floors and ceilings."""
    first = next(iter(runs.values()))
    few, many = min(first["protocol"]["steps"]), max(first["protocol"]["steps"])
    columns = {
        f"masks, {few} step": (f"ours_{few}", "si_sdr", "true"),
        "SI-SIR": (f"ours_{few}", "si_sir", "true"),
        "R²": (f"ours_{few}", "frequency_r2", "true"),
        f"masks, {many} steps": (f"ours_{many}", "si_sdr", "true"),
        f"raw, {few} step": (f"ours_{few}_raw", "si_sdr", "true"),
        f"raw, {many} steps": (f"ours_{many}_raw", "si_sdr", "true"),
        f"raw, {few} step, decoded refs": (f"ours_{few}_raw", "si_sdr", "codec"),
        f"raw, {many} steps, decoded refs": (f"ours_{many}_raw", "si_sdr", "codec"),
    }
    lines: dict[str, dict[str, Cell]] = {}
    for name, results in runs.items():
        rows = {entry["name"]: entry for entry in results["rows"]}
        lines[name] = {
            title: score_cell(rows[row], score, reference)
            for title, (row, score, reference) in columns.items()
            if row in rows
        }
        lines[name]["spread"] = Cell(score_cell(rows[f"ours_{few}"], "si_sdr").seed_std)
    for results in runs.values():
        for entry in results["rows"]:
            label = f"*{entry['label']}*"
            if entry["name"] == "codec_roundtrip":
                # The round trip is a waveform, not a mask. The mel codec estimates its phase.
                score = score_cell(entry, "si_sdr")
                known = results["protocol"]["codec"] != "mel"
                lines[label] = {f"raw, {few} step": score if known else Cell()}
            elif entry["name"] in FLOORS or entry["group"] == "ceiling":
                keys = [score for _, score, _ in columns.values()][:3]
                lines[label] = dict(
                    zip(columns, [score_cell(entry, k) for k in keys], strict=False)
                )
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=[*columns, "spread"])
    frame = frame.map(lambda cell: cell if isinstance(cell, Cell) else Cell())
    return Table(frame, caption=protocol_line(first))


def costs(codecs: list[str]) -> Table:
    """Arithmetic of the codecs in GFLOP per second of audio, without Fourier transforms."""

    def decode(codec: Codec, wav: Tensor) -> Tensor:
        latents = torch.zeros(1, codec.channels, codec.frames(wav.shape[-1]))
        return codec.decode(latents, wav.shape[-1])

    tasks = {"encode a mixture": lambda codec, wav: codec.encode(wav), "decode a source": decode}
    cells = {}
    for codec in map(build_codec, codecs):
        counts = (gflop_per_second(codec, codec.sample_rate, task) for task in tasks.values())
        cells[codec.name] = [Cell(count, digits=2) for count in counts]
    return Table(pd.DataFrame.from_dict(cells, orient="index", columns=list(tasks)))


if __name__ == "__main__":
    sys.exit(exit_code(main))
