import sys

import numpy as np
import pytest
import torch
from asteroid.metrics import get_metrics

from asteroid_ucr.evaluation.scores import (
    bss_scores,
    log_spectral_distance,
    permuted_si_sdr,
    score_clip,
    si_scores,
    si_sdr_matrix,
    silent,
)

RATE = 24_000


@pytest.fixture
def sources():
    """A decaying click train and a chord, four seconds each: unlike white noise, not orthogonal."""
    time = torch.arange(4 * RATE) / RATE
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    drums = noise * torch.exp(-12 * (time % 0.5)) * 0.3
    chord = sum(torch.sin(2 * torch.pi * f * time) for f in (110.0, 220.5, 331.0)) * 0.05
    return torch.stack([drums, chord])


def estimates_of(sources, leak=0.3, noise=0.02):
    hiss = torch.randn(sources.shape, generator=torch.Generator().manual_seed(1)) * noise
    return sources + leak * sources.flip(0) + hiss


def test_si_sdr_agrees_with_asteroid(sources):
    estimates = estimates_of(sources)
    theirs = get_metrics(
        sources.sum(0).numpy(),
        sources.numpy(),
        estimates.numpy(),
        sample_rate=RATE,
        metrics_list=["si_sdr"],
        average=False,
    )
    # Asteroid removes the means, which are tiny here.
    assert si_scores(sources, estimates)["si_sdr"] == pytest.approx(theirs["si_sdr"], abs=0.01)


def test_bss_eval_agrees_with_mir_eval(sources):
    """With one window over the whole clip, v4's images scores are mir_eval's."""
    from mir_eval.separation import bss_eval_images

    short = sources[:, : 2 * RATE]
    estimates = estimates_of(short)
    ours = bss_scores(short, estimates, RATE)
    sdr, isr, sir, sar, _ = bss_eval_images(
        short.double().numpy()[..., None],
        estimates.double().numpy()[..., None],
        compute_permutation=False,
    )
    for name, theirs in zip(("sdr", "isr", "sir", "sar"), (sdr, isr, sir, sar), strict=True):
        assert ours[name] == pytest.approx(theirs, abs=0.01), name


def test_bss_eval_is_the_median_over_windows(sources):
    """7 s have three windows of 3.5 s; noise in one of them alone leaves the median untouched."""
    long = torch.cat([sources, sources[:, : 3 * RATE]], dim=-1)
    estimates = long * 0.5
    # Half the amplitude is an error of half the source: 6.02 dB, in every window.
    assert bss_scores(long, estimates, RATE)["sdr"] == pytest.approx([6.0206] * 2, abs=1e-3)
    burst = torch.randn(2, RATE, generator=torch.Generator().manual_seed(4))
    estimates[:, :RATE] += 0.05 * burst
    assert bss_scores(long, estimates, RATE)["sdr"] == pytest.approx([6.0206] * 2, abs=0.05)
    estimates[:, 2 * RATE : 3 * RATE] += 0.05 * burst  # now the first two windows of three
    assert (bss_scores(long, estimates, RATE)["sdr"] < 5.5).all()


def test_bss_eval_does_not_import_museval(sources):
    bss_scores(sources, estimates_of(sources), RATE)
    assert "museval" not in sys.modules
    assert "stempeg" not in sys.modules


def test_orthogonal_noise_at_known_ratio(sources):
    signal = sources[0].double()
    noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(2)).double()
    noise -= (noise @ signal) / (signal @ signal) * signal
    noise *= (signal.square().sum() / noise.square().sum() / 10**1.7).sqrt()
    matrix = si_sdr_matrix(signal[None], torch.stack([signal + noise, 5 * signal - 5 * noise]))
    assert matrix[0].tolist() == pytest.approx([17.0, 17.0], abs=1e-4)


def test_scaled_reference_is_perfect(sources):
    scores = score_clip(sources, 0.2 * sources, sources.sum(0))
    assert (scores["si_sdr"] >= 99).all() and (scores["si_sar"] >= 99).all()
    assert (scores["lsd"] < 1e-4).all()
    assert scores["residue_dbfs"].isnan().all()


def test_interference_and_artefacts_are_told_apart(sources):
    leaking = score_clip(sources, estimates_of(sources, leak=0.3, noise=0.0), sources.sum(0))
    hissing = score_clip(sources, estimates_of(sources, leak=0.0, noise=0.02), sources.sum(0))
    assert (leaking["si_sar"] > 60).all() and (leaking["si_sir"] < 25).all()
    assert (hissing["si_sir"] > 30).all() and (hissing["si_sar"] < 25).all()


