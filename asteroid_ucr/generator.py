"""Generation with a masking prior: a plan, component latents, and their waveforms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asteroid_ucr import iadb
from asteroid_ucr.codecs import Codec
from asteroid_ucr.decomposition import Decomposition
from asteroid_ucr.prior import MaskingPrior
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
        decomposition: Model that encodes and renders sources.
        prior: Model of the component latents.
        codec: The decomposition's codec.
        sources: Names of the components.
        steps: Default number of steps of the denoiser's sampler.
        render_gain: Factor for the rendered power in each channel of the codec, or None.
    """

    decomposition: Decomposition
    prior: MaskingPrior
    codec: Codec
    sources: Sequence[str]
    steps: int = 1
    render_gain: Sequence[float] | None = None

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

        Audio to keep is encoded like a mixture, and the source's own component is used. One gain
        brings the sum of all kept audio to the level that it has on average in a mixture at the
        level of the training, in which all sources are equally loud.

        Raises:
            UserError: If an argument is not valid.
        """
        if not (math.isfinite(seconds) and seconds > 0):
            raise UserError(f"seconds must be above 0, got {seconds:g}.")
        if (mixture is None) != (strength is None):
            raise UserError("A variation needs both a mixture and a strength: give both or none.")
        if strength is not None and not 0 < strength < 1:
            raise UserError(f"strength must lie between 0 and 1, got {strength:g}.")
        device, n_src = self.prior.mean.device, len(self.sources)
        samples = max(1, round(seconds * self.codec.sample_rate))
        frames = self.codec.frames(samples)
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
            start = self._encode(mixture * gain[: len(mixture), 0]).expand(size, -1, -1, -1)
        if audio:
            share = len(audio) / n_src  # of the mixture's power
            gain = share**0.5 * level_gain(torch.stack(list(audio.values())).sum(0)[:, None])
        latents = torch.zeros(size, n_src, self.prior.latent_dim, frames, device=device)
        for k, value in given.items():
            latents[:, k] = self._encode(audio[k] * gain[:, 0])[:, k] if k in audio else value
        mask = [k not in given or k in spans for k in range(n_src)]
        mask = torch.tensor(mask, device=device)
        return Plan(samples, frames, size, audio, latents, mask, spans, start, strength, gain)

    @torch.no_grad()
    def sample(self, plan: Plan, steps: int = STEPS, seed: int = 0) -> Tensor:
        """Draws component latents `(batch, n_src, latent_dim, frames)` from the prior.

        Kept latents are returned unchanged. The first item has the seed `seed`, and the next items
        have the next seeds.
        """
        check_positive(steps=steps)
        channels, frames = self.prior.mean.numel(), plan.frames
        seeds = [generator_for(seed + i, _STREAM).initial_seed() for i in range(plan.batch)]
        noise = torch.cat([iadb.frame_noise(channels, 0, frames, seed) for seed in seeds])
        noise = noise.unflatten(1, plan.latents.shape[1:3]).to(self.prior.mean)
        inside, rate = torch.ones(len(plan.mask), frames, dtype=torch.bool), self.codec.frame_rate
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
        )
        return torch.where(plan.mask[:, None, None], z.float(), plan.latents)

    def render(self, plan: Plan, z: Tensor, steps: int | None = None, seed: int = 0) -> Tensor:
        """Renders component latents in overlapping chunks, which are cross-faded.

        Returns:
            Waveforms `(batch, n_src, samples)` on the CPU, at the level of the given audio. Sources
            kept as audio are returned unchanged, but for the parts to in-paint, with short fades.
        """
        wanted = [k for k in range(len(self.sources)) if k not in plan.audio or k in plan.spans]
        chunks = self._chunks(plan, z, wanted, self.steps if steps is None else steps, seed)
        pieces = crossfade(chunks, OVERLAP_SECONDS * self.codec.sample_rate)
        stems = torch.empty(plan.batch, len(self.sources), plan.samples)
        stems[:, wanted] = torch.cat(list(pieces), dim=-1) / plan.gain.cpu()
        for k, wav in plan.audio.items():
            span = plan.spans.get(k, (0.0, 0.0))
            stems[:, k] = put_into(wav.cpu(), stems[:, k], span, self.codec.sample_rate)
        return stems

    @torch.no_grad()
    def _chunks(
        self, plan: Plan, z: Tensor, wanted: list[int], steps: int, seed: int
    ) -> Iterator[Tensor]:
        """Renders overlapping chunks `(batch, wanted, time)`."""
        codec, hop = self.codec, self.codec.hop
        length, overlap = (s * codec.sample_rate // hop for s in (CHUNK_SECONDS, OVERLAP_SECONDS))
        for first in chunk_starts(plan.frames, length, overlap):
            part = z[..., first : first + length]
            frames = part.shape[-1]
            noise = [
                iadb.frame_noise(codec.channels, first, frames, seed + i) for i in range(len(z))
            ]
            part = part.to(self.prior.mean)
            components = self.decomposition.render(part, torch.cat(noise).to(part), steps)
            balanced, scale = self.balance(components.float())
            size = min(plan.samples - first * hop, frames * hop)
            wav = scale * codec.decode(balanced[:, wanted].flatten(0, 1), size)
            yield wav[:, 0].unflatten(0, (len(z), -1)).cpu()

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

    def _encode(self, wav: Tensor) -> Tensor:
        """Component latents of `(batch, time)` at the training level."""
        latents = self.codec.encode(wav[:, None]).to(self.prior.mean.dtype)
        return self.decomposition.encode(latents).float()

    def _shaped(self, name: str, value: Tensor, samples: int, frames: int | None) -> Tensor:
        """Checks the shape of audio, or of latents if `frames` allows them.

        Returns `(batch, samples)` or `(batch, latent_dim, frames)`; the length tells which.
        """
        value = value.to(self.prior.mean.device, torch.float32)
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
            rate = self.codec.sample_rate
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
