"""Fréchet distances against scipy, closed forms and known biases."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from asteroid_ucr import UserError
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.evaluation.frechet import (
    Gaussian,
    compare,
    embed,
    frechet_distance,
    frechet_infinity,
    gaussian,
)


def random_gaussian(generator, dim):
    factor = generator.standard_normal((dim, dim + 3))
    return Gaussian(generator.standard_normal(dim), factor @ factor.T / dim, 100)


@pytest.mark.parametrize("dim", [1, 2, 30])
def test_distance_is_that_of_the_matrix_square_root(dim):
    generator = np.random.default_rng(dim)
    a, b = random_gaussian(generator, dim), random_gaussian(generator, dim)
    crossed = sqrtm(a.covariance @ b.covariance)
    traces = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.trace(crossed).real
    expected = ((a.mean - b.mean) ** 2).sum() + traces
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_distance_of_commuting_and_singular_covariances():
    a = Gaussian(np.zeros(3), np.diag([4.0, 1.0, 0.0]), 10)
    b = Gaussian(np.array([1.0, 0.0, 2.0]), np.diag([1.0, 1.0, 9.0]), 10)
    assert frechet_distance(a, b) == pytest.approx(5 + 1 + 0 + 9)
    assert frechet_distance(a, a) == 0


def test_fewer_embeddings_than_dimensions():
    embeddings = np.random.default_rng(0).standard_normal((12, 40))
    assert frechet_distance(embeddings, embeddings) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(embeddings, embeddings + 2.0) == pytest.approx(4 * 40)


def test_gaussian_is_the_sample_mean_and_covariance():
    embeddings = np.random.default_rng(0).standard_normal((50, 4))
    fitted = gaussian(embeddings)
    assert fitted.mean == pytest.approx(embeddings.sum(0) / 50)
    centred = embeddings - embeddings.mean(0)
    assert fitted.covariance == pytest.approx(centred.T @ centred / 49)


def test_extrapolation_takes_the_bias_of_few_embeddings_away():
    generator = np.random.default_rng(1)
    dim, truth = 20, Gaussian(np.zeros(20), np.eye(20), 10**9)
    plain, unbiased = [], []
    for number in range(8):
        drawn = generator.standard_normal((300, dim))
        plain.append(frechet_distance(truth, drawn))
        unbiased.append(frechet_infinity(truth, drawn, seed=number))
    assert np.mean(plain) > 0.3  # the true distance is 0
    assert abs(np.mean(unbiased)) < 0.2 * np.mean(plain)


def test_comparison_has_an_interval_that_holds_the_truth_and_repeats():
    generator = np.random.default_rng(2)
    reference = [generator.standard_normal((40, 5)) for _ in range(100)]
    estimate = [1 + generator.standard_normal((10, 5)) for _ in range(30)]
    found = compare(reference, estimate, seed=3)
    assert found.low < 5.0 < found.high  # five means, each off by one
    assert found.low < found.infinity < found.high < found.low + 3
    assert found.infinity < found.value
    assert found.clips == (100, 30)
    again = compare(reference[:9], estimate[:9], seed=3, resamples=3)
    assert compare(reference[:9], estimate[:9], seed=3, resamples=3) == again
    assert compare(reference[:9], estimate[:9], seed=4, resamples=3) != again


def test_pairs_know_more_than_strangers():
    generator = np.random.default_rng(3)
    reference = [
        5 * generator.standard_normal(4) + generator.standard_normal((9, 4)) for _ in range(12)
    ]
    estimate = [r + 0.5 for r in reference]
    pairs, strangers = (compare(reference, estimate, paired=paired) for paired in (True, False))
    assert pairs.value == strangers.value == pytest.approx(1.0)
    assert pairs.high - pairs.low < 0.5 * (strangers.high - strangers.low)
    with pytest.raises(UserError, match="not pairs"):
        compare(reference, estimate[1:], paired=True)


def test_embeddings_are_means_and_log_spreads_of_windows():
    codec = build_codec("mel")
    wav = 0.1 * torch.randn(1, 24_000 * 3 + 17, generator=torch.Generator().manual_seed(0))
    found = embed(wav, codec=codec)
    latents = codec.encode(wav[None])[0].double()
    assert found.shape == (3, 256)
    second = latents[:, 75:150]
    assert found[1, :128] == pytest.approx(second.mean(1).numpy(), abs=1e-6)
    spread = second.std(1, correction=0).log().numpy()
    assert found[1, 128:] == pytest.approx(spread, abs=1e-6)
    assert (embed(wav[0], codec=codec) == found).all()


def test_embeddings_of_another_rate_and_of_silence():
    codec = build_codec("mel")
    time = torch.arange(2 * 48_000) / 48_000
    tone = (0.1 * torch.sin(2 * torch.pi * 440 * time)).float()
    ours, resampled = embed(tone[::2], codec=codec), embed(tone, 48_000, codec=codec)
    assert ours.shape == resampled.shape
    assert np.abs(ours[:, :128] - resampled[:, :128]).max() < 0.05
    assert np.isfinite(embed(torch.zeros(24_000), codec=codec)).all()


def test_bad_input_is_named():
    codec = build_codec("mel")
    with pytest.raises(UserError, match="no window of 1 s"):
        embed(torch.zeros(23_000), codec=codec)
    with pytest.raises(UserError, match="one channel"):
        embed(torch.zeros(2, 48_000), codec=codec)
    with pytest.raises(UserError, match="n ≥ 2"):
        gaussian(np.zeros((1, 4)))
    with pytest.raises(UserError, match="NaN"):
        gaussian(np.full((4, 2), np.nan))
    with pytest.raises(UserError, match="4 and 5 dimensions"):
        frechet_distance(np.random.rand(9, 4), np.random.rand(9, 5))
    with pytest.raises(UserError, match="too few"):
        frechet_infinity(np.random.rand(20, 2), np.random.rand(9, 2))
    with pytest.raises(UserError, match="empty"):
        compare([], [np.zeros((3, 2))])
