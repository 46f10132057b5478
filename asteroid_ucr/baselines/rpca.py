"""Robust PCA: a low-rank and a sparse part (Candès et al. 2011; for music Huang et al. 2012)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from asteroid_ucr.baselines.parts import two_part_row
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.masking import wiener_masks


def rpca_row() -> Row:
    """Robust PCA of the magnitudes; the sparse part, brief and bright, goes to the drums."""
    return two_part_row(
        "rpca",
        "rPCA",
        lambda magnitudes, rate: low_rank_masks(magnitudes).flip(0),
        note="robust PCA of the spectrogram: the sparse part",
    )


def low_rank_masks(magnitudes: Tensor) -> Tensor:
    """Wiener masks of the low-rank and the sparse part of magnitudes.

    Args:
        magnitudes: `(freq, frames)`.

    Returns:
        `(2, freq, frames)` in [0, 1], adding up to one.
    """
    parts = robust_pca(magnitudes.double(), tolerance=1e-4)
    return wiener_masks(torch.stack(parts).square()).to(magnitudes)


def robust_pca(
    matrix: Tensor, tolerance: float = 1e-7, max_steps: int = 200
) -> tuple[Tensor, Tensor]:
    """Minimises ‖L‖* + λ‖S‖₁ with L + S = D, by inexact augmented Lagrangians.

    Lin et al. 2010 ("The augmented Lagrange multiplier method for exact recovery of corrupted
    low-rank matrices"), algorithm 5, with its constants and λ = 1/√max(rows, columns).

    Args:
        matrix: D, `(rows, columns)`, in double precision.
        tolerance: of ‖D − L − S‖ relative to ‖D‖ (Frobenius norms).
        max_steps: after which the current parts are returned.

    Returns:
        L and S.
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
        sparse = _shrink(matrix - low_rank + multiplier / penalty, weight / penalty)
        residual = matrix - low_rank - sparse
        multiplier = multiplier + penalty * residual
        penalty = torch.minimum(penalty * growth, largest_penalty)
        if torch.linalg.matrix_norm(residual) <= tolerance * norm:
            break
    return low_rank, sparse


def _shrink(values: Tensor, threshold: Tensor) -> Tensor:
    return values.sign() * (values.abs() - threshold).clamp(min=0)


def _shrink_rank(matrix: Tensor, threshold: Tensor) -> Tensor:
    """Shrinks the singular values, found from the smaller Gram matrix: faster than an SVD."""
    if matrix.shape[0] < matrix.shape[1]:
        return _shrink_rank(matrix.T, threshold).T
    squares, vectors = torch.linalg.eigh(matrix.T @ matrix)
    values = squares.clamp(min=0).sqrt()
    kept = values > threshold  # the others vanish, and with them the Gram matrix's rounding
    basis = vectors[:, kept]
    return (matrix @ basis * (1 - threshold / values[kept])) @ basis.T
