"""Composition: the operator that turns rendered components into the mixture.

Every composition works on latents as the codec gives them, not on standardised ones, so that its
meaning does not depend on the statistics of a data set.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from asteroid_ucr.codecs import Codec
from asteroid_ucr.utils.errors import UserError

Composition = Callable[[Tensor], Tensor]


def mean(components: Tensor) -> Tensor:
    """The paper's default (Bindi & Esling 2024, section 3).

    A component by itself then has the mixture's scale.

    Args:
        components: `(batch, n_src, channels, frames)`.

    Returns:
        `(batch, channels, frames)`.
    """
    return components.mean(1)


def sum(components: Tensor) -> Tensor:  # the operator's name in configurations
    """Adds the latents; shapes as in `mean`."""
    return components.sum(1)


def power_sum(codec: Codec) -> Composition:
    """Adds powers, as uncorrelated sources do, for codecs whose latents are magnitudes.

    Args:
        codec: gives the maps between latents and power.

    Raises:
        UserError: if the codec's latents have no power.
    """
    if not codec.has_power:
        raise UserError(
            f"composition 'power_sum' needs latents that are magnitudes, and those of the codec "
            f"{codec.name!r} are not: use the codec 'mel', or the composition 'mean' or 'sum'."
        )

    def compose(components: Tensor) -> Tensor:
        return codec.from_power(codec.to_power(components).sum(1))

    return compose


COMPOSITIONS: dict[str, Callable[[Codec], Composition]] = {
    "mean": lambda codec: mean,
    "sum": lambda codec: sum,
    "power_sum": power_sum,
}


def build_composition(name: str, codec: Codec) -> Composition:
    """Looks a composition up by name.

    Raises:
        UserError: if there is none of that name, or it does not suit the codec.
    """
    if name not in COMPOSITIONS:
        raise UserError(f"Unknown composition {name!r}: choose one of {', '.join(COMPOSITIONS)}.")
    return COMPOSITIONS[name](codec)
