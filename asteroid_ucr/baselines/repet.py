"""REPET-SIM: what similar moments have in common (Rafii & Pardo 2012), by librosa."""

from __future__ import annotations

import librosa
import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor

from asteroid_ucr.baselines.parts import two_part_row
from asteroid_ucr.evaluation.rows import Row

NEIGHBOURS = 20  # a 7 s clip has a few bars: its repetitions are few
APART_SECONDS = 1.0  # frames nearer than this are alike because sounds last, not because they recur


def repet_sim_row() -> Row:
    """REPET-SIM; what does not recur goes to the drums.

    Between frames, a sustained note recurs and a hit does not: the repeating part of drums and
    bass is the bass.
    """
    return two_part_row(
        "repet_sim",
        "REPET-SIM",
        lambda magnitudes, rate: repeating_masks(magnitudes, rate).flip(0),
        note="median over similar frames: what stands out from it",
    )


def repeating_masks(magnitudes: Tensor, frame_rate: float) -> Tensor:
    """Masks of the repeating part and of the rest (Rafii & Pardo 2012, section 3).

    The repeating part of a frame is the median of the frames most similar to it (by the cosine),
    and no more than the frame itself.

    Args:
        magnitudes: `(freq, frames)`.
        frame_rate: frames per second.

    Returns:
        `(2, freq, frames)` in [0, 1], adding up to one.
    """
    apart = max(1, round(APART_SECONDS * frame_rate))
    frames = magnitudes.shape[-1]
    if frames < 2 * apart + 1:  # nowhere to look for similar frames: nothing repeats
        return torch.stack([torch.zeros_like(magnitudes), torch.ones_like(magnitudes)])
    unit = F.normalize(magnitudes, dim=0)
    similarity = unit.T @ unit
    distance = (torch.arange(frames)[:, None] - torch.arange(frames)).abs()
    similarity[distance < apart] = -1.0
    nearest = similarity.topk(min(NEIGHBOURS, frames - 2 * apart + 1), dim=1).indices
    links = torch.zeros_like(similarity).scatter_(1, nearest, 1.0)
    # librosa's own search, asked for so many neighbours, does not give the most similar ones.
    median = librosa.decompose.nn_filter(
        magnitudes.numpy(), rec=csr_matrix(links.numpy()), aggregate=np.median
    )
    share = torch.from_numpy(median) / magnitudes.clamp(min=1e-10)
    share = share.clamp(max=1)
    return torch.stack([share, 1 - share])
