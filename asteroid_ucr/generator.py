"""Generation with a masking prior: a plan, component latents, and their waveforms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asteroid_ucr import iadb
from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.codecs import Codec
from asteroid_ucr.decomposition import Decomposition
from asteroid_ucr.latents import Latents, MixtureLatents, StemLatents
from asteroid_ucr.prior import MaskingPrior
from asteroid_ucr.renderer import Renderer
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.crossfade import CHUNK_SECONDS, OVERLAP_SECONDS, chunk_starts, crossfade
from asteroid_ucr.utils.errors import UserError, check_positive
from asteroid_ucr.utils.seeding import generator_for

STEPS = 25  # default steps of the prior's sampler
FADE = 0.02  # seconds, at both ends of a part that is in-painted
_STREAM = 1  # makes the prior's noise differ from the denoiser's, which has the same seed


@dataclass
class Plan:
    """A request for generation, checked and encoded.

    Attributes:
        samples: Length of the waveforms.
        frames: Length of the latents.
        batch: Number of items.
        audio: Waveforms `(batch, samples)` of the sources that are kept as audio, by source number.
        latents: Latents of all kept sources, `(batch, n_src, latent_dim, frames)`, zero elsewhere.
        mask: `(n_src,)`, True for the sources to generate.
        spans: First second and last of the parts of kept sources to generate, by source number.
        start: Component latents of the mixture to vary, or None.
        strength: Strength of the variation, or None.
        gain: Gain `(batch, 1, 1)` from the level of the given audio to the level of the training.
    """

    samples: int
    frames: int
    batch: int
    audio: dict[int, Tensor]
    latents: Tensor
    mask: Tensor
    spans: dict[int, tuple[float, float]]
    start: Tensor | None
    strength: float | None
    gain: Tensor


@dataclass(frozen=True)
class Generator:
    """The parts of a model that generation uses; see `UCRSeparator.generator`.

    Attributes:
        latents: The component latents, to and from waveforms.
        prior: Model of these latents.
        sources: Names of the components.
    """

    latents: Latents
    prior: MaskingPrior
    sources: Sequence[str]

    @property
    def device(self) -> torch.device:
        """The device of the prior, and of the component latents."""
        return self.prior.means.device

    @property
    def sample_rate(self) -> int:
        """Sample rate of the waveforms, in Hz."""
        return self.latents.codec.sample_rate

    @torch.no_grad()
    def plan(
        self,
        seconds: float,
        keep: Mapping[str, Tensor] | None = None,
        mixture: Tensor | None = None,
        strength: float | None = None,
        batch: int | None = None,
        inpaint: Mapping[str, tuple[float, float]] | None = None,
    ) -> Plan:
        """Checks the arguments of `UCRSeparator.generate`, and encodes the given audio.

        Audio to keep is encoded by `Latents.of_stem`. One gain brings the sum of all kept audio to
        the level that it has on average in a mixture at the level of the training, in which all
        sources are equally loud.

        Raises:
            UserError: If an argument is not valid.
        """
        if not (math.isfinite(seconds) and seconds > 0):
            raise UserError(f"seconds must be above 0, got {seconds:g}.")
        if (mixture is None) != (strength is None):
            raise UserError("A variation needs both a mixture and a strength: give both or none.")
        if strength is not None and not 0 < strength < 1:
            raise UserError(f"strength must lie between 0 and 1, got {strength:g}.")
        device, n_src = self.device, len(self.sources)
        samples = max(1, round(seconds * self.sample_rate))
        frames = self.latents.frames(samples)
        given = {
            source_number(self.sources, name): self._shaped(name, value, samples, frames)
            for name, value in (keep or {}).items()
        }
        spans = {source_number(self.sources, k): span for k, span in (inpaint or {}).items()}
        if not set(range(n_src)) - given.keys() | spans.keys():
            raise UserError("All sources are kept, so nothing is left to generate: keep fewer.")
        inputs = list(given.values())
        if mixture is not None:
            mixture = self._shaped("mixture", mixture, samples, None)
            inputs.append(mixture)
        size = _batch_size(batch, inputs)

        for k, (first, last) in spans.items():
            if k not in given or given[k].ndim == 3:
                raise UserError(f"{self.sources[k]} cannot be in-painted: give its audio to keep.")
            if not 0 <= first < last <= seconds:
                raise UserError(
                    f"{self.sources[k]} cannot be in-painted from {first:g} to {last:g} s: name a "
                    f"part of its {seconds:g} s."
                )

        audio = {k: v.expand(size, -1) for k, v in given.items() if v.ndim == 2}
        gain, start = torch.ones(size, 1, 1, device=device), None
        if mixture is not None:
            gain = level_gain(mixture[:, None]).expand(size, 1, 1)
            start = self.latents.of_mixture(mixture * gain[: len(mixture), 0])
            start = start.expand(size, -1, -1, -1)
        if audio:
            share = len(audio) / n_src  # of the training mixtures' power
            gain = share**0.5 * level_gain(torch.stack(list(audio.values())).sum(0)[:, None])
        latents = torch.zeros(size, n_src, self.prior.latent_dim, frames, device=device)
        for k, value in given.items():
            audible = k in audio
            latents[:, k] = self.latents.of_stem(audio[k] * gain[:, 0], k) if audible else value
        mask = [k not in given or k in spans for k in range(n_src)]
        mask = torch.tensor(mask, device=device)
        return Plan(samples, frames, size, audio, latents, mask, spans, start, strength, gain)

    @torch.no_grad()
    def sample(
        self, plan: Plan, steps: int = STEPS, seed: int = 0, guidance: float = 1.0
    ) -> Tensor:
        """Draws component latents `(batch, n_src, latent_dim, frames)` from the prior.

        Kept latents are returned unchanged. The first item has the seed `seed`, and the next items
        have the next seeds.
        """
        check_positive(steps=steps)
        if not (math.isfinite(guidance) and guidance >= 0):
            raise UserError(f"guidance must be 0 or more, got {guidance:g}.")
        if guidance != 1 and not self.prior.subsets:
            raise UserError(
                "guidance needs a prior that was trained on subsets of the sources, which this one "
                "was not: leave it out."
            )
        channels, frames = plan.latents[0, ..., 0].numel(), plan.frames
        seeds = [generator_for(seed + i, _STREAM).initial_seed() for i in range(plan.batch)]
        noise = torch.cat([iadb.frame_noise(channels, 0, frames, seed) for seed in seeds])
        noise = noise.unflatten(1, plan.latents.shape[1:3]).to(self.prior.means)
        inside = torch.ones(len(plan.mask), frames, dtype=torch.bool)
        rate = self.sample_rate / self.latents.hop
        for k, (first, last) in plan.spans.items():
            inside[k, : math.floor(first * rate)] = False
            inside[k, math.ceil(last * rate) :] = False
        z = self.prior.sample(
            noise,
            plan.mask.expand(plan.batch, -1),
            plan.latents.to(noise),
            steps,
            0.0 if plan.strength is None else 1 - plan.strength,
            None if plan.start is None else plan.start.to(noise),
            inside.to(noise.device),
            guidance,
        )
        return torch.where(plan.mask[:, None, None], z.float(), plan.latents)

    def render(self, plan: Plan, z: Tensor, steps: int | None = None, seed: int = 0) -> Tensor:
        """Renders component latents in overlapping chunks, which are cross-faded.

        Returns:
            Waveforms `(batch, n_src, samples)` on the CPU, at the level of the given audio. Sources
            kept as audio are returned unchanged, but for the parts to in-paint, with short fades.
            Beside these, each generated source has the level that it has on average in training.
        """
        wanted = [k for k in range(len(self.sources)) if k not in plan.audio or k in plan.spans]
        hop = self.latents.hop
        length, overlap = (s * self.sample_rate // hop for s in (CHUNK_SECONDS, OVERLAP_SECONDS))

        def chunks() -> Iterator[Tensor]:
            for first in chunk_starts(plan.frames, length, overlap):
                part = z[..., first : first + length]
                size = min(plan.samples - first * hop, part.shape[-1] * hop)
                yield self.latents.sound(part, wanted, size, first, steps, seed).cpu()

        stems = torch.empty(plan.batch, len(self.sources), plan.samples)
        with torch.no_grad():
            heard = torch.cat(list(crossfade(chunks(), overlap * hop)), dim=-1)
        if plan.audio and plan.start is None:
            # A kept stem does not tell how loud its partners were: they get the mean level.
            new = [place for place, k in enumerate(wanted) if k not in plan.spans]
            heard[:, new] *= len(self.sources) ** -0.5 * level_gain(heard[:, new])
        stems[:, wanted] = heard / plan.gain.cpu()
        for k, wav in plan.audio.items():
            span = plan.spans.get(k, (0.0, 0.0))
            stems[:, k] = put_into(wav.cpu(), stems[:, k], span, self.sample_rate)
        return stems

    def _shaped(self, name: str, value: Tensor, samples: int, frames: int | None) -> Tensor:
        """Checks the shape of audio, or of latents if `frames` allows them.

        Returns `(batch, samples)` or `(batch, latent_dim, frames)`; the length tells which.
        """
        value = value.to(self.device, torch.float32)
        found = value.shape[-1] if value.ndim else 0
        if found == samples:
            if value.ndim == 3 and value.shape[1] == 1:
                value = value[:, 0]
            if value.ndim < 3:
                return torch.atleast_2d(value)
        elif frames is not None and found == frames:
            value = value[None] if value.ndim == 2 else value
            if value.ndim == 3 and value.shape[1] == self.prior.latent_dim:
                return value
        else:
            rate = self.sample_rate
            latent = "" if frames is None else f" (or {frames} latent frames)"
            raise UserError(
                f"{name} has {found} samples, {found / rate:g} s at {rate} Hz, but "
                f"{samples / rate:g} s are requested, {samples} samples{latent}: cut it, or set "
                "seconds accordingly."
            )
        raise UserError(
            f"{name} has the shape {tuple(value.shape)}: give mono audio (time), (batch, time) or "
            f"(batch, 1, time), or latents (batch, {self.prior.latent_dim}, frames)."
        )


class GenerativeModel(SeparatorModel):
    """A separator that also generates, by a prior of its component latents.

    Attributes:
        decomposition: Its encoder and denoiser.
        renderer: The autoencoder whose latents the prior draws, or None for those of the
            decomposition.
        prior: The prior, or None.
        codec: Codec of the decomposition.
        steps: Default number of the denoiser's steps.
        seed: Default seed.
        render_gain: See `MixtureLatents`.
    """

    decomposition: Decomposition
    renderer: Renderer | None
    prior: MaskingPrior | None
    codec: Codec
    steps: int
    seed: int
    render_gain: Sequence[float] | None
    _args: dict[str, Any]

    def add_renderer(self, **options: Any) -> None:
        """Adds an untrained renderer with the arguments of `asteroid_ucr.renderer.Renderer`."""
        self.renderer = Renderer(self.n_src, **options).to(self.device)
        self._args["renderer"] = options

    def add_prior(self, **options: Any) -> None:
        """Adds an untrained prior with the arguments of `asteroid_ucr.prior.MaskingPrior`."""
        sizes = {"n_src": self.n_src, "latent_dim": self.latents.latent_dim}
        self.prior = MaskingPrior(**{**sizes, **options}).to(self.device)
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        self._args["prior"] = plain

    def remove_prior(self) -> None:
        """Removes the prior, if there is one."""
        self.prior = None
        self._args.pop("prior", None)

    @property
    def latents(self) -> Latents:
        """The component latents that a prior of this model draws."""
        if self.renderer is not None:
            return StemLatents(self.renderer, self)
        dim = self._args["latent_dim"]
        return MixtureLatents(self.decomposition, self.codec, dim, self.steps, self.render_gain)

    @property
    def generator(self) -> Generator:
        """The three steps of `generate`; raises a `UserError` if the model has no prior."""
        if self.prior is None:
            raise UserError(
                "This model has no prior, so it cannot generate: use a model that was trained with "
                "one (stage 4 of the recipe)."
            )
        return Generator(self.latents, self.prior, self.sources)

    def generate(
        self,
        seconds: float = 10.0,
        keep: Mapping[str, Tensor] | None = None,
        *,
        mixture: Tensor | None = None,
        strength: float | None = None,
        steps: int = STEPS,
        guidance: float = 1.0,
        render_steps: int | None = None,
        seed: int | None = None,
        batch: int | None = None,
        inpaint: Mapping[str, tuple[float, float]] | None = None,
    ) -> Tensor:
        """Generates sources with the prior: from noise, as accompaniment, variation or in-painting.

        Args:
            seconds: Length in seconds.
            keep: Given sources by name, each of the requested length: mono audio at `sample_rate`,
                `(time,)`, `(batch, time)` or `(batch, 1, time)`; or component latents of the
                prior's kind (`latents`), `(latent_dim, frames)` or `(batch, latent_dim, frames)`.
            mixture: Audio to vary, of the requested length.
            strength: Strength of the variation, above 0 (no change) and below 1 (nothing left of
                the mixture): its latents are blended with noise at α = 1 − strength.
            steps: Steps of the prior's sampler.
            guidance: Weight of what is kept in the estimates of the others: with more than 1, they
                fit it more closely (docs/generation.md). It needs a prior that was trained on
                subsets of the sources, as the bundled one was.
            render_steps: Steps of the denoiser's sampler; None takes the model's `steps`. Models
                with a renderer have no such sampler.
            seed: Seed of the noise; None takes the model's. Item i of the batch equals the result
                of `seed + i` alone.
            batch: Number of items; None takes that of the given sources, or 1.
            inpaint: First and last second of what is made anew in sources that are kept as audio.

        Returns:
            `(batch, n_src, time)` on the CPU, in the order of `sources`. Sources kept as audio are
            returned unchanged, except where they are in-painted, and the others have their level;
            without audio, the level is that of the training.

        Raises:
            UserError: If the model has no prior, or an argument is not valid.
        """
        generator, seed = self.generator, self.seed if seed is None else seed
        plan = generator.plan(seconds, keep, mixture, strength, batch, inpaint)
        z = generator.sample(plan, steps, seed, guidance)
        return generator.render(plan, z, render_steps, seed)


def put_into(kept: Tensor, new: Tensor, span: tuple[float, float], sample_rate: int) -> Tensor:
    """Waveforms `(…, time)`: `new` in a span of seconds, with short fades, and `kept` elsewhere."""
    time = torch.arange(kept.shape[-1]) / sample_rate
    weight = (torch.minimum(time - span[0], span[1] - time) / FADE).clamp(0, 1)
    return torch.where(weight > 0, torch.lerp(kept, new, weight), kept)


def source_number(sources: Sequence[str], name: str) -> int:
    """The number of a source to keep; raises a `UserError` if it does not exist."""
    if name not in sources:
        raise UserError(f"{name!r} cannot be kept: the model's sources are {', '.join(sources)}.")
    return list(sources).index(name)


def _batch_size(batch: int | None, inputs: list[Tensor]) -> int:
    """The requested number of items, or that of the inputs; an input may have one for all."""
    sizes = {len(value) for value in inputs} - {1}
    size = max(sizes, default=1) if batch is None else batch
    check_positive(batch=size)
    if sizes - {size}:
        raise UserError(
            f"The inputs have batches of {sorted(sizes)}, but {size} items are requested: give one "
            "item of each, or as many as requested."
        )
    return size
