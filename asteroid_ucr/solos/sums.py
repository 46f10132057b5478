"""Sums of solos: mixtures made of passages in which one instrument plays alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from asteroid_ucr.codecs import Codec
from asteroid_ucr.utils.audio import level_gain

FRAMES = 80  # of an item: a window of a solo, minus what raising its pitch by 3 semitones takes
SEMITONES = 3.0  # largest transposition, made by a change of speed
EQUALISER_DB, KNOTS, LOWEST_HZ = 4.0, 8, 40.0  # a random curve over log frequency
GAIN_DB = 6.0  # largest change of an instrument's level
LEVEL_DB = 3.0  # spread of the sum's level
SILENT = 0.25  # share of instruments that pause: sums of two of three are as common as of all


class SoloSums(Dataset):
    """An endless sequence of mixtures that are composed of solos of different songs.

    Item `i` is drawn from a generator seeded with `(seed, i)`, like those of `RandomCrops`. A
    corpus has few solos of few sounds: each component is transposed, equalised and scaled at
    random, as in the training of supervised models.

    Args:
        codec: Codec of the sums and their components.
        solos: Passages of each component's instrument, from `read_solos`.
        seed: Seed of the draws.
    """

    def __init__(self, codec: Codec, solos: Sequence[Sequence[np.ndarray]], seed: int):
        self.codec, self.solos, self.seed = codec, solos, seed
        self.samples = FRAMES * codec.hop
        frequency = np.fft.rfftfreq(self.samples, 1 / codec.sample_rate)
        octaves = np.log2(np.maximum(frequency, LOWEST_HZ) / LOWEST_HZ)
        self._knot = octaves / octaves[-1] * (KNOTS - 1)  # of each bin

    @torch.no_grad()
    def __getitem__(self, number: int) -> Tensor:
        """Latents of the sum and of its components, `(1 + n_src, channels, FRAMES)`."""
        generator = np.random.default_rng([self.seed, number, 1])
        components = np.stack([self._component(passages, generator) for passages in self.solos])
        silent = generator.random(len(components)) < SILENT
        silent[generator.integers(len(components))] = False
        components[silent] = 0
        components = torch.from_numpy(components)
        mixture = components.sum(0, keepdim=True)
        gain = level_gain(mixture) * 10 ** (generator.normal(0, LEVEL_DB) / 20)
        return self.codec.encode((gain * torch.cat([mixture, components]))[:, None])

    def _component(self, passages: Sequence[np.ndarray], generator: np.random.Generator):
        """A solo at a random pitch, with a random sound and level, `(samples,)`."""
        passage = passages[generator.integers(len(passages))]
        speed = 2 ** (generator.uniform(-SEMITONES, SEMITONES) / 12)
        needed = int(self.samples * speed) + 1
        start = generator.integers(len(passage) - needed + 1)
        heard = np.interp(np.arange(self.samples) * speed, np.arange(needed),
                          passage[start : start + needed])  # fmt: skip
        decibels = np.interp(self._knot, np.arange(KNOTS), generator.normal(0, EQUALISER_DB, KNOTS))
        heard = np.fft.irfft(np.fft.rfft(heard) * 10 ** (decibels / 20), self.samples)
        level = 10 ** (generator.uniform(-GAIN_DB, GAIN_DB) / 20)
        return (heard * (level / max(np.sqrt(np.mean(heard**2)), 1e-4))).astype(np.float32)
