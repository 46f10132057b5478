"""FT2D: repetition as peaks of the two-dimensional Fourier transform (Seetharaman et al. 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from asteroid_ucr.baselines.parts import two_part_row
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.masking import wiener_masks

NEIGHBOURHOOD = 25  # bins along the rate axis in which a peak has to be the largest


def ft2d_row() -> Row:
    """FT2D; the foreground goes to the drums, as with REPET-SIM."""
    return two_part_row(
        "ft2d",
        "FT2D",
        lambda magnitudes, rate: periodic_masks(magnitudes).flip(0),
        note="peaks of the spectrogram's 2-D Fourier transform: what stands out from them",
    )


def periodic_masks(magnitudes: Tensor) -> Tensor:
    """Masks of the periodic part and of the rest (Seetharaman et al. 2017, section 3).

    What repeats in time has its energy in few, regularly spaced bins of the spectrogram's
    two-dimensional Fourier transform. Peaks are the bins that are the largest among their
    neighbours along the rate axis, and stand out from them by more than the transform's standard
    deviation. The inverse transforms of the peaks and of all else make Wiener masks.

    Args:
        magnitudes: `(freq, frames)`.

    Returns:
        `(2, freq, frames)` in [0, 1], adding up to one.
    """
    transform = torch.fft.fft2(magnitudes)
    size = transform.abs()
    around = min(NEIGHBOURHOOD // 2, magnitudes.shape[-1] - 1)
    # The transform is periodic: its edges are neighbours.
    wrapped = F.pad(size[None, None], (around, around, 0, 0), mode="circular")[0]
    largest = F.max_pool1d(wrapped, 2 * around + 1, 1)[0]
    smallest = -F.max_pool1d(-wrapped, 2 * around + 1, 1)[0]
    peaks = (size == largest) & (largest - smallest > size.std())
    periodic = torch.fft.ifft2(transform * peaks).real
    parts = torch.stack([periodic, magnitudes - periodic])
    return wiener_masks(parts.square())
