"""IADB against the closed form that Gaussian data have."""

import math

import pytest
import torch

from asteroid_ucr import iadb

MEAN, STD = 1.5, 0.7


def optimal_denoiser(x_alpha, alpha):
    """E[x | x_α] for x ~ N(MEAN, STD²), noise ~ N(0, 1): linear regression on x_α."""
    a = alpha[:, None]
    variance = a**2 * STD**2 + (1 - a) ** 2
    return MEAN + a * STD**2 / variance * (x_alpha - a * MEAN)


def difference_denoiser(x_alpha, alpha):
    """The same knowledge in variant d: E[x − ε | x_α]."""
    a = alpha[:, None]
    variance = a**2 * STD**2 + (1 - a) ** 2
    noise = (1 - a) / variance * (x_alpha - a * MEAN)
    return optimal_denoiser(x_alpha, alpha) - noise


def test_blend_runs_from_noise_to_data():
    x, noise = torch.randn(3, 2, 5), torch.randn(3, 2, 5)
    blended = iadb.blend(x, noise, torch.tensor([0.0, 0.25, 1.0]))
    assert torch.equal(blended[0], noise[0])
    assert torch.allclose(blended[1], 0.25 * x[1] + 0.75 * noise[1])
    assert torch.allclose(blended[2], x[2])


def test_optimal_denoiser_is_the_least_squares_fit():
    generator = torch.Generator().manual_seed(0)
    x = MEAN + STD * torch.randn(200_000, 1, generator=generator)
    alpha = torch.full((len(x),), 0.4)
    x_alpha = iadb.blend(x, torch.randn(x.shape, generator=generator), alpha)
    design = torch.cat([x_alpha, torch.ones_like(x)], dim=1)
    slope, intercept = torch.linalg.lstsq(design, x).solution.flatten()
    points = torch.tensor([[-1.0], [0.0], [2.0]])
    expected = optimal_denoiser(points, torch.full((3,), 0.4))
    assert torch.allclose(slope * points + intercept, expected, atol=0.02)


@pytest.mark.parametrize(
    ("denoiser", "variant"), [(optimal_denoiser, "c"), (difference_denoiser, "d")]
)
def test_many_steps_transport_noise_to_the_data_distribution(denoiser, variant):
    # The deterministic flow between Gaussians is the monotone map ε -> MEAN + STD·ε.
    noise = torch.linspace(-2, 2, 41)[:, None].double()
    result = iadb.sample(denoiser, noise, 2000, variant)
    assert torch.allclose(result, MEAN + STD * noise, atol=2e-3)


@pytest.mark.parametrize("spread", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("alpha_start", [0.0, 0.3])
def test_the_multistep_sampler_reaches_the_spread_of_the_data(spread, alpha_start):
    """The flow between Gaussians multiplies noise; 25 steps of second order suffice, of first not.

    Noise of 1/13 is what 160 frames have in common.
    """
    noise_std = 1 / 13

    def denoiser(x, alpha):
        a = alpha[:, None]
        return a * spread**2 * x / (a**2 * spread**2 + (1 - a) ** 2 * noise_std**2)

    start = math.hypot(alpha_start * spread, (1 - alpha_start) * noise_std)
    noise = torch.full((1, 1), start, dtype=torch.float64)
    ratios = [
        float(sampler(denoiser, noise, steps, alpha_start=alpha_start)) / spread
        for sampler, steps in (
            (iadb.sample_multistep, 50),
            (iadb.sample_multistep, 25),
            (iadb.sample, 25),
        )
    ]
    errors = [abs(ratio - 1) for ratio in ratios]
    assert errors[0] < errors[1] < min(0.025, 0.6 * errors[2])


def test_the_multistep_sampler_begins_and_ends_like_the_other():
    noise = torch.randn(10, 1)
    one = iadb.sample_multistep(optimal_denoiser, noise, 1)
    assert torch.equal(one, iadb.sample(optimal_denoiser, noise, 1))
    many = iadb.sample_multistep(optimal_denoiser, noise.double(), 400)
    assert torch.allclose(many, MEAN + STD * noise.double(), atol=1e-3)
    with pytest.raises(ValueError, match="steps"):
        iadb.sample_multistep(optimal_denoiser, noise, 0)
    with pytest.raises(ValueError, match="alpha_start"):
        iadb.sample_multistep(optimal_denoiser, noise, 1, alpha_start=1.0)


def test_one_step_is_the_conditional_mean():
    noise = torch.randn(10, 1)
    assert torch.allclose(iadb.sample(optimal_denoiser, noise, 1), torch.full((10, 1), MEAN))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_variants_agree_when_they_know_the_same(steps):
    noise = torch.randn(10, 1).double()
    c = iadb.sample(optimal_denoiser, noise, steps, "c")
    d = iadb.sample(difference_denoiser, noise, steps, "d")
    assert torch.allclose(c, d, atol=1e-9)


def test_error_shrinks_with_the_step():
    noise = torch.linspace(-2, 2, 41)[:, None].double()
    errors = [
        (iadb.sample(optimal_denoiser, noise, steps) - (MEAN + STD * noise)).abs().max().item()
        for steps in (10, 100, 1000)
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


@pytest.mark.parametrize(("steps", "start"), [(0, 0.0), (-1, 0.0), (3, 1.0), (3, -0.1)])
def test_bad_settings_are_refused(steps, start):
    with pytest.raises(ValueError, match="must"):
        iadb.sample(optimal_denoiser, torch.zeros(1, 1), steps, alpha_start=start)


def test_frame_noise_follows_the_absolute_frame():
    whole = iadb.frame_noise(4, -300, 1500, seed=5)
    part = iadb.frame_noise(4, 211, 600, seed=5)
    assert torch.equal(whole[..., 511:1111], part)
    assert not torch.equal(part, iadb.frame_noise(4, 211, 600, seed=6))


def test_frame_noise_is_standard_normal():
    noise = iadb.frame_noise(128, 0, 4000, seed=0)
    standard_error = 1 / math.sqrt(noise.numel())
    assert abs(noise.mean()) < 4 * standard_error
    assert abs(noise.std() - 1) < 4 * standard_error
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean()
    assert abs(neighbours) < 4 * standard_error
