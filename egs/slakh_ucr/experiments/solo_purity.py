"""Checks how pure the solos of `asteroid-ucr solos` are, against stems that it never used."""

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import soundfile as sf

from asteroid_ucr.commands import exit_code
from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import Track, read_sources
from asteroid_ucr.masking import MASK_HOP, MASK_RATE
from asteroid_ucr.solos.library import RECORD

PURE = 0.99


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data/bundled", help="Slakh tree that they are from")
    parser.add_argument(
        "--solos", nargs="+", default=["data/bundled_solos0", "data/bundled_solos1"]
    )
    options = parser.parse_args()
    instruments = ["drums", "bass", "piano"]
    # Each track serves as one kind of mixture only: the kinds take turns.
    kinds: dict[str, tuple[Track, tuple[str, ...]]] = {}
    for place, kind in enumerate(combinations(instruments, 2)):
        for track in load_tracks(options.root, "train", sources=kind)[place::3]:
            kinds[track.name] = (track, kind)
    print("| solos | of | passages | songs | seconds | share of the power | purer than 99 % |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for folder in map(Path, options.solos):
        found = json.loads((folder / RECORD).read_text())["found"]
        for instrument in instruments:
            files = sorted((folder / instrument).glob("*.flac"))
            shares, seconds = zip(*(_share(file, instrument, kinds) for file in files), strict=True)
            mean = np.average(shares, weights=seconds)
            pure = np.average(np.array(shares) > PURE, weights=seconds)
            print(
                f"| {folder.name} | {instrument} | {len(files)} | {found[instrument]['tracks']} | "
                f"{sum(seconds):.0f} | {mean:.3f} | {pure:.2f} |"
            )


def _share(
    file: Path, instrument: str, kinds: dict[str, tuple[Track, tuple[str, ...]]]
) -> tuple[float, float]:
    """Share of a passage's power that its instrument has, and its length in seconds."""
    name, first = file.stem.rsplit("_", 1)
    track, kind = kinds[name]
    start, frames = int(first) * MASK_HOP, sf.info(file).frames
    stems = read_sources(track, kind, MASK_RATE).references[:, start : start + frames]
    power = stems.square().mean(-1)
    return float(power[kind.index(instrument)] / power.sum()), frames / MASK_RATE


if __name__ == "__main__":
    sys.exit(exit_code(main))
