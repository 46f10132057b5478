"""Classical separation methods without training, on the mask grid of `asteroid_ucr.masking`.

Each method splits a mixture into two parts, and `share_out` assigns them to the sources by a rule
that needs no labels. The methods take a mixture `(time,)`, its sample rate in Hz and the names of
the sources in output order. They return estimates `(n_src, time)` that add up to the mixture, or
masks `(n_src, freq, frames)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asteroid_ucr.masking import stft, stft_settings, wiener_masks

REPET_NEIGHBOURS = 20  # A 7 s clip has a few bars, so a frame recurs a few times.
REPET_APART_SECONDS = 1.0  # Closer frames are similar because sounds last, not because they recur.
FT2D_NEIGHBOURHOOD = 25  # A peak is the largest of this many bins along the rate axis.


def first_source(sources: Sequence[str]) -> int:
    """Index of the source that gets the first part of a method: the drums, else the first one."""
    return list(sources).index("drums") if "drums" in sources else 0


def share_out(parts: Tensor, sources: Sequence[str]) -> Tensor:
    """Turns two parts of a mixture, `(2, ...)`, into one estimate, or mask, per source.

    The drums, or without drums the first source, get the first part. The other sources share the
    second part equally, because the methods do not distinguish them.
    """
    first, others = first_source(sources), max(1, len(sources) - 1)
    return torch.stack([parts[0] if k == first else parts[1] / others for k in range(len(sources))])


def separate_hpss(wav: Tensor, sample_rate: int, sources: Sequence[str]) -> Tensor:
    """Harmonic-percussive separation by median filtering (Fitzgerald 2010), with librosa.

    The percussive part is the first part. The method does not depend on the sample rate.
    """
    harmonic, percussive = librosa.effects.hpss(wav.numpy())
    return share_out(torch.from_numpy(np.stack([percussive, harmonic])), sources)


def repet_sim_masks(wav: Tensor, sample_rate: int, sources: Sequence[str]) -> Tensor:
    """REPET-SIM (Rafii & Pardo 2012); the part that does not repeat is the first part.

    A sustained note recurs in other frames, and a hit does not, so the repeating part of a mixture
    of drums and bass is the bass.
    """
    frame_rate = sample_rate / stft_settings(sample_rate)[1]
    magnitudes = stft(wav, sample_rate).abs()
    return share_out(repeating_masks(magnitudes, frame_rate).flip(0), sources)


def repeating_masks(magnitudes: Tensor, frame_rate: float) -> Tensor:
    """Masks `(2, freq, frames)` of the repeating part and of the rest, which add up to one.

    The repeating part of a frame of the spectrogram `(freq, frames)` is the median of the frames
    that are most similar to it by the cosine, limited to the frame itself (Rafii & Pardo 2012,
    section 3).
    """
    apart = max(1, round(REPET_APART_SECONDS * frame_rate))
    frames = magnitudes.shape[-1]
    if frames < 2 * apart + 1:  # Without distant frames to compare with, nothing repeats.
        return torch.stack([torch.zeros_like(magnitudes), torch.ones_like(magnitudes)])
    unit = F.normalize(magnitudes, dim=0)
    similarity = unit.T @ unit
    distance = (torch.arange(frames)[:, None] - torch.arange(frames)).abs()
    similarity[distance < apart] = -1.0
    nearest = similarity.topk(min(REPET_NEIGHBOURS, frames - 2 * apart + 1), dim=1).indices
    # librosa's nn_filter reads the matrix of neighbours by columns up to version 0.11 and by rows
    # since 1.0. Medians of indexed frames do not depend on the version.
    median = np.median(magnitudes.numpy()[:, nearest.numpy()], axis=-1)
    share = (torch.from_numpy(median) / magnitudes.clamp(min=1e-10)).clamp(max=1)
    return torch.stack([share, 1 - share])


def ft2d_masks(wav: Tensor, sample_rate: int, sources: Sequence[str]) -> Tensor:
    """FT2D (Seetharaman et al. 2017); the foreground is the first part."""
    return share_out(periodic_masks(stft(wav, sample_rate).abs()).flip(0), sources)


def periodic_masks(magnitudes: Tensor) -> Tensor:
    """Masks `(2, freq, frames)` of the periodic part and of the rest, which add up to one.

    A periodic part of the spectrogram `(freq, frames)` has its energy in a few bins of its
    two-dimensional Fourier transform. Peaks are bins that are the largest among their neighbours
    along the rate axis and exceed the smallest of them by more than the standard deviation of the
    transform. The inverse transforms of the peaks and of the rest give Wiener masks (Seetharaman et
    al. 2017, section 3).
    """
    transform = torch.fft.fft2(magnitudes)
    size = transform.abs()
    around = min(FT2D_NEIGHBOURHOOD // 2, magnitudes.shape[-1] - 1)
    # The transform is periodic, so opposite edges are neighbours.
    wrapped = F.pad(size[None, None], (around, around, 0, 0), mode="circular")[0]
    largest = F.max_pool1d(wrapped, 2 * around + 1, 1)[0]
    smallest = -F.max_pool1d(-wrapped, 2 * around + 1, 1)[0]
    peaks = (size == largest) & (largest - smallest > size.std())
    periodic = torch.fft.ifft2(transform * peaks).real
    return wiener_masks(torch.stack([periodic, magnitudes - periodic]).square())


def rpca_masks(wav: Tensor, sample_rate: int, sources: Sequence[str]) -> Tensor:
    """Robust PCA of the magnitudes (Huang et al. 2012); the sparse part is the first part."""
    magnitudes = stft(wav, sample_rate).abs()
    low_rank, sparse = robust_pca(magnitudes.double(), tolerance=1e-4)
    masks = wiener_masks(torch.stack([sparse, low_rank]).square()).to(magnitudes)
    return share_out(masks, sources)


def robust_pca(
    matrix: Tensor, tolerance: float = 1e-7, max_steps: int = 200
) -> tuple[Tensor, Tensor]:
    """Splits D into L + S with minimal ‖L‖* + λ‖S‖₁, by inexact augmented Lagrangians.

    The method is algorithm 5 of Lin et al. 2010 ("The augmented Lagrange multiplier method for
    exact recovery of corrupted low-rank matrices"), with λ = 1/√max(rows, columns). It ends when
    ‖D − L − S‖, relative to ‖D‖ (Frobenius norms), is at most the tolerance.

    Returns:
        L and S, of the shape of D.
    """
    norm = torch.linalg.matrix_norm(matrix)
    if norm == 0:
        return torch.zeros_like(matrix), torch.zeros_like(matrix)
    weight = 1 / math.sqrt(max(matrix.shape))
    spectral = torch.linalg.matrix_norm(matrix, 2)
    multiplier = matrix / torch.maximum(spectral, matrix.abs().max() / weight)
    penalty, growth = 1.25 / spectral, 1.5
    largest_penalty = penalty * 1e7
    sparse = torch.zeros_like(matrix)
    for _ in range(max_steps):
        low_rank = _shrink_rank(matrix - sparse + multiplier / penalty, 1 / penalty)
        sparse = F.softshrink(matrix - low_rank + multiplier / penalty, float(weight / penalty))
        residual = matrix - low_rank - sparse
        multiplier = multiplier + penalty * residual
        penalty = torch.minimum(penalty * growth, largest_penalty)
        if torch.linalg.matrix_norm(residual) <= tolerance * norm:
            break
    return low_rank, sparse


def _shrink_rank(matrix: Tensor, threshold: Tensor) -> Tensor:
    """Shrinks the singular values. The smaller Gram matrix gives them faster than an SVD."""
    if matrix.shape[0] < matrix.shape[1]:
        return _shrink_rank(matrix.T, threshold).T
    squares, vectors = torch.linalg.eigh(matrix.T @ matrix)
    values = squares.clamp(min=0).sqrt()
    kept = values > threshold  # The others become zero, which removes the rounding errors.
    basis = vectors[:, kept]
    return (matrix @ basis * (1 - threshold / values[kept])) @ basis.T
