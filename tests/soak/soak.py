"""Separates long and many files in one process, and records memory and open files.

    python tests/soak/soak.py long --hours 4 --model halves    # one file, with a stand-in
    python tests/soak/soak.py long --hours 0.1                 # with a small model
    python tests/soak/soak.py long --hours 0.1 --model drums-bass
    python tests/soak/soak.py many --files 1000
    python tests/soak/soak.py two                              # two processes on one output folder

The stand-in halves the recording, so that four hours show what is around the model in minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import SMALL, separate_file

from asteroid_ucr import UCRSeparator
from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.batch import find_songs, model_mark, plan_jobs, separate_all
from asteroid_ucr.cli import main as command

ROWS = 12  # of the table of a run


def memory() -> int:
    """Resident memory of this process now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


class Curve:
    """Memory and open files over the course of a run."""

    def __init__(self) -> None:
        self.start, self.next, self.points = time.monotonic(), 0.0, []

    def __call__(self, fraction: float) -> None:
        """Notes the state, at most `ROWS` times."""
        if fraction >= self.next or fraction >= 1:
            self.next = fraction + 1 / ROWS
            seconds = time.monotonic() - self.start
            self.points.append((fraction, seconds, memory(), len(os.listdir("/proc/self/fd"))))

    def table(self) -> str:
        """The points as Markdown."""
        lines = [f"| {100 * f:.0f} % | {s:.0f} | {m} | {n} |" for f, s, m, n in self.points]
        return "\n".join(
            ["| done | seconds | memory, MiB | open files |", "|---:|---:|---:|---:|", *lines]
        )


class Halves:
    """A stand-in for a model, for what is around it."""

    sources = ("one", "other")

    def separate_part(self, wav: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Half of the recording, twice."""
        return torch.stack([wav / 2, wav / 2])


def small(folder: Path) -> Path:
    """The file of a small model, whose stems are of no use."""
    torch.manual_seed(0)
    UCRSeparator(sources=("drums", "bass"), **SMALL).save(folder / "small.pth")
    return folder / "small.pth"


def long(folder: Path, hours: float, rate: int, model: str | None) -> None:
    """One file, made of a minute that is repeated."""
    minute = np.random.default_rng(0).uniform(-0.3, 0.3, (60 * rate, 2))
    with sf.SoundFile(folder / "long.flac", "w", rate, 2) as file:
        for _ in range(round(60 * hours)):
            file.write(minute)
    curve = Curve()
    given = model or small(folder)
    loaded = Halves() if model == "halves" else SeparatorModel.from_pretrained(given)
    curve(0)
    paths = separate_file(
        loaded, folder / "long.flac", folder / "out", "flac", bits=16, progress=curve
    )
    print(curve.table())
    frames = sf.info(folder / "long.flac").frames
    assert all(sf.info(path).frames == frames for path in paths)
    took = curve.points[-1][1]
    print(f"{hours:g} h in {took:.0f} s, {3600 * hours / took:.0f} times real time; lengths equal")


def many(folder: Path, files: int) -> None:
    """Many files of a second, by one process."""
    (folder / "songs").mkdir()
    rng = np.random.default_rng(0)
    for number in range(files):
        kind = ("wav", "flac", "ogg", "mp3")[number % 4]
        wav = rng.uniform(-0.3, 0.3, (8000, 1 + number % 2))
        sf.write(folder / "songs" / f"{number:05d}.{kind}", wav, 8000)
    model = UCRSeparator.from_pretrained(small(folder))
    stems, mark = {"drums": [0], "bass": [1]}, model_mark(model, "small")
    songs = find_songs([str(folder / "songs")])
    jobs = plan_jobs(songs, stems, folder / "out", "{track}/{stem}.{ext}", "wav", mark)
    curve, failed = Curve(), 0
    for done, job in enumerate(jobs):
        curve(done / files)
        failed += separate_all(model, [job], mark)
    curve(1)
    print(curve.table())
    written = len(list((folder / "out").rglob("*.wav")))
    print(f"{files} files, {failed} failed, {written} stems")


def two(folder: Path) -> None:
    """Two processes that separate the same songs into the same folder."""
    for number in range(20):
        wav = np.random.default_rng(number).uniform(-0.3, 0.3, 3 * 8000)
        (folder / "songs").mkdir(exist_ok=True)
        sf.write(folder / "songs" / f"{number}.wav", wav, 8000)
    line = ["separate", str(folder / "songs"), "--model", str(small(folder)), "--overwrite", "-o"]
    assert command([*line, str(folder / "alone")]) == 0
    program = [sys.executable, "-m", "asteroid_ucr", *line, str(folder / "both")]
    codes = [process.wait() for process in [subprocess.Popen(program) for _ in range(2)]]
    names = sorted(path.relative_to(folder / "alone") for path in (folder / "alone").rglob("*.wav"))
    hidden = [path for path in (folder / "both").rglob(".*") if path.is_file()]
    differing = sum(
        not np.array_equal(sf.read(folder / "alone" / name)[0], sf.read(folder / "both" / name)[0])
        for name in names
    )
    print(f"exit codes {codes}; of {len(names)} stems, {differing} differ; {len(hidden)} left over")


def main() -> None:
    """Runs one of them in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["long", "many", "two"])
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--rate", type=int, default=44_100)
    parser.add_argument("--model", help="Or halves; default: a small one.")
    parser.add_argument("--files", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.kind == "long":
            long(folder, given.hours, given.rate, given.model)
        elif given.kind == "many":
            many(folder, given.files)
        else:
            two(folder)


if __name__ == "__main__":
    main()
