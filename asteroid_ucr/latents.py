"""Where a prior draws from: the component latents of a model, and what they sound like.

Both classes have the same methods. `MixtureLatents` are those of the decomposition, as in the
paper; `StemLatents` are those of a renderer, which hold the pitch of a source.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asteroid_ucr import iadb
from asteroid_ucr.codecs import Codec
from asteroid_ucr.decomposition import Decomposition
from asteroid_ucr.renderer import FOLD, Renderer
from asteroid_ucr.utils.errors import UserError


class Latents(ABC):
    """Component latents `(batch, n_src, latent_dim, frames)`, to and from waveforms.

    Attributes:
        codec: Codec through which they sound.
        latent_dim: Channels of each component latent.
        hop: Samples per latent frame.
    """

    codec: Codec
    latent_dim: int
    hop: int

    def frames(self, samples: int) -> int:
        """Number of latent frames of a waveform with this number of samples."""
        return -(-samples // self.hop)

    @abstractmethod
    def of_mixture(self, wav: Tensor) -> Tensor:
        """Latents of all components of a mixture `(batch, time)` at the training level."""

    @abstractmethod
    def of_stem(self, wav: Tensor, source: int) -> Tensor:
        """Latents `(batch, latent_dim, frames)` of a source, which `wav` `(batch, time)` holds."""

    @abstractmethod
    def sound(
        self,
        z: Tensor,
        wanted: Sequence[int],
        length: int,
        first: int,
        steps: int | None,
        seed: int,
    ) -> Tensor:
        """Waveforms of some components, at their levels in the mixture.

        Args:
            z: `(batch, n_src, latent_dim, frames)`.
            wanted: Numbers of the components.
            length: Length of the waveforms, in samples.
            first: Number of the first frame in a longer signal.
            steps: Steps of the denoiser's sampler; None takes the model's.
            seed: Seed of its noise, of the first item.

        Returns:
            `(batch, len(wanted), length)`.
        """


@dataclass
class MixtureLatents(Latents):
    """The component latents of the decomposition, rendered by its denoiser.

    Attributes:
        decomposition: Model that encodes mixtures and renders components.
        codec: The decomposition's codec.
        latent_dim: Channels of each component latent.
        steps: Default number of steps of the denoiser's sampler.
        render_gain: Factor for the rendered power in each channel of the codec, or None.
    """

    decomposition: Decomposition
    codec: Codec
    latent_dim: int
    steps: int = 1
    render_gain: Sequence[float] | None = None

    @property
    def hop(self) -> int:  # type: ignore[override]
        """Samples per latent frame."""
        return self.codec.hop

    def of_mixture(self, wav: Tensor) -> Tensor:
        """Encodes the mixture."""
        latents = self.codec.encode(wav[:, None]).to(self.decomposition.latent_mean.dtype)
        return self.decomposition.encode(latents).float()

    def of_stem(self, wav: Tensor, source: int) -> Tensor:
        """A stem is encoded as a mixture is, and the latent of its own component is used."""
        return self.of_mixture(wav)[:, source]

    def sound(
        self,
        z: Tensor,
        wanted: Sequence[int],
        length: int,
        first: int,
        steps: int | None,
        seed: int,
    ) -> Tensor:
        """Renders all components from the same noise, and balances their levels."""
        noise = [
            iadb.frame_noise(self.codec.channels, first, z.shape[-1], seed + i)
            for i in range(len(z))
        ]
        z = z.to(self.decomposition.latent_mean)
        steps = self.steps if steps is None else steps
        components = self.decomposition.render(z, torch.cat(noise).to(z), steps)
        balanced, scale = self.balance(components.float())
        wav = scale * self.codec.decode(balanced[:, wanted].flatten(0, 1), length)
        return wav[:, 0].unflatten(0, (len(z), -1))

    def balance(self, components: Tensor) -> tuple[Tensor, float]:
        """Brings rendered components to their levels in the mixture that they compose.

        Under the composition `mean`, for example, each component has the power of the mixture. In
        latents with powers, each component gets its share of the mixture's power in each channel,
        times `render_gain`. Otherwise the waveforms are scaled, as if the decoder were linear.

        Returns:
            Latents shaped like `components`, and a factor for the decoded waveforms.
        """
        codec, compose = self.codec, self.decomposition.compose
        if not codec.has_power:
            n_src = components.shape[1]
            return components, float(compose(torch.ones(1, n_src, 1, 1))) / n_src
        power = codec.to_power(components)
        total = codec.to_power(compose(components))
        if self.render_gain is not None:
            total = total * total.new_tensor(self.render_gain)[:, None]
        share = power / power.sum(1, keepdim=True).clamp(min=1e-20)
        return codec.from_power(share * total[:, None]), 1.0


@dataclass
class StemLatents(Latents):
    """The latents of a renderer; those of a mixture are those of its separated sources.

    Attributes:
        renderer: Autoencoder of single sources.
        separate: Separates mixtures `(batch, 1, time)` into `(batch, n_src, time)`.
    """

    renderer: Renderer
    separate: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        self.codec = self.renderer.codec
        self.latent_dim, self.hop = self.renderer.latent_dim, FOLD * self.codec.hop

    def of_mixture(self, wav: Tensor) -> Tensor:
        """Separates the mixture, and encodes each source."""
        stems = self.separate(wav[:, None])
        return torch.stack([self.of_stem(stems[:, k], k) for k in range(stems.shape[1])], dim=1)

    def of_stem(self, wav: Tensor, source: int) -> Tensor:
        """Encodes a source alone."""
        latents = self.codec.encode(wav[:, None])
        return self.renderer.encode(latents.to(self.renderer.latent_mean.dtype), source).float()

    def sound(
        self,
        z: Tensor,
        wanted: Sequence[int],
        length: int,
        first: int,
        steps: int | None,
        seed: int,
    ) -> Tensor:
        """The renderer takes one step, without noise.

        Raises:
            UserError: If another number of steps is asked for.
        """
        if steps is not None:
            raise UserError("The model's renderer takes no steps: leave out render_steps.")
        flat = z[:, wanted].flatten(0, 1).to(self.renderer.latent_mean)
        wav = self.codec.decode(self.renderer.render(flat).float(), length)
        return wav[:, 0].unflatten(0, (len(z), -1))
