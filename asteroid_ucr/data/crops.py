"""Random crops of cached tracks, each a function of a seed and a number alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from asteroid_ucr.data.cache import TrackCache
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import rank_and_world

ATTEMPTS = 100  # crops drawn before one with a silent source is accepted


class RandomCrops(Dataset):
    """An endless sequence of crops of a cache's tracks.

    Crop `i` is drawn from a generator seeded with `(seed, i)`: it depends neither on the workers
    nor on what was drawn before, so that training can resume at any item. The same seed gives the
    same passages of latents and of stems.

    Args:
        cache: Cache to draw from.
        frames: Length of a crop.
        seed: Seed of the draws.
        min_rms: A crop in which a source's RMS is lower than this is drawn again; 0 keeps all.

    Raises:
        UserError: If no track is as long as a crop.
    """

    def __init__(
        self,
        cache: TrackCache,
        frames: int,
        seed: int = 0,
        min_rms: float = 0.0,
    ):
        self.cache, self.frames, self.seed, self.min_rms = cache, frames, seed, min_rms
        lengths = np.array(cache.lengths())
        usable = lengths >= frames
        if not usable.any():
            raise UserError(
                f"No track in {cache.path} is as long as a crop of {frames} frames: set "
                "training.frames (or prior.frames) lower."
            )
        # Arrays, which processes share; lists would be copied as their elements are counted.
        self.tracks = np.array([track.encode() for track in cache.tracks])[usable]
        self.starts = lengths[usable] - frames + 1  # possible crops of each track
        self.ends = np.cumsum(self.starts)

    def __getitem__(self, item: int) -> Tensor:
        """A crop: latents `(channels, frames)`, or stems `(n_src, frames * hop)`."""
        generator = np.random.default_rng([self.seed, item])
        for _ in range(ATTEMPTS):
            position = generator.integers(self.ends[-1])
            number = int(np.searchsorted(self.ends, position, side="right"))
            start = int(position - (self.ends[number] - self.starts[number]))
            track = self.tracks[number].decode()
            if self.min_rms <= 0:
                break
            power = self.cache.power(track, start, self.frames)
            if (power.mean(1, dtype=np.float64) >= self.min_rms**2).all():
                break
        return torch.from_numpy(self.cache.crop(track, start, self.frames))


class EpochSampler(Sampler[int]):
    """The numbers of an epoch's items, so that no item is used again in a later epoch.

    Lightning calls `set_epoch`. Of `n` processes, each takes every n-th number.

    Args:
        items: Items of an epoch for each process, or of all processes together with `repeat`.
        repeat: Give the same items in every epoch, for validation.
    """

    def __init__(self, items: int, repeat: bool = False):
        self.items, self.repeat, self.epoch = items, repeat, 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that is iterated over next."""
        self.epoch = epoch

    def _numbers(self) -> range:
        """Numbers of this process's items in the current epoch."""
        rank, world = rank_and_world()
        if self.repeat:
            return range(rank, self.items, world)
        first = self.epoch * self.items * world
        return range(first + rank, first + self.items * world, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers())

    def __len__(self) -> int:
        return len(self._numbers())


def item_loader(
    items: Dataset, count: int, batch_size: int, workers: int = 0, repeat: bool = False
) -> DataLoader:
    """Batches of an endless data set, `count` items in each epoch; see `EpochSampler`."""
    sampler = EpochSampler(count, repeat)
    kept = workers > 0  # between epochs
    return DataLoader(
        items, batch_size, sampler=sampler, num_workers=workers, persistent_workers=kept
    )
