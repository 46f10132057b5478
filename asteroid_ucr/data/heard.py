"""Listens to the files of a folder, once: damage, length, level, and which hold the same audio."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import soundfile as sf
from scipy.spatial import cKDTree
from tqdm import tqdm

from asteroid_ucr.utils.decoding import open_audio, read_frames
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.stems import written_by

SHORTEST = 2.0  # seconds
QUIETEST = 1e-4  # RMS, −80 dBFS
_FRAMES = 10  # per second
_EDGES = np.geomspace(60.0, 4000.0, 9)  # of eight bands in Hz, below what lossy codecs remove
_SLICES, _FLOOR_DB = 32, -30.0
_SAME_DB, _SAME_SECONDS = 0.5, 0.2  # how far copies of a recording in other formats are apart
_COMMIT = 50  # files, after which the record is saved


@dataclass(frozen=True)
class Heard:
    """What is known about an audio file."""

    fault: str  # why it cannot be used, or ""
    seconds: float = 0.0
    digest: str = ""  # of the bytes of the file
    profile: Sequence[float] = ()  # dB in 32 slices of time and 8 bands, relative to their mean


def hear_all(paths: Sequence[Path]) -> list[Heard]:
    """Reads whole files; what was read before and has not changed is taken from a record.

    The record is kept in the user's cache folder and can be deleted.
    """
    with _open_record() as record:
        keys = [_key(path) for path in paths]
        rows = (record.execute("SELECT * FROM files WHERE key = ?", (key,)) for key in keys)
        found = dict(row for cursor in rows for row in cursor)
        missing = [(key, path) for key, path in zip(keys, paths, strict=True) if key not in found]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            done = pool.map(lambda job: (job[0], hear_file(job[1])), missing)
            bar = tqdm(done, "listening", len(missing), unit="file", disable=not missing or None)
            for number, (key, heard) in enumerate(bar):
                found[key] = json.dumps(asdict(heard))
                record.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", (key, found[key]))
                if number % _COMMIT == 0:
                    record.commit()
        record.commit()
    return [_restore(found[key]) for key in keys]


def _restore(text: str) -> Heard:
    """What was written to the record; an array takes a tenth of the memory of a list."""
    heard = Heard(**json.loads(text))
    return replace(heard, profile=np.array(heard.profile, dtype=np.float32))


def _key(path: Path) -> str:
    """The name of a file in the record, which changes with its content."""
    status = path.stat()
    return f"{os.fsencode(path.resolve())!r} {status.st_size} {status.st_mtime_ns}"


def _open_record() -> sqlite3.Connection:
    """The record of all files that were heard, or an empty one in memory."""
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asteroid_ucr"
    try:
        place.mkdir(parents=True, exist_ok=True)
        record = sqlite3.connect(place / "heard.sqlite", timeout=60)
        record.execute("CREATE TABLE IF NOT EXISTS files (key TEXT PRIMARY KEY, heard TEXT)")
    except (OSError, sqlite3.Error):
        record = sqlite3.connect(":memory:")
        record.execute("CREATE TABLE files (key TEXT PRIMARY KEY, heard TEXT)")
    return record


def hear_file(path: Path) -> Heard:
    """Reads a file to its end, in bounded memory."""
    if model := written_by(path):
        return Heard(f"an estimate: a stem that asteroid-ucr wrote with the model {model}")
    try:
        with open_audio(path, _listen, strict=True) as (_, (seconds, power, frames)):
            pass
        digest = hashlib.sha256()
        with open(path, "rb") as raw:
            while chunk := raw.read(1 << 20):
                digest.update(chunk)
    except (UserError, OSError, sf.SoundFileError) as error:
        return Heard(f"broken: {' '.join(str(error).split())}")
    if seconds < SHORTEST:
        return Heard(f"too short: {seconds:.2f} s")
    if power < QUIETEST**2:
        return Heard(f"silent: below {20 * np.log10(QUIETEST):.0f} dBFS")
    return Heard("", seconds, digest.hexdigest(), _profile(np.concatenate(frames)))


def _listen(file: sf.SoundFile) -> tuple[float, float, list[np.ndarray]]:
    """Seconds, mean power, and the powers of `_bands` of each block."""
    rate, size = file.samplerate, max(1, file.samplerate // _FRAMES)
    bins = np.digitize(np.fft.rfftfreq(size, 1 / rate), _EDGES)
    frames, energy = [], 0.0
    for start in range(0, file.frames, 100 * size):
        block = read_frames(file, start, min(100 * size, file.frames - start))
        energy += float(np.square(block, dtype=np.float64).mean(1).sum())
        frames.append(_bands(block, size, bins))
    return file.frames / rate, energy / file.frames, frames


def _bands(block: np.ndarray, size: int, bins: np.ndarray) -> np.ndarray:
    """Power in each band, `(frames, 8)`, of samples `(time, channels)`."""
    count = -(-len(block) // size)
    padded = np.pad(block, ((0, count * size - len(block)), (0, 0))).reshape(count, size, -1)
    spectrum = np.fft.rfft(padded * np.hanning(size)[:, None], axis=1)
    power = np.square(np.abs(spectrum)).sum(2)
    return np.stack([power[:, bins == band].sum(1) for band in range(1, len(_EDGES))], axis=1)


def _profile(power: np.ndarray) -> tuple[float, ...]:
    """Level in dB in slices of equal length and bands, relative to their mean power."""
    total = np.pad(np.cumsum(power, axis=0), ((1, 0), (0, 0)))
    at = np.linspace(0, len(power), _SLICES + 1)
    parts = np.stack([np.diff(np.interp(at, np.arange(len(total)), band)) for band in total.T])
    level = 10 * np.log10(np.maximum(parts / max(parts.mean(), 1e-30), 10 ** (_FLOOR_DB / 10)))
    return tuple(round(float(value), 2) for value in level.ravel())


def same_audio(heard: Sequence[Heard]) -> list[int]:
    """For each file, the number of the first one that holds the same recording.

    Copies have equal bytes, or nearly equal length and levels in all slices and bands, as after
    conversion to another format, rate or volume.
    """
    profiles = np.array([h.profile for h in heard])
    first = list(range(len(heard)))

    def root(number: int) -> int:
        while first[number] != number:
            number = first[number]
        return number

    for a, b in _close(profiles):
        same_length = abs(heard[a].seconds - heard[b].seconds) < _SAME_SECONDS
        if heard[a].digest == heard[b].digest or same_length:
            low, high = sorted((root(a), root(b)))
            first[high] = low
    return [root(number) for number in range(len(heard))]


def _close(profiles: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of profiles whose levels differ by less than half a decibel on average.

    Sums over time differ by no more than what is summed. They leave few pairs to compare, where a
    tree of the profiles themselves, with their many dimensions, would compare all.
    """
    if len(profiles) < 2:
        return
    limit = _SAME_DB * profiles.shape[1]
    sums = profiles.reshape(len(profiles), -1, _SLICES).sum(2)
    pairs = cKDTree(sums).query_pairs(limit, p=1, output_type="ndarray")
    for part in np.array_split(pairs, len(pairs) // 10_000 + 1):
        distance = np.abs(profiles[part[:, 0]] - profiles[part[:, 1]]).sum(1)
        yield from map(tuple, part[distance <= limit].tolist())
