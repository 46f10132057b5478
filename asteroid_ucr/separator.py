"""UCRSeparator: separates waveforms into sources, and generates sources with a prior."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from asteroid.models import register_model
from torch import Tensor

from asteroid_ucr import iadb
from asteroid_ucr.codecs import Codec, build_codec
from asteroid_ucr.composition import build_composition
from asteroid_ucr.decomposition import Decomposition
from asteroid_ucr.generator import GenerativeModel
from asteroid_ucr.masking import apply_masks, downmix, wiener_masks
from asteroid_ucr.networks import SemanticEncoder, build_denoiser
from asteroid_ucr.utils.audio import level_gain, resample, without_offset
from asteroid_ucr.utils.errors import UserError, check_positive

REFINEMENTS = ("wiener", "none")


class UCRSeparator(GenerativeModel):
    """Separates a mixture by unsupervised composable representations (Bindi & Esling 2024).

    An `asteroid.models.BaseModel`: `forward` maps waveforms to waveforms, and `serialize`,
    `from_pretrained`, `separate` and `LambdaOverlapAdd` work as for Asteroid's own models. The
    defaults are the paper's reference configuration, with a codec that needs no weights. The codec
    and the masks are computed in float32, and the networks in the precision of their weights.

    Args:
        sources: Names of the outputs, in order. Each source is one component.
        codec: Name of the codec: "mel", "mdct" or "encodec_24khz".
        codec_options: Arguments of the codec, such as `{"bandwidth": 24.0}`.
        codec_fingerprint: Required fingerprint of the codec; None accepts any.
        codec_dir: Folder with the codec's weights; not saved with the model.
        latent_dim: Channels of each component latent.
        encoder_widths: Channels of the semantic encoder's stages.
        denoiser: Name of the denoiser: "unet1d" over time, as in the paper, or "unet2d" over
            frequency and time, for codecs whose channels are frequencies.
        denoiser_widths: Channels of the denoiser's levels.
        denoiser_kernels: Kernel sizes of the levels of "unet1d".
        time_embedding: Whether "unet1d" receives α.
        composition: Name of the composition: "mean", "sum" or "power_sum".
        steps: Default number of sampler steps; one step gives the conditional mean.
        alpha_start: Share of the mixture in the blend with noise from which components are
            rendered, in [0, 1): 0 as in the paper, near 1 for models trained with solos.
        seed: Default seed of the sampler's noise.
        refine: Use of the rendered components: "wiener" makes them soft masks on the mixture,
            "none" decodes them.
        renderer: Arguments of `asteroid_ucr.renderer.Renderer`, whose latents the prior draws; None
            for a prior of the decomposition's component latents, as in the paper.
        prior: Arguments of `asteroid_ucr.prior.MaskingPrior`; None for a model without a prior.
        render_gain: Factor for the power of generated components, for each channel of a codec with
            powers; see `asteroid_ucr.training.prior`.
        sample_rate: Sample rate of the codec, in Hz, which Asteroid's loader passes.

    Raises:
        UserError: If an option is not valid or the codec's weights are missing.
    """

    def __init__(
        self,
        sources: Sequence[str] = ("drums", "bass"),
        codec: str = "mel",
        codec_options: dict[str, Any] | None = None,
        codec_fingerprint: str | None = None,
        codec_dir: str | None = None,
        latent_dim: int = 1,
        encoder_widths: Sequence[int] = (256, 512),
        denoiser: str = "unet1d",
        denoiser_widths: Sequence[int] = (128, 256, 256, 512),
        denoiser_kernels: Sequence[int] = (5, 3, 3, 3),
        time_embedding: bool = True,
        composition: str = "mean",
        steps: int = 1,
        alpha_start: float = 0.0,
        seed: int = 0,
        refine: str = "wiener",
        renderer: dict[str, Any] | None = None,
        prior: dict[str, Any] | None = None,
        render_gain: Sequence[float] | None = None,
        sample_rate: float | None = None,
    ):
        local = {} if codec_dir is None else {"codec_dir": codec_dir}
        built = build_codec(codec, **(codec_options or {}), **local)
        if sample_rate not in (None, built.sample_rate):
            raise UserError(
                f"sample_rate {sample_rate} is not that of the codec {codec!r}: leave it out, or "
                f"set it to {built.sample_rate}."
            )
        if codec_fingerprint not in (None, built.fingerprint):
            raise UserError(
                f"The model was trained with another codec ({codec_fingerprint}) than the one "
                f"found here ({built.fingerprint}): provide the codec weights of its training."
            )
        super().__init__(sources, built.sample_rate)
        self._codec = [built]  # in a list, so that it is not part of the state dict
        channels = built.channels
        encoder = SemanticEncoder(channels, len(sources), latent_dim, tuple(encoder_widths))
        network = build_denoiser(
            denoiser, channels, latent_dim, denoiser_widths, denoiser_kernels, time_embedding
        )
        compose = build_composition(composition, built)
        self.decomposition = Decomposition(encoder, network, compose, channels)
        self.steps, self.alpha_start, self.seed, self.refine = steps, alpha_start, seed, refine
        self.render_gain = None if render_gain is None else list(render_gain)
        self._args = {
            "codec": codec,
            "codec_options": built.options,
            "codec_fingerprint": built.fingerprint,
            "latent_dim": latent_dim,
            "encoder_widths": list(encoder_widths),
            "denoiser": denoiser,
            "denoiser_widths": list(denoiser_widths),
            "denoiser_kernels": list(denoiser_kernels),
            "time_embedding": time_embedding,
            "composition": composition,
            "sample_rate": built.sample_rate,
        }
        self.renderer = self.prior = None
        if renderer is not None:
            self.add_renderer(**renderer)
        if prior is not None:
            self.add_prior(**prior)

    @property
    def codec(self) -> Codec:
        """The frozen codec, on the model's device; its weights are not part of the model."""
        codec = self._codec[0]
        tensors = [*codec.parameters(), *codec.buffers()]
        return codec if all(t.device == self.device for t in tensors) else codec.to(self.device)

    # -- separation -------------------------------------------------------------------------------

    def forward(
        self,
        wav: Tensor,
        steps: int | None = None,
        seed: int | None = None,
        refine: str | None = None,
        alpha_start: float | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Separates waveforms; an option that is None takes the model's own setting.

        Args:
            wav: `(batch, 1, time)`, `(batch, time)` or `(time,)` at `sample_rate`.
            steps: Number of sampler steps.
            seed: Seed of the sampler's noise.
            refine: "wiener" applies soft masks, whose outputs add up to the mixture; "none" decodes
                the rendered components.
            alpha_start: Share of the mixture in the blend from which components are rendered.
            noise: Standard normal noise `(1 or batch, channels, frames)` of the codec's latents,
                used instead of a seed; `torch.export` needs it.

        Returns:
            `(batch, n_src, time)`, or `(n_src, time)` for an input without batch.

        Raises:
            UserError: If an option or the shape is not valid.
        """
        given = self._as_batch(wav)
        mixture = given.float()
        refine = self.refine if refine is None else refine
        if refine not in REFINEMENTS:
            raise UserError(f"refine {refine!r} is unknown: choose one of {REFINEMENTS}.")
        if not len(mixture):
            return given.new_zeros(0, self.n_src, wav.shape[-1])
        options = {"steps": steps, "seed": seed, "alpha_start": alpha_start, "noise": noise}
        if refine == "wiener":
            masks = self.masks(mixture, **options)
            sources = apply_masks(mixture, masks, self.sample_rate)[:, :, 0]
        else:
            gain = level_gain(mixture)
            latents = self._latents(mixture, gain)
            sources = self._decode(self._components(latents, **options), wav.shape[-1]) / gain
        sources = sources.to(given.dtype)
        return sources[0] if wav.ndim == 1 else sources

    def masks(
        self, wav: Tensor, *, first_frame: int = 0, gain: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Soft masks on the grid of `asteroid_ucr.masking`.

        Args:
            wav: As for `forward`.
            first_frame: Latent frame at which `wav` starts in a longer signal, for the noise.
            gain: Gain that brings the longer signal to the level of the training; None derives it
                from `wav`.
            **options: `steps`, `seed`, `alpha_start` and `noise`, as for `forward`.

        Returns:
            `(batch, n_src, freq, frames)`, which sum to one over the sources.
        """
        latents = self._latents(self._as_batch(wav), gain)
        components = self._components(latents, first_frame=first_frame, **options)
        flat, length = components.flatten(0, 1), wav.shape[-1]
        power = self._in_float32(self.codec.spectrogram, flat, length)
        return wiener_masks(power.unflatten(0, components.shape[:2]))

    def separate_part(
        self, wav: Tensor, sample_rate: int, second: int, gain: Tensor, **options: Any
    ) -> Tensor:
        """Separates a part of a recording; see `SeparatorModel.separate_part`.

        All channels get the same masks, so that the stems add up to `wav`.
        """
        wav = wav.to(self.device)[None]
        # The masks are at the training level, so that powers are in the range of single precision.
        level = gain.to(wav)
        mono = downmix(level * without_offset(wav), sample_rate)
        mono = resample(mono, sample_rate, int(self.sample_rate))
        frame = second * self.codec.sample_rate // self.codec.hop
        masks = self.masks(mono, gain=torch.ones_like(level), first_frame=frame, **options)
        return apply_masks(wav, masks, sample_rate)[0]

    def latent_energy(self, latents: Tensor) -> Tensor:
        """Energy of a mixture under each source's soft mask, `(batch, n_src, frames)`.

        Args:
            latents: Latents of the mixture, `(batch, channels, frames)`, of a codec with powers.
        """
        masks = wiener_masks(self.codec.to_power(self._components(latents)))
        return (masks * self.codec.to_power(latents)[:, None]).sum(-2)

    def encode(self, wav: Tensor) -> Tensor:
        """Component latents `(batch, n_src, latent_dim, frames)`, in the order of `sources`.

        Args:
            wav: Mixture, as for `forward`.
        """
        latents = self._latents(self._as_batch(wav))
        return self.decomposition.encode(latents.to(self.dtype)).float()

    def decode(self, z: Tensor, length: int | None = None, **options: Any) -> Tensor:
        """Renders component latents to waveforms `(batch, n_src, time)`.

        Unlike `generate`, it does not correct their level; see `asteroid_ucr.training.prior`.

        Args:
            z: `(batch, n_src, latent_dim, frames)`, with any number of components.
            length: Length in samples; None takes a whole number of latent frames.
            **options: `steps`, `seed` and `noise`, as for `forward`.
        """
        length = z.shape[-1] * self.codec.hop if length is None else length
        return self._decode(self._render(z, **options), length)

    def _latents(self, mixture: Tensor, gain: Tensor | None = None) -> Tensor:
        """The codec's latents of `(batch, 1, time)`, without offset and at the training level."""
        mixture = mixture.float()
        gain = level_gain(mixture) if gain is None else gain
        return self._in_float32(self.codec.encode, gain * without_offset(mixture))

    def _in_float32(self, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """Calls a function of the codec, which computes in float32 under autocast as well."""
        kind = self.device.type
        on = torch.is_autocast_enabled(kind)
        with torch.autocast(kind, enabled=False) if on else nullcontext():
            return function(*arguments)

    def _decode(self, components: Tensor, length: int) -> Tensor:
        """Waveforms `(batch, n_src, length)` of components."""
        wavs = self._in_float32(self.codec.decode, components.flatten(0, 1), length)
        return wavs.unflatten(0, components.shape[:2])[:, :, 0]

    def _components(
        self, latents: Tensor, alpha_start: float | None = None, **options: Any
    ) -> Tensor:
        """Encodes the latents of a mixture and renders the components."""
        alpha_start = self.alpha_start if alpha_start is None else alpha_start
        if not 0 <= alpha_start < 1:
            raise UserError(f"alpha_start must be 0 or more and less than 1, got {alpha_start}.")
        z = self.decomposition.encode(latents.to(self.dtype))
        return self._render(z, mixture=latents, alpha_start=alpha_start, **options)

    def _render(
        self,
        z: Tensor,
        steps: int | None = None,
        seed: int | None = None,
        first_frame: int = 0,
        mixture: Tensor | None = None,
        alpha_start: float = 0.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Latents of the components, `(batch, n_src, channels, frames)`, float32."""
        steps = self.steps if steps is None else steps
        check_positive(steps=steps)
        if noise is None:
            seed = self.seed if seed is None else seed
            noise = iadb.frame_noise(self.codec.channels, first_frame, z.shape[-1], seed)
        noise = noise.to(self.device, self.dtype)
        mixture = None if mixture is None else mixture.to(noise)
        return self.decomposition.render(z.to(noise), noise, steps, mixture, alpha_start).float()

    # -- sources and settings ---------------------------------------------------------------------

    def assign(self, order: Sequence[int]) -> None:
        """Permanently reorders the outputs: output k becomes what was output `order[k]`.

        The names in `sources` keep their order.

        Raises:
            ValueError: If `order` is not a permutation of the outputs' numbers.
        """
        if sorted(order) != list(range(self.n_src)):
            raise ValueError(f"{list(order)} is not a permutation of {self.n_src} outputs.")
        self._pick(order)

    def select(self, sources: Sequence[str]) -> UCRSeparator:
        """A separator of some of the sources, in this order, for mixtures that contain only these.

        It has the encoders of these sources and the shared networks. The prior is told that the
        other sources are absent; it is left out if it was trained without absent sources, or if one
        source alone remains, which no prior has heard.

        Raises:
            UserError: If a source does not exist.
        """
        if unknown := [name for name in sources if name not in self.sources]:
            raise UserError(
                f"The model does not separate {', '.join(unknown)}: choose among "
                f"{', '.join(self.sources)}."
            )
        chosen = copy.deepcopy(self)
        known = self.prior is not None and self.prior.subsets and len(sources) > 1
        if set(sources) != set(self.sources) and not known:
            chosen.remove_prior()
        chosen._pick([self.sources.index(name) for name in sources])
        chosen.sources = list(sources)
        return chosen

    def _pick(self, components: Sequence[int]) -> None:
        """Keeps only these components, in this order."""
        self.decomposition.encoder.pick(components)
        if self.renderer is not None:
            self.renderer.pick(components)
        if self.prior is not None:
            self.prior.pick(components)
            places = {"n_src": len(self.prior.means), "slots": self.prior.slots}
            self._args["prior"] = {**self._args["prior"], **places}

    def get_model_args(self) -> dict[str, Any]:
        """Constructor arguments, as plain values."""
        settings = ("steps", "alpha_start", "seed", "refine", "render_gain")
        own = {name: getattr(self, name) for name in settings}
        return {"sources": self.sources, **self._args, **own}


register_model(UCRSeparator)
