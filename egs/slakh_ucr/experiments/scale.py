"""What training costs before its first batch, and per batch, with many tracks.

Writes a synthetic cache for each number of tracks, loads batches of random crops from it in a new
process, and prints a table. The time of the processor is measured, which does not depend on what
else the machine does.

    python experiments/scale.py --tracks 1000 100000 --workers 0 1 2
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from asteroid_ucr.data.cache import LatentMetadata, TrackCache
from asteroid_ucr.data.crops import RandomCrops, item_loader

CHANNELS, FRAMES, CROP, BATCH, BATCHES = 4, 600, 128, 16, 100
META = LatentMetadata(
    dataset="synthetic",
    split="train",
    sources=("drums", "bass"),
    mix="sum",
    codec="none",
    frame_rate=75.0,
    channels=CHANNELS,
)


def write(folder: Path, tracks: int) -> None:
    """Writes a cache of equal tracks of eight seconds, as links to one file."""
    cache = TrackCache(folder, META, write=True)
    noise = np.random.default_rng(0).standard_normal((CHANNELS, FRAMES))
    names = [f"{number:08d}-a-name-as-long-as-many-are" for number in range(tracks)]
    cache.add(names[0], noise, np.ones((2, FRAMES)))
    for name in names[1:]:
        (folder / f"{name}.safetensors").symlink_to(f"{names[0]}.safetensors")
    cache.finish(names)


def measure(folder: Path, workers: int) -> dict[str, float]:
    """Costs of this process and its workers."""

    def spent() -> float:
        used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used)

    before, memory = spent(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    crops = RandomCrops(TrackCache(folder, META), CROP, seed=0, min_rms=0.01)
    batches = iter(item_loader(crops, BATCH * (BATCHES + 1), BATCH, workers))
    next(batches)
    start, wall = spent(), time.perf_counter()
    for _ in batches:
        pass
    wall = time.perf_counter() - wall
    del batches  # the workers' time counts when they have ended
    return {
        "first batch, CPU s": start - before,
        "batch, CPU ms": 1000 * (spent() - start) / BATCHES,
        "batches/s": BATCHES / wall,
        "memory, MiB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024,
    }


def main() -> None:
    """Runs the measurements and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.workers[0])))
        return
    rows = []
    for tracks in options.tracks:
        with tempfile.TemporaryDirectory() as scratch:
            write(Path(scratch), tracks)
            for workers in options.workers:
                command = [sys.executable, __file__, "--measure", scratch, "--workers"]
                done = subprocess.run([*command, str(workers)], capture_output=True, check=True)
                row = {"tracks": tracks, "workers": workers}
                rows.append(row | json.loads(done.stdout.splitlines()[-1]))
    print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
