"""Writes docs/results_codecs.md from the runs of experiments/codecs.sh."""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asteroid_ucr import __version__
from asteroid_ucr.cli import exit_code
from asteroid_ucr.codecs import Codec, build_codec
from asteroid_ucr.reports.tables import Cell, cell, load_results, protocol_line
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
    parts = [HEAD.format(version=__version__), *_tables(runs), _costs(runs)]
    with atomic_path(options.document) as temporary:
        temporary.write_text("\n\n".join(part.strip() for part in parts) + "\n")
    print(f"wrote {len(runs)} runs to {options.document}")


def _tables(runs: dict[str, dict[str, Any]]) -> list[str]:
    parts = []
    for sources in sorted({tuple(r["protocol"]["sources"]) for r in runs.values()}, key=len):
        chosen = {n: r for n, r in runs.items() if tuple(r["protocol"]["sources"]) == sources}
        parts.append(_table(chosen))
        parts.append(f"*{protocol_line(next(iter(chosen.values())))}*")
    return parts


def _costs(runs: dict[str, dict[str, Any]]) -> str:
    """Arithmetic of the codecs in GFLOP per second of audio; Fourier transforms do not count."""
    lines = ["| codec | encode a mixture | decode a source |", "|---|---:|---:|"]
    for name in sorted({results["protocol"]["codec"] for results in runs.values()}):
        codec = build_codec(name)

        def decode(model: Codec, wav: Tensor) -> Tensor:
            latents = torch.zeros(1, model.channels, model.frames(wav.shape[-1]))
            return model.decode(latents, wav.shape[-1])

        encoding = gflop_per_second(codec, codec.sample_rate, lambda model, wav: model.encode(wav))
        decoding = gflop_per_second(codec, codec.sample_rate, decode)
        lines.append(f"| {name} | {encoding:.2f} | {decoding:.2f} |")
    return "\n".join(lines)


def _table(runs: dict[str, dict[str, Any]]) -> str:
    steps = next(iter(runs.values()))["protocol"]["steps"]
    few, many = min(steps), max(steps)
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
    lines = [
        "| | " + " | ".join(columns) + " | spread |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    for name, results in runs.items():
        rows = {entry["name"]: entry for entry in results["rows"]}
        cells = [
            cell(rows[row], score, reference) if row in rows else Cell(None)
            for row, score, reference in columns.values()
        ]
        texts = [c.text(2 if score == "R²" else 1) for score, c in zip(columns, cells, strict=True)]
        spread = Cell(cell(rows[f"ours_{few}"], "si_sdr").seed_std).text()
        lines.append(f"| {name} | " + " | ".join(texts) + f" | {spread} |")
    lines += _yardsticks(runs)
    return "\n".join(lines)


def _yardsticks(runs: dict[str, dict[str, Any]]) -> list[str]:
    """Rows that no training run changes: floors, and each codec's ceilings."""
    lines: dict[str, str] = {}
    for results in runs.values():
        codec = results["protocol"]["codec"]
        for entry in results["rows"]:
            if entry["name"] not in FLOORS and entry["group"] != "ceiling":
                continue
            score, sir = (cell(entry, key).text() for key in ("si_sdr", "si_sir"))
            share = cell(entry, "frequency_r2").text(2)
            if entry["name"] == "codec_roundtrip":
                # Waveforms as they are, not masks. The mel codec's phase is made up.
                known = codec != "mel"
                cells = ["–"] * 4 + [score if known else "–"] + ["–"] * 4
            else:
                cells = [score, sir, share] + ["–"] * 6
            lines[entry["label"]] = f"| *{entry['label']}* | " + " | ".join(cells) + " |"
    return list(lines.values())


if __name__ == "__main__":
    sys.exit(exit_code(main))
