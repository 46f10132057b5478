"""Rows for trained models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asteroid_ucr.baselines.rows import Row
from asteroid_ucr.baselines.simple import masked
from asteroid_ucr.evaluation.clips import Clip
from asteroid_ucr.separator import UCRSeparator


def model_rows(
    model: UCRSeparator,
    label: str = "",
    steps: Sequence[int] = (1, 25),
    seeds: Sequence[int] = (0,),
) -> list[Row]:
    """Rows for one trained model: each number of sampler steps, refined and raw.

    Args:
        model: the model, on any device; its outputs' order is taken as it is.
        label: which training run it is, such as "seed 0".
        steps: numbers of sampler steps.
        seeds: of the sampler's noise; one step draws from the noise too.

    Returns:
        `len(steps) * len(seeds) * 2` rows.
    """
    rows = []
    for count in steps:
        for seed in seeds:
            rows += _pair(model, label, count, seed)
    return rows


def _pair(model: UCRSeparator, label: str, steps: int, seed: int) -> list[Row]:
    device = next(model.parameters()).device
    counted = "1 step" if steps == 1 else f"{steps} steps"

    @torch.no_grad()
    def masks(clip: Clip) -> Tensor:
        wav = clip.mixture[None, None].to(device)
        return model.masks(wav, steps=steps, seed=seed)[0].cpu()

    @torch.no_grad()
    def raw(clip: Clip) -> Tensor:
        wav = clip.mixture[None, None].to(device)
        return model(wav, steps=steps, seed=seed, refine="none")[0].cpu()

    refined = Row(
        f"ours_{steps}",
        f"Ours, {counted}",
        "ours",
        lambda clip: masked(clip, masks(clip)),
        note=f"this package's model, {counted}, its estimates used as masks on the mixture",
        model=label,
        seed=seed,
        masks=masks,
    )
    decoded = Row(
        f"ours_{steps}_raw",
        f"Ours, {counted}, unrefined",
        "ours",
        raw,
        note=f"this package's model, {counted}, its estimates decoded by the codec",
        model=label,
        seed=seed,
    )
    return [refined, decoded]
