"""The renderer: latents of single sounds, which hold their pitch, and the way back to sound.

The component latents of a decomposition say which part of a mixture a source is. They need not say
what it sounds like, since the denoiser is shown the mixture, and their few numbers hold no pitch. A
prior that is to be heard needs latents from which a source can be rendered alone. The renderer has
the parts of a decomposition, an encoder for each source and one network that all share, but it is
an autoencoder of one source at a time: z_i = E_i(x_i), and x_i ≈ D(z_i). It learns from solos and
from a separator's own estimates, without a stem.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from asteroid_ucr.codecs import MelCodec
from asteroid_ucr.networks import FrameNorm, ResidualBlock

FOLD = 4  # frames of the codec that share a latent, 53 ms
NOISE = 0.3  # standard deviation of what is added to latents in training


class Renderer(nn.Module):
    """An autoencoder of single sources.

    It has a mel codec of its own, whose bands are narrow enough for the partials of a bass. All
    networks work on frames of 53 ms, four of the codec's, with normalisations inside of each
    frame. In training, noise is added to the latents, so that latents that are nearly right, as
    those of a prior are, sound nearly right.

    Args:
        n_src: Number of sources.
        latent_dim: Channels of each latent.
        bands: Bands of the mel codec.
        encoder_width: Channels of the encoders.
        decoder_width: Channels of the decoder, which has one more residual block.
        blocks: Residual blocks of each encoder.
    """

    def __init__(
        self,
        n_src: int = 2,
        latent_dim: int = 32,
        bands: int = 256,
        encoder_width: int = 192,
        decoder_width: int = 320,
        blocks: int = 2,
    ):
        super().__init__()
        self.latent_dim = latent_dim
        self._codec = [MelCodec(bands)]  # in a list, so that it keeps its precision
        encoders = (_network(bands * FOLD, encoder_width, latent_dim, blocks) for _ in range(n_src))
        self.encoders = nn.ModuleList(encoders)
        self.decoder = _network(latent_dim, decoder_width, bands * FOLD, blocks + 1)
        self.decoder.append(Rearrange("b (c f) t -> b c (t f)", f=FOLD))
        self.register_buffer("latent_mean", torch.zeros(bands, 1))
        self.register_buffer("latent_std", torch.ones(bands, 1))

    @property
    def codec(self) -> MelCodec:
        """The codec, on the renderer's device."""
        return self._codec[0].to(self.latent_mean.device)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Sets the mean and standard deviation of each band, both `(bands,)`."""
        self.latent_mean.copy_(mean[:, None])
        self.latent_std.copy_(std.clamp(min=1e-5)[:, None])

    def pick(self, sources: Sequence[int]) -> None:
        """Keeps only the encoders of these sources, in this order."""
        self.encoders = nn.ModuleList(self.encoders[k] for k in sources)

    def encode(self, latents: Tensor, source: int) -> Tensor:
        """Latents z of a source that is heard alone.

        Args:
            latents: Latents of the codec, `(batch, bands, frames)`.
            source: Number of the source.

        Returns:
            `(batch, latent_dim, ⌈frames / 4⌉)`.
        """
        x = (latents - self.latent_mean) / self.latent_std
        missing = -x.shape[-1] % FOLD
        x = torch.cat([x, x[..., -1:].expand(-1, -1, missing)], dim=-1)
        return self.encoders[source](rearrange(x, "b c (t f) -> b (c f) t", f=FOLD))

    def render(self, z: Tensor) -> Tensor:
        """Latents of the codec `(batch, bands, 4 · frames)`; z is `(batch, latent_dim, frames)`."""
        return (self.decoder(z) * self.latent_std + self.latent_mean).relu()

    def loss(self, latents: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error of the standardised latents, plus a thousandth of that of z.

        The second term bounds z, on which the noise acts.

        Args:
            latents: Latents of each source alone, `(batch, n_src, bands, frames)`.
            noise: Standard normal noise, `(batch, n_src, latent_dim, frames / 4)`.
        """
        z = torch.stack([self.encode(latents[:, k], k) for k in range(latents.shape[1])], dim=1)
        rendered = self.decoder((z + NOISE * noise).flatten(0, 1))
        target = (latents.flatten(0, 1) - self.latent_mean) / self.latent_std
        return (rendered - target).square().mean() + 1e-3 * z.square().mean()


def _network(channels: int, width: int, outputs: int, blocks: int) -> nn.Sequential:
    """Residual blocks over frames, between two linear maps."""
    middle = [ResidualBlock(width, width, 3, norm=FrameNorm) for _ in range(blocks)]
    last = [FrameNorm(width), nn.Conv1d(width, outputs, 1)]
    return nn.Sequential(nn.Conv1d(channels, width, 1), *middle, *last)
