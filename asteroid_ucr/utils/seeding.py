"""Random generators that depend on several numbers, such as a seed and a step."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

_Option = TypeVar("_Option")


def generator_for(*numbers: int) -> torch.Generator:
    """A CPU generator seeded by all of the integers together, each taken modulo 2³².

    Torch keeps 32 bits of a seed, so that sums of a seed and a counter would collide. NumPy's
    `SeedSequence` hashes the numbers instead.
    """
    sequence = np.random.SeedSequence([number % 2**32 for number in numbers])
    return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))


def rank_and_world() -> tuple[int, int]:
    """Number of this process among those that train together, and how many these are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def draw_items(
    draw: Callable[..., Tensor], shape: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Random numbers for the items of a batch, one item for each row of `shape`.

    Of n processes, each draws for the items of all and takes every n-th row, as it has every n-th
    item. Together they draw what one process with a batch n times as large does.

    Args:
        draw: `torch.randn`, or a function with its arguments `size` and `generator`.
        shape: Shape of the result.
        generator: Generator in the same state in all processes.
    """
    rank, world = rank_and_world()
    return draw((world * shape[0], *shape[1:]), generator=generator)[rank::world]


def song_rng(seed: int, index: int, purpose: str) -> np.random.Generator:
    """A stream for one purpose in one song, independent of all other songs and purposes."""
    return np.random.default_rng([seed, index, zlib.crc32(purpose.encode())])


def choose(rng: np.random.Generator, options: Sequence[_Option]) -> _Option:
    """One of the options of any type, each as likely as the others."""
    return options[int(rng.integers(len(options)))]
