"""Latents and stems on disk: one LMDB record per track, written once and read by many workers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from weakref import WeakValueDictionary

import lmdb
import numpy as np
from typing_extensions import Buffer

from asteroid_ucr.utils.atomic import make_folder
from asteroid_ucr.utils.errors import UserError

Parsed = TypeVar("Parsed", dict, list)
_METADATA = b"#metadata"  # "#" sorts before a track's name and never starts one
_COMPLETE = b"#complete"


@dataclass(frozen=True, kw_only=True)
class CacheMetadata:
    """What a cache holds; two caches with equal metadata are interchangeable.

    Attributes:
        dataset: Name of the data set's folder.
        split: "train", "validation" or "test".
        sources: Names of the sources that the mixtures consist of, in order.
        mix: Mixing policy, "sum" or "paper_mean".
        format: Version of the layout.
    """

    dataset: str
    split: str
    sources: tuple[str, ...]
    mix: str
    format: int


@dataclass(frozen=True, kw_only=True)
class LatentMetadata(CacheMetadata):
    """What the latents in a cache are.

    Attributes:
        codec: Fingerprint of the codec.
        frame_rate: Latent frames per second.
        channels: Channels of the latents.
    """

    codec: str
    frame_rate: float
    channels: int
    format: int = 1


@dataclass(frozen=True, kw_only=True)
class StemMetadata(CacheMetadata):
    """What the stems in a cache are.

    Attributes:
        sample_rate: Rate of the stems in Hz.
        hop: Samples per frame; crops start at whole frames.
    """

    sample_rate: int
    hop: int
    format: int = 2

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop


# LMDB allows one environment per folder and process; caches of the same folder share it.
_open_environments: WeakValueDictionary[tuple, lmdb.Environment] = WeakValueDictionary()


def _open(path: Path, write: bool) -> lmdb.Environment:
    """Opens a folder's environment, or returns the one that this process has open."""
    key = (os.getpid(), path, write)
    environment = _open_environments.get(key)
    if environment is None:
        try:
            environment = lmdb.open(str(path), readonly=not write, lock=write, readahead=False)
        except lmdb.Error as error:
            raise UserError(f"{path} cannot be opened as a cache: {error}") from error
        pages, size = environment.info()["last_pgno"] + 1, environment.stat()["psize"]
        if (path / "data.mdb").stat().st_size < pages * size:
            # Reading beyond the end of a mapped file ends the process with a bus error.
            environment.close()
            raise UserError(f"{path} is cut short: delete it and run stage 1 again.")
        _open_environments[key] = environment
    return environment


