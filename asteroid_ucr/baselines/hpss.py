"""Harmonic-percussive separation by median filtering (Fitzgerald 2010), by librosa."""

from __future__ import annotations

import librosa
import torch
from torch import Tensor

from asteroid_ucr.baselines.parts import share_out
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.rows import Row

N_FFT, HOP, KERNEL = 2048, 512, 31


def hpss_row() -> Row:
    """HPSS with librosa's settings; the first source gets the percussive part.

    The method has two outputs. "drums" gets the percussive one; where no source is named so, the
    first source does, for want of a meaning. See `asteroid_ucr.baselines.parts.share_out` for the
    other sources.
    """
    return Row(
        "hpss",
        "HPSS",
        "classical",
        separate_hpss,
        note="median filtering: percussive part to drums (else to the first source), the harmonic "
        "part shared by the others",
    )


def separate_hpss(clip: Clip) -> Tensor:
    """Estimates `(n_src, time)` that add up to the mixture."""
    spectrum = librosa.stft(clip.mixture.numpy(), n_fft=N_FFT, hop_length=HOP)
    parts = librosa.decompose.hpss(spectrum, kernel_size=KERNEL)
    harmonic, percussive = (
        torch.from_numpy(
            librosa.istft(part, hop_length=HOP, n_fft=N_FFT, length=clip.mixture.shape[-1])
        )
        for part in parts
    )
    return share_out(torch.stack([percussive, harmonic]), clip.sources)
