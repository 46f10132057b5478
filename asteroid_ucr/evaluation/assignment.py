"""Assigns the outputs of unsupervised models to sources, once, on validation clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.scores import LIMIT_DB, scorable
from asteroid_ucr.utils.errors import UserError


@torch.no_grad()
def fit_owners(
    clips: Iterable[Clip],
    separate: Callable[[Clip], Tensor],
    candidates: Iterable[Sequence[int]],
) -> tuple[list[int], float]:
    """Finds the source that each output of a model belongs to, by the mean SI-SDR.

    A candidate has a source number for every output. To compare all of them, the inner products of
    outputs and references suffice: if e is the sum of the outputs of source s, its SI-SDR is
    ⟨s, e⟩² / (‖s‖²‖e‖² − ⟨s, e⟩²).

    Args:
        clips: Validation clips; those in which fewer than two sources sound are skipped.
        separate: Function from a clip to outputs `(n_outputs, time)`.
        candidates: The assignments to compare.

    Returns:
        The best candidate, and its SI-SDR in dB, averaged over clips and sources.

    Raises:
        UserError: If no clip can be scored.
    """
    owners = torch.tensor(list(candidates))
    found = []
    for clip in clips:
        scored = scorable(clip.references)
        if not scored.any():
            continue
        references, outputs = clip.references.double(), separate(clip).cpu().double()
        members = torch.stack([owners == k for k in range(len(references))], dim=1).double()
        dot = torch.einsum("aso,so->as", members, references @ outputs.T)
        energy = torch.einsum("aso,asp,op->as", members, members, outputs @ outputs.T)
        explained = dot.square()
        left = references.square().sum(-1) * energy - explained
        si_sdr = 10 * torch.log10(explained.clamp(min=1e-20) / left.clamp(min=1e-20))
        si_sdr = torch.where(energy > 0, si_sdr.clamp(-LIMIT_DB, LIMIT_DB), -LIMIT_DB)
        # A silent source has no score, but the other sources of its clip count.
        found.append(torch.where(scored, si_sdr, torch.nan))
    if not found:
        raise UserError(
            "No validation clip has two sources that sound at once, so outputs cannot be assigned "
            "to sources: give other clips or other sources."
        )
    scores = torch.stack(found).nanmean(0).nan_to_num(0.0).mean(1)
    best = int(scores.argmax())
    return owners[best].tolist(), float(scores[best])
