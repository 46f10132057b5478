"""Composition: the operator that turns rendered components into the mixture.

A composition maps components `(batch, n_src, channels, frames)` to `(batch, channels, frames)`. It
works on latents as the codec gives them, not on standardised ones, so that its meaning does not
depend on the statistics of a data set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from asteroid_ucr.codecs import Codec
from asteroid_ucr.utils.errors import UserError

Composition = Callable[[Tensor], Tensor]


def mean(components: Tensor, codec: Codec) -> Tensor:
    """Averages latents, the paper's default (Bindi & Esling 2024, section 3)."""
    return components.mean(1)


def add(components: Tensor, codec: Codec) -> Tensor:
    """Adds latents."""
    return components.sum(1)


def power_sum(components: Tensor, codec: Codec) -> Tensor:
    """Adds powers, which is right for uncorrelated sources; the codec must have powers."""
    return codec.from_power(codec.to_power(components).sum(1))


COMPOSITIONS: dict[str, Callable[[Tensor, Codec], Tensor]] = {
    "mean": mean,
    "sum": add,
    "power_sum": power_sum,
}


def check_composition(name: str) -> None:
    """Raises a `UserError` if there is no composition of that name."""
    if name not in COMPOSITIONS:
        raise UserError(f"Unknown composition {name!r}: choose one of {', '.join(COMPOSITIONS)}.")


def build_composition(name: str, codec: Codec) -> Composition:
    """Returns a composition by its name.

    Args:
        name: Key of `COMPOSITIONS`.
        codec: Codec of the latents.

    Raises:
        UserError: If the composition does not exist or does not work with the codec.
    """
    check_composition(name)
    if name == "power_sum" and not codec.has_power:
        raise UserError(
            f"composition 'power_sum' needs latents that are magnitudes, and those of the codec "
            f"{codec.name!r} are not: use the codec 'mel', or the composition 'mean' or 'sum'."
        )
    return partial(COMPOSITIONS[name], codec=codec)
