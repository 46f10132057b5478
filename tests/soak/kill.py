"""Kills programs at random moments, and looks at what they leave and where a second run ends.

    python tests/soak/kill.py --kills 100
    python tests/soak/kill.py --kills 20 --seed 7 training separate

Each program begins in a folder that holds a part of its results, and is killed (SIGKILL) at a
moment that is uniform over its duration. What was there must still be there, whatever has its final
name must be whole, and the same command must then end with what an uninterrupted run ends with. The
processes are forks of this one, which has imported everything, so that a trial takes a second.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

# A process that is to be forked must have no threads.
os.environ.update(OMP_NUM_THREADS="1", LOKY_MAX_CPU_COUNT="1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import soundfile as sf
import torch
from conftest import SMALL, write_track

from asteroid_ucr import UCRSeparator, minislakh  # noqa: F401 (imported before the forks)
from asteroid_ucr.cli import main as command
from asteroid_ucr.data import encode  # noqa: F401
from asteroid_ucr.training import decomposition, prior  # noqa: F401

TRAINING = "--{0}.steps 6 --{0}.epoch_steps 2 --{0}.batch_size 2 --{0}.frames 32 --{0}.lr 0.003 "
TRAINING += "--{0}.warmup_steps 2 --{0}.validation_items 2 --{0}.accelerator cpu"
DATA = "--data.root {inputs}/tree --data.cache {cache}"
NETWORK = "--model.encoder_widths [8] --model.denoiser_widths [8,16] --model.denoiser_kernels [3,3]"
TRAIN = f"train {DATA} {NETWORK} {TRAINING.format('training')} --exp_dir {{out}}/exp"
PRIOR = (
    f"train-prior {DATA} {TRAINING.format('prior')} --prior.widths [8,16] --prior.kernels [3,3] "
)
PRIOR += "--exp_dir {out}/exp"
SONGS = "minislakh --out {out} --seconds 2 --workers 1 --songs"
SEPARATE = "separate {inputs}/songs -o {out} --model {inputs}/model.pth --skip-existing --chunk 4"

# Each program: what its folder holds before, and what is killed; "cache" is one that is complete.
PROGRAMS: dict[str, tuple[list[str], str]] = {
    "caching": ([f"cache {DATA} --shard 1/3"], f"cache {DATA}"),
    "training": ([f"{TRAIN} --training.minutes 1e-4"], TRAIN),
    "prior": ([f"{TRAIN} --training.minutes 1e-4", f"{PRIOR} --prior.minutes 1e-4"], PRIOR),
    "mini-Slakh": ([f"{SONGS} 1"], f"{SONGS} 4"),
    "separate": ([SEPARATE.replace("songs", "songs/a.wav")], SEPARATE),
}


@dataclass
class Row:
    """What became of a program's trials."""

    program: str
    kills: int = 0
    at_work: int = 0  # of the kills
    lost: int = 0
    half_written: int = 0
    failed: int = 0  # second runs that ended with an error
    different: int = 0


