"""Scores of one clip's estimates against its references.

Every score is in dB, one per source. A reference that is silent has no scores, and neither has one
that sounds alone, because it needs no separation: their scores are NaN.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from itertools import permutations
from pathlib import Path
from types import ModuleType

import fast_bss_eval
import torch
from torch import Tensor

from asteroid_ucr.masking import MASK_RATE, stft

# An RMS level below the noise floor of 16-bit music, and above dither and codec hiss.
SILENCE_DBFS = -60.0
# Scores are limited to ±100 dB, because an infinite score would make every mean infinite.
LIMIT_DB = 100.0
LSD_RANGE_DB = 80.0
BSS_SECONDS, BSS_HOP = 3.5, 1.5

SI_SCORES = ("si_sdr", "si_sir", "si_sar")
BSS_SCORES = ("sdr", "isr", "sir", "sar")
SCORES = (*SI_SCORES, "si_sdri", "si_sdr_permuted", *BSS_SCORES, "lsd", "residue_dbfs")


def level_dbfs(wav: Tensor) -> Tensor:
    """RMS level of `(..., time)` in dB relative to a full-scale square wave; −200 for zeros."""
    return 10 * torch.log10(wav.double().square().mean(-1).clamp(min=1e-20))


def silent(references: Tensor) -> Tensor:
    """Whether each reference `(..., time)` has an RMS level below −60 dBFS."""
    return level_dbfs(references) < SILENCE_DBFS


def scorable(references: Tensor) -> Tensor:
    """Whether each reference `(n_src, time)` sounds together with another one."""
    active = ~silent(references)
    return active & (active.sum() > 1)


def si_scores(references: Tensor, estimates: Tensor) -> dict[str, Tensor]:
    """Scale-invariant SDR, SIR and SAR (Le Roux et al. 2019) with `fast_bss_eval`.

    The means of the signals are not removed, as in the published results on Slakh.

    Args:
        references: True sources `(n_src, time)`, none of them silent.
        estimates: Their estimates `(n_src, time)`; zeros score −100 dB.

    Returns:
        `si_sdr`, `si_sir` and `si_sar`, `(n_src,)` each, within ±100 dB.
    """
    # In float32, rounding of the projections would limit scores to about 70 dB.
    values = fast_bss_eval.si_bss_eval_sources(
        references.double(), estimates.double(), compute_permutation=False, clamp_db=LIMIT_DB
    )
    return dict(zip(SI_SCORES, values, strict=True))


def si_sdr_matrix(references: Tensor, estimates: Tensor) -> Tensor:
    """SI-SDR `(n_ref, n_est)` in dB of every pair of references and estimates, within ±100."""
    # The function `fast_bss_eval.si_sdr` would search for the best permutation.
    return -fast_bss_eval.si_sdr_loss(
        estimates.double(), references.double(), pairwise=True, clamp_db=LIMIT_DB
    )


def permuted_si_sdr(references: Tensor, estimates: Tensor) -> Tensor:
    """SI-SDR `(n_ref,)` under the clip's best permutation of the estimates (an oracle)."""
    matrix = si_sdr_matrix(references, estimates)
    rows = torch.arange(len(references))
    orders = permutations(range(len(estimates)), len(references))
    return max((matrix[rows, list(order)] for order in orders), key=lambda scores: scores.mean())


