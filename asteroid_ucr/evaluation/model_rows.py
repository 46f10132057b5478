"""Rows for trained models."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from asteroid_ucr.base import describe_budget
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.reference_rows import masked
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.masking import stft, wiener_masks
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.flops import gflop_per_second


def model_rows(
    model: UCRSeparator,
    label: str = "",
    steps: Sequence[int] = (1, 25),
    seeds: Sequence[int] = (0,),
    unrefined: bool | None = None,
) -> list[Row]:
    """Rows for one trained model: each number of sampler steps, refined and unrefined.

    Args:
        model: the model, on any device; its outputs' order is taken as it is.
        label: which training run it is, such as "seed 0".
        steps: numbers of sampler steps.
        seeds: of the sampler's noise; one step draws from the noise too.
        unrefined: add rows of decoded estimates. By default only where the codec's latents hold
            the phase: others are decoded with one that is made up, and SI-SDR needs the true one.

    Returns:
        One or two rows per number of steps and seed.
    """
    unrefined = not model.codec.has_power if unrefined is None else unrefined
    rows = []
    for count in steps:
        for seed in seeds:
            refined, decoded = _pair(model, label, count, seed)
            rows += [refined, decoded] if unrefined else [refined]
    return rows


def _pair(model: UCRSeparator, label: str, steps: int, seed: int) -> list[Row]:
    device = model.device
    budget = describe_budget(model.budget)
    budget = f"; {budget}" if budget else ""
    cost = partial(_cost, model, steps)
    counted = "1 step" if steps == 1 else f"{steps} steps"
    latest: dict[str, Tensor] = {}

    @torch.no_grad()
    def raw(clip: Clip) -> Tensor:
        # Sampling is slow and both rows need it: the latest clip's estimates are kept.
        if clip.name not in latest:
            wav = clip.mixture[None, None].to(device)
            latest.clear()
            latest[clip.name] = model(wav, steps=steps, seed=seed, refine="none")[0].cpu()
        return latest[clip.name]

    @torch.no_grad()
    def masks(clip: Clip) -> Tensor:
        if model.codec.has_power:
            wav = clip.mixture[None, None].to(device)
            return model.masks(wav, steps=steps, seed=seed)[0].cpu()
        # Elsewhere a codec's spectrogram is that of what it decodes.
        scaled = raw(clip) * level_gain(clip.mixture)
        return wiener_masks(stft(scaled, clip.sample_rate).abs().square())

    refined = Row(
        f"ours_{steps}",
        f"Ours, {counted}",
        "ours",
        lambda clip: masked(clip, masks(clip)),
        note=f"this package's model, {counted}, its estimates used as masks on the mixture{budget}",
        model=label,
        seed=seed,
        gflops=cost,
        masks=masks,
    )
    decoded = Row(
        f"ours_{steps}_raw",
        f"Ours, {counted}, raw",
        "ours",
        raw,
        note=f"this package's model, {counted}, its estimates decoded by the codec{budget}",
        model=label,
        seed=seed,
        gflops=cost,
    )
    return [refined, decoded]


def _cost(model: UCRSeparator, steps: int) -> float:
    """GFLOP per second of audio: that of one step, and of the denoiser for each further one."""
    one, two = (
        gflop_per_second(model, int(model.sample_rate), lambda m, wav, n=n: m(wav, steps=n))
        for n in (1, 2)
    )
    return one + (steps - 1) * (two - one)
