"""Random streams that are functions of numbers, such as a seed and a step."""

from __future__ import annotations

import numpy as np
import torch


def generator_for(*numbers: int) -> torch.Generator:
    """A CPU generator seeded by all of the numbers together.

    torch's own seeding keeps 32 bits of a seed, so that sums or products of a seed and a counter
    collide; numpy's `SeedSequence` hashes them instead.

    Args:
        *numbers: Integers; negative ones are taken modulo 2³².
    """
    sequence = np.random.SeedSequence([number % 2**32 for number in numbers])
    return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