@cache
def _museval_metrics() -> ModuleType:
    """Loads the file `metrics.py` of museval, which needs only numpy and scipy.

    The package itself imports stempeg, which fails unless ffmpeg and ffprobe are installed.
    """
    package = importlib.util.find_spec("museval")
    if package is None or package.origin is None:
        raise ImportError("museval is not installed: pip install museval.")
    path = Path(package.origin).with_name("metrics.py")
    spec = importlib.util.spec_from_file_location("_museval_metrics", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bss_scores(references: Tensor, estimates: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """SDR, ISR, SIR and SAR of BSS-eval v4 (Stöter et al. 2018) with museval.

    The distortion filters have 512 taps and are fitted to the whole clip. A score is the median
    over windows of 3.5 s, 1.5 s apart; windows in which a signal is all zero do not count.

    Args:
        references: True sources `(n_src, time)`.
        estimates: Their estimates `(n_src, time)`.
        sample_rate: Sample rate in Hz.

    Returns:
        `sdr`, `isr`, `sir` and `sar`, `(n_src,)` each, within ±100 dB.

    Raises:
        ValueError: If a signal is all zero.
    """
    sizes = (round(BSS_SECONDS * sample_rate), round(BSS_HOP * sample_rate))
    values = museval_windows(references, estimates, *sizes)
    # The function `torch.nanmedian` would take the lower of two middle values.
    return {
        name: windows.clamp(-LIMIT_DB, LIMIT_DB).nanquantile(0.5, dim=-1)
        for name, windows in zip(BSS_SCORES, values, strict=True)
    }


def museval_windows(references: Tensor, estimates: Tensor, window: int, hop: int) -> list[Tensor]:
    """SDR, ISR, SIR and SAR `(n_src, windows)` of museval, in dB, for windows in samples.

    Raises:
        ValueError: If a signal `(n_src, time)` is all zero or not finite.
    """
    waves = (wavs.double().numpy()[..., None] for wavs in (references, estimates))
    *values, _ = _museval_metrics().bss_eval(*waves, window=window, hop=hop)
    return [torch.from_numpy(windows) for windows in values]


def log_spectral_distance(
    references: Tensor, estimates: Tensor, sample_rate: int = MASK_RATE
) -> Tensor:
    """Log-spectral distance `(n_src,)` in dB of estimates to references, `(n_src, time)` each.

    The distance of a frame is the root mean square over frequency of the difference between the two
    log power spectra, 10·log10(P + floor); the result is the mean over frames. The spectra are
    those of the mask grid (85 ms Hann windows every 13 ms). The floor lies 80 dB below the loudest
    bin of the reference, so that inaudible differences do not count. The estimate is first scaled
    to the energy of the reference, so that the distance does not depend on its gain.
    """
    power = [stft(wav.double(), sample_rate).abs().square() for wav in (references, estimates)]
    energy = [p.sum((-2, -1), keepdim=True) for p in power]
    floor = power[0].amax((-2, -1), keepdim=True) * 10 ** (-LSD_RANGE_DB / 10)
    power[1] = power[1] * (energy[0] / energy[1].clamp(min=1e-30))
    difference = 10 * torch.log10((power[0] + floor) / (power[1] + floor))
    return difference.square().mean(-2).sqrt().mean(-1)


def score_clip(
    references: Tensor,
    estimates: Tensor,
    mixture: Tensor,
    sample_rate: int = MASK_RATE,
    active: Tensor | None = None,
    bss_eval: bool = True,
) -> dict[str, Tensor]:
    """Computes all scores of one clip.

    Args:
        references: True sources `(n_src, time)`.
        estimates: Their estimates `(n_src, time)`.
        mixture: Mixture `(time,)`, over which SI-SDRi measures the improvement.
        sample_rate: Sample rate in Hz.
        active: Which references are not silent, `(n_src,)`; by default those above −60 dBFS.
        bss_eval: Whether to compute the scores of museval too, which take most of the time.

    Returns:
        A float64 tensor `(n_src,)` for every name of `SCORES`. Scores of references that are silent
        or sound alone are NaN. Only references that are silent have a `residue_dbfs`, the level of
        their estimate.

    Raises:
        ValueError: If shapes differ, or an estimate is not finite.
    """
    if references.shape != estimates.shape:
        raise ValueError(
            f"estimates are {tuple(estimates.shape)}, references {tuple(references.shape)}"
        )
    if not estimates.isfinite().all():
        raise ValueError("the estimates hold NaN or infinite samples")
    active = ~silent(references) if active is None else active
    scores = {name: torch.full((len(references),), torch.nan).double() for name in SCORES}
    scores["residue_dbfs"][~active] = level_dbfs(estimates)[~active]
    if active.sum() < 2:
        return scores
    # A silent reference would make the projection onto all references singular.
    truth, guess = references[active], estimates[active]
    found = si_scores(truth, guess)
    found["si_sdri"] = found["si_sdr"] - si_sdr_matrix(truth, mixture[None])[:, 0]
    found["si_sdr_permuted"] = permuted_si_sdr(truth, estimates)
    found["lsd"] = log_spectral_distance(truth, guess, sample_rate)
    if bss_eval:
        # museval refuses estimates of zeros. Their references take their place, which does not
        # change the scores of the others. The SDR of an estimate of zeros is 0 dB.
        zero = (guess == 0).all(-1)
        bss = bss_scores(truth, torch.where(zero[:, None], truth, guess), sample_rate)
        found |= {name: torch.where(zero, torch.nan, values) for name, values in bss.items()}
        found["sdr"] = torch.where(zero, 0.0, found["sdr"])
    for name, values in found.items():
        scores[name][active] = values
    return scores
