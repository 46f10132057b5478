"""Generation with a model's masking prior: component latents first, then waveforms from them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from asteroid_ucr import iadb
from asteroid_ucr.files import CHUNK_SECONDS, OVERLAP_SECONDS, crossfade
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import generator_for

if TYPE_CHECKING:
    from asteroid_ucr.separator import UCRSeparator

STEPS = 25  # of the prior's sampler
_STREAM = 1  # tells the prior's noise from the denoiser's, which has the same seed


@dataclass
class Plan:
    """What is to be generated, checked and encoded.

    Attributes:
        samples: length of the waveforms.
        frames: length of the latents.
        batch: number of items.
        audio: waveforms `(batch, samples)` of the sources that were kept as audio, by their index.
        latents: of all kept sources, `(batch, n_src, latent_dim, frames)`, zero elsewhere.
        mask: `(n_src,)`, True for sources to generate.
        start: component latents of the mixture that is varied, or None.
        gain: `(batch, 1, 1)`, from the level of what was given to the level of the training.
    """

    samples: int
    frames: int
    batch: int
    audio: dict[int, Tensor]
    latents: Tensor
    mask: Tensor
    start: Tensor | None
    gain: Tensor


@torch.no_grad()
def make_plan(
    model: UCRSeparator,
    seconds: float,
    keep: Mapping[str, Tensor] | None = None,
    mixture: Tensor | None = None,
    strength: float | None = None,
    batch: int | None = None,
) -> Plan:
    """Checks a request, and encodes what it gives.

    A stem kept as audio is encoded as separation encodes a mixture: the encoder gives latents of
    all components, and that of the stem's own source is kept. Stems are brought to the training
    level by one gain, that of their sum, so that their balance stays.

    Args: see `UCRSeparator.generate`.

    Raises:
        UserError: naming the first thing that is wrong.
    """
    if model.prior is None:
        raise UserError(
            "This model has no prior, so it cannot generate: use a model that was trained with one "
            "(stage 4 of the recipe)."
        )
    if not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"seconds must be above 0, got {seconds:g}.")
    if (mixture is None) != (strength is None):
        raise UserError("A variation needs both a mixture and a strength: give both, or neither.")
    if strength is not None and not 0 < strength < 1:
        raise UserError(f"strength must lie between 0 and 1, got {strength:g}.")
    device, samples = model.device, max(1, round(seconds * model.sample_rate))
    frames = model.codec.frames(samples)
    given: dict[int, Tensor] = {}
    for name, value in (keep or {}).items():
        if name not in model.sources:
            raise UserError(
                f"{name!r} cannot be kept: the model's sources are {', '.join(model.sources)}."
            )
        given[model.sources.index(name)] = _shaped(model, name, value, samples, frames)
    if len(given) == model.n_src:
        raise UserError("All sources are kept, so nothing is left to generate: keep fewer.")
    if mixture is not None:
        mixture = _shaped(model, "mixture", mixture, samples, None)
    size = _batch_size(batch, [*given.values(), *([mixture] if mixture is not None else [])])

    audio = {k: v.expand(size, -1) for k, v in given.items() if v.ndim == 2}
    gain, start = torch.ones(size, 1, 1, device=device), None
    if mixture is not None:
        gain = level_gain(mixture[:, None]).expand(size, 1, 1)
        start = _encode(model, mixture * gain[: len(mixture), 0]).expand(size, -1, -1, -1)
    if audio:
        gain = level_gain(torch.stack(list(audio.values())).sum(0)[:, None])
    shape = (size, model.n_src, model.prior.latent_dim, frames)
    latents = torch.zeros(shape, device=device)
    for k, value in given.items():
        latents[:, k] = _encode(model, audio[k] * gain[:, 0])[:, k] if k in audio else value
    mask = torch.tensor([k not in given for k in range(model.n_src)], device=device)
    return Plan(samples, frames, size, audio, latents, mask, start, gain)


@torch.no_grad()
def sample_latents(
    model: UCRSeparator, plan: Plan, strength: float | None, steps: int, seed: int
) -> Tensor:
    """Component latents by the prior, `(batch, n_src, latent_dim, frames)`, in order of sources.

    Item i is drawn with the noise of `seed + i`, a function of the absolute frame. Sources that
    are kept come back bit by bit.

    Raises:
        UserError: if `steps` is below 1.
    """
    if steps < 1:
        raise UserError(f"steps must be at least 1, got {steps}.")
    prior = model.prior
    channels = prior.n_src * prior.latent_dim
    noise = [
        iadb.frame_noise(channels, 0, plan.frames, _prior_seed(seed + i)) for i in range(plan.batch)
    ]
    noise = rearrange(torch.cat(noise), "b (n d) t -> b n d t", n=prior.n_src).to(plan.latents)
    alpha_start = 0.0 if strength is None else 1 - strength
    mask = plan.mask.expand(plan.batch, -1)
    return prior.sample(noise, mask, plan.latents, steps, alpha_start, plan.start)


def render(
    model: UCRSeparator, plan: Plan, z: Tensor, steps: int | None = None, seed: int = 0
) -> Tensor:
    """Waveforms of component latents, `(batch, n_src, samples)`.

    Sources that were kept as audio are that audio. The others are rendered in chunks that overlap
    and are cross-faded, at the level of what was kept or varied, on the CPU.
    """
    wanted = [k for k in range(model.n_src) if k not in plan.audio]
    overlap = OVERLAP_SECONDS * int(model.sample_rate)
    pieces = [
        piece for _, piece in crossfade(_chunks(model, plan, z, wanted, steps, seed), overlap)
    ]
    stems = torch.empty(plan.batch, model.n_src, plan.samples)
    stems[:, wanted] = torch.cat(pieces, dim=-1) / plan.gain.cpu()
    for k, wav in plan.audio.items():
        stems[:, k] = wav.cpu()
    return stems


@torch.no_grad()
def _chunks(
    model: UCRSeparator, plan: Plan, z: Tensor, wanted: list[int], steps: int | None, seed: int
) -> Iterator[Tensor]:
    """Waveforms of the wanted sources in overlapping chunks."""
    hop = model.codec.hop
    length = CHUNK_SECONDS * int(model.sample_rate) // hop
    step = length - OVERLAP_SECONDS * int(model.sample_rate) // hop
    for first in range(0, max(1, plan.frames - (length - step)), step):
        part = z[..., first : first + length]
        noise = [
            iadb.frame_noise(model.codec.channels, first, part.shape[-1], seed + i, z.device)
            for i in range(len(z))
        ]
        components = model.decomposition.render(
            part, torch.cat(noise), model.steps if steps is None else steps
        )
        samples = min(plan.samples - first * hop, part.shape[-1] * hop)
        balanced, scale = balance(model, components)
        flat = rearrange(balanced[:, wanted], "b n c t -> (b n) c t")
        wav = scale * model.codec.decode(flat, samples)
        yield rearrange(wav, "(b n) 1 t -> b n t", b=len(z)).cpu()


def balance(model: UCRSeparator, components: Tensor) -> tuple[Tensor, float]:
    """Brings rendered components to the level that each has in the mixture they compose.

    A component by itself need not have the level of its source: under the composition `mean`, it
    is as strong as the mixture. Where latents are magnitudes, each component gets its share of the
    power of the composed mixture, band by band, times the model's `render_gain`; elsewhere the
    sounds are scaled, as if the decoder were linear.

    Args:
        model: whose composition and codec these are.
        components: latents `(batch, n_src, channels, frames)`.

    Returns:
        Latents of the same shape, and the factor of the waveforms that they decode to.
    """
    codec, compose = model.codec, model.decomposition.compose
    if codec.has_power:
        power = codec.to_power(components)
        total = codec.to_power(compose(components))
        if model.render_gain is not None:
            total = total * total.new_tensor(model.render_gain)[:, None]
        share = power / power.sum(1, keepdim=True).clamp(min=1e-20)
        return codec.from_power(share * total[:, None]), 1.0
    n_src = components.shape[1]
    return components, float(compose(torch.ones(1, n_src, 1, 1))) / n_src


def _encode(model: UCRSeparator, wav: Tensor) -> Tensor:
    """Component latents of `(batch, time)` at the training level, in order of sources."""
    return model.decomposition.encode(model.codec.encode(wav[:, None]))


def _prior_seed(seed: int) -> int:
    return generator_for(seed, _STREAM).initial_seed()


def _shaped(
    model: UCRSeparator, name: str, value: Tensor, samples: int, frames: int | None
) -> Tensor:
    """Audio as `(batch, samples)` or latents as `(batch, latent_dim, frames)`: the length tells.

    Raises:
        UserError: if the length is neither's, or the shape is not that of its kind.
    """
    value = value.to(model.device, torch.float32)
    found = value.shape[-1] if value.ndim else 0
    if found == samples:
        if value.ndim == 3 and value.shape[1] == 1:
            value = value[:, 0]
        if value.ndim in (1, 2):
            return torch.atleast_2d(value)
    elif frames is not None and found == frames:
        value = value[None] if value.ndim == 2 else value
        if value.ndim == 3 and value.shape[1] == model.prior.latent_dim:
            return value
    else:
        rate = int(model.sample_rate)
        latent = "" if frames is None else f" (or {frames} latent frames)"
        raise UserError(
            f"{name} has {found} samples, {found / rate:g} s at {rate} Hz, but {samples / rate:g} "
            f"s are to be generated, {samples} samples{latent}: cut it, or set seconds accordingly."
        )
    raise UserError(
        f"{name} has the shape {tuple(value.shape)}: give mono audio (time), (batch, time) or "
        f"(batch, 1, time), or latents (batch, {model.prior.latent_dim}, frames)."
    )


def _batch_size(batch: int | None, given: list[Tensor]) -> int:
    sizes = {len(value) for value in given} - {1}
    size = batch if batch is not None else max(sizes, default=1)
    if size < 1:
        raise UserError(f"batch must be at least 1, got {size}.")
    if sizes - {size}:
        raise UserError(
            f"What is given has batches of {sorted(sizes)}, but {size} are to be generated: give "
            "one of each, or as many as the batch has."
        )
    return size
