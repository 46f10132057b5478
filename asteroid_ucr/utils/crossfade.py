"""Long signals in overlapping chunks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_SECONDS = 30  # a whole second is a whole number of frames, and of samples at any rate
OVERLAP_SECONDS = 2


def crossfade(pieces: Iterator[Tensor], overlap: int) -> Iterator[Tensor]:
    """Joins overlapping pieces with linear cross-fades.

    Args:
        pieces: Chunks `(…, time)`, at least as long as the overlap.
        overlap: Number of samples that neighbouring pieces have in common.

    Yields:
        Consecutive parts `(…, time)` of the whole signal.
    """
    fade_in = torch.linspace(0, 1, overlap)
    tail = None
    for piece in pieces:
        if tail is not None:
            head = torch.lerp(tail, piece[..., :overlap], fade_in)
            piece = torch.cat([head, piece[..., overlap:]], dim=-1)
        keep = max(0, piece.shape[-1] - overlap)
        tail = piece[..., keep:]
        if keep:
            yield piece[..., :keep]
    if tail is not None:
        yield tail
