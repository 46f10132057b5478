"""The loss on sums of solos, whose components are known."""

from __future__ import annotations

import torch
from torch import Tensor

from asteroid_ucr.codecs import Codec
from asteroid_ucr.separator import UCRSeparator


def solo_loss(
    model: UCRSeparator, solos: Tensor, generator: torch.Generator, mask_weight: float
) -> Tensor:
    """The loss where components are known: errors of their latents and of soft masks.

    Args:
        model: Model in training.
        solos: Latents of sums and of their components, `(batch, 1 + n_src, channels, frames)`.
        generator: Source of noise and α.
        mask_weight: Weight of `mask_loss`.
    """
    sums, components = solos[:, 0], solos[:, 1:]
    noise = torch.randn(sums.shape, generator=generator).to(solos)
    alpha = torch.rand(len(solos), generator=generator)
    # Half of the items are spent on the blend that separation starts from.
    starts = torch.rand(len(solos), generator=generator) < 0.5
    alpha = torch.where(starts, model.alpha_start, alpha).to(solos)
    loss, estimates = model.decomposition.component_loss(sums, components, noise, alpha)
    if not model.codec.has_power:  # there are no masks without spectra
        return loss
    return loss + mask_weight * mask_loss(model.codec, estimates, components, sums)


def mask_loss(codec: Codec, estimates: Tensor, components: Tensor, mixture: Tensor) -> Tensor:
    """Error of the soft masks made from the estimates, weighted by energy.

    Separation uses each estimate's share of their total power. A wrong share is as loud as the
    mixture there: the loss is the mean of P·(mask − true mask)², where P is the mixture's power
    divided by its mean over the item.

    Args:
        codec: Codec whose latents have power.
        estimates: Latents `(batch, n_src, channels, frames)`.
        components: Latents of the true components, of the same shape.
        mixture: Latents of their sum, `(batch, channels, frames)`.

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
