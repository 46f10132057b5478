"""Long signals in overlapping chunks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_SECONDS = 30  # a whole second is a whole number of frames, and of samples at any rate
OVERLAP_SECONDS = 2


def chunk_starts(total: int, length: int, overlap: int) -> range:
    """Where chunks of this length and overlap start, so that they cover `total` samples."""
    return range(0, max(1, total - overlap), length - overlap)


def crossfade(pieces: Iterator[Tensor], overlap: int) -> Iterator[Tensor]:
    """Joins pieces `(…, time)` that overlap by `overlap` samples, with linear cross-fades."""
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
