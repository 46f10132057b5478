"""The masking prior: the law of its masks, its loss by the formula, kept components, windows."""

import pytest
import torch

from asteroid_ucr import iadb
from asteroid_ucr.prior import MaskingPrior, draw_masks, mask_law

SMALL = {"widths": (16, 32), "kernel_sizes": (3, 3), "frames": 32}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def small_prior(n_src=2, latent_dim=1, **options):
    torch.manual_seed(0)
    prior = MaskingPrior(n_src, latent_dim, **{**SMALL, **options}).eval()
    prior.set_statistics(torch.randn(n_src, latent_dim), torch.rand(n_src, latent_dim) + 0.5)
    return prior


@pytest.mark.parametrize("n_src", [1, 2, 3, 5])
@pytest.mark.parametrize("all_masked", [0.0, 0.3, 0.5, 1.0])
def test_the_law_is_exact(n_src, all_masked):
    masks, probabilities = mask_law(n_src, all_masked)
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    rows = list(zip(masks.tolist(), probabilities.tolist(), strict=True))
    assert len({tuple(mask) for mask, _ in rows}) == len(rows) == 2**n_src - 1
    for mask, probability in rows:
        assert any(mask)
        law = all_masked if all(mask) else (1 - all_masked) / (2**n_src - 2)
        assert probability == pytest.approx(law if n_src > 1 else 1.0, abs=1e-15)


def test_masks_are_drawn_by_the_law():
    draws = 40_000
    masks, probabilities = mask_law(3, 0.5)
    drawn = draw_masks(draws, 3, 0.5, torch.Generator().manual_seed(0))
    counts = torch.stack([(drawn == mask).all(1).sum() for mask in masks]).double()
    assert counts.sum() == draws
    sigma = (draws * probabilities * (1 - probabilities)).sqrt()
    assert ((counts - draws * probabilities).abs() < 4 * sigma + 1).all()
    assert torch.equal(drawn, draw_masks(draws, 3, 0.5, torch.Generator().manual_seed(0)))


def test_a_probability_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="all_masked"):
        mask_law(2, 1.5)


def test_reference_size():
    assert parameters(MaskingPrior(2)) == pytest.approx(7.7e6, rel=0.01)


def test_loss_by_its_formula():
    """The loss equals its formula, computed one item and one component at a time."""
    prior = small_prior(3, 2)
    z, noise, alpha = torch.randn(2, 3, 2, 32), torch.randn(2, 3, 2, 32), torch.tensor([0.2, 0.7])
    mask = torch.tensor([[True, False, True], [False, True, False]])
    present = torch.tensor([[True, True, True], [True, True, False]])
    with torch.no_grad():
        errors = []
        for i in range(2):
            a, x = alpha[i], (z[i] - prior.mean) / prior.std
            seen = x.clone()
            for n in range(3):
                if mask[i, n]:
                    seen[n] = a * x[n] + (1 - a) * noise[i, n]
            one = slice(i, i + 1)
            estimate = prior(seen[None], alpha[one], mask[one], present[one])[0]
            for n in range(3):
                if mask[i, n]:
                    # The error of v is that of x, divided by how much of x the blend leaves open.
                    unknown = (1 - a) / (a**2 + (1 - a) ** 2) ** 0.5
                    errors.append(((estimate[n] - x[n]) / unknown).square().flatten())
        loss = prior.loss(z, noise, alpha, mask, present)
        assert torch.allclose(loss, torch.cat(errors).mean(), rtol=1e-4)


@torch.no_grad()
def test_absent_components_are_not_heard():
    """A part of the components gives what all do if the others are declared absent."""
    prior = small_prior(3, 2)
    x, alpha = torch.randn(1, 3, 2, 32), torch.tensor([0.5])
    mask, present = torch.tensor([[True, False, False]]), torch.tensor([[True, False, True]])
    whole = prior(x, alpha, mask, present)
    moved = x.clone()
    moved[:, 1] += 1
    assert torch.equal(prior(moved, alpha, mask, present)[:, [0, 2]], whole[:, [0, 2]])
    assert not torch.allclose(prior(x, alpha, mask)[:, 0], whole[:, 0])
    mean = prior.mean
    prior.pick([2, 0])
    assert prior.n_src == 2 and torch.equal(prior.mean, mean[[2, 0]])
    part = prior(x[:, [2, 0]], alpha, mask[:, [2, 0]])
    assert torch.equal(part, whole[:, [2, 0]])


def test_passages_are_not_normalised():
    """What comes out of a frame depends on its surroundings, not on statistics of the passage."""
    prior = small_prior(frames=256).eval()
    torch.nn.init.zeros_(prior.network.attention.out.weight)  # attention hears the whole passage
    x, alpha = torch.randn(1, 2, 1, 256), torch.tensor([0.5])
    mask = torch.ones(1, 2, dtype=torch.bool)
    louder = x.clone()
    louder[..., 128:] *= 5
    with torch.no_grad():
        one, other = prior(x, alpha, mask), prior(louder, alpha, mask)
    assert torch.equal(one[..., :64], other[..., :64])
    assert not torch.allclose(one[..., 128:], other[..., 128:])


def test_kept_components_do_not_enter_the_loss_but_the_prediction():
    prior = small_prior()
    z, noise, alpha = torch.randn(4, 2, 1, 32), torch.randn(4, 2, 1, 32), torch.rand(4)
    mask = torch.tensor([[True, False]]).expand(4, -1)
    other = noise.clone()
    other[:, 1] += 1  # the noise of what is kept is never seen
    loss = prior.loss(z, noise, alpha, mask)
    assert torch.equal(loss, prior.loss(z, other, alpha, mask))
    moved = z.clone()
    moved[:, 1] += torch.randn(32)
    assert not torch.allclose(loss, prior.loss(moved, noise, alpha, mask))


