"""Latents on disk: one LMDB record per track, written once and read by many workers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import lmdb
import numpy as np

from asteroid_ucr.utils.atomic import make_folder
from asteroid_ucr.utils.errors import UserError

FORMAT = 1
_METADATA = b"#metadata"  # "#" sorts before, and never starts, a track's name
_COMPLETE = b"#complete"


@dataclass(frozen=True)
class CacheMetadata:
    """What the latents in a cache are; two caches with equal metadata are interchangeable.

    Attributes:
        dataset: name of the data set's folder.
        split: "train", "validation" or "test".
        codec: the codec's fingerprint.
        frame_rate: latent frames per second.
        channels: of the latents.
        sources: that the mixtures consist of.
        mix: policy by which they were mixed, "sum" or "paper_mean".
        format: version of this layout.
    """

    dataset: str
    split: str
    codec: str
    frame_rate: float
    channels: int
    sources: tuple[str, ...]
    mix: str
    format: int = FORMAT

    def check(self, found: CacheMetadata, path: Path) -> None:
        """Refuses a cache whose metadata differ.

        Raises:
            UserError: naming the first field that differs.
        """
        for field, expected in asdict(self).items():
            if asdict(found)[field] != expected:
                raise UserError(
                    f"The latent cache {path} was made for {field} = {asdict(found)[field]!r}, but "
                    f"{expected!r} is asked for: delete it and run stage 1 again, or choose "
                    "another folder."
                )


# LMDB allows one environment per folder and process; caches of the same folder share it.
_open_environments: WeakValueDictionary[tuple, lmdb.Environment] = WeakValueDictionary()


def _open(path: Path, write: bool) -> lmdb.Environment:
    key = (os.getpid(), path, write)
    environment = _open_environments.get(key)
    if environment is None:
        try:
            environment = lmdb.open(str(path), readonly=not write, lock=write, readahead=False)
        except lmdb.Error as error:
            raise UserError(f"{path} cannot be opened as a latent cache: {error}") from error
        _open_environments[key] = environment
    return environment


class LatentCache:
    """Latents of the mixtures of one split.

    A record holds a track's latents, float16 and time-major, so that a crop is one contiguous
    read, and behind them the power of each source in each frame, float32, which tells silent
    passages. Each record is written in a transaction of its own: a process killed at any point
    leaves whole records, and writing goes on with the missing ones.

    Args:
        path: folder of the cache.
        expected: what the cache must hold; checked against its metadata.
        write: create the cache if needed, and open it for adding tracks.

    Raises:
        UserError: if the cache is missing, incomplete (for reading), foreign or of another kind.
    """

    def __init__(self, path: str | Path, expected: CacheMetadata, write: bool = False):
        self.path = Path(path)
        self.metadata = expected
        self.write = write
        self._environment: lmdb.Environment | None = None
        if not write and not (self.path / "data.mdb").is_file():
            raise UserError(f"There is no latent cache at {self.path}: run stage 1 first.")
        if write:
            make_folder(self.path)
        self._check_metadata()

    @property
    def _lmdb(self) -> lmdb.Environment:
        # Opened on first use in each process: LMDB environments must not cross a fork.
        if self._environment is None:
            self._environment = _open(self.path.resolve(), self.write)
        return self._environment

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_environment": None}

    def _check_metadata(self) -> None:
        stored = self._get(_METADATA)
        if stored is None and self.write:
            self._put(_METADATA, json.dumps(asdict(self.metadata)).encode())
            return
        if stored is None:
            raise UserError(f"{self.path} is not a latent cache: run stage 1 in another folder.")
        fields = json.loads(stored)
        if fields.get("format") != FORMAT:
            raise UserError(
                f"The latent cache {self.path} has format {fields.get('format')}, and this version "
                f"reads format {FORMAT}: delete it and run stage 1 again."
            )
        found = CacheMetadata(**{**fields, "sources": tuple(fields["sources"])})
        self.metadata.check(found, self.path)
        if not self.write and self._get(_COMPLETE) is None:
            raise UserError(f"The latent cache {self.path} is not complete: run stage 1 again.")

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
                raise UserError(f"Cannot write the latent cache {self.path}: {error}.") from error

    def close(self) -> None:
        """Lets go of the database, which closes with its last user; it is opened when needed."""
        self._environment = None

    # -- writing ----------------------------------------------------------------------------------

    def __contains__(self, track: str) -> bool:
        return self._get(track.encode()) is not None

    def add(self, track: str, latents: np.ndarray, power: np.ndarray) -> None:
        """Writes a track.

        Args:
            track: its name.
            latents: of the mixture, `(channels, frames)`; stored as float16.
            power: mean square of each source in each frame, `(n_src, frames)`.
        """
        body = np.ascontiguousarray(latents.T, dtype="<f2").tobytes()
        tail = np.ascontiguousarray(power, dtype="<f4").tobytes()
        self._put(track.encode(), body + tail)

    def finish(self, tracks: Sequence[str]) -> None:
        """Marks the cache as complete: it holds exactly these tracks."""
        self._put(_COMPLETE, json.dumps(sorted(tracks)).encode())

    # -- reading ----------------------------------------------------------------------------------

    @property
    def tracks(self) -> list[str]:
        """Names of the tracks, sorted."""
        return json.loads(self._get(_COMPLETE) or b"[]")

    def _record_bytes(self) -> tuple[int, int]:
        return 2 * self.metadata.channels, 4 * len(self.metadata.sources)

    def lengths(self) -> list[int]:
        """Frames of each track, in the order of `tracks`."""
        with self._lmdb.begin(buffers=True) as transaction:
            sizes = [len(transaction.get(track.encode())) for track in self.tracks]
        return [size // sum(self._record_bytes()) for size in sizes]

    def crop(self, track: str, start: int, frames: int) -> np.ndarray:
        """Latents of a passage, `(channels, frames)`, float32; shorter where the track ends."""
        channels = self.metadata.channels
        with self._lmdb.begin(buffers=True) as transaction:
            record = transaction.get(track.encode())
            total = len(record) // sum(self._record_bytes())
            latents = np.frombuffer(record, "<f2", channels * total).reshape(total, channels)
            return latents[start : start + frames].T.astype(np.float32)

    def power(self, track: str) -> np.ndarray:
        """Mean square of each source in each frame, `(n_src, frames)`, float32."""
        with self._lmdb.begin(buffers=True) as transaction:
            record = transaction.get(track.encode())
            total = len(record) // sum(self._record_bytes())
            offset = self._record_bytes()[0] * total
            return np.frombuffer(record, "<f4", offset=offset).reshape(-1, total).copy()

    def statistics(self, max_tracks: int = 500) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel over the first tracks, `(channels,)` each."""
        count, total, squares = 0, 0.0, 0.0
        for track in self.tracks[:max_tracks]:
            latents = self.crop(track, 0, 2**31).astype(np.float64)
            count += latents.shape[1]
            total = total + latents.sum(1)
            squares = squares + np.square(latents).sum(1)
        mean = total / count
        return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))
