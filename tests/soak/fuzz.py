"""Fuzzes the readers: coverage-guided mutations of small valid inputs, by Atheris.

    pip install atheris
    python tests/soak/fuzz.py --minutes 20 --finds finds          # all readers, one after the other
    python tests/soak/fuzz.py --minutes 5 --finds finds midi audio

An input that makes a reader fail otherwise than by a `UserError`, takes 5 s of processor time or
more than 2 GB is kept in the folder of finds, once for each place that fails. Those that led to a
change are in tests/corpus, which tests/test_fuzz_corpus.py reads.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
OURS = (
    "data config store base utils minislakh.soundfont minislakh.midi_files minislakh.kits".split()
)
OTHERS = ["pretty_midi.pretty_midi", "mido.midifiles", "yaml.constructor", "yaml.resolver"]
with atheris.instrument_imports(include=[*(f"asteroid_ucr.{name}" for name in OURS), *OTHERS]):
    import readers

from asteroid_ucr.utils.errors import UserError  # noqa: E402 (after the instrumented imports)

SLOW, LARGE = 5.0, 2e6  # seconds, KiB
MEMORY = 12 * 2**30  # bytes of address space, beyond which an allocation fails


def fuzz(name: str, seconds: int, finds: Path) -> None:
    """Fuzzes one reader in this process, which ends afterwards."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    folder = Path(tempfile.mkdtemp())
    corpus = folder / "corpus"
    corpus.mkdir()
    inputs = readers.seeds(name, folder)
    kept = Path(__file__).parents[1] / "corpus" / name
    inputs += [path.read_bytes() for path in sorted(kept.glob("*"))]
    for number, data in enumerate(inputs):
        (corpus / str(number)).write_bytes(data)
    os.chdir(folder)

    def keep(data: bytes, what: str, text: str) -> None:
        label = f"{name}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"
        if not (finds / label).exists():
            (finds / label).write_bytes(data)
            (finds / f"{label}.txt").write_text(text)

    def one(data: bytes) -> None:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                readers.read(name, data, folder)
        except UserError:
            pass
        except Exception as error:  # whatever a reader raises is a find
            ours = [f for f in traceback.extract_tb(error.__traceback__) if "ucr" in f.filename]
            where = f"{type(error).__name__} {ours[-1].filename}:{ours[-1].lineno}"
            keep(data, where, f"{where}\n{traceback.format_exc()}")
        if (taken := time.process_time() - start) > SLOW:
            keep(data, "slow", f"{taken:.1f} s")
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > LARGE:
            keep(data, "large", "more than 2 GB")

    options = [f"-max_total_time={seconds}", f"-timeout={20 * SLOW:.0f}", "-rss_limit_mb=0"]
    limits = ["-max_len=20000", "-print_final_stats=1", f"-artifact_prefix={finds}/{name}-stopped-"]
    atheris.Setup([sys.argv[0], *options, *limits, str(corpus)], one)
    atheris.Fuzz()


def main() -> None:
    """Fuzzes readers in forks of this process, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", default=list(readers.READERS))
    parser.add_argument("--minutes", type=float, default=20, help="Time of all readers together.")
    parser.add_argument("--finds", type=Path, required=True, help="Folder for inputs that fail.")
    given = parser.parse_args()
    given.finds.mkdir(parents=True, exist_ok=True)
    seconds = round(60 * given.minutes / len(given.readers))
    print("| reader | executions | CPU minutes | finds |\n|---|---:|---:|---:|", flush=True)
    for name in given.readers:
        log = given.finds / f"{name}.log"
        if not (child := os.fork()):
            with open(log, "wb", buffering=0) as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            fuzz(name, seconds, given.finds.resolve())
        _, status, usage = os.wait4(child, 0)
        words = [line.split()[-1] for line in log.read_text().splitlines() if "executed_u" in line]
        count = words[0] if words else f"? (exit code {os.waitstatus_to_exitcode(status)})"
        kept = [path for path in given.finds.glob(f"{name}-*") if path.suffix != ".txt"]
        taken = (usage.ru_utime + usage.ru_stime) / 60
        print(f"| {name} | {count} | {taken:.1f} | {len(kept)} |", flush=True)


if __name__ == "__main__":
    main()
