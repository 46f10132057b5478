"""The decomposition model: semantic encoders, one shared denoiser and a composition.

The core of Bindi & Esling 2024, section 3. It learns from the latents of mixtures alone: the
encoder gives one component latent z_i per source, the denoiser renders each of them, and the
composition of what it renders has to be the mixture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from asteroid_ucr import iadb
from asteroid_ucr.composition import Composition
from asteroid_ucr.networks import SemanticEncoder, UNet1d


class Decomposition(nn.Module):
    """Encoder, denoiser and composition over the latents of a codec.

    Inputs and outputs are latents as the codec gives them. Inside, they are standardised per
    channel, because the noise of the diffusion has unit variance.

    Args:
        encoder: gives the component latents.
        denoiser: D(x_α, α, z_i), shared by all components.
        composition: turns rendered components into the mixture.
        channels: of the codec's latents.
        variant: what the denoiser predicts; see `asteroid_ucr.iadb`.
    """

    def __init__(
        self,
        encoder: SemanticEncoder,
        denoiser: UNet1d,
        composition: Composition,
        channels: int,
        variant: str = "c",
    ):
        super().__init__()
        if variant not in iadb.VARIANTS:
            raise ValueError(f"variant must be one of {iadb.VARIANTS}, got {variant!r}.")
        self.encoder = encoder
        self.denoiser = denoiser
        self.compose = composition
        self.variant = variant
        self.register_buffer("latent_mean", torch.zeros(channels, 1))
        self.register_buffer("latent_std", torch.ones(channels, 1))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Sets the mean and standard deviation of each channel, both `(channels,)`."""
        self.latent_mean.copy_(mean[:, None])
        self.latent_std.copy_(std.clamp(min=1e-5)[:, None])

    def standardise(self, latents: Tensor) -> Tensor:
        """Latents of the codec to zero mean and unit variance per channel."""
        return (latents - self.latent_mean) / self.latent_std

    def restore(self, standardised: Tensor) -> Tensor:
        """Inverse of `standardise`."""
        return standardised * self.latent_std + self.latent_mean

    def encode(self, latents: Tensor) -> Tensor:
        """Component latents of a mixture.

        Args:
            latents: of the mixture, `(batch, channels, frames)`.

        Returns:
            `(batch, n_src, latent_dim, frames)`.
        """
        return self.encoder(self.standardise(latents))

    def _denoise(self, x_alpha: Tensor, alpha: Tensor, z: Tensor) -> Tensor:
        """Runs the denoiser on `(batch · n_src, …)` blends, one for each component latent."""
        return self.denoiser(x_alpha, alpha, rearrange(z, "b n d t -> (b n) d t"))

    def loss(self, latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
        """‖compose_i D(x_α, α, z_i) − x‖² (Bindi & Esling 2024, section 3), standardised.

        For variant "d" the composed estimate is turned back into the difference that the network
        predicts, x − ε, so that the two variants differ in their weighting alone.

        Args:
            latents: of the mixture, `(batch, channels, frames)`.
            noise: standard normal, of the same shape.
            alpha: `(batch,)` in [0, 1].

        Returns:
            The mean squared error, a scalar.
        """
        x = self.standardise(latents)
        error = self.standardise(self.compose(self.restore(self._estimate(x, noise, alpha)))) - x
        if self.variant == "d":
            error = error / (1 - alpha).clamp(min=1e-3)[:, None, None]
        return error.square().mean()

    def component_loss(
        self, latents: Tensor, components: Tensor, noise: Tensor, alpha: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss where a mixture's components are known: ‖D(x_α, α, z_i) − x_i‖², standardised.

        This is no part of the paper's method; see `asteroid_ucr.solos`.

        Args:
            latents: of the mixture, `(batch, channels, frames)`.
            components: latents x_i of its components, `(batch, n_src, channels, frames)`.
            noise: standard normal, `(batch, channels, frames)`.
            alpha: `(batch,)` in [0, 1].

        Returns:
            The mean squared error, a scalar, and the rendered components, shaped like `components`.
        """
        estimate = self._estimate(self.standardise(latents), noise, alpha)
        loss = (estimate - self.standardise(components)).square().mean()
        return loss, self.restore(estimate.float())

    def _estimate(self, x: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
        """Standardised components `(batch, n_src, channels, frames)` of a standardised mixture."""
        z = self.encoder(x)
        n_src = z.shape[1]
        x_alpha = repeat(iadb.blend(x, noise, alpha), "b c t -> (b n) c t", n=n_src)
        alpha_each = repeat(alpha, "b -> (b n)", n=n_src)
        output = self._denoise(x_alpha, alpha_each, z)
        rendered = iadb.estimate(output, x_alpha, alpha_each, self.variant)
        return rearrange(rendered, "(b n) c t -> b n c t", n=n_src)

    def render(
        self,
        z: Tensor,
        noise: Tensor,
        steps: int = 1,
        callback: Callable[[int, Tensor], None] | None = None,
        mixture: Tensor | None = None,
        alpha_start: float = 0.0,
    ) -> Tensor:
        """Renders each component latent by itself, all from the same noise.

        From pure noise, all that is known of a component is its latent. A blend of the mixture with
        noise shows the denoiser more: what models that learnt from components, and no others, use
        to tell which part of the mixture a component is.

        Args:
            z: component latents, `(batch, n_src, latent_dim, frames)`.
            noise: standard normal, `(batch or 1, channels, frames)`.
            steps: of the sampler; 1 gives the conditional mean.
            callback: see `asteroid_ucr.iadb.sample`.
            mixture: latents to blend with the noise, `(batch, channels, frames)`; needed where
                `alpha_start` is not 0.
            alpha_start: share of the mixture in the blend to start from, in [0, 1).

        Returns:
            Latents of the components, `(batch, n_src, channels, frames)`.
        """
        batch, n_src = z.shape[:2]
        start = noise.expand(batch, -1, -1)
        if alpha_start > 0:
            start = iadb.blend(self.standardise(mixture), start, noise.new_tensor([alpha_start]))
        rendered = iadb.sample(
            lambda x, alpha: self._denoise(x, alpha, z),
            repeat(start, "b c t -> (b n) c t", n=n_src),
            steps,
            self.variant,
            alpha_start,
            callback,
        )
        return self.restore(rearrange(rendered, "(b n) c t -> b n c t", n=n_src))
