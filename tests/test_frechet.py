"""Fréchet distances against scipy, closed forms and known biases."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from asteroid_ucr import UserError
from asteroid_ucr.codecs import MelCodec
from asteroid_ucr.evaluation.frechet import (
    Gaussian,
    compare,
    embed,
    frechet_distance,
    frechet_infinity,
)


def random_gaussian(generator, dim):
    factor = generator.standard_normal((dim, dim + 3))
    return Gaussian(generator.standard_normal(dim), factor @ factor.T / dim)


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
    a = Gaussian(np.zeros(3), np.diag([4.0, 1.0, 0.0]))
    b = Gaussian(np.array([1.0, 0.0, 2.0]), np.diag([1.0, 1.0, 9.0]))
    assert frechet_distance(a, b) == pytest.approx(5 + 1 + 0 + 9)
    assert frechet_distance(a, a) == 0


def test_fewer_embeddings_than_dimensions():
    embeddings = np.random.default_rng(0).standard_normal((12, 40))
    assert frechet_distance(*map(Gaussian.fit, (embeddings, embeddings))) == pytest.approx(
        0, abs=1e-6
    )
    assert frechet_distance(*map(Gaussian.fit, (embeddings, embeddings + 2.0))) == pytest.approx(
        4 * 40
    )


def test_gaussian_is_the_sample_mean_and_covariance():
    embeddings = np.random.default_rng(0).standard_normal((50, 4))
    fitted = Gaussian.fit(embeddings)
    assert fitted.mean == pytest.approx(embeddings.sum(0) / 50)
    centred = embeddings - embeddings.mean(0)
    assert fitted.covariance == pytest.approx(centred.T @ centred / 49)


def test_extrapolation_takes_the_bias_of_few_embeddings_away():
    generator = np.random.default_rng(1)
    dim, truth = 20, Gaussian(np.zeros(20), np.eye(20))
    plain, unbiased = [], []
    for number in range(8):
        drawn = generator.standard_normal((300, dim))
        plain.append(frechet_distance(truth, Gaussian.fit(drawn)))
        unbiased.append(frechet_infinity(truth, drawn, seed=number))
    assert np.mean(plain) > 0.3  # the true distance is 0
    assert abs(np.mean(unbiased)) < 0.2 * np.mean(plain)


def test_comparison_has_an_interval_that_holds_the_truth_and_repeats():
    generator = np.random.default_rng(2)
    reference = [generator.standard_normal((40, 5)) for _ in range(100)]
    estimate = [1 + generator.standard_normal((10, 5)) for _ in range(30)]
    found = compare(reference, estimate, seed=3)
    low, infinity, high = (found[key] for key in ("low", "infinity", "high"))
    assert low < 5.0 < high  # five means, each off by one
    assert low < infinity < high < low + 3
    assert infinity < found["value"]
    again = compare(reference[:9], estimate[:9], seed=3, resamples=3)
    assert compare(reference[:9], estimate[:9], seed=3, resamples=3) == again
    assert compare(reference[:9], estimate[:9], seed=4, resamples=3) != again


def test_embeddings_are_means_and_log_spreads_of_windows():
    codec = MelCodec()
    wav = 0.1 * torch.randn(24_000 * 3 + 17, generator=torch.Generator().manual_seed(0))
    found = embed(wav, codec)
    latents = codec.encode(wav[None, None])[0].double()
    assert found.shape == (3, 256)
    second = latents[:, 75:150]
    assert found[1, :128] == pytest.approx(second.mean(1).numpy(), abs=1e-6)
    spread = second.std(1, correction=0).log().numpy()
    assert found[1, 128:] == pytest.approx(spread, abs=1e-6)


def test_embeddings_of_silence_are_finite():
    assert np.isfinite(embed(torch.zeros(24_000), MelCodec())).all()


def test_bad_input_is_named():
    codec = MelCodec()
    with pytest.raises(UserError, match="no window of 1 s"):
        embed(torch.zeros(23_000), codec)
    with pytest.raises(UserError, match="n ≥ 2"):
        Gaussian.fit(np.zeros((1, 4)))
    with pytest.raises(UserError, match="NaN"):
        Gaussian.fit(np.full((4, 2), np.nan))
    with pytest.raises(UserError, match="4 and 5 dimensions"):
        frechet_distance(*(Gaussian.fit(np.random.rand(9, dim)) for dim in (4, 5)))
    with pytest.raises(UserError, match="too few"):
        frechet_infinity(Gaussian.fit(np.random.rand(20, 2)), np.random.rand(9, 2))
    with pytest.raises(UserError, match="empty"):
        compare([], [np.zeros((3, 2))])
