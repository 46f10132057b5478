"""Assigns the components of unsupervised models to sources, once, on validation clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from asteroid_ucr.baselines.neural import WaveSeparator
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.scores import LIMIT_DB, scorable, si_sdr_matrix
from asteroid_ucr.utils.errors import UserError

_NOTHING_TO_SCORE = (
    "No validation clip has two sources that sound at once, so the components cannot be assigned "
    "to sources: give other clips or other sources."
)


@dataclass(frozen=True)
class Assignment:
    """A fixed map from sources to a model's components.

    Attributes:
        order: Component of each source, in the order of the sources: the argument of
            `UCRSeparator.assign`.
        score: Mean SI-SDR of the assigned pairs, in dB.
        clips: Number of clips that it was fitted on.
        margin: Difference in dB per source to the score of the second-best assignment. Near zero,
            the components do not distinguish the sources.
    """

    order: tuple[int, ...]
    score: float
    clips: int
    margin: float


def fit_assignment(clips: Iterable[Clip], separate: Callable[[Clip], Tensor]) -> Assignment:
    """Finds the one assignment with the highest mean SI-SDR over validation clips.

    It uses the Hungarian algorithm on the matrix of mean SI-SDRs.

    Args:
        clips: Validation clips; those in which fewer than two sources sound are skipped.
        separate: Function from a clip to components `(n_components, time)`.

    Raises:
        UserError: If no clip can be scored.
    """
    matrices = []
    for clip in clips:
        scored = scorable(clip.references)
        if scored.any():
            # The row of a silent source is ignored; the other rows of its clip count.
            matrix = si_sdr_matrix(clip.references, separate(clip))
            matrices.append(torch.where(scored[:, None], matrix, torch.nan))
    if not matrices:
        raise UserError(_NOTHING_TO_SCORE)
    mean = torch.stack(matrices).nanmean(0).nan_to_num(0.0)
    rows, order = linear_sum_assignment(mean.numpy(), maximize=True)
    score = float(mean[rows, order].mean())
    # Every other assignment lacks at least one of the pairs.
    others = []
    for pair in zip(rows, order, strict=True):
        changed = mean.clone()
        changed[pair] = -1e6
        others.append(float(changed[linear_sum_assignment(changed.numpy(), maximize=True)].mean()))
    return Assignment(tuple(order.tolist()), score, len(matrices), score - max(others))


@torch.no_grad()
def fit_owners(model: WaveSeparator, clips: Iterable[Clip]) -> list[int]:
    """Finds the source that each output of a network belongs to, by the mean SI-SDR.

    All assignments are tried. They need only the inner products of outputs and references: if e is
    the sum of the outputs of source s, its SI-SDR is ⟨s, e⟩² / (‖s‖²‖e‖² − ⟨s, e⟩²).

    Args:
        model: Network with at least as many outputs as sources.
        clips: Validation clips; those in which fewer than two sources sound are skipped.

    Returns:
        A source number for each output.

    Raises:
        UserError: If no clip can be scored.
    """
    outputs = len(model.owner)
    owners = torch.tensor(list(product(range(model.n_src), repeat=outputs)))
    members = torch.stack([(owners == k) for k in range(model.n_src)], dim=1).double()
    total = []
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
        total.append(si_sdr[:, scored].mean(1))
    if not total:
        raise UserError(_NOTHING_TO_SCORE)
    return owners[int(torch.stack(total).sum(0).argmax())].tolist()