def test_matrix_does_not_permute(sources):
    matrix = si_sdr_matrix(sources, torch.stack([sources[1], sources[0], sources.sum(0)]))
    assert matrix.shape == (2, 3)
    assert (matrix > 20).tolist() == [[False, True, False], [True, False, False]]


def test_improvement_is_over_the_mixture(sources):
    mixture = sources.sum(0)
    assert score_clip(sources, mixture.expand_as(sources), mixture, bss_eval=False)[
        "si_sdri"
    ] == pytest.approx([0.0, 0.0], abs=1e-6)
    scores = score_clip(sources, estimates_of(sources), mixture, bss_eval=False)
    before = si_scores(sources, mixture.expand_as(sources))["si_sdr"]
    assert scores["si_sdri"] == pytest.approx((scores["si_sdr"] - before).numpy(), abs=1e-6)
    assert (scores["si_sdri"] > 3).all()


def test_permuted_score_undoes_a_swap(sources):
    estimates = estimates_of(sources)
    straight = score_clip(sources, estimates, sources.sum(0), bss_eval=False)
    swapped = score_clip(sources, estimates.flip(0), sources.sum(0), bss_eval=False)
    assert (swapped["si_sdr"] < 0).all()
    assert swapped["si_sdr_permuted"] == pytest.approx(straight["si_sdr"].numpy())
    assert permuted_si_sdr(sources, estimates) == pytest.approx(straight["si_sdr"].numpy())


def test_log_spectral_distance_of_a_known_difference():
    """White noise whose upper half band is 20 dB weaker, against itself unfiltered."""
    noise = torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(3)).double()
    spectrum = torch.fft.rfft(noise)
    spectrum[:, spectrum.shape[-1] // 2 :] *= 0.1
    filtered = torch.fft.irfft(spectrum, n=noise.shape[-1])
    # Equal energies: the lower half gains g dB, the upper half loses 20 − g.
    gain = 10 * np.log10(2 / 1.01)
    expected = np.sqrt((gain**2 + (20 - gain) ** 2) / 2)
    assert log_spectral_distance(noise, filtered).item() == pytest.approx(expected, abs=0.3)
    assert log_spectral_distance(noise, 7 * filtered) == pytest.approx(
        log_spectral_distance(noise, filtered).numpy(), abs=1e-6
    )


def test_silent_reference_is_nan_and_its_residue_is_measured(sources):
    references = torch.cat([sources, torch.zeros_like(sources[:1])])
    residue = torch.full_like(sources[:1], 0.01)
    estimates = torch.cat([estimates_of(sources), residue])
    scores = score_clip(references, estimates, references.sum(0))
    assert silent(references).tolist() == [False, False, True]
    for name in ("si_sdr", "si_sir", "si_sar", "sdr", "sir", "lsd"):
        assert scores[name].isnan().tolist() == [False, False, True], name
    assert scores["residue_dbfs"][2].item() == pytest.approx(-40.0, abs=1e-3)
    alone = score_clip(sources, estimates_of(sources), sources.sum(0))
    assert scores["si_sir"][:2] == pytest.approx(alone["si_sir"].numpy())


def test_source_that_sounds_alone_is_not_scored(sources):
    references = sources * torch.tensor([[1.0], [0.0]])
    scores = score_clip(references, references, references.sum(0))
    assert scores["si_sdr"].isnan().all()
    assert scores["residue_dbfs"].tolist() == pytest.approx([np.nan, -200.0], nan_ok=True)


def test_estimate_of_zero_scores_the_limit_and_leaves_the_others(sources):
    estimates = estimates_of(sources)
    whole = score_clip(sources, estimates, sources.sum(0))
    estimates[1] = 0
    scores = score_clip(sources, estimates, sources.sum(0))
    assert scores["si_sdr"][1].item() == pytest.approx(-100)
    assert scores["sdr"][1].item() == 0
    assert scores["sir"][1].isnan()
    assert scores["sdr"][0].item() == pytest.approx(whole["sdr"][0].item())


def test_bad_estimates_are_refused(sources):
    with pytest.raises(ValueError, match="NaN"):
        score_clip(sources, sources * torch.nan, sources.sum(0))
    with pytest.raises(ValueError, match="references"):
        score_clip(sources, sources[:1], sources.sum(0))
