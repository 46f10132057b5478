"""Each classical method against a case whose answer is known."""

import numpy as np
import pytest
import torch
from conftest import make_clip

from asteroid_ucr.baselines.classical import (
    periodic_masks,
    repeating_masks,
    robust_pca,
    separate_hpss,
    share_out,
)
from asteroid_ucr.baselines.nmf import nmf_masks
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.rows import classical_rows
from asteroid_ucr.evaluation.scores import level_dbfs, si_sdr_matrix

RATE = 24_000


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clip_of(*waves, sources=("drums", "bass")):
    references = torch.stack(waves)
    return Clip("known", "known", references.sum(0), references, tuple(sources))


def scores(clip, estimates):
    return si_sdr_matrix(clip.references, estimates).diagonal()


@pytest.mark.parametrize("shape", [(60, 100), (100, 60)])
def test_rpca_recovers_a_low_rank_and_a_sparse_matrix(shape):
    low_rank = seeded(shape[0], 3).double() @ seeded(3, shape[1], seed=1).double()
    where = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.05
    sparse = 10 * seeded(*shape, seed=3).double() * where
    found_low, found_sparse = robust_pca(low_rank + sparse)
    assert (found_low - low_rank).norm() < 1e-4 * low_rank.norm()
    assert (found_sparse - sparse).norm() < 1e-4 * sparse.norm()
    assert int(torch.linalg.matrix_rank(found_low, rtol=1e-6)) == 3


def test_rpca_of_nothing_is_nothing():
    assert all(part.abs().max() == 0 for part in robust_pca(torch.zeros(5, 4).double()))


@pytest.fixture
def pattern():
    """A spectrogram that repeats every 20 frames, and an event that happens once on top of it."""
    bar = seeded(64, 20).abs()
    repeating = bar.repeat(1, 15)
    event = torch.zeros_like(repeating)
    event[30:36, 87:92] = 15.0
    return repeating, event


@pytest.mark.parametrize("method", ["ft2d", "repet"])
def test_what_repeats_is_told_from_what_happens_once(pattern, method):
    repeating, event = pattern
    mixture = repeating + event
    masks = periodic_masks(mixture) if method == "ft2d" else repeating_masks(mixture, 15.0)
    assert masks.sum(0) == pytest.approx(1.0, abs=1e-5)
    where = event > 0
    assert masks[0][where].mean() < 0.25
    assert masks[0][~where].mean() > 0.75
    assert (masks[0] * mixture - repeating).norm() < 0.4 * event.norm()


def test_repet_takes_the_median_of_each_frames_neighbours():
    """A neighbour of a frame need not have it as a neighbour: rows and columns differ."""
    magnitudes = seeded(16, 60).abs() + 0.5
    unit = magnitudes / magnitudes.norm(dim=0)
    expected = torch.empty(16, 60)
    for frame in range(60):
        far = [k for k in range(60) if abs(k - frame) >= 5]
        far.sort(key=lambda k: -float(unit[:, k] @ unit[:, frame]))
        median = magnitudes[:, far[:20]].numpy()
        expected[:, frame] = torch.from_numpy(np.median(median, axis=1))
    share = (expected / magnitudes).clamp(max=1)
    assert repeating_masks(magnitudes, frame_rate=5.0)[0] == pytest.approx(share, abs=1e-5)


def test_repet_of_a_pattern_alone_is_the_pattern(pattern):
    assert repeating_masks(pattern[0], 15.0)[0] == pytest.approx(1.0, abs=1e-4)


def test_hpss_tells_vertical_lines_from_horizontal_ones():
    time = torch.arange(3 * RATE) / RATE
    clicks = torch.zeros(3 * RATE)
    clicks[3000::6000] = 1.0
    tones = 0.1 * torch.sin(2 * torch.pi * 440 * time) + 0.1 * torch.sin(2 * torch.pi * 990 * time)
    clip = clip_of(clicks, tones)
    assert (scores(clip, separate_hpss(clip.mixture, RATE, clip.sources)) > 10).all()


def test_nmf_finds_two_components_that_share_no_frequency():
    time = torch.arange(3 * RATE) / RATE
    tone = sum(torch.sin(2 * torch.pi * 60 * h * time) / h for h in (1, 2, 3))
    spectrum = torch.fft.rfft(seeded(3 * RATE))
    hertz = torch.fft.rfftfreq(3 * RATE, 1 / RATE)
    hiss = torch.fft.irfft(spectrum * (hertz > 3000)) * torch.exp(-20 * (time % 0.5))
    clip = clip_of(0.3 * hiss, 0.2 * tone * (time % 1.5 < 1.0))
    mixed = scores(clip, clip.mixture.expand(2, -1))
    rows = {row.name: row for row in classical_rows()}
    assert (scores(clip, rows["nmf"].separate(clip)) > mixed + 15).all()
    # The roles are those of the names, wherever they stand.
    masks, swapped = (
        nmf_masks(clip.mixture, RATE, sources) for sources in (clip.sources, ("bass", "drums"))
    )
    assert torch.allclose(swapped, masks.flip(0), atol=1e-5)


@pytest.mark.parametrize("sources", [("drums", "bass"), ("bass", "piano", "drums"), ("guitar",)])
def test_estimates_add_up_to_the_mixture(sources):
    made = make_clip(sources=sources)
    for row in classical_rows():
        estimates = row.separate(made)
        assert estimates.shape == made.references.shape, row.name
        if len(sources) > 1:
            error = level_dbfs(estimates.sum(0) - made.mixture)
            assert error < level_dbfs(made.mixture) - 60, row.name
        assert row.note


@pytest.mark.parametrize("samples", [200, 5000])
def test_silent_and_short_clips_do_no_harm(samples):
    for wav in (torch.zeros(samples), seeded(samples)):
        clip = clip_of(wav / 2, wav / 2)
        for row in classical_rows():
            assert row.separate(clip).isfinite().all(), row.name


def test_parts_are_shared_out_by_name():
    parts = torch.tensor([[1.0], [2.0]])
    assert share_out(parts, ("bass", "drums", "piano")).tolist() == [[1.0], [1.0], [1.0]]
    assert share_out(parts, ("drums", "bass")).tolist() == [[1.0], [2.0]]
    assert share_out(parts, ("piano", "bass")).tolist() == [[1.0], [2.0]]
