"""What the classical methods share: which source gets which of a method's outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.reference_rows import mask_row
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.masking import stft


def first_source(sources: Sequence[str]) -> int:
    """The source that a two-part method's first output stands for: the drums, else the first."""
    return list(sources).index("drums") if "drums" in sources else 0


def share_out(parts: Tensor, sources: Sequence[str]) -> Tensor:
    """Two parts of a mixture to one estimate, or mask, per source.

    The drums, or where there are none the first source, get the first part. All others share the
    second equally: the method does not tell them apart, and nothing fitted with labels is added
    to it, so their scale-invariant scores are those of what is left without the first source.

    Args:
        parts: `(2, ...)`.
        sources: names, in output order.

    Returns:
        `(n_src, ...)`, with the sum of the parts (for a single source, the first part alone).
    """
    first, others = first_source(sources), max(1, len(sources) - 1)
    return torch.stack([parts[0] if k == first else parts[1] / others for k in range(len(sources))])


def two_part_row(name: str, label: str, parts: Callable[[Tensor, float], Tensor], note: str) -> Row:
    """A row for a method that splits a magnitude spectrogram into two soft masks.

    Args:
        name: of the row.
        label: of the row.
        parts: magnitudes `(freq, frames)` on the mask grid and their frames per second, to masks
            `(2, freq, frames)` that add up to one; the first is the drums'.
        note: what the method does, and which of its parts is the drums'.
    """

    def masks(clip: Clip) -> Tensor:
        magnitudes = stft(clip.mixture, clip.sample_rate).abs()
        rate = (magnitudes.shape[-1] - 1) / clip.seconds
        return share_out(parts(magnitudes, rate), clip.sources)

    return mask_row(
        name,
        label,
        "classical",
        masks,
        note=f"{note} to drums (else to the first source), the rest shared by the others",
    )
