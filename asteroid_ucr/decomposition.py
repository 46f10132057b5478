"""The decomposition model: semantic encoders, one shared denoiser and a composition.

This is the core of Bindi & Esling 2024, section 3. It learns from the latents of mixtures alone:
the encoder gives one component latent z_i per source, the denoiser renders each of them, and the
composition of the rendered components has to equal the mixture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asteroid_ucr import iadb
from asteroid_ucr.composition import Composition
from asteroid_ucr.networks import SemanticEncoder, UNet2d


class Decomposition(nn.Module):
    """Encoder, denoiser and composition over the latents of a codec.

    Inputs and outputs are latents as the codec gives them. Internally they are standardised per
    channel, because the noise of the diffusion has unit variance.

    Args:
        encoder: Encoder of the component latents.
        denoiser: D(x_α, α, z_i), shared by all components. It is called as `denoiser(x_alpha,
            alpha, z)`, with α `(batch,)`, z `(batch, n_src, latent_dim, frames)` and the blend
            either common to all components, `(batch, channels, frames)`, or separate for each,
            `(batch, n_src, channels, frames)`, and returns `(batch, n_src, channels, frames)`.
        composition: Operator from rendered components to the mixture.
        channels: Channels of the codec's latents.
    """

    def __init__(
        self, encoder: SemanticEncoder, denoiser: nn.Module, composition: Composition, channels: int
    ):
        super().__init__()
        self.encoder = encoder
        self.denoiser = denoiser
        self.compose = composition
        self.register_buffer("latent_mean", torch.zeros(channels, 1))
        self.register_buffer("latent_std", torch.ones(channels, 1))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Sets the mean and standard deviation of each channel, both `(channels,)`."""
        self.latent_mean.copy_(mean[:, None])
        self.latent_std.copy_(std.clamp(min=1e-5)[:, None])
        if isinstance(self.denoiser, UNet2d):
            self.denoiser.set_silence(self.standardise(torch.zeros_like(self.latent_mean)))

    def standardise(self, latents: Tensor) -> Tensor:
        """Latents of the codec, with zero mean and unit variance per channel."""
        return (latents - self.latent_mean) / self.latent_std

    def restore(self, standardised: Tensor) -> Tensor:
        """Inverse of `standardise`."""
        return standardised * self.latent_std + self.latent_mean

    def encode(self, latents: Tensor) -> Tensor:
        """Component latents `(batch, n_src, latent_dim, frames)` of a mixture.

        Args:
            latents: Latents of the mixture, `(batch, channels, frames)`.
        """
        return self.encoder(self.standardise(latents))

    def loss(self, latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
        """The mean of ‖compose_i D(x_α, α, z_i) − x‖² in standardised latents, a scalar.

        Source: Bindi & Esling 2024, section 3.

        Args:
            latents: Latents of the mixture, `(batch, channels, frames)`.
            noise: Standard normal noise of the same shape.
            alpha: `(batch,)` in [0, 1].
        """
        x = self.standardise(latents)
        composed = self.compose(self.restore(self._estimate(x, noise, alpha)))
        return (self.standardise(composed) - x).square().mean()

    def component_loss(
        self, latents: Tensor, components: Tensor, noise: Tensor, alpha: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The mean of ‖D(x_α, α, z_i) − x_i‖², for mixtures whose components are known.

        This loss is not part of the paper's method; see `asteroid_ucr.solos`.

        Args:
            latents: Latents of the mixture, `(batch, channels, frames)`.
            components: Latents x_i of its components, `(batch, n_src, channels, frames)`.
            noise: Standard normal noise, `(batch, channels, frames)`.
            alpha: `(batch,)` in [0, 1].

        Returns:
            The loss, a scalar, and the rendered components, shaped like `components`.
        """
        estimate = self._estimate(self.standardise(latents), noise, alpha)
        loss = (estimate - self.standardise(components)).square().mean()
        return loss, self.restore(estimate.float())

    def _estimate(self, x: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
        """Standardised components `(batch, n_src, channels, frames)` of a standardised mixture."""
        return self.denoiser(iadb.blend(x, noise, alpha), alpha, self.encoder(x))

    def render(
        self,
        z: Tensor,
        noise: Tensor,
        steps: int = 1,
        mixture: Tensor | None = None,
        alpha_start: float = 0.0,
    ) -> Tensor:
        """Renders each component latent separately, all from the same noise.

        From noise alone, the denoiser knows only the latent of a component. Models that were
        trained with `component_loss` can also extract the component from a blend of the mixture
        with noise.

        Args:
            z: Component latents, `(batch, n_src, latent_dim, frames)`.
            noise: Standard normal noise, `(batch or 1, channels, frames)`.
            steps: Number of sampler steps; one step gives the conditional mean.
            mixture: Latents of the mixture, `(batch, channels, frames)`, required if `alpha_start`
                is above 0.
            alpha_start: Share of the mixture in the blend at the start, in [0, 1).

        Returns:
            Latents of the components, `(batch, n_src, channels, frames)`.
        """
        start = noise.expand(len(z), -1, -1)
        if alpha_start > 0:
            start = iadb.blend(self.standardise(mixture), start, noise.new_tensor([alpha_start]))

        def denoise(x: Tensor, alpha: Tensor) -> Tensor:
            # In the first step, all components share one blend; afterwards each has its own.
            return self.denoiser(x[:, 0] if x.shape[1] == 1 else x, alpha, z)

        return self.restore(iadb.sample(denoise, start[:, None], steps, alpha_start=alpha_start))
