"""Random crops of cached latents, each a function of the seed and its index alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.utils.errors import UserError

ATTEMPTS = 100  # crops drawn before one with a silent source is accepted


class RandomCrops(Dataset):
    """Crops of a cache's tracks.

    Item `i` is drawn from a generator seeded with `(seed, first + i)`: it depends neither on the
    workers nor on what was drawn before, so that training can resume at any item.

    Args:
        cache: to draw from.
        frames: length of a crop.
        items: length of the data set.
        seed: of the draws.
        first: number of the first item.
        min_rms: a crop in which a source's RMS is below this is drawn again; 0 keeps all.

    Raises:
        UserError: if no track is as long as a crop.
    """

    def __init__(
        self,
        cache: LatentCache,
        frames: int,
        items: int,
        seed: int = 0,
        first: int = 0,
        min_rms: float = 0.0,
    ):
        self.cache, self.frames, self.items = cache, frames, items
        self.seed, self.first, self.min_rms = seed, first, min_rms
        lengths = np.array(cache.lengths())
        usable = lengths >= frames
        if not usable.any():
            raise UserError(
                f"No track in {cache.path} is as long as a crop of {frames} frames: set "
                "training.frames (or prior.frames) lower."
            )
        self.tracks = np.array(cache.tracks)[usable]
        self.starts = lengths[usable] - frames + 1  # possible crops of each track
        self.ends = np.cumsum(self.starts)
        # Cumulative powers make the RMS of any crop two look-ups. They are small: 8 bytes for each
        # source and frame, against the 256 of the latents.
        self.energy = [self._cumulative(track) for track in self.tracks] if min_rms > 0 else []

    def _cumulative(self, track: str) -> np.ndarray:
        power = self.cache.power(track).astype(np.float64)
        return np.pad(np.cumsum(power, axis=1), ((0, 0), (1, 0)))

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> Tensor:
        """Latents `(channels, frames)`."""
        generator = np.random.default_rng([self.seed, self.first + index])
        for _ in range(ATTEMPTS):
            number = generator.integers(self.ends[-1])
            track = int(np.searchsorted(self.ends, number, side="right"))
            start = int(number - (self.ends[track] - self.starts[track]))
            if self._audible(track, start):
                break
        return torch.from_numpy(self.cache.crop(str(self.tracks[track]), start, self.frames))

    def _audible(self, track: int, start: int) -> bool:
        if self.min_rms <= 0:
            return True
        energy = self.energy[track]
        power = (energy[:, start + self.frames] - energy[:, start]) / self.frames
        return bool((power >= self.min_rms**2).all())
