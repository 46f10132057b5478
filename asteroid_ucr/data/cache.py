"""Latents and stems on disk: one LMDB record per track, written once and read by many workers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import lmdb
import numpy as np

from asteroid_ucr.utils.atomic import make_folder
from asteroid_ucr.utils.errors import UserError

_METADATA = b"#metadata"  # "#" sorts before a track's name and never starts one
_COMPLETE = b"#complete"


@dataclass(frozen=True)
class LatentMetadata:
    """What the latents in a cache are; two caches with equal metadata are interchangeable.

    Attributes:
        dataset: Name of the data set's folder.
        split: "train", "validation" or "test".
        codec: Fingerprint of the codec.
        frame_rate: Latent frames per second.
        channels: Channels of the latents.
        sources: Sources that the mixtures consist of.
        mix: Mixing policy, "sum" or "paper_mean".
        format: Version of this layout.
    """

    dataset: str
    split: str
    codec: str
    frame_rate: float
    channels: int
    sources: tuple[str, ...]
    mix: str
    format: int = 1


@dataclass(frozen=True)
class StemMetadata:
    """What the stems in a cache are.

    Attributes:
        dataset: Name of the data set's folder.
        split: "train", "validation" or "test".
        sample_rate: Rate of the stems in Hz.
        hop: Samples per frame; crops start at whole frames.
        sources: Names of the stems, in order.
        mix: Mixing policy, "sum" or "paper_mean".
        format: Version of this layout.
    """

    dataset: str
    split: str
    sample_rate: int
    hop: int
    sources: tuple[str, ...]
    mix: str
    format: int = 2

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop


# LMDB allows one environment per folder and process; caches of the same folder share it.
_open_environments: WeakValueDictionary[tuple, lmdb.Environment] = WeakValueDictionary()


def _open(path: Path, write: bool) -> lmdb.Environment:
    key = (os.getpid(), path, write)
    environment = _open_environments.get(key)
    if environment is None:
        try:
            environment = lmdb.open(str(path), readonly=not write, lock=write, readahead=False)
        except lmdb.Error as error:
            raise UserError(f"{path} cannot be opened as a cache: {error}") from error
        _open_environments[key] = environment
    return environment


class TrackCache:
    """Float16 signals of the tracks of one split, with the power of each source in each frame.

    A record holds a track's signal and, behind it, the power of each source in each frame as
    float32, which tells silent passages. Each record is written in its own transaction: a process
    killed at any point leaves whole records, and writing goes on with the missing ones.

    Args:
        path: Folder of the cache.
        expected: What the cache must hold; it is checked against the stored metadata.
        write: Create the cache if needed, and open it for adding tracks.

    Raises:
        UserError: If the cache is missing, incomplete (for reading), or of another kind.
    """

    kind: ClassVar[str]

    def __init__(
        self, path: str | Path, expected: LatentMetadata | StemMetadata, write: bool = False
    ):
        self.path = Path(path)
        self.metadata = expected
        self.write = write
        self._environment: lmdb.Environment | None = None
        if write:
            make_folder(self.path)
        elif not (self.path / "data.mdb").is_file():
            raise UserError(f"There is no {self.kind} cache at {self.path}: run stage 1 first.")
        self._check_metadata()

    # What a subclass stores in a frame.

    @property
    def _values(self) -> int:
        """Numbers of the signal per frame."""
        raise NotImplementedError

    def _slice(self, signal: np.ndarray, start: int, end: int) -> np.ndarray:
        """Frames `start` to `end` of a stored signal, a flat array."""
        raise NotImplementedError

    # Reading and writing records.

    @property
    def _lmdb(self) -> lmdb.Environment:
        # Opened on first use in each process: LMDB environments must not cross a fork.
        if self._environment is None:
            self._environment = _open(self.path.resolve(), self.write)
        return self._environment

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None}

    def _check_metadata(self) -> None:
        stored, expected = self._get(_METADATA), asdict(self.metadata)
        if stored is None and self.write:
            self._put(_METADATA, json.dumps(expected).encode())
            return
        if stored is None:
            raise UserError(
                f"{self.path} is not a {self.kind} cache: run stage 1 in another folder."
            )
        found = json.loads(stored)
        if found.get("format") != expected["format"]:
            raise UserError(
                f"The {self.kind} cache {self.path} has format {found.get('format')}, and this "
                f"version reads format {expected['format']}: delete it and run stage 1 again."
            )
        found["sources"] = tuple(found["sources"])
        for field, value in expected.items():
            if found.get(field) != value:
                raise UserError(
                    f"The {self.kind} cache {self.path} was made for {field} = "
                    f"{found.get(field)!r}, but {value!r} is asked for: delete it and run stage 1 "
                    "again, or choose another folder."
                )
        if not self.write and self._get(_COMPLETE) is None:
            raise UserError(
                f"The {self.kind} cache {self.path} is not complete: run stage 1 again."
            )

    def _get(self, key: bytes) -> bytes | None:
        with self._lmdb.begin() as transaction:
            return transaction.get(key)

    def _put(self, key: bytes, value: bytes) -> None:
        while True:
            try:
                with self._lmdb.begin(write=True) as transaction:
                    transaction.put(key, value)
                return
            except lmdb.MapFullError:
                self._lmdb.set_mapsize(2 * self._lmdb.info()["map_size"])
            except lmdb.Error as error:
                raise UserError(f"Cannot write the cache {self.path}: {error}.") from error

    def close(self) -> None:
        """Lets go of the database, which closes with its last user and reopens when needed."""
        self._environment = None

    def __contains__(self, track: str) -> bool:
        return self._get(track.encode()) is not None

    def _add(self, track: str, signal: np.ndarray, power: np.ndarray) -> None:
        body = np.ascontiguousarray(signal, dtype="<f2").tobytes()
        self._put(track.encode(), body + np.ascontiguousarray(power, dtype="<f4").tobytes())

    def finish(self, tracks: Sequence[str]) -> None:
        """Marks the cache as complete: it holds exactly these tracks."""
        self._put(_COMPLETE, json.dumps(sorted(tracks)).encode())

    @property
    def tracks(self) -> list[str]:
        """Names of the tracks, sorted."""
        return json.loads(self._get(_COMPLETE) or b"[]")

    @property
    def _frame_bytes(self) -> int:
        return 2 * self._values + 4 * len(self.metadata.sources)

    def lengths(self) -> list[int]:
        """Frames of each track, in the order of `tracks`."""
        with self._lmdb.begin(buffers=True) as transaction:
            sizes = [len(transaction.get(track.encode())) for track in self.tracks]
        return [size // self._frame_bytes for size in sizes]

    def crop(self, track: str, start: int, frames: int | None) -> np.ndarray:
        """A passage as float32; shorter where the track ends, which it does after `None` frames.

        Latents are `(channels, frames)`, stems are `(n_src, frames * hop)`.
        """
        with self._lmdb.begin(buffers=True) as transaction:
            record = transaction.get(track.encode())
            total = len(record) // self._frame_bytes
            end = total if frames is None else min(total, start + frames)
            signal = np.frombuffer(record, "<f2", self._values * total)
            return self._slice(signal, start, end).astype(np.float32)

    def whole(self, track: str) -> np.ndarray:
        """All of a track; see `crop`."""
        return self.crop(track, 0, None)

    def power(self, track: str) -> np.ndarray:
        """Mean square of each source in each frame, `(n_src, frames)`, float32."""
        with self._lmdb.begin(buffers=True) as transaction:
            record = transaction.get(track.encode())
            total = len(record) // self._frame_bytes
            power = np.frombuffer(record, "<f4", offset=2 * self._values * total)
            return power.reshape(-1, total).copy()


class LatentCache(TrackCache):
    """Latents of mixtures, stored time-major, so that a crop is one contiguous read."""

    kind = "latent"
    metadata: LatentMetadata

    @property
    def _values(self) -> int:
        return self.metadata.channels

    def _slice(self, signal: np.ndarray, start: int, end: int) -> np.ndarray:
        return signal.reshape(-1, self._values)[start:end].T

    def add(self, track: str, latents: np.ndarray, power: np.ndarray) -> None:
        """Writes a track.

        Args:
            track: Name of the track.
            latents: Latents of the mixture, `(channels, frames)`.
            power: Mean square of each source in each frame, `(n_src, frames)`.
        """
        self._add(track, latents.T, power)

    def statistics(self, max_tracks: int = 500) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel over the first tracks, `(channels,)` each."""
        count, total, squares = 0, 0.0, 0.0
        for track in self.tracks[:max_tracks]:
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

    def add(self, track: str, stems: np.ndarray, power: np.ndarray) -> None:
        """Writes a track.

        Args:
            track: Name of the track.
            stems: Waveforms `(n_src, frames * hop)`.
            power: Mean square of each source in each frame, `(n_src, frames)`.
        """
        self._add(track, stems, power)
