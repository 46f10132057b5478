"""Training on mixtures, and on sums of solos, whose components are known."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from asteroid_ucr.codecs import Codec
from asteroid_ucr.training.system import DecompositionSystem
from asteroid_ucr.utils.seeding import generator_for


class SoloSystem(DecompositionSystem):
    """Trains on mixtures, and on sums of solos, whose components are known.

    A training batch has "mixtures" `(batch, channels, frames)` and "solos" `(batch, 1 + n_src,
    channels, frames)`, sums and their components. Every item weighs the same.

    Args:
        *system: arguments of `DecompositionSystem`.
        mask_weight: of `mask_loss`, which is added for the sums.
    """

    def __init__(self, *system: Any, mask_weight: float):
        super().__init__(*system)
        self.mask_weight = mask_weight

    def common_step(
        self, batch: Tensor | dict[str, Tensor], batch_nb: int, train: bool = True
    ) -> Tensor:
        """The loss on a batch; validation is that of mixtures alone."""
        if not isinstance(batch, dict):
            return super().common_step(batch, batch_nb, train)
        mixtures, solos = batch["mixtures"], batch["solos"]
        on_mixtures = super().common_step(mixtures, batch_nb, train)
        generator = generator_for(self.seed, 2, self.global_step, self.global_rank)
        on_solos = self.solo_loss(solos, generator)
        return torch.lerp(on_mixtures, on_solos, len(solos) / (len(solos) + len(mixtures)))

    def solo_loss(self, solos: Tensor, generator: torch.Generator) -> Tensor:
        """The loss on sums of solos and their components."""
        model = self.model
        noise = torch.randn(solos[:, 0].shape, generator=generator).to(solos)
        alpha = torch.rand(len(solos), generator=generator)
        # Half of the items are spent on the blend that separation starts from.
        starts = torch.rand(len(solos), generator=generator) < 0.5
        alpha = torch.where(starts, model.alpha_start, alpha).to(solos)
        sums, components = solos[:, 0], solos[:, 1:]
        loss, estimates = model.decomposition.component_loss(sums, components, noise, alpha)
        if not model.codec.has_power:  # there are no masks without spectra
            return loss
        return loss + self.mask_weight * mask_loss(model.codec, estimates, components, sums)


def mask_loss(codec: Codec, estimates: Tensor, components: Tensor, mixture: Tensor) -> Tensor:
    """How far soft masks from the estimates are from the components', where the energy is.

    What separation uses of the estimates is each one's share of their total power, and what a wrong
    share costs is as loud as the mixture there: mean of P·(mask − true mask)², P being the
    mixture's power divided by its mean over the item.

    Args:
        codec: whose latents have power.
        estimates: latents `(batch, n_src, channels, frames)`.
        components: latents of the true components, of the same shape.
        mixture: latents of their sum, `(batch, channels, frames)`.

    Returns:
        A scalar, 0 for perfect masks.
    """
    power = codec.to_power(mixture).clamp(min=0)[:, None]
    weight = power / power.mean((-2, -1), keepdim=True).clamp(min=_EPS)
    error = _shares(codec.to_power(estimates)) - _shares(codec.to_power(components))
    return (weight * error.square()).mean()


def _shares(power: Tensor) -> Tensor:
    return power / (power.sum(1, keepdim=True) + _EPS)


_EPS = 1e-6  # power of silence
