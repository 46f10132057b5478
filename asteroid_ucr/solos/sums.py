"""Solos as training data: passages of one instrument each, and the mixtures that they make."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from asteroid_ucr.codecs import Codec
from asteroid_ucr.solos.library import Passage
from asteroid_ucr.utils.audio import level_gain

SEMITONES = 2.5  # largest transposition, made by a change of speed
LOWERED = {"drums": 9.0}  # largest transposition down, in semitones, used in half of the items
EQUALISER_DB, KNOTS, LOWEST_HZ = 4.0, 8, 40.0  # a random curve over log frequency
# Kick drums and basses share an octave, and corpora have few kinds of either. For each instrument:
# the probability that low frequencies are raised or lowered, the range of the corner frequency in
# Hz, and the largest change in dB.
SHELVES = {"drums": (0.6, (50.0, 110.0), 16.0), "bass": (0.3, (40.0, 90.0), -16.0)}
GAIN_DB = 8.0  # largest change of an instrument's level
QUIETEST = 3e-3  # RMS below which a passage is not brought to the common level
LEVEL_DB = 3.0  # standard deviation of the sum's level
SILENT = 0.25  # probability that an instrument pauses: of three, two play about as often as three
FADE = 240  # samples (10 ms) at the seams of passages


class RandomSolos(Dataset, ABC):
    """An endless sequence of items that are made of solos of different songs, one of each source.

    Item `i` is drawn from a generator seeded with `(seed, i)`, like those of `RandomCrops`. A
    corpus has few solos of few sounds: each component is transposed, equalised and scaled at
    random, as in the training of supervised models.

    Args:
        codec: Codec of the items.
        solos: For each component, by the name of its instrument, passages from one or more folders,
            which are drawn from equally often.
        seed: Seed of the draws.
        frames: Length of an item in latent frames.
    """

    def __init__(
        self,
        codec: Codec,
        solos: Mapping[str, Sequence[Sequence[Passage]]],
        seed: int,
        frames: int,
    ):
        self.codec, self.solos, self.seed = codec, solos, seed
        self.samples = frames * codec.hop
        self._hertz = np.fft.rfftfreq(self.samples, 1 / codec.sample_rate)
        octaves = np.log2(np.maximum(self._hertz, LOWEST_HZ) / LOWEST_HZ)
        self._knot = octaves / octaves[-1] * (KNOTS - 1)  # of each bin

    @abstractmethod
    def encode(self, components: Tensor) -> Tensor:
        """Makes an item of components `(n_src, samples)`."""

    @torch.no_grad()
    def __getitem__(self, number: int) -> Tensor:
        """An item; see `encode`."""
        generator = np.random.default_rng([self.seed, number, 1])
        components = np.stack([self._component(name, generator) for name in self.solos])
        silent = generator.random(len(components)) < SILENT
        silent[generator.integers(len(components))] = False
        components[silent] = 0
        components = torch.from_numpy(components)
        gain = level_gain(components.sum(0)) * 10 ** (generator.normal(0, LEVEL_DB) / 20)
        return self.encode(gain * components)

    def _component(self, name: str, generator: np.random.Generator) -> np.ndarray:
        """A solo at a random pitch, with a random sound and level, `(samples,)`."""
        lowest = LOWERED.get(name, SEMITONES) if generator.random() < 0.5 else SEMITONES
        speed = 2 ** (generator.uniform(-lowest, SEMITONES) / 12)
        needed = int(self.samples * speed) + 1
        folders = self.solos[name]
        source = _joined(folders[generator.integers(len(folders))], needed, generator)
        heard = np.interp(np.arange(self.samples) * speed, np.arange(needed), source)
        heard = np.fft.irfft(np.fft.rfft(heard) * self._equaliser(name, generator), self.samples)
        level = 10 ** (generator.uniform(-GAIN_DB, GAIN_DB) / 20)
        return (heard * (level / max(np.sqrt(np.mean(heard**2)), QUIETEST))).astype(np.float32)

    def _equaliser(self, name: str, generator: np.random.Generator) -> np.ndarray:
        """Gain of each frequency bin."""
        decibels = np.interp(self._knot, np.arange(KNOTS), generator.normal(0, EQUALISER_DB, KNOTS))
        probability, corners, most = SHELVES.get(name, (0.0, (50.0, 50.0), 0.0))
        if generator.random() < probability:
            corner = generator.uniform(*corners)
            decibels += most * generator.random() / (1 + (self._hertz / corner) ** 4)
        return 10 ** (decibels / 20)


class SoloSums(RandomSolos):
    """Mixtures of solos, and their components."""

    def encode(self, components: Tensor) -> Tensor:
        """Latents `(1 + n_src, channels, frames)` of the sum and its parts; see `encode_sum`."""
        return self.codec.encode_sum(components)


class SingleSolos(RandomSolos):
    """Solos alone, at the levels that they have in a mixture."""

    def encode(self, components: Tensor) -> Tensor:
        """Latents `(n_src, channels, frames)` of each component."""
        return self.codec.encode(components[:, None])


def _joined(
    passages: Sequence[Passage], samples: int, generator: np.random.Generator
) -> np.ndarray:
    """A stretch of a passage; where passages are too short, of several, one after another."""
    pieces, missing = [], samples
    while missing > 0:
        passage = passages[generator.integers(len(passages))]
        count = min(missing, passage.samples)
        piece = passage.read(int(generator.integers(passage.samples - count + 1)), count)
        if count < samples:
            ramp = np.minimum(1, np.arange(1, count + 1) / FADE)
            piece = piece * ramp * ramp[::-1]
        pieces.append(piece)
        missing -= count
    return np.concatenate(pieces)
