"""The loss on sums of solos, whose components are known."""

from __future__ import annotations

import torch
from torch import Tensor

from asteroid_ucr.codecs import Codec
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.seeding import draw_items


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
    noise = draw_items(torch.randn, sums.shape, generator).to(solos)
    alpha = draw_items(torch.rand, sums.shape[:1], generator)
    # Half of the items use the blend that separation starts from, and a quarter the noise that
    # generation starts from, where the component latent alone tells pitches and attacks.
    starts = draw_items(torch.rand, sums.shape[:1], generator)
    alpha = alpha.where(starts < 0.75, 0.0).where(starts >= 0.5, model.alpha_start).to(solos)
    loss, estimates = model.decomposition.component_loss(sums, components, noise, alpha)
    if not model.codec.has_power:  # masks need spectra
        return loss
    return loss + mask_weight * mask_loss(model.codec, estimates, components, sums)


def mask_loss(codec: Codec, estimates: Tensor, components: Tensor, mixture: Tensor) -> Tensor:
    """Error of the soft masks made from the estimates.

    Separation uses each estimate's share of their total power. Three terms add up: the share of the
    mixture's energy that the masks misplace; its logarithm, which corresponds to SI-SDR and keeps a
    gradient for items that are nearly right; and the masks' absolute error weighted by loudness,
    which gives soft sounds a weight. In every second item the estimates of silent components are
    left out of the masks, because users name only the sources that are present.

    Args:
        codec: Codec whose latents have power.
        estimates: Latents `(batch, n_src, channels, frames)`.
        components: Latents of what the best masks take of the sum, from `Codec.encode_sum`, of the
            same shape.
        mixture: Latents of their sum, `(batch, channels, frames)`.

    Returns:
        A scalar, 0 for perfect masks.
    """
    power, parts = codec.to_power(mixture).clamp(min=0)[:, None], codec.to_power(components)
    silent = parts.mean((2, 3)) < _EPS / 100
    silent = silent & ~silent.all(1, keepdim=True)
    silent[1::2] = False
    kept = (~silent)[..., None, None]
    error = _shares(codec.to_power(estimates) * kept) - _shares(parts)
    misplaced = _mean(error.square(), power * codec.widths)
    soft = _mean(error.abs(), power**0.3)
    return (misplaced + 0.2 * torch.log1p(1e4 * misplaced) + 0.3 * soft).mean()


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    """Sum over components of the weighted mean error of each item, `(batch,)`."""
    return (weight * error).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=_EPS)


def _shares(power: Tensor) -> Tensor:
    """Share of each component in the total power."""
    return power / (power.sum(1, keepdim=True) + _EPS)


_EPS = 1e-6  # power of silence
