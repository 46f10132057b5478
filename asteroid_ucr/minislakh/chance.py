"""Seeded chance for composing and rendering."""

from __future__ import annotations

import zlib

import numpy as np


def song_rng(seed: int, index: int, purpose: str) -> np.random.Generator:
    """Chance for one purpose in one song: independent of every other song and purpose."""
    return np.random.default_rng([seed, index, zlib.crc32(purpose.encode())])


def choose(rng: np.random.Generator, options: list | tuple):  # type: ignore[type-arg]
    """One of the options, each as likely as the others (of any type, unlike `rng.choice`)."""
    return options[int(rng.integers(len(options)))]
