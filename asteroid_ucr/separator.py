"""UCRSeparator: waveforms in, sources out."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from asteroid.models import register_model
from einops import rearrange
from torch import Tensor

from asteroid_ucr import iadb
from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.codecs import Codec, build_codec
from asteroid_ucr.composition import build_composition
from asteroid_ucr.decomposition import Decomposition
from asteroid_ucr.generator import STEPS, Generator
from asteroid_ucr.masking import apply_masks, wiener_masks
from asteroid_ucr.networks import SemanticEncoder, build_denoiser
from asteroid_ucr.prior import MaskingPrior
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.errors import UserError

REFINEMENTS = ("wiener", "none")


class UCRSeparator(SeparatorModel):
    """Separates a mixture by unsupervised composable representations (Bindi & Esling 2024).

    An `asteroid.models.BaseModel`: `forward` maps waveforms to waveforms, and `serialize`,
    `from_pretrained`, `separate` and `LambdaOverlapAdd` work as for Asteroid's own models. The
    defaults are the paper's reference configuration, on the codec that needs no weights. The codec
    and the masks always compute in float32, the networks in the precision of their weights.

    Args:
        sources: Names of the outputs, in order; their number is the number of components.
        codec: "mel", "mdct" or "encodec_24khz".
        codec_options: Arguments of the codec, such as `{"bandwidth": 24.0}`.
        codec_fingerprint: Fingerprint of the codec that the weights belong to; checked if given.
        codec_dir: Folder of the codec's weights on this machine; not saved with the model.
        latent_dim: Channels of each component latent.
        encoder_widths: Channels of the semantic encoder's stages.
        denoiser: "unet1d", the paper's, over time; or "unet2d", over frequency and time, for codecs
            whose channels are frequencies.
        denoiser_widths: Channels of the denoiser's levels.
        denoiser_kernels: Kernel sizes of the levels of "unet1d".
        time_embedding: Whether "unet1d" is told α.
        composition: "mean", "sum" or "power_sum".
        steps: Default number of sampler steps; 1 gives the conditional mean.
        alpha_start: Share of the mixture in the blend with noise that components are rendered
            from, in [0, 1): 0 as in the paper; near 1 for models that learnt from solos.
        seed: Default seed of the sampler's noise.
        refine: "wiener" uses the estimates as soft masks on the mixture; "none" decodes them.
        prior: Options of the masking prior, see `asteroid_ucr.prior.MaskingPrior`; None for a
            model without a prior.
        render_gain: Factor, for each channel of a codec with power, of the power of components
            that are generated; see `asteroid_ucr.training.prior`.
        sample_rate: Must be the codec's, in Hz; Asteroid's loader passes it.

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
        prior: dict[str, Any] | None = None,
        render_gain: Sequence[float] | None = None,
        sample_rate: float | None = None,
    ):
        local = {"codec_dir": codec_dir} if codec_dir is not None else {}
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
        if len(set(sources)) != len(sources) or not sources:
            raise UserError(f"sources {list(sources)} must be different names, at least one.")
        super().__init__(sample_rate=built.sample_rate, in_channels=1)
        self._codec = [built]  # in a list, so that it stays out of the state dict
        self.decomposition = Decomposition(
            SemanticEncoder(built.channels, len(sources), latent_dim, tuple(encoder_widths)),
            build_denoiser(
                denoiser,
                built.channels,
                latent_dim,
                denoiser_widths,
                denoiser_kernels,
                time_embedding,
            ),
            build_composition(composition, built),
            built.channels,
        )
        self.sources = list(sources)
        self.steps, self.alpha_start, self.seed, self.refine = steps, alpha_start, seed, refine
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
        self.render_gain = None if render_gain is None else list(render_gain)
        self.prior: MaskingPrior | None = None
        if prior is not None:
            self.add_prior(**prior)

    def add_prior(self, **options: Any) -> None:
        """Adds an untrained prior; the options are those of `asteroid_ucr.prior.MaskingPrior`."""
        self.prior = MaskingPrior(self.n_src, self._args["latent_dim"], **options).to(self.device)
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        self._args["prior"] = plain

    @property
    def codec(self) -> Codec:
        """The frozen codec, on the model's device. Its weights are not part of the model's."""
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
        """Separates waveforms.

        Args:
            wav: `(batch, 1, time)`, `(batch, time)` or `(time,)` at `sample_rate`.
            steps: Number of sampler steps; None takes the model's own setting, as for the other
                options.
            seed: Seed of the sampler's noise.
            refine: "wiener": soft masks on the mixture, and the outputs add up to it; "none": the
                decoded estimates.
            alpha_start: Share of the mixture in the blend to render from.
            noise: Standard normal noise `(1 or batch, channels, frames)` of the codec's latents,
                used instead of a seed; `torch.export` needs it.

        Returns:
            `(batch, n_src, time)`, or `(n_src, time)` for an input without batch.

        Raises:
            UserError: If an option or the shape is not valid.
        """
        mixture = self._as_batch(wav).float()
        refine = self.refine if refine is None else refine
        if refine not in REFINEMENTS:
            raise UserError(f"refine {refine!r} is unknown: choose one of {REFINEMENTS}.")
        if refine == "wiener":
            masks = self.masks(mixture, steps, seed, alpha_start=alpha_start, noise=noise)
            sources = apply_masks(mixture, masks, self.sample_rate)[:, :, 0]
        else:
            gain = level_gain(mixture)
            components = self._components(mixture * gain, steps, seed, 0, alpha_start, noise)
            sources = self._decode(components, mixture.shape[-1]) / gain
        sources = sources.to(wav.dtype)
        return sources[0] if wav.ndim == 1 else sources

    def masks(
        self,
        wav: Tensor,
        steps: int | None = None,
        seed: int | None = None,
        first_frame: int = 0,
        gain: Tensor | None = None,
        alpha_start: float | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Soft masks on the grid of `asteroid_ucr.masking`.

        Args:
            wav: As for `forward`.
            steps: Number of sampler steps.
            seed: Seed of the sampler's noise.
            first_frame: Latent frame at which `wav` starts in a longer signal, for the noise.
            gain: Brings the longer signal to the training level; None measures `wav` itself.
            alpha_start: As for `forward`.
            noise: As for `forward`.

        Returns:
            `(batch, n_src, freq, frames)`, which sum to one over the sources.
        """
        mixture = self._as_batch(wav).float()
        mixture = mixture * (level_gain(mixture) if gain is None else gain)
        components = self._components(mixture, steps, seed, first_frame, alpha_start, noise)
        flat = rearrange(components, "b n c t -> (b n) c t")
        with self._float32():
            power = self.codec.spectrogram(flat, mixture.shape[-1])
        return wiener_masks(rearrange(power, "(b n) f k -> b n f k", n=self.n_src))

    def latent_energy(self, latents: Tensor) -> Tensor:
        """How the energy of a mixture is shared among the sources, from its latents.

        Args:
            latents: Latents of the mixture, `(batch, channels, frames)`; the codec must have power.

        Returns:
            Energy of the mixture under each source's soft mask, `(batch, n_src, frames)`.
        """
        z = self._encode(latents)
        components = self._render(z, None, None, 0, latents, self.alpha_start)
        masks = wiener_masks(self.codec.to_power(components))
        return (masks * self.codec.to_power(latents)[:, None]).sum(-2)

    def encode(self, wav: Tensor) -> Tensor:
        """Component latents of a mixture.

        Args:
            wav: As for `forward`.

        Returns:
            `(batch, n_src, latent_dim, frames)`, in the order of `sources`.
        """
        mixture = self._as_batch(wav).float()
        return self._encode(self._latents(mixture * level_gain(mixture))).float()

    def _float32(self) -> AbstractContextManager[Any]:
        """The codec computes in float32 under autocast as well."""
        kind = self.device.type
        on = torch.is_autocast_enabled(kind)
        return torch.autocast(kind, enabled=False) if on else nullcontext()

    def _latents(self, wav: Tensor) -> Tensor:
        with self._float32():
            return self.codec.encode(wav)

    def decode(
        self,
        z: Tensor,
        length: int | None = None,
        steps: int | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Renders component latents to waveforms, as the decomposition gives them.

        In one step from noise they are quieter than the training data (see
        `asteroid_ucr.training.prior`); `generate` compensates for it.

        Args:
            z: `(batch, n_src, latent_dim, frames)`; any number of components.
            length: Length in samples; None gives a whole number of latent frames.
            steps: Number of sampler steps.
            seed: Seed of the sampler's noise.

        Returns:
            `(batch, n_src, time)`.
        """
        components = self._render(z, steps, seed, first_frame=0)
        return self._decode(components, z.shape[-1] * self.codec.hop if length is None else length)

    def _encode(self, latents: Tensor) -> Tensor:
        return self.decomposition.encode(latents.to(self.dtype))

    def _components(
        self,
        mixture: Tensor,
        steps: int | None,
        seed: int | None,
        first_frame: int,
        alpha_start: float | None,
        noise: Tensor | None,
    ) -> Tensor:
        alpha_start = self.alpha_start if alpha_start is None else alpha_start
        if not 0 <= alpha_start < 1:
            raise UserError(f"alpha_start must be 0 or more and less than 1, got {alpha_start}.")
        latents = self._latents(mixture)
        z = self._encode(latents)
        return self._render(z, steps, seed, first_frame, latents, alpha_start, noise)

    def _render(
        self,
        z: Tensor,
        steps: int | None,
        seed: int | None,
        first_frame: int,
        mixture: Tensor | None = None,
        alpha_start: float = 0.0,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Latents of the components, `(batch, n_src, channels, frames)`, float32."""
        steps = self.steps if steps is None else steps
        if steps < 1:
            raise UserError(f"steps must be at least 1, got {steps}.")
        if noise is None:
            seed = self.seed if seed is None else seed
            noise = iadb.frame_noise(self.codec.channels, first_frame, z.shape[-1], seed)
        noise = noise.to(self.device, self.dtype)
        mixture = None if mixture is None else mixture.to(noise)
        return self.decomposition.render(
            z.to(noise), noise, steps, mixture=mixture, alpha_start=alpha_start
        ).float()

    def _decode(self, components: Tensor, length: int) -> Tensor:
        flat = rearrange(components, "b n c t -> (b n) c t")
        with self._float32():
            wav = self.codec.decode(flat, length)
        return rearrange(wav, "(b n) 1 t -> b n t", n=components.shape[1])

    # -- generation -------------------------------------------------------------------------------

    @property
    def generator(self) -> Generator:
        """What `generate` uses, step by step: `plan`, `sample` and `render`.

        Raises:
            UserError: If the model has no prior.
        """
        if self.prior is None:
            raise UserError(
                "This model has no prior, so it cannot generate: use a model that was trained with "
                "one (stage 4 of the recipe)."
            )
        core, gain = self.decomposition, self.render_gain
        return Generator(core, self.prior, self.codec, self.sources, self.steps, gain)

    def generate(
        self,
        seconds: float = 10.0,
        keep: Mapping[str, Tensor] | None = None,
        *,
        mixture: Tensor | None = None,
        strength: float | None = None,
        steps: int = STEPS,
        render_steps: int | None = None,
        seed: int | None = None,
        batch: int | None = None,
    ) -> Tensor:
        """Generates sources by the prior: from nothing, to go with others, or as a variation.

        Args:
            seconds: Length.
            keep: Sources that are given, by name: mono audio at `sample_rate`, `(time,)`,
                `(batch, time)` or `(batch, 1, time)`; or component latents, `(latent_dim, frames)`
                or `(batch, latent_dim, frames)`, as `encode` gives them. Their length must be the
                one asked for, and tells which of the two they are.
            mixture: Audio to vary, of the same length.
            strength: Strength of the variation, between 0 (hardly any) and 1 (nothing left of the
                mixture): its latents are blended with noise at α = 1 − strength.
            steps: Steps of the prior's sampler.
            render_steps: Steps of the denoiser's sampler; None takes the model's `steps`.
            seed: Item i of the batch is what the seed `seed + i` gives alone; None takes the
                model's seed.
            batch: Number of items; None takes that of what is given, or 1.

        Returns:
            `(batch, n_src, time)` on the CPU, in the order of `sources`; they add up to the
            mixture. What was kept as audio is that audio, unchanged, and the others are at its
            level; without audio, they are at the level of the training.

        Raises:
            UserError: If the model has no prior, or an argument is not valid.
        """
        generator, seed = self.generator, self.seed if seed is None else seed
        plan = generator.plan(seconds, keep, mixture, strength, batch)
        return generator.render(plan, generator.sample(plan, steps, seed), render_steps, seed)

    def generate_latents(
        self,
        seconds: float = 10.0,
        keep: Mapping[str, Tensor] | None = None,
        *,
        mixture: Tensor | None = None,
        strength: float | None = None,
        steps: int = STEPS,
        seed: int | None = None,
        batch: int | None = None,
    ) -> Tensor:
        """The component latents `(batch, n_src, latent_dim, frames)` that `generate` renders."""
        plan = self.generator.plan(seconds, keep, mixture, strength, batch)
        return self.generator.sample(plan, steps, self.seed if seed is None else seed)

    # -- sources and settings ---------------------------------------------------------------------

    def assign(self, order: Sequence[int]) -> None:
        """Permanently reorders the outputs: output k becomes what was output `order[k]`.

        The encoder's towers, and a prior's channels, change their places; the names in `sources`
        stay where they are.

        Args:
            order: A permutation of the outputs' numbers.

        Raises:
            ValueError: If `order` is not a permutation.
        """
        if sorted(order) != list(range(self.n_src)):
            raise ValueError(f"{list(order)} is not a permutation of {self.n_src} outputs.")
        self.decomposition.encoder.pick(order)
        if self.prior is not None:
            self.prior.reorder(order)

    def select(self, sources: Sequence[str]) -> UCRSeparator:
        """A separator of some of the sources, for mixtures that hold no others.

        It has the encoders of these sources, and the denoiser, which is shared; no prior.

        Args:
            sources: Names from `self.sources`, in the order of the new outputs.

        Raises:
            UserError: If there is no such source.
        """
        if unknown := [name for name in sources if name not in self.sources]:
            raise UserError(
                f"The model does not separate {', '.join(unknown)}: choose among "
                f"{', '.join(self.sources)}."
            )
        chosen = copy.deepcopy(self)
        chosen.decomposition.encoder.pick([self.sources.index(name) for name in sources])
        chosen.sources, chosen.prior = list(sources), None
        chosen._args.pop("prior", None)
        return chosen

    @classmethod
    def _upgrade(cls, conf: dict[str, Any]) -> dict[str, Any]:
        """Accepts checkpoints of version 0.1, which stored the order of the outputs separately."""
        args, state = dict(conf["model_args"]), dict(conf["state_dict"])
        if args.get("prior"):
            args["prior"] = dict(args["prior"])
        for place, option, supported in [
            (args, "trunk", "separate"),
            (args, "variant", "c"),
            (args.get("prior") or {}, "variant", "c"),
        ]:
            if place.get(option, supported) != supported:
                raise UserError(
                    f"The model was trained with {option} {place[option]!r}, which this version "
                    f"no longer supports (only {supported!r}): train it again."
                )
            place.pop(option, None)
        order = state.pop("order", torch.arange(len(args["sources"]))).tolist()
        if order != sorted(order):
            model = cls(**args)
            model.load_state_dict(state)
            model.assign(order)
            state = model.state_dict()
        return {**conf, "model_args": args, "state_dict": state}

    def get_model_args(self) -> dict[str, Any]:
        """Constructor arguments, as plain values."""
        return {
            "sources": self.sources,
            **self._args,
            "steps": self.steps,
            "alpha_start": self.alpha_start,
            "seed": self.seed,
            "refine": self.refine,
            "render_gain": self.render_gain,
        }


register_model(UCRSeparator)