@torch.no_grad()
def test_the_mask_and_alpha_are_seen():
    prior = small_prior()
    x = torch.randn(1, 2, 1, 32)
    masks = [torch.tensor([m]) for m in ([True, True], [True, False], [False, True])]
    outputs = [prior(x, torch.tensor([0.5]), mask) for mask in masks]
    assert not torch.allclose(outputs[0], outputs[1])
    assert not torch.allclose(outputs[1], outputs[2])
    assert not torch.allclose(outputs[0], prior(x, torch.tensor([0.9]), masks[0]))


@pytest.mark.parametrize("frames", [1, 7, 32, 33, 90])
@pytest.mark.parametrize(("n_src", "latent_dim"), [(1, 1), (2, 1), (3, 2)])
@torch.no_grad()
def test_kept_components_come_back_bit_by_bit(n_src, latent_dim, frames):
    prior = small_prior(n_src, latent_dim)
    noise, kept = torch.randn(2, 2, n_src, latent_dim, frames)
    mask = torch.ones(2, n_src, dtype=torch.bool)
    mask[1, 1:] = False
    z = prior.sample(noise, mask, kept, steps=5)
    assert z.shape == noise.shape and z.isfinite().all()
    assert torch.equal(z[~mask], kept[~mask])
    assert not torch.isclose(z[mask], kept[mask]).any()


@torch.no_grad()
def test_the_network_sees_what_is_kept_at_every_step():
    prior = small_prior()
    kept = torch.randn(1, 2, 1, 80)  # three windows
    clean = prior.standardise(kept)
    seen = []
    prior.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 1].clone()))
    prior.sample(torch.randn(1, 2, 1, 80), torch.tensor([[True, False]]), kept, steps=3)
    assert len(seen) == 3 * 4
    starts = [0, 16, 32, 48] * 3
    for part, start in zip(seen, starts, strict=True):
        assert torch.equal(part, clean[:, 1, :, start : start + 32])


@torch.no_grad()
def test_guidance_extrapolates_what_kept_components_change():
    prior = small_prior(3, 2)
    noise, kept = torch.randn(2, 1, 3, 2, 32)
    mask = torch.tensor([[True, True, False]])
    one, other, far = (
        prior.standardise(prior.sample(noise, mask, kept, steps=1, guidance=g)) for g in (1, 0, 3)
    )
    assert not torch.allclose(one[:, :2], other[:, :2], atol=1e-3)
    assert torch.allclose(far[:, :2], (3 * one - 2 * other)[:, :2], atol=1e-4)
    # At 0, what is kept is not heard.
    changed = prior.sample(noise, mask, kept + 1, steps=1, guidance=0)
    assert torch.allclose(prior.standardise(changed)[:, :2], other[:, :2], atol=1e-5)


@torch.no_grad()
def test_reordered_components():
    prior, order = small_prior(3, 2), [2, 0, 1]
    prior.set_statistics(torch.randn(3, 2), torch.rand(3, 2) + 0.5)
    noise, kept = torch.randn(2, 2, 3, 2, 70)
    mask = torch.tensor([[True, False, True], [True, True, False]])
    before = prior.sample(noise, mask, kept, steps=3)
    prior.pick(order)
    after = prior.sample(noise[:, order], mask[:, order], kept[:, order], steps=3)
    assert torch.allclose(after, before[:, order], atol=1e-4)


@torch.no_grad()
def test_a_variation_starts_at_the_blend():
    prior = small_prior()
    start, noise = torch.randn(2, 1, 2, 1, 32)
    mask = torch.ones(1, 2, dtype=torch.bool)
    seen = []
    prior.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    prior.sample(noise, mask, steps=2, alpha_start=0.6, start=start)
    assert torch.allclose(seen[0][0], 0.6 * prior.standardise(start) + 0.4 * noise, atol=1e-6)
    second = (0.5 + 0.5 * 0.6**0.5) ** 2  # √α has equal steps
    assert seen[0][1] == pytest.approx(0.6) and seen[1][1] == pytest.approx(second)


def test_windows_average_by_their_weights():
    """Against the definition: every frame is the weighted mean of the windows that cover it."""
    window, frames, starts = 4, 9, [0, 2, 4, 5]
    weight = torch.tensor([1.0, 2.0, 2.0, 1.0])
    calls = iter(range(100))
    denoise = iadb.in_windows(lambda x, alpha: torch.full_like(x, next(calls)), window)
    found = denoise(torch.zeros(1, 3, frames), torch.zeros(1))
    for frame in range(frames):
        pairs = [(weight[frame - s], k) for k, s in enumerate(starts) if s <= frame < s + window]
        expected = sum(w * k for w, k in pairs) / sum(w for w, _ in pairs)
        assert found[0, 0, frame] == pytest.approx(float(expected))


def test_windows_change_nothing_where_the_denoiser_is_local():
    local = lambda x, alpha: 0.5 * x + alpha.reshape(-1, 1, 1)  # noqa: E731
    noise = torch.randn(2, 3, 100)
    whole = iadb.sample(local, noise, 7)
    windows = iadb.sample(iadb.in_windows(local, 16), noise, 7)
    assert torch.allclose(whole, windows, atol=1e-6)
