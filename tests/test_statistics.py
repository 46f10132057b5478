import math

import numpy as np
import pandas as pd
import pytest
import torch

from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.assignment import fit_owners
from asteroid_ucr.evaluation.statistics import summarise, t_half_width
from asteroid_ucr.masking import apply_masks, frequency_share, stft, wiener_masks
from asteroid_ucr.utils.errors import UserError

RATE = 24_000


def frame(rows):
    return pd.DataFrame(rows, columns=["run", "track", "clip", "si_sdr"])


def test_interval_of_known_values():
    # Mean 2, standard deviation 1, n = 3: 4.3027 / sqrt(3).
    assert t_half_width([1, 2, 3]) == pytest.approx(2.4841, abs=1e-4)
    assert math.isnan(t_half_width([1.0]))


def test_interval_covers_the_mean_as_often_as_it_says():
    values = np.random.default_rng(0).normal(3.0, 2.0, (4000, 5))
    covered = [abs(v.mean() - 3.0) < t_half_width(v) for v in values]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_tracks_weigh_alike_however_many_clips_they_have():
    lines = frame([("a", "A", f"A{k}", 10.0) for k in range(9)] + [("a", "B", "B0", 0.0)])
    summary = summarise(lines, "si_sdr")
    assert summary.mean == 5.0
    assert (summary.tracks, summary.clips, summary.runs) == (2, 10, 1)
    # Nine copies of one clip are no evidence: the interval is that of two values.
    assert summary.half_width == pytest.approx(t_half_width([10.0, 0.0]))


def test_spread_over_runs_is_apart_from_the_interval():
    lines = frame(
        [(run, track, track, score + shift) for run, shift in (("a", 0.0), ("b", 2.0))
         for track, score in (("A", 1.0), ("B", 3.0))]
    )  # fmt: skip
    summary = summarise(lines, "si_sdr")
    assert summary.mean == 3.0
    assert summary.seed_std == pytest.approx(math.sqrt(2))
    assert summary.half_width == pytest.approx(t_half_width([2.0, 4.0]))


def test_scores_that_are_missing_are_left_out():
    lines = frame([("a", "A", "A0", math.nan), ("a", "B", "B0", 4.0)])
    summary = summarise(lines, "si_sdr")
    assert (summary.mean, summary.tracks, summary.clips) == (4.0, 1, 1)
    assert math.isnan(summary.half_width) and math.isnan(summarise(lines[:1], "si_sdr").mean)


def test_band_split_has_share_one_and_gating_zero():
    power = torch.rand(64, 200, generator=torch.Generator().manual_seed(0))
    band = (torch.arange(64) < 20).double()[None, :, None].expand(2, 64, 200)
    assert frequency_share(band, power).tolist() == pytest.approx([1.0, 1.0])
    # The same gate at all frequencies: with equal weights, frequency explains nothing.
    gate = (torch.arange(200) % 10 < 3).double()[None, None].expand(2, 64, 200)
    assert frequency_share(gate, torch.ones(64, 200)).tolist() == pytest.approx([0.0, 0.0])


def test_share_of_a_known_mixture_of_variances():
    """Mask = a step over frequency of variance 1/4 plus a gate of variance 1/16, independent."""
    step = (torch.arange(64) < 32).double()[:, None]
    gate = (torch.arange(200) % 2).double()[None] / 2
    share = frequency_share((step + gate)[None], torch.ones(64, 200))
    assert share.item() == pytest.approx((1 / 4) / (1 / 4 + 1 / 16))


def test_share_ignores_what_carries_no_energy():
    band = (torch.arange(64) < 20).double()[:, None].repeat(1, 100)
    noisy = band.clone()
    noisy[40:] = torch.rand(24, 100, generator=torch.Generator().manual_seed(1)).double()
    power = torch.ones(64, 100)
    power[40:] = 0
    assert frequency_share(noisy[None], power).item() == pytest.approx(1.0)


def test_share_is_undefined_without_variance_or_energy():
    assert frequency_share(torch.full((2, 8, 9), 0.5), torch.ones(8, 9)).isnan().all()
    assert frequency_share(torch.rand(2, 8, 9), torch.zeros(8, 9)).isnan().all()


def clip(seed, drums_gain=1.0):
    """Clicks and a low tone: a band splitter at 400 Hz separates them."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(2 * RATE) / RATE
    hiss = torch.randn(len(time), generator=generator)
    drums = torch.diff(hiss * torch.exp(-20 * (time % 0.25)), prepend=hiss[:1]) * 0.1 * drums_gain
    bass = 0.1 * torch.sin(2 * torch.pi * (60 + 10 * seed) * time)
    references = torch.stack([drums, bass])
    return Clip(f"c{seed}", f"c{seed}", references.sum(0), references, ("drums", "bass"))


BOTH = [(0, 1), (1, 0)]


class BandSplitter(torch.nn.Module):
    """Low band first, high band second: the wrong way round for drums and bass."""

    def masks(self, wav):
        spec = stft(wav)
        low = (torch.arange(spec.shape[-2]) * RATE / 2048 < 400).float()[:, None]
        return wiener_masks(torch.stack([low, 1 - low]).expand(2, *spec.shape[-2:]))

    def forward(self, clip):
        return apply_masks(clip.mixture[None, None], self.masks(clip.mixture)[None])[0, :, 0]


def test_assignment_finds_the_order_once_for_all_clips():
    splitter = BandSplitter()
    owner, score = fit_owners([clip(k) for k in range(3)], splitter, BOTH)
    assert owner == [1, 0] and score > 10
    assert fit_owners([clip(0)], splitter, BOTH[:1])[1] < -10
    share = frequency_share(splitter.masks(clip(0).mixture), stft(clip(0).mixture).abs().square())
    assert share.tolist() == pytest.approx([1.0, 1.0])


def test_assignment_needs_two_sources_that_sound():
    with pytest.raises(UserError, match="validation"):
        fit_owners([clip(0, drums_gain=0.0)], BandSplitter(), BOTH)
    alone = fit_owners([clip(1)], BandSplitter(), BOTH)
    assert fit_owners([clip(0, drums_gain=0.0), clip(1)], BandSplitter(), BOTH) == alone
