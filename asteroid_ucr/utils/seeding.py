"""Random generators that depend on several numbers, such as a seed and a step."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

_Option = TypeVar("_Option")


def generator_for(*numbers: int) -> torch.Generator:
    """A CPU generator seeded by all of the integers together, each taken modulo 2³².

    Torch keeps 32 bits of a seed, so that sums of a seed and a counter would collide. NumPy's
    `SeedSequence` hashes the numbers instead.
    """
    sequence = np.random.SeedSequence([number % 2**32 for number in numbers])
    return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))


def song_rng(seed: int, index: int, purpose: str) -> np.random.Generator:
    """A stream for one purpose in one song, independent of all other songs and purposes."""
    return np.random.default_rng([seed, index, zlib.crc32(purpose.encode())])


def choose(rng: np.random.Generator, options: Sequence[_Option]) -> _Option:
    """One of the options of any type, each as likely as the others."""
    return options[int(rng.integers(len(options)))]
