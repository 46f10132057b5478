"""Rows for trained baselines, read from the files that their training wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from asteroid_ucr.base import SeparatorModel, describe_budget
from asteroid_ucr.baselines.neural import WaveSeparator
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.model_rows import model_rows
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.evaluation.scores import LIMIT_DB, scorable
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.baselines import BASELINES
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.flops import gflop_per_second


def trained_rows(
    paths: Sequence[str | Path], sources: Sequence[str], validation: Iterable[Clip] = ()
) -> list[Row]:
    """A row for each trained baseline; training seeds share a row's name.

    Args:
        paths: of `best_model.pth` files that `asteroid_ucr.training.baselines` wrote.
        sources: that the models have to separate, in this order.
        validation: clips on which models with more outputs than sources (MixIT) get their outputs
            assigned, as ours do; the files are rewritten. Without clips, the stored one is used.

    Raises:
        UserError: if a file holds no baseline, or one for other sources.
    """
    rows = []
    clips = list(validation)
    for path in paths:
        model = SeparatorModel.from_pretrained(str(path))
        kind = (model.budget or {}).get("kind")
        if kind not in BASELINES:
            raise UserError(f"{path} is no trained baseline: give what train_baseline.py wrote.")
        if model.sources != list(sources):
            raise UserError(
                f"{path} separates {', '.join(model.sources)}, not {', '.join(sources)}: "
                "train it for these sources."
            )
        if clips and isinstance(model, WaveSeparator) and len(model.owner) > model.n_src:
            model.assign(fit_owners(model, clips))
            model.save(path)
        rows.append(_row(model, kind))
    return rows


def _row(model: SeparatorModel, kind: str) -> Row:
    baseline = BASELINES[kind]
    model = model.to(pick_device())
    seed = f"seed{model.budget['seed']}"
    note = f"{baseline.note}; {describe_budget(model.budget)}"
    named = {"name": kind, "label": baseline.label, "group": baseline.group, "note": note}
    if isinstance(model, UCRSeparator):
        return replace(model_rows(model, seed, steps=[1], unrefined=False)[0], **named)

    def separate(clip: Clip) -> Tensor:
        return model(clip.mixture[None, None].to(model.device))[0].cpu()

    cost = partial(gflop_per_second, model, int(model.sample_rate))
    return Row(**named, separate=separate, model=seed, gflops=cost)


@torch.no_grad()
def fit_owners(model: WaveSeparator, clips: Iterable[Clip]) -> list[int]:
    """Which source each of a network's outputs is a part of, by the mean SI-SDR over clips.

    All assignments are tried. The inner products of outputs and references are all they need:
    with e the sum of a source's outputs, SI-SDR is ⟨s, e⟩² / (‖s‖²‖e‖² − ⟨s, e⟩²).

    Args:
        model: with as many outputs as sources, or more.
        clips: validation clips; silent references, and those that sound alone, are passed over.

    Returns:
        A source number for each output.

    Raises:
        UserError: if no clip can be scored.
    """
    outputs = len(model.owner)
    owners = torch.tensor(list(product(range(model.n_src), repeat=outputs)))
    members = torch.stack([(owners == k) for k in range(model.n_src)], dim=1).double()
    total, count = torch.zeros(len(owners)).double(), 0
    for clip in clips:
        scored = scorable(clip.references)
        if not scored.any():
            continue
        parts = model.components(clip.mixture[None, None].to(model.device))[0].cpu().double()
        references = clip.references.double()
        dot = torch.einsum("amo,mo->am", members, references @ parts.T)
        energy = torch.einsum("amo,amp,op->am", members, members, parts @ parts.T)
        explained = dot.square()
        left = references.square().sum(-1) * energy - explained
        si_sdr = 10 * torch.log10(explained.clamp(min=1e-20) / left.clamp(min=1e-20))
        si_sdr = torch.where(energy > 0, si_sdr.clamp(-LIMIT_DB, LIMIT_DB), -LIMIT_DB)
        total += si_sdr[:, scored].mean(1)
        count += 1
    if not count:
        raise UserError("No validation clip has two sources that sound at once: give other clips.")
    return owners[int(total.argmax())].tolist()