def run(line: str, log: Path) -> int:
    """Starts a command in a fork; returns its number."""
    sys.stdout.flush()
    if child := os.fork():
        return child
    code = 70
    try:
        with open(log, "ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = command(line.split())
    finally:
        os._exit(code)


def finish(child: int) -> int:
    """Waits for a fork; returns its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder: Path) -> dict[str, str]:
    """A digest of each visible file and each checkpoint.

    Logs are left out: a resumed run continues in a file of its own.
    """
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")) or "/logs/" in name:
            continue
        if path.suffix in (".ckpt", ".pth"):
            found[name] = _weights(path)
        elif path.suffix == ".wav":  # the header holds the time
            wav, rate = sf.read(path)
            found[name] = f"{_digest(wav.tobytes())} {rate} Hz"
        else:
            found[name] = _digest(path.read_bytes())
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _weights(path: Path) -> str:
    """A digest of all tensors of a checkpoint, and its epoch; "damaged" if it cannot be read."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=False)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
        return "damaged"
    parts = [stored[key] for key in ("state_dict", "current_model_state") if key in stored]
    parts += [s for o in stored.get("optimizer_states", []) for s in o["state"].values()]
    tensors = [value for part in parts for value in part.values()]
    whole = _digest(b"".join(np.asarray(torch.as_tensor(t).cpu()).tobytes() for t in tensors))
    return f"{whole} epoch {stored.get('epoch')}"


def progress(found: dict[str, str]) -> int:
    """The epoch from which a training can go on; −1 if there is none."""
    kept = [v for n, v in found.items() if n.endswith(("last.ckpt", "previous.ckpt"))]
    return max([-1, *(int(v.split()[-1]) for v in kept if v != "damaged")])


def judge(
    row: Row, before: dict[str, str], after: dict[str, str], whole: dict[str, str]
) -> list[str]:
    """Counts what a kill has lost or left half-written; returns the names."""
    passing = (".ckpt", "minislakh.json", "cache.json")  # may have values of their own
    same = {n for n in after if after[n] in (before.get(n), whole.get(n))}
    half = [n for n in after if n not in same and not n.endswith(passing)]
    half += [n for n in after if n.endswith(".ckpt") and after[n] == "damaged"]
    lost = [n for n in before if n not in after and not n.endswith(".ckpt")]
    lost += ["progress"] if progress(after) < progress(before) else []
    row.half_written, row.lost = row.half_written + bool(half), row.lost + bool(lost)
    return [f"half-written: {n}" for n in half] + [f"lost: {n}" for n in lost]


def trials(program: str, kills: int, seed: int, work: Path, until: float) -> Row:
    """Kills a program again and again, no longer than until a time of the clock."""
    row, rng, log = Row(program), random.Random(f"{program} {seed}"), work / "log"
    earlier, line = PROGRAMS[program]

    def place(out: Path, text: str) -> str:
        cache = out / "cache" if program == "caching" else work / "cache"
        return text.format(inputs=work, cache=cache, out=out)

    start, end = work / program / "start", work / program / "end"
    for text in earlier:
        assert finish(run(place(start, text), log)) == 0, log.read_text()
    before = contents(start)
    shutil.copytree(start, end)
    began = time.monotonic()
    assert finish(run(place(end, line), log)) == 0, log.read_text()
    duration, whole = time.monotonic() - began, contents(end)
    for number in range(kills):
        if time.monotonic() > until:
            break
        out = work / program / f"trial{number}"
        shutil.copytree(start, out)
        moment = rng.uniform(0, duration)
        child = run(place(out, line), log)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        row.kills, row.at_work = row.kills + 1, row.at_work + (finish(child) == -signal.SIGKILL)
        faults = judge(row, before, contents(out), whole)
        log.write_text("")
        if finish(run(place(out, line), log)):
            row.failed += 1
            faults += ["the second run failed:", *log.read_text().splitlines()[-3:]]
        elif (last := contents(out)) != whole:
            row.different += 1
            changed = [n for n in {**last, **whole} if last.get(n) != whole.get(n)]
            faults.append(f"different: {', '.join(changed)}")
        if faults:
            print(f"{program} {number}, after {moment:.3f} s: {'; '.join(faults)}", file=sys.stderr)
        shutil.rmtree(out)
    return row


def prepare(work: Path) -> None:
    """Writes a small tree, its cache, songs and a model."""
    number = 0
    for split, tracks in {"train": 6, "validation": 3, "test": 3}.items():
        for _ in range(tracks):
            number += 1
            write_track(work / "tree" / split / f"Track{number:05d}", 2.0, number, 8000)
    (work / "songs").mkdir()
    for number, name in enumerate("abc"):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, 10 * 8000)
        sf.write(work / "songs" / f"{name}.wav", noise, 8000)
    torch.manual_seed(0)
    UCRSeparator(sources=("drums", "bass"), **SMALL).save(work / "model.pth")
    line = f"cache {DATA}".format(inputs=work, cache=work / "cache")
    assert finish(run(line, work / "log")) == 0, (work / "log").read_text()


def table(rows: Sequence[Row]) -> str:
    """The result as Markdown."""
    heads = ["program", "kills", "during work", "lost files", "half-written files"]
    heads += ["second runs that failed", "differing results"]
    lines = [heads, ["---", *["---:"] * 6], *(list(map(str, astuple(row))) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", nargs="*", default=list(PROGRAMS))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="For each program.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        rows = []
        for name in given.programs:
            until = time.monotonic() + 60 * given.minutes
            rows.append(trials(name, given.kills, given.seed, Path(folder), until))
    print(table(rows))
    sys.exit(any(row.lost + row.half_written + row.failed + row.different for row in rows))


if __name__ == "__main__":
    main()
