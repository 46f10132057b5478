"""The masking prior: a diffusion model of component latents, given any subset of them.

It is an IADB model over the stacked component latents z = (z_1 … z_N) (Bindi & Esling 2024, section
3). In training, a random subset of the components is masked: noise is blended with these, and the
network predicts them from the others. Thus one network generates all components or any subset.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from asteroid_ucr import iadb
from asteroid_ucr.networks import UNet1d


def mask_law(n_src: int, all_masked: float = 0.5) -> tuple[Tensor, Tensor]:
    """All masks that training draws, and the probability of each.

    Args:
        n_src: Number of components.
        all_masked: Probability that all components are masked. The other non-empty masks have equal
            probabilities; with one component there are none, and this probability is 1.

    Returns:
        Masks `(2 ** n_src − 1, n_src)`, True where masked, of which the last one masks all, and
        their probabilities `(2 ** n_src − 1,)`, float64.

    Raises:
        ValueError: If `all_masked` is not a probability, or there are no components.
    """
    if not 0 <= all_masked <= 1 or n_src < 1:
        raise ValueError(f"all_masked {all_masked} must lie in [0, 1], and n_src {n_src} above 0.")
    numbers = torch.arange(1, 2**n_src)
    masks = (numbers[:, None] >> torch.arange(n_src)) & 1 == 1
    others = len(masks) - 1
    rest = (1 - all_masked) / others if others else 0.0
    probabilities = torch.full((len(masks),), rest, dtype=torch.float64)
    probabilities[-1] = all_masked if others else 1.0
    return masks, probabilities


def draw_masks(
    batch: int, n_src: int, all_masked: float, generator: torch.Generator | None = None
) -> Tensor:
    """Independent masks `(batch, n_src)` from `mask_law`, True where masked."""
    masks, probabilities = mask_law(n_src, all_masked)
    return masks[torch.multinomial(probabilities, batch, replacement=True, generator=generator)]


class MaskingPrior(nn.Module):
    """A diffusion model of stacked component latents, conditioned on those that are not masked.

    Inputs and outputs are component latents `(batch, n_src, latent_dim, frames)` as the semantic
    encoder gives them. Internally they are standardised per component and channel, because the
    noise of the diffusion has unit variance. The input of the network is the stack of all
    components, and its condition is the mask, constant over time.

    Args:
        n_src: Number of components.
        latent_dim: Channels of each component latent.
        widths: Channels of the U-Net's levels; the defaults are the reference's (Bindi & Esling
            2024), with 7.8 million parameters for two univariate components.
        kernel_sizes: Kernel sizes of the levels, odd.
        frames: Length of the crops in training, and of the windows in use.
        embedding_dim: Size of the embedding of α.
    """

    def __init__(
        self,
        n_src: int = 2,
        latent_dim: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512),
        kernel_sizes: Sequence[int] = (3, 3, 3, 3),
        frames: int = 512,
        embedding_dim: int = 64,
    ):
        super().__init__()
        self.n_src, self.latent_dim, self.frames = n_src, latent_dim, frames
        channels, width = n_src * latent_dim, widths[0]
        # The U-Net normalises its last layer over time. With one or two channels it could not
        # represent the level of a component, so it has more channels, between two linear maps.
        self.lift = nn.Conv1d(channels, width, 1)
        self.network = UNet1d(width, n_src, widths, kernel_sizes, embedding_dim)
        self.lower = nn.Conv1d(width, channels, 1)
        self.register_buffer("mean", torch.zeros(n_src, latent_dim, 1))
        self.register_buffer("std", torch.ones(n_src, latent_dim, 1))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Sets the mean and standard deviation, both `(n_src * latent_dim,)`."""
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.std.copy_(std.clamp(min=1e-5).reshape(self.std.shape))

    @torch.no_grad()
    def reorder(self, order: Sequence[int]) -> None:
        """Reorders the components in the weights: component k becomes what was `order[k]`."""
        order = list(order)
        channels = torch.arange(self.mean.numel()).reshape(self.n_src, -1)[order].flatten()
        self.lift.weight.copy_(self.lift.weight[:, channels])
        self.lower.weight.copy_(self.lower.weight[channels])
        self.lower.bias.copy_(self.lower.bias[channels])
        self.mean.copy_(self.mean[order])
        self.std.copy_(self.std[order])
        self.network.permute_condition(order)

    def standardise(self, z: Tensor) -> Tensor:
        """Component latents, with zero mean and unit variance."""
        return (z - self.mean) / self.std

    def restore(self, standardised: Tensor) -> Tensor:
        """Inverse of `standardise`."""
        return standardised * self.std + self.mean

    def forward(self, x: Tensor, alpha: Tensor, mask: Tensor) -> Tensor:
        """Predicts the masked components.

        Args:
            x: Standardised latents, `(batch, n_src, latent_dim, frames)`: kept components, and
                blends with noise of the masked ones.
            alpha: `(batch,)` in [0, 1], for the masked components.
            mask: `(batch, n_src)`, True where masked.

        Returns:
            Latents shaped like `x`, whose values for kept components have no meaning.
        """
        condition = repeat(mask.to(x.dtype), "b n -> b n t", t=x.shape[-1])
        hidden = self.lift(rearrange(x, "b n d t -> b (n d) t"))
        hidden = self.lower(self.network(hidden, alpha, condition))
        return rearrange(hidden, "b (n d) t -> b n d t", n=self.n_src)

    def loss(self, z: Tensor, noise: Tensor, alpha: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error over all masked components of the batch, a scalar.

        Args:
            z: Component latents, `(batch, n_src, latent_dim, frames)`.
            noise: Standard normal noise of the same shape.
            alpha: `(batch,)` in [0, 1].
            mask: `(batch, n_src)`, True where masked; at least one component.
        """
        x = self.standardise(z)
        masked = mask[:, :, None, None]
        output = self(torch.where(masked, iadb.blend(x, noise, alpha), x), alpha, mask)
        error = output - x
        return error.square()[masked.expand_as(error)].mean()

    def sample(
        self,
        noise: Tensor,
        mask: Tensor,
        kept: Tensor | None = None,
        steps: int = 25,
        alpha_start: float = 0.0,
        start: Tensor | None = None,
        inside: Tensor | None = None,
    ) -> Tensor:
        """Generates the masked components.

        The kept components are imposed before every step, and returned unchanged. Latents longer
        than the crops of the training are generated in overlapping windows; see `iadb.in_windows`.

        Args:
            noise: Standard normal noise, `(batch, n_src, latent_dim, frames)`.
            mask: `(batch, n_src)`, True where masked.
            kept: Latents shaped like `noise`, used where the mask is False; None if all components
                are masked.
            steps: Number of sampler steps.
            alpha_start: Value of α at the start, in [0, 1).
            start: Component latents to vary, shaped like `noise`; None generates from noise.
            inside: `(n_src, frames)`, False at the frames of masked components that are known: the
                sampler moves from the noise straight to their values in `kept`. None is all True.

        Returns:
            Component latents, shaped like `noise`.
        """
        masked = mask[:, :, None, None]
        free = masked if inside is None else masked & inside[:, None]
        kept = torch.zeros_like(noise) if kept is None else kept
        clean, x = self.standardise(kept), noise
        if start is not None:
            x = iadb.blend(self.standardise(start), noise, noise.new_tensor([alpha_start]))
        windowed = iadb.in_windows(lambda x, alpha: self(x, alpha, mask), self.frames)

        def imposed(x: Tensor, alpha: Tensor) -> Tensor:
            estimated = windowed(torch.where(masked, x, clean), alpha)
            return torch.where(free, estimated, clean)

        x = iadb.sample(imposed, x, steps, alpha_start=alpha_start)
        return torch.where(free, self.restore(x), kept)
