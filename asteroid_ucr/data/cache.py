"""Latents and stems on disk: one file per track, written once and read by many workers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from asteroid_ucr.utils.atomic import atomic_path, make_folder, write_json
from asteroid_ucr.utils.errors import UserError

INDEX = "cache.json"
DTYPES = ("F16", "F32")


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

    kind: ClassVar[str]
    dataset: str
    split: str
    sources: tuple[str, ...]
    mix: str
    format: int = 3


@dataclass(frozen=True, kw_only=True)
class LatentMetadata(CacheMetadata):
    """What the latents in a cache are.

    Attributes:
        codec: Fingerprint of the codec.
        frame_rate: Latent frames per second.
        channels: Channels of the latents.
    """

    kind = "latent"
    hop: ClassVar[int] = 1
    codec: str
    frame_rate: float
    channels: int


@dataclass(frozen=True, kw_only=True)
class StemMetadata(CacheMetadata):
    """What the stems in a cache are.

    Attributes:
        sample_rate: Rate of the stems in Hz.
        hop: Samples per frame; crops start at whole frames.
    """

    kind = "stem"
    sample_rate: int
    hop: int

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    @property
    def channels(self) -> int:
        """Number of stems."""
        return len(self.sources)


class TrackCache:
    """Float16 signals of the tracks of one split, with the power of each source in each frame.

    Each track is a file in the safetensors format: `signal` holds the latents of the mixture or the
    samples of the stems, time first, so that a crop is one contiguous read, and `power` tells
    silent passages. A file appears when it is complete, so that a process that is killed leaves
    whole tracks, and the next call adds the missing ones. `cache.json` holds the metadata, and,
    once all tracks are there, their names and lengths.

    Args:
        path: Folder of the cache.
        expected: What the cache must hold; it is compared with the stored metadata.
        write: Create the cache if needed, and allow adding tracks.

    Raises:
        UserError: If the cache is missing, incomplete (for reading) or of another kind.
    """

    def __init__(
        self, path: str | Path, expected: LatentMetadata | StemMetadata, write: bool = False
    ):
        self.path, self.metadata = Path(path), expected
        if write and not (self.path / INDEX).exists():
            make_folder(self.path)
            write_json(self.path / INDEX, asdict(expected))
        self._lengths = self._read_index(write)

    def _read_index(self, write: bool) -> dict[str, int]:
        """Lengths of the tracks by name, after a comparison of the metadata with the expected."""
        kind, expected = self.metadata.kind, asdict(self.metadata)
        if not (self.path / INDEX).is_file():
            raise UserError(f"There is no {kind} cache at {self.path}: run stage 1 first.")
        try:
            found = json.loads((self.path / INDEX).read_bytes())
            found = {**found, "sources": tuple(found.get("sources") or ())}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged() from error
        cache = f"The {kind} cache {self.path}"
        # The format comes first, since it says what the other fields are.
        for field, value in {"format": expected["format"], **expected}.items():
            if found.get(field) != value:
                raise UserError(
                    f"{cache} was made for {field} = {found.get(field)!r}, but {value!r} is asked "
                    "for: delete it and run stage 1 again, or choose another folder."
                )
        lengths = found.get("tracks")
        if lengths is None:
            if not write:
                raise UserError(f"{cache} is not complete: run stage 1 again.")
            return {}
        if not isinstance(lengths, dict) or any(
            "/" in track or type(length) is not int for track, length in lengths.items()
        ):
            raise self._damaged()
        return lengths

    def _damaged(self) -> UserError:
        return UserError(f"The cache {self.path} is damaged: delete it and run stage 1 again.")

    def __contains__(self, track: str) -> bool:
        return (self.path / f"{track}.safetensors").is_file()

    def add(self, track: str, signal: np.ndarray, power: np.ndarray) -> None:
        """Writes a track.

        Args:
            track: Name of the track.
            signal: What `crop` returns: latents of the mixture `(channels, frames)`, or stems
                `(n_src, frames * hop)`.
            power: Mean square of each source in each frame, `(n_src, frames)`.

        Raises:
            UserError: If the file cannot be written.
        """
        stored = {"signal": signal.T.astype(np.float16), "power": power.T.astype(np.float32)}
        content = save({name: np.ascontiguousarray(value) for name, value in stored.items()})
        with atomic_path(self.path / f"{track}.safetensors") as temporary:
            temporary.write_bytes(content)

    def finish(self, tracks: Sequence[str]) -> None:
        """Marks the cache as complete: it holds exactly these tracks."""
        lengths = {track: len(self._read(track, "power")) for track in sorted(tracks)}
        if self._lengths != lengths:  # a complete cache may be in use
            write_json(self.path / INDEX, {**asdict(self.metadata), "tracks": lengths})
            self._lengths = lengths

    @property
    def tracks(self) -> list[str]:
        """Names of the tracks, sorted."""
        return list(self._lengths)

    def lengths(self) -> list[int]:
        """Frames of each track, in the order of `tracks`."""
        return list(self._lengths.values())

    def _read(self, track: str, name: str, start: int = 0, frames: int | None = None) -> np.ndarray:
        """Frames of one of a track's arrays, time first; None takes all that follow."""
        meta = self.metadata
        hop, columns = (meta.hop, meta.channels) if name == "signal" else (1, len(meta.sources))
        try:
            with safe_open(self.path / f"{track}.safetensors", "np") as file:
                stored = file.get_slice(name)
                length, *rest = stored.get_shape()
                total = self._lengths.get(track, length // hop)
                if rest != [columns] or length != total * hop or stored.get_dtype() not in DTYPES:
                    raise self._damaged()
                end = total if frames is None else min(total, start + frames)
                return stored[start * hop : end * hop]
        except (SafetensorError, FileNotFoundError, ValueError, TypeError) as error:
            raise self._damaged() from error

    def crop(self, track: str, start: int, frames: int | None) -> np.ndarray:
        """A passage as float32, which ends where the track does; None takes all that follows.

        Latents are `(channels, frames)`, stems are `(n_src, frames * hop)`.
        """
        return self._read(track, "signal", start, frames).astype(np.float32).T

    def whole(self, track: str) -> np.ndarray:
        """All of a track; see `crop`."""
        return self.crop(track, 0, None)

    def power(self, track: str, start: int = 0, frames: int | None = None) -> np.ndarray:
        """Mean square of each source in each frame of a passage, `(n_src, frames)`, float32."""
        return self._read(track, "power", start, frames).T

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel over the first 500 tracks, `(channels,)`."""
        count, total, squares = 0, 0.0, 0.0
        for track in self.tracks[:500]:
            signal = self.whole(track).astype(np.float64)
            count += signal.shape[1]
            total = total + signal.sum(1)
            squares = squares + np.square(signal).sum(1)
        mean = total / count
        return mean, np.sqrt(np.maximum(squares / count - mean**2, 0))
