"""The masking prior: a diffusion model of component latents, given any subset of them.

It is an IADB model over the stacked component latents z = (z_1 … z_N) (Bindi & Esling 2024, section
3). In training, a random subset of the components is masked: noise is blended with these, and the
network predicts them from the others. Thus one network generates all components or any subset.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from asteroid_ucr import iadb
from asteroid_ucr.networks import FrameNorm, UNet1d


def mask_law(n_src: int, all_masked: float = 0.5) -> tuple[Tensor, Tensor]:
    """All masks that training draws, and the probability of each.

    Args:
        n_src: Number of components.
        all_masked: Probability that all components are masked. The other non-empty masks have equal
            probabilities; with one component there are none, and this probability is 1.

    Returns:
        The masks, `(masks, n_src)`, True where masked, and their probabilities, `(masks,)`,
        float64.

    Raises:
        ValueError: If `all_masked` is not a probability, or there are no components.
    """
    if not (0 <= all_masked <= 1 and n_src >= 1):
        raise ValueError(f"all_masked {all_masked} must lie in [0, 1], and n_src {n_src} above 0.")
    masks = [m for size in range(1, n_src) for m in combinations(range(n_src), size)]
    probabilities = [(1 - all_masked) / max(len(masks), 1)] * len(masks)
    probabilities.append(all_masked if masks else 1.0)
    rows = [[k in mask for k in range(n_src)] for mask in [*masks, range(n_src)]]
    return torch.tensor(rows), torch.tensor(probabilities, dtype=torch.float64)


def draw_masks(
    batch: int, n_src: int, all_masked: float, generator: torch.Generator | None = None
) -> Tensor:
    """Independent masks of `mask_law`, `(batch, n_src)`."""
    masks, probabilities = mask_law(n_src, all_masked)
    return masks[torch.multinomial(probabilities, batch, replacement=True, generator=generator)]


class MaskingPrior(nn.Module):
    """A diffusion model of stacked component latents, conditioned on those that are not masked.

    Inputs and outputs are component latents `(batch, n_src, latent_dim, frames)`. Internally they
    are standardised per component and channel, because the noise of the diffusion has unit
    variance. The network sees the stack of all components that it was trained on, and is told which
    of them are present and which are masked. It predicts, for each masked component,

        v = ((1 − α)·x − α·ε) / √(α² + (1 − α)²),

    the velocity of Salimans & Ho 2022 for blends of this kind. It has unit variance at each α, so
    that errors count alike whether the blend is nearly noise or nearly clean, and the estimate of x
    follows from it and from the blend.

    Args:
        n_src: Number of components of the stack.
        latent_dim: Channels of each component latent.
        widths: Channels of the U-Net's levels; the defaults are the reference's (Bindi & Esling
            2024), with 7.8 million parameters for two univariate components.
        kernel_sizes: Kernel sizes of the levels, odd.
        frames: Length of the crops in training, and of the windows in use.
        embedding_dim: Size of the embedding of α.
        subsets: Whether it is trained with some of the components absent.
        slots: For each component of the latents, its place in the stack; None for all in order.
            The others are absent.
    """

    def __init__(
        self,
        n_src: int = 2,
        latent_dim: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512),
        kernel_sizes: Sequence[int] = (3, 3, 3, 3),
        frames: int = 512,
        embedding_dim: int = 64,
        subsets: bool = False,
        slots: Sequence[int] | None = None,
    ):
        super().__init__()
        self.latent_dim, self.frames, self.subsets = latent_dim, frames, subsets
        self.slots = list(range(n_src) if slots is None else slots)
        channels, width = n_src * latent_dim, widths[0]
        # With one or two channels the U-Net's norms could not represent the level of a component,
        # so it has more channels, between two linear maps.
        self.lift = nn.Conv1d(channels, width, 1)
        self.network = UNet1d(width, 2 * n_src, widths, kernel_sizes, embedding_dim, norm=FrameNorm)
        self.lower = nn.Conv1d(width, channels, 1)
        self.register_buffer("means", torch.zeros(n_src, latent_dim, 1))
        self.register_buffer("stds", torch.ones(n_src, latent_dim, 1))

    @property
    def n_src(self) -> int:
        """Number of components of the latents."""
        return len(self.slots)

    @property
    def mean(self) -> Tensor:
        """Mean of each channel of the latents, `(n_src, latent_dim, 1)`."""
        return self.means[self.slots]

    @property
    def std(self) -> Tensor:
        """Standard deviation of each channel, `(n_src, latent_dim, 1)`."""
        return self.stds[self.slots]

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Sets the mean and standard deviation, both `(n_src, latent_dim)`."""
        self.means.copy_(mean[..., None])
        self.stds.copy_(std.clamp(min=1e-5)[..., None])

    def pick(self, components: Sequence[int]) -> None:
        """Keeps only these components, in this order; the others are absent from now on."""
        self.slots = [self.slots[k] for k in components]

    def standardise(self, z: Tensor) -> Tensor:
        """Component latents, with zero mean and unit variance."""
        return (z - self.mean) / self.std

    def restore(self, standardised: Tensor) -> Tensor:
        """Inverse of `standardise`."""
        return standardised * self.std + self.mean

    def forward(
        self, x: Tensor, alpha: Tensor, mask: Tensor, present: Tensor | None = None
    ) -> Tensor:
        """Predicts the masked components.

        Args:
            x: Standardised latents, `(batch, n_src, latent_dim, frames)`: kept components, and
                blends with noise of the masked ones.
            alpha: `(batch,)` in [0, 1], for the masked components.
            mask: `(batch, n_src)`, True where masked.
            present: `(batch, n_src)`, False for components to leave out; None for none of them.

        Returns:
            Estimates shaped like `x`, whose values for kept components have no meaning.
        """
        weight = alpha[:, None, None, None]
        power = weight.square() + (1 - weight).square()
        velocity = self._velocity(x, alpha, mask, present)
        return (weight * x + (1 - weight) * power.sqrt() * velocity) / power

    def _velocity(
        self, x: Tensor, alpha: Tensor, mask: Tensor, present: Tensor | None = None
    ) -> Tensor:
        """The network's output v, shaped like `x`; arguments as for `forward`."""
        present = torch.ones_like(mask) if present is None else present
        stack = x.new_zeros(len(x), len(self.means), *x.shape[2:])
        stack[:, self.slots] = x * present[:, :, None, None]
        flags = x.new_zeros(len(x), 2, len(self.means))
        flags[:, :, self.slots] = torch.stack([present, mask & present], dim=1).to(x.dtype)
        condition = repeat(flags, "b two n -> b (two n) t", t=x.shape[-1])
        hidden = self.lift(rearrange(stack, "b n d t -> b (n d) t"))
        hidden = self.lower(self.network(hidden, alpha, condition))
        return rearrange(hidden, "b (n d) t -> b n d t", d=self.latent_dim)[:, self.slots]

    def loss(
        self,
        z: Tensor,
        noise: Tensor,
        alpha: Tensor,
        mask: Tensor,
        present: Tensor | None = None,
    ) -> Tensor:
        """Mean squared error of v over all masked components of the batch, a scalar.

        Args:
            z: Component latents, `(batch, n_src, latent_dim, frames)`.
            noise: Standard normal noise of the same shape.
            alpha: `(batch,)` in [0, 1].
            mask: `(batch, n_src)`, True where masked; at least one component.
            present: `(batch, n_src)`, False for components to leave out; None for none of them.
        """
        x, weight = self.standardise(z), alpha[:, None, None, None]
        masked = mask[:, :, None, None]
        blended = torch.where(masked, iadb.blend(x, noise, alpha), x)
        velocity = (1 - weight) * x - weight * noise
        velocity = velocity / (weight.square() + (1 - weight).square()).sqrt()
        error = self._velocity(blended, alpha, mask, present) - velocity
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
        guidance: float = 1.0,
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
            guidance: Weight of what the kept components change in the estimates; 1 leaves it as it
                is, and more makes the others fit them more closely (Ho & Salimans 2022).

        Returns:
            Component latents, shaped like `noise`.
        """
        masked = mask[:, :, None, None]
        free = masked if inside is None else masked & inside[:, None]
        kept = torch.zeros_like(noise) if kept is None else kept
        clean, x = self.standardise(kept), noise
        if start is not None:
            x = iadb.blend(self.standardise(start), noise, noise.new_tensor([alpha_start]))

        def estimate(x: Tensor, alpha: Tensor) -> Tensor:
            given = self(x, alpha, mask)
            if guidance == 1 or mask.all():
                return given
            return torch.lerp(self(x, alpha, mask, present=mask), given, guidance)

        windowed = iadb.in_windows(estimate, self.frames)

        def imposed(x: Tensor, alpha: Tensor) -> Tensor:
            estimated = windowed(torch.where(masked, x, clean), alpha)
            return torch.where(free, estimated, clean)

        x = iadb.sample_multistep(imposed, x, steps, alpha_start)
        return torch.where(free, self.restore(x), kept)
