"""Which component of an unsupervised model is which source: decided once, on validation clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.scores import scorable, si_sdr_matrix
from asteroid_ucr.utils.errors import UserError


@dataclass(frozen=True)
class Assignment:
    """A fixed map from sources to a model's components.

    Attributes:
        order: component of each source, in the order of the sources: the argument of
            `UCRSeparator.assign`.
        matrix: mean SI-SDR `(n_src, n_components)` in dB on which it was decided.
        clips: how many clips it was decided on.
        margin: by how many dB per source the mean SI-SDR exceeds the best other assignment's; near
            zero, the components hardly tell the sources apart.
    """

    order: tuple[int, ...]
    matrix: Tensor
    clips: int
    margin: float

    @property
    def score(self) -> float:
        """Mean SI-SDR in dB of the assigned pairs."""
        rows = torch.arange(len(self.order))
        return float(self.matrix[rows, list(self.order)].mean())


def fit_assignment(clips: Iterable[Clip], separate: Callable[[Clip], Tensor]) -> Assignment:
    """Finds the one assignment with the highest mean SI-SDR over validation clips.

    The Hungarian algorithm on the matrix of mean SI-SDRs; it needs labels, but only those of the
    validation clips, and a permutation is all it takes from them.

    Args:
        clips: validation clips; those in which fewer than two sources sound are passed over.
        separate: clip to components `(n_components, time)`.

    Returns:
        The assignment.

    Raises:
        UserError: if no clip can be scored.
    """
    total: Tensor | float = 0.0
    count: Tensor | float = 0.0
    used = 0
    for clip in clips:
        scored = scorable(clip.references)
        if not scored.any():
            continue
        matrix = si_sdr_matrix(clip.references, separate(clip))
        # A silent source's row says nothing; the other rows of its clip still count.
        total = total + torch.where(scored[:, None], matrix, 0.0)
        count = count + scored[:, None].double()
        used += 1
    if not used or not isinstance(total, Tensor) or not isinstance(count, Tensor):
        raise UserError(
            "No validation clip has two sources that sound at once, so the components cannot be "
            "assigned to sources: give other clips or other sources."
        )
    mean = total / count.clamp(min=1)
    rows, order = linear_sum_assignment(mean.numpy(), maximize=True)
    return Assignment(tuple(order.tolist()), mean, used, _margin(mean, rows, order))


def _margin(mean: Tensor, rows, order) -> float:
    """Best assignment's mean score less the second best's: one of its pairs has to be forbidden."""
    best = mean[rows, order].mean()
    others = []
    for row, column in zip(rows, order, strict=True):
        changed = mean.clone()
        changed[row, column] = -1e6
        found = linear_sum_assignment(changed.numpy(), maximize=True)
        others.append(changed[found].mean())
    return float(best - max(others))
