"""Sums of solos: mixtures made of passages in which one source plays alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from asteroid_ucr.codecs import Codec
from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.data.solos import WINDOW, Solos

GAIN_DB, EQUALISER_DB, KNOTS = 6.0, 3.0, 6


class SoloSums(Dataset):
    """Components of mixtures that are composed of solos of different songs.

    Item `i` is drawn from a generator seeded with `(seed, first + i)`, like those of `RandomCrops`.
    Each component is played through a gain and a random smooth equaliser, since a corpus has few
    solos; the sum has the level of a passage of a real mixture.

    Args:
        cache: that the solos were found in.
        codec: that made it; its latents have power.
        solos: from `find_solos`.
        seed: of the draws.
        items: length of the data set.
        first: number of the first item.
    """

    def __init__(
        self, cache: LatentCache, codec: Codec, solos: Solos, seed: int, items: int, first: int = 0
    ):
        self.cache, self.codec, self.solos = cache, codec, solos
        self.seed, self.items, self.first = seed, items, first
        self.tracks, self.lengths = cache.tracks, cache.lengths()

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> Tensor:
        """Latents of the components, `(n_src, channels, WINDOW)`."""
        generator = np.random.default_rng([self.seed, self.first + index, 1])
        powers = []
        for windows in self.solos.windows:
            window = windows[generator.integers(len(windows))]
            power = self._power(window.track, window.start)
            knots = generator.normal(0, EQUALISER_DB, KNOTS)
            curve = np.interp(np.linspace(0, KNOTS - 1, len(power)), np.arange(KNOTS), knots)
            gain = 10 ** ((curve + generator.uniform(-GAIN_DB, GAIN_DB)) / 10)
            powers.append(power * torch.from_numpy(gain).float()[:, None])
        components = torch.stack(powers)
        level = self._level(generator) / components.sum(0).mean().clamp(min=1e-12)
        return self.codec.from_power(components * level)

    def _power(self, track: str, start: int) -> Tensor:
        return self.codec.to_power(torch.from_numpy(self.cache.crop(track, start, WINDOW)))

    def _level(self, generator: np.random.Generator) -> Tensor:
        """Mean power of some passage of some mixture."""
        track = generator.integers(len(self.tracks))
        start = generator.integers(max(1, self.lengths[track] - WINDOW + 1))
        return self._power(self.tracks[track], int(start)).mean()
