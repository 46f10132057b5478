"""UCRSeparator: waveform in, sources out."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from asteroid.models import register_model
from einops import rearrange
from torch import Tensor, nn

from asteroid_ucr import iadb
from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.codecs import Codec, build_codec
from asteroid_ucr.composition import build_composition
from asteroid_ucr.decomposition import Decomposition
from asteroid_ucr.generation.generator import Generative
from asteroid_ucr.masking import apply_masks, wiener_masks
from asteroid_ucr.networks import ComponentUNet1d, SemanticEncoder, UNet2d
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.errors import UserError

DENOISERS = ("unet1d", "unet2d")
REFINEMENTS = ("wiener", "none")


class UCRSeparator(Generative, SeparatorModel):
    """Separates a mixture by unsupervised composable representations (Bindi & Esling 2024).

    An `asteroid.models.BaseModel`: `forward` maps waveforms to waveforms, and `serialize`,
    `from_pretrained`, `separate` and `LambdaOverlapAdd` work as for Asteroid's own models. The
    defaults are the paper's reference configuration, on the codec that needs no weights.

    Args:
        sources: names of the outputs, in order; their number is the number of components.
        codec: "mel", "mdct" or "encodec_24khz".
        codec_options: arguments of the codec, such as `{"bandwidth": 24.0}`.
        codec_fingerprint: what the codec must be for the weights to make sense; checked if given.
        codec_dir: folder of the codec's weights on this machine; not saved with the model.
        latent_dim: channels of each component latent.
        encoder_widths: channels of the semantic encoder's stages.
        denoiser: "unet1d", the paper's, over time; or "unet2d", over frequency and time, for codecs
            whose channels are frequencies.
        denoiser_widths: channels of the denoiser's levels.
        denoiser_kernels: kernel sizes of the levels of "unet1d".
        time_embedding: whether "unet1d" is told α.
        composition: "mean", "sum" or "power_sum".
        steps: default number of sampler steps; 1 is the conditional mean.
        alpha_start: share of the mixture in the blend with noise that components are rendered
            from, in [0, 1): 0 as in the paper; near 1 for models that learnt from solos.
        seed: default seed of the sampler's noise.
        refine: "wiener" uses the estimates as soft masks on the mixture; "none" decodes them.
        prior: options of the masking prior, see `asteroid_ucr.prior.MaskingPrior`; None for no
            prior.
        render_gain: for each channel of a codec with power, what the power of rendered components
            is multiplied by when they are generated; see `asteroid_ucr.training.prior.measure_render_gain`.
        sample_rate: must be the codec's; Asteroid's loader passes it.

    Raises:
        UserError: if an option is not valid or the codec's weights are missing.
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
        if denoiser not in DENOISERS:
            raise UserError(f"denoiser {denoiser!r} is unknown: choose one of {DENOISERS}.")
        super().__init__(sample_rate=built.sample_rate, in_channels=1)
        self._codec = [built]  # in a list, so that it stays out of the state dict
        self.decomposition = Decomposition(
            SemanticEncoder(built.channels, len(sources), latent_dim, tuple(encoder_widths)),
            _build_denoiser(
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
            "sources": list(sources),
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
        self.prior = None
        if prior is not None:
            self.add_prior(**prior)

    @property
    def codec(self) -> Codec:
        """The frozen codec, on the model's device. Its weights are no part of the model's."""
        return self._codec[0].to(self.device)

    # -- separation -------------------------------------------------------------------------------

    def forward(
        self,
        wav: Tensor,
        steps: int | None = None,
        seed: int | None = None,
        refine: str | None = None,
        alpha_start: float | None = None,
    ) -> Tensor:
        """Separates waveforms.

        Args:
            wav: `(batch, 1, time)`, `(batch, time)` or `(time,)` at `sample_rate`.
            steps: of the sampler; None takes the model's own setting, as for the other options.
            seed: of the sampler's noise.
            refine: "wiener": soft masks on the mixture, outputs add up to it; "none": the decoded
                estimates.
            alpha_start: share of the mixture in the blend to render from.

        Returns:
            `(batch, n_src, time)`, or `(n_src, time)` for an input without batch.

        Raises:
            UserError: if an option or the shape is not valid.
        """
        mixture = self._as_batch(wav)
        refine = self._check_refine(self.refine if refine is None else refine)
        if refine == "wiener":
            masks = self.masks(mixture, steps, seed, alpha_start=alpha_start)
            sources = apply_masks(mixture, masks, self.sample_rate)[:, :, 0]
        else:
            gain = level_gain(mixture)
            components = self._components(mixture * gain, steps, seed, 0, alpha_start)
            sources = self._decode(components, mixture.shape[-1]) / gain
        return sources[0] if wav.ndim == 1 else sources

    def masks(
        self,
        wav: Tensor,
        steps: int | None = None,
        seed: int | None = None,
        first_frame: int = 0,
        gain: Tensor | None = None,
        alpha_start: float | None = None,
    ) -> Tensor:
        """Soft masks on the grid of `asteroid_ucr.masking`.

        Args:
            wav: as in `forward`.
            steps: of the sampler.
            seed: of the sampler's noise.
            first_frame: latent frame at which `wav` starts in a longer signal, for the noise.
            gain: brings the longer signal to the training level; None measures `wav` itself.
            alpha_start: as in `forward`.

        Returns:
            `(batch, n_src, freq, frames)`, which sum to one over the sources.
        """
        mixture = self._as_batch(wav)
        mixture = mixture * (level_gain(mixture) if gain is None else gain)
        components = self._components(mixture, steps, seed, first_frame, alpha_start)
        flat = rearrange(components, "b n c t -> (b n) c t")
        power = self.codec.spectrogram(flat, mixture.shape[-1])
        return wiener_masks(rearrange(power, "(b n) f k -> b n f k", n=self.n_src))

    def latent_energy(self, latents: Tensor) -> Tensor:
        """How the energy of a mixture is shared among the sources, from its latents.

        Args:
            latents: of the mixture, `(batch, channels, frames)`; the codec must have power.

        Returns:
            Energy of the mixture under each source's soft mask, `(batch, n_src, frames)`.
        """
        z = self.decomposition.encode(latents)
        components = self._render(z, None, None, 0, latents, self.alpha_start)
        masks = wiener_masks(self.codec.to_power(components))
        return (masks * self.codec.to_power(latents)[:, None]).sum(-2)

    def encode(self, wav: Tensor) -> Tensor:
        """Component latents of a mixture.

        Args:
            wav: as in `forward`.

        Returns:
            `(batch, n_src, latent_dim, frames)`, in the order of `sources`.
        """
        mixture = self._as_batch(wav)
        latents = self.codec.encode(mixture * level_gain(mixture))
        return self.decomposition.encode(latents)

    def decode(
        self,
        z: Tensor,
        length: int | None = None,
        steps: int | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Renders component latents to waveforms, as the decomposition gives them.

        In one step from noise they are quieter than the training data (see
        `asteroid_ucr.training.prior.measure_render_gain`); `generate` makes up for it.

        Args:
            z: `(batch, n_src, latent_dim, frames)`; any number of components.
            length: in samples; None gives a whole number of latent frames.
            steps: of the sampler.
            seed: of the sampler's noise.

        Returns:
            `(batch, n_src, time)`.
        """
        components = self._render(z, steps, seed, first_frame=0)
        return self._decode(components, z.shape[-1] * self.codec.hop if length is None else length)

    def _components(
        self, mixture: Tensor, steps, seed, first_frame: int, alpha_start: float | None
    ) -> Tensor:
        latents = self.codec.encode(mixture)
        z = self.decomposition.encode(latents)
        alpha_start = self.alpha_start if alpha_start is None else alpha_start
        if not 0 <= alpha_start < 1:
            raise UserError(f"alpha_start must be 0 or more and less than 1, got {alpha_start}.")
        return self._render(z, steps, seed, first_frame, latents, alpha_start)

    def _render(
        self,
        z: Tensor,
        steps: int | None,
        seed: int | None,
        first_frame: int,
        mixture: Tensor | None = None,
        alpha_start: float = 0.0,
    ) -> Tensor:
        steps = self.steps if steps is None else steps
        if steps < 1:
            raise UserError(f"steps must be at least 1, got {steps}.")
        seed = self.seed if seed is None else seed
        noise = iadb.frame_noise(self.codec.channels, first_frame, z.shape[-1], seed, z.device)
        return self.decomposition.render(
            z, noise.to(z.dtype), steps, mixture=mixture, alpha_start=alpha_start
        )

    def _decode(self, components: Tensor, length: int) -> Tensor:
        flat = rearrange(components, "b n c t -> (b n) c t")
        return rearrange(
            self.codec.decode(flat, length), "(b n) 1 t -> b n t", n=components.shape[1]
        )

    @staticmethod
    def _check_refine(refine: str) -> str:
        if refine not in REFINEMENTS:
            raise UserError(f"refine {refine!r} is unknown: choose one of {REFINEMENTS}.")
        return refine

    # -- Asteroid's contract ----------------------------------------------------------------------

    def assign(self, order: Sequence[int]) -> None:
        """Permanently reorders the outputs: output k becomes what was output `order[k]`.

        The encoder's towers, and a prior's channels, change their places; the names in `sources`
        stay where they are.

        Args:
            order: A permutation of the outputs' numbers.

        Raises:
            ValueError: if `order` is not a permutation.
        """
        if sorted(order) != list(range(self.n_src)):
            raise ValueError(f"{list(order)} is not a permutation of {self.n_src} outputs.")
        self.decomposition.encoder.pick(order)
        if self.prior is not None:
            self.prior.reorder(order)

    def select(self, sources: Sequence[str]) -> UCRSeparator:
        """A separator of some of the sources: of mixtures that hold no others.

        It has the encoders of these sources, and the denoiser, which is shared; no prior.

        Args:
            sources: names from `self.sources`, in the order of the new outputs.

        Raises:
            UserError: if there is no such source.
        """
        if unknown := [name for name in sources if name not in self.sources]:
            raise UserError(
                f"The model does not separate {', '.join(unknown)}: choose among "
                f"{', '.join(self.sources)}."
            )
        chosen = copy.deepcopy(self)
        chosen.decomposition.encoder.pick([self.sources.index(name) for name in sources])
        chosen.sources, chosen.prior = list(sources), None
        chosen._args = {k: v for k, v in self._args.items() if k != "prior"}
        chosen._args["sources"] = list(sources)
        return chosen

    @classmethod
    def _upgrade(cls, conf: dict[str, Any]) -> dict[str, Any]:
        """Accepts checkpoints of version 0.1, which stored the order of the outputs separately."""
        args, state = dict(conf["model_args"]), dict(conf["state_dict"])
        prior = dict(args.get("prior") or {})
        removed = {
            "trunk": (args.pop("trunk", "separate"), "separate"),
            "variant": (args.pop("variant", "c"), "c"),
            "prior.variant": (prior.pop("variant", "c"), "c"),
        }
        for option, (found, supported) in removed.items():
            if found != supported:
                raise UserError(
                    f"The model was trained with {option} {found!r}, which this version no longer "
                    f"supports (only {supported!r}): train it again, or use version 0.1."
                )
        if args.get("prior"):
            args["prior"] = prior
        order = state.pop("order", None)
        if order is not None and order.tolist() != sorted(order.tolist()):
            model = cls(**args)
            model.load_state_dict(state)
            model.assign(order.tolist())
            state = model.state_dict()
        return {**conf, "model_args": args, "state_dict": state}

    def get_model_args(self) -> dict[str, Any]:
        """Constructor arguments, as plain values."""
        return {
            **self._args,
            "steps": self.steps,
            "alpha_start": self.alpha_start,
            "seed": self.seed,
            "refine": self.refine,
            "render_gain": self.render_gain,
        }


register_model(UCRSeparator)


def _build_denoiser(
    name: str,
    channels: int,
    latent_dim: int,
    widths: Sequence[int],
    kernels: Sequence[int],
    time_embedding: bool,
) -> nn.Module:
    if name == "unet2d":
        return UNet2d(channels, latent_dim, widths)
    dim = 256 if time_embedding else None
    return ComponentUNet1d(channels, latent_dim, tuple(widths), tuple(kernels), embedding_dim=dim)