class TrackCache:
    """Float16 signals of the tracks of one split, with the power of each source in each frame.

    A record holds a track's signal and, after it, the power as float32, which tells silent
    passages. Each record is written in a transaction of its own: a process that is killed leaves
    whole records, and the next call adds the missing ones.

    Args:
        path: Folder of the cache.
        expected: What the cache must hold; it is compared with the stored metadata.
        write: Create the cache if needed, and open it for adding tracks.

    Raises:
        UserError: If the cache is missing, incomplete (for reading) or of another kind.
    """

    kind: ClassVar[str]

    def __init__(self, path: str | Path, expected: CacheMetadata, write: bool = False):
        self.path, self.metadata, self.write = Path(path), expected, write
        self._environment: lmdb.Environment | None = None
        if write:
            make_folder(self.path)
        elif not (self.path / "data.mdb").is_file():
            raise UserError(f"There is no {self.kind} cache at {self.path}: run stage 1 first.")
        self._check_metadata()

    @property
    def _values(self) -> int:
        """Numbers of the signal per frame."""
        raise NotImplementedError

    def _slice(self, signal: np.ndarray, start: int, end: int) -> np.ndarray:
        """Frames `start` to `end` of a stored signal, which is a flat array."""
        raise NotImplementedError

    @property
    def _lmdb(self) -> lmdb.Environment:
        """The database, opened on first use in each process: it must not cross a fork."""
        if self._environment is None:
            self._environment = _open(self.path.resolve(), self.write)
        return self._environment

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None}

    def _check_metadata(self) -> None:
        """Compares the stored metadata with the expected ones, or stores them in a new cache."""
        stored, expected = self._get(_METADATA), asdict(self.metadata)
        cache = f"The {self.kind} cache {self.path}"
        if stored is None and not self.write:
            raise UserError(
                f"{self.path} is not a {self.kind} cache: run stage 1 in another folder."
            )
        if stored is None:
            self._put(_METADATA, json.dumps(expected).encode())
            return
        found = self._json(stored, dict)
        if found.get("format") != expected["format"]:
            raise UserError(
                f"{cache} has format {found.get('format')}, and this version reads format "
                f"{expected['format']}: delete it and run stage 1 again."
            )
        found["sources"] = tuple(found.get("sources") or ())
        for field, value in expected.items():
            if found.get(field) != value:
                raise UserError(
                    f"{cache} was made for {field} = {found.get(field)!r}, but {value!r} is asked "
                    "for: delete it and run stage 1 again, or choose another folder."
                )
        if not self.write and self._get(_COMPLETE) is None:
            raise UserError(f"{cache} is not complete: run stage 1 again.")

    def _json(self, stored: bytes, kind: type[Parsed]) -> Parsed:
        """A value that was stored as JSON."""
        try:
            if isinstance(value := json.loads(stored), kind):
                return value
        except (ValueError, RecursionError):
            pass
        raise self._damaged()

    def _damaged(self) -> UserError:
        return UserError(f"The cache {self.path} is damaged: delete it and run stage 1 again.")

    def _get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        with self._begin() as transaction:
            return transaction.get(key)

    def _begin(self, **options: Any) -> lmdb.Transaction:
        """Begins a transaction, in a database that another process may have enlarged."""
        try:
            return self._lmdb.begin(**options)
        except lmdb.MapResizedError:
            self._lmdb.set_mapsize(0)  # takes the other's size
            return self._begin(**options)

    def _put(self, key: bytes, value: bytes) -> None:
        """Writes a value, and enlarges the database when it is full."""
        while True:
            try:
                with self._begin(write=True) as transaction:
                    transaction.put(key, value)
                return
            except lmdb.MapFullError:
                self._lmdb.set_mapsize(2 * self._lmdb.info()["map_size"])
            except lmdb.Error as error:
                raise UserError(f"The cache {self.path} cannot be written: {error}.") from error

    def close(self) -> None:
        """Releases the database, which closes with its last user and reopens when needed."""
        self._environment = None

    def __contains__(self, track: str) -> bool:
        return self._get(track.encode()) is not None

    def add(self, track: str, signal: np.ndarray, power: np.ndarray) -> None:
        """Writes a track.

        Args:
            track: Name of the track.
            signal: What `crop` returns: latents of the mixture `(channels, frames)`, or stems
                `(n_src, frames * hop)`.
            power: Mean square of each source in each frame, `(n_src, frames)`.
        """
        body = np.ascontiguousarray(signal, dtype="<f2").tobytes()
        self._put(track.encode(), body + np.ascontiguousarray(power, dtype="<f4").tobytes())

    def finish(self, tracks: Sequence[str]) -> None:
        """Marks the cache as complete: it holds exactly these tracks."""
        content = json.dumps(sorted(tracks)).encode()
        if self._get(_COMPLETE) != content:  # a complete cache may be in use
            self._put(_COMPLETE, content)

    @property
    def tracks(self) -> list[str]:
        """Names of the tracks, sorted."""
        return [str(name) for name in self._json(self._get(_COMPLETE) or b"[]", list)]

    def _record(self, transaction: lmdb.Transaction, track: str) -> tuple[Buffer, int]:
        """A track's record, and its length in frames."""
        record = transaction.get(track.encode(errors="replace") or b"#")
        frames, rest = divmod(len(record or b""), 2 * self._values + 4 * len(self.metadata.sources))
        if record is None or rest:
            raise self._damaged()
        return record, frames

    def lengths(self) -> list[int]:
        """Frames of each track, in the order of `tracks`."""
        with self._begin(buffers=True) as transaction:
            return [self._record(transaction, track)[1] for track in self.tracks]

    def crop(self, track: str, start: int, frames: int | None) -> np.ndarray:
        """A passage as float32, which ends where the track does; None takes all that follows.

        Latents are `(channels, frames)`, stems are `(n_src, frames * hop)`.
        """
        with self._begin(buffers=True) as transaction:
            record, total = self._record(transaction, track)
            end = total if frames is None else min(total, start + frames)
            signal = np.frombuffer(record, "<f2", self._values * total)
            return self._slice(signal, start, end).astype(np.float32)

    def whole(self, track: str) -> np.ndarray:
        """All of a track; see `crop`."""
        return self.crop(track, 0, None)

    def power(self, track: str, start: int = 0, frames: int | None = None) -> np.ndarray:
        """Mean square of each source in each frame of a passage, `(n_src, frames)`, float32."""
        with self._begin(buffers=True) as transaction:
            record, total = self._record(transaction, track)
            power = np.frombuffer(record, "<f4", offset=2 * self._values * total)
            end = None if frames is None else start + frames
            return power.reshape(-1, total)[:, start:end].copy()


class LatentCache(TrackCache):
    """Latents of mixtures, stored frame by frame, so that a crop is one contiguous read."""

    kind = "latent"
    metadata: LatentMetadata

    @property
    def _values(self) -> int:
        return self.metadata.channels

    def _slice(self, signal: np.ndarray, start: int, end: int) -> np.ndarray:
        return signal.reshape(-1, self._values)[start:end].T

    def add(self, track: str, signal: np.ndarray, power: np.ndarray) -> None:
        """Writes a track; see `TrackCache.add`."""
        super().add(track, signal.T, power)

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel over the first 500 tracks, `(channels,)`."""
        count, total, squares = 0, 0.0, 0.0
        for track in self.tracks[:500]:
            latents = self.whole(track).astype(np.float64)
            count += latents.shape[1]
            total = total + latents.sum(1)
            squares = squares + np.square(latents).sum(1)
        mean = total / count
        return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))


class StemCache(TrackCache):
    """Stems as waveforms, which add up to the mixture."""

    kind = "stem"
    metadata: StemMetadata

    @property
    def _values(self) -> int:
        return len(self.metadata.sources) * self.metadata.hop

    def _slice(self, signal: np.ndarray, start: int, end: int) -> np.ndarray:
        hop = self.metadata.hop
        return signal.reshape(len(self.metadata.sources), -1)[:, start * hop : end * hop]
