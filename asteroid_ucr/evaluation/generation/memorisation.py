"""Does a prior repeat its training data? Nearest neighbours among all training passages."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def nearest_distances(queries: Tensor, tracks: Iterable[Tensor]) -> Tensor:
    """Distance of each passage to the passage of a training track that is most like it.

    Every place of every track is tried: the squared distances to all places at once are a
    cross-correlation.

    Args:
        queries: latents `(n, channels, frames)`, standardised so that channels compare.
        tracks: latents `(channels, any frames)`; those shorter than a query are passed over.

    Returns:
        Root mean square differences `(n,)`; infinite if no track is long enough.
    """
    queries = queries.double()
    size = queries[0].numel()
    energy = queries.square().sum((1, 2))[:, None]
    best = torch.full((len(queries),), torch.inf, dtype=torch.float64)
    ones = torch.ones(1, *queries.shape[1:], dtype=torch.float64)
    for track in tracks:
        if track.shape[-1] < queries.shape[-1]:
            continue
        track = track.double()[None]
        crossed = F.conv1d(track, queries)[0]
        squared = energy + F.conv1d(track.square(), ones)[0] - 2 * crossed
        best = torch.minimum(best, squared.min(1).values)
    return (best.clamp(min=0) / size).sqrt()
