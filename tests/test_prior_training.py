"""Training the prior: learns, stays inside the model's file, resumes exactly, refuses mixtures."""

import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import draw_latents, in_a_process
from test_training import arguments, parse, weights

from asteroid_ucr import UCRSeparator, UserError, iadb
from asteroid_ucr.config import fill_cache, open_cache
from asteroid_ucr.data.cache import LatentMetadata, TrackCache
from asteroid_ucr.data.crops import RandomCrops
from asteroid_ucr.training.decomposition import build_model
from asteroid_ucr.training.prior import (
    FORGOTTEN,
    GAIN_CROPS,
    LARGEST_GAIN,
    ComponentCodec,
    fill_components,
    loss_step,
    measure_render_gain,
    mixtures_of,
    statistics,
    train_prior,
)

SETTINGS = {
    "prior.steps": 40,
    "prior.epoch_steps": 10,
    "prior.batch_size": 8,
    "prior.frames": 64,
    "prior.lr": 0.003,
    "prior.warmup_steps": 5,
    "prior.validation_items": 32,
    "prior.accelerator": "cpu",
    "prior.widths": "[16,32]",
    "prior.kernels": "[3,3]",
}


def options(root, cache, **overrides):
    changed = {k.replace("__", "."): v for k, v in overrides.items()}
    return arguments(root, cache, **{**SETTINGS, **changed})


@pytest.fixture(scope="module")
def cached(slakh_tree, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    config = parse(options(slakh_tree, cache))
    for split in ("train", "validation"):
        fill_cache(config, split)
    return slakh_tree, cache


@pytest.fixture(scope="module")
def decomposition(cached, tmp_path_factory):
    """A model file; of a prior's training, what the encoder has learnt does not matter."""
    path = tmp_path_factory.mktemp("model") / "best_model.pth"
    model = build_model(parse(options(*cached)))
    model.assign([1, 0])
    torch.save(model.serialize(), path)
    return path


def experiment(decomposition, folder):
    folder.mkdir()
    shutil.copy(decomposition, folder)
    return folder


@pytest.fixture(scope="module")
def finished(cached, decomposition, tmp_path_factory):
    folder = experiment(decomposition, tmp_path_factory.mktemp("exp") / "whole")
    train_prior(parse(options(*cached)), folder)
    return folder


def test_it_learns_and_leaves_the_rest_as_it_was(decomposition, finished):
    assert {p.name for p in finished.iterdir()} == {"best_model.pth", "prior"}
    log = pd.concat(map(pd.read_csv, sorted(finished.glob("prior/logs/*/metrics.csv"))))
    losses = log["val_loss"].dropna()
    assert len(losses) == 4 and losses.is_monotonic_decreasing
    assert losses.iloc[-1] < losses.iloc[0] - 0.01  # of a variance of one
    before = UCRSeparator.from_pretrained(str(decomposition))
    model = UCRSeparator.from_pretrained(str(finished))
    assert before.prior is None and model.prior is not None
    for key, value in before.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])
    assert model.prior.frames == 64
    assert draw_latents(model, 0.5, steps=2).isfinite().all()


def test_the_prior_is_the_average_of_the_best_epoch(finished):
    stored = weights(finished / "prior" / "checkpoints" / "best.ckpt")
    model = UCRSeparator.from_pretrained(str(finished))
    for key, value in model.prior.state_dict().items():
        assert torch.equal(value, stored["state_dict"][f"model.prior.{key}"])
    current = stored["current_model_state"]["model.prior.lower.weight"]
    assert not torch.equal(current, model.prior.lower.weight)


def test_latents_and_statistics_are_those_of_the_trained_encoder(cached, finished):
    model = UCRSeparator.from_pretrained(str(finished))
    config = parse(options(*cached))
    cache = fill_components(config, model, "train", finished / "prior")
    mixtures = open_cache(config, "train")
    assert cache.tracks == mixtures.tracks and cache.lengths() == mixtures.lengths()
    latents = torch.from_numpy(mixtures.whole(cache.tracks[0]))[None]
    with torch.no_grad():
        expected = model.decomposition.encode(latents)[0].flatten(0, 1)
    assert np.allclose(cache.whole(cache.tracks[0]), expected, atol=1e-2)  # half precision
    every = np.concatenate([cache.whole(t) for t in cache.tracks], axis=-1)
    assert np.allclose(model.prior.mean.flatten(), every.mean(-1), atol=1e-5)
    assert np.allclose(model.prior.std.flatten(), every.std(-1), atol=1e-5)


def test_component_latents_are_a_codec(finished):
    model = UCRSeparator.from_pretrained(str(finished))
    codec, wav = ComponentCodec(model), 0.1 * torch.randn(1, 1, 24_000)
    with torch.no_grad():
        z = codec.encode(wav)
        assert z.shape == (1, codec.channels, codec.frames(24_000))
        assert codec.decode(z, 24_000).shape == (1, 1, 24_000)


def test_killed_and_resumed_ends_where_the_uninterrupted_run_does(
    cached, decomposition, finished, tmp_path
):
    folder = experiment(decomposition, tmp_path / "killed")
    process = in_a_process(train_prior, parse(options(*cached)), folder)
    last = folder / "prior" / "checkpoints" / "last.ckpt"
    deadline = time.time() + 240
    while not last.is_file() and process.is_alive() and time.time() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)  # into the next epoch
    process.kill()
    process.join()
    assert last.is_file()
    assert weights(last)["global_step"] < 40
    assert UCRSeparator.from_pretrained(str(folder)).prior is None  # nothing is half done
    train_prior(parse(options(*cached)), folder)

    ours, theirs = weights(last), weights(finished / "prior" / "checkpoints" / "last.ckpt")
    assert ours["global_step"] == theirs["global_step"] == 40
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(ours[part][k], theirs[part][k]) for k in theirs[part])
    best = [
        torch.load(f / "best_model.pth", weights_only=True)["state_dict"]
        for f in (folder, finished)
    ]
    assert all(torch.equal(best[0][k], best[1][k]) for k in best[1])


@pytest.mark.parametrize("subsets", [False, True])
def test_each_batch_has_mixtures_of_all_sets(subsets):
    """The loss sees each set's latents at its components, and masks and forgets only these."""
    kinds = mixtures_of(3, subsets)
    assert kinds == [(0, 1), (0, 2), (1, 2), (0, 1, 2)][0 if subsets else 3 :]
    seen = {}

    class Prior(torch.nn.Module):
        n_src, latent_dim = 3, 2

        def loss(self, *values):
            names = ("z", "noise", "alpha", "mask", "present")
            seen.update(zip(names, values, strict=True))

    model, size = torch.nn.Module(), 400
    model.prior = Prior()
    model.prior.subsets = subsets
    batches = [torch.full((size, 2 * len(kind), 5), 1.0 + k) for k, kind in enumerate(kinds)]
    loss_step(model, batches, torch.Generator().manual_seed(0), kinds, all_masked=0.5)
    assert seen["z"].shape == seen["noise"].shape == (size * len(kinds), 3, 2, 5)
    assert abs(float((seen["alpha"] < 0.25).float().mean()) - 0.5) < 0.06  # squares
    for k, kind in enumerate(kinds):
        rows, others = slice(k * size, (k + 1) * size), sorted({0, 1, 2} - set(kind))
        z, mask, present = (seen[name][rows] for name in ("z", "mask", "present"))
        assert (z[:, list(kind)] == 1 + k).all() and not z[:, others].any()
        assert not present[:, others].any() and (present | ~mask).all() and mask.any(1).all()
        kept = ~mask.all(1) if len(kind) == 3 else ~mask[:, list(kind)].all(1)
        alone = kept & (present == mask).all(1)
        share = float(alone.sum() / kept.sum())
        assert abs(share - FORGOTTEN) < 0.08 if subsets else share == 0
        assert present[~alone][:, list(kind)].all()


def test_statistics_are_those_of_all_mixtures_that_have_a_component(tmp_path):
    rng, caches, kinds = np.random.default_rng(0), [], [(0, 1), (1, 2)]
    for number in range(len(kinds)):
        about = {"dataset": "d", "split": "train", "sources": ("a", "b"), "mix": "sum"}
        about = LatentMetadata(**about, codec="x", frame_rate=75.0, channels=4)
        cache = TrackCache(tmp_path / str(number), about, write=True)
        cache.add("one", rng.normal(number, 1 + number, (4, 200)), np.ones((2, 200)))
        cache.finish(["one"])
        caches.append(cache)
    mean, std = statistics(caches, kinds, 3)
    first, second = (cache.whole("one") for cache in caches)
    both = np.concatenate([first[2:], second[:2]], axis=1)
    for k, values in enumerate([first[:2], both, second[2:]]):
        assert np.allclose(mean[k], values.mean(1)) and np.allclose(std[k], values.std(1))


def test_it_goes_on_from_another_prior(cached, decomposition, finished, tmp_path):
    folder = experiment(decomposition, tmp_path / "exp")
    changes = {"prior__init": finished, "prior__lr": 0.0, "prior__weight_decay": 0.0}
    train_prior(parse(options(*cached, **changes)), folder)
    before, after = (UCRSeparator.from_pretrained(f).prior for f in (finished, folder))
    for key, value in before.state_dict().items():
        assert torch.allclose(after.state_dict()[key], value, atol=1e-6)
    other = experiment(decomposition, tmp_path / "other")
    with pytest.raises(UserError, match="has no prior"):
        train_prior(parse(options(*cached, prior__init=decomposition)), other)
    with pytest.raises(UserError, match="does not fit"):
        wider = {"prior__init": finished, "prior__widths": "[16,40]"}
        train_prior(parse(options(*cached, **wider)), experiment(decomposition, tmp_path / "wide"))


def test_only_the_prior_is_optimized(finished):
    stored = weights(finished / "prior" / "checkpoints" / "last.ckpt")
    model = UCRSeparator.from_pretrained(str(finished))
    count = len(stored["optimizer_states"][0]["state"])
    assert count == len(list(model.prior.parameters()))


def test_a_finished_prior_is_put_back_into_an_evaluated_model(cached, decomposition, finished):
    """Stage 3, run again, writes the model without its prior; stage 4 has it at hand."""
    before = torch.load(finished / "best_model.pth", weights_only=True)["state_dict"]
    shutil.copy(decomposition, finished)
    train_prior(parse(options(*cached)), finished)
    after = torch.load(finished / "best_model.pth", weights_only=True)["state_dict"]
    assert set(before) == set(after) and all(torch.equal(before[k], after[k]) for k in before)


def test_a_prior_is_not_mixed_with_another_model(cached, decomposition, finished, tmp_path):
    with pytest.raises(UserError, match=r"prior.all_masked"):
        train_prior(parse(options(*cached, prior__all_masked=0.7)), finished)
    with pytest.raises(UserError, match="holds a run"):
        train_prior(parse(options(*cached)), finished, resume="none")
    other = experiment(decomposition, tmp_path / "other")
    model = build_model(parse(options(*cached, training__seed=1)))
    torch.save(model.serialize(), other / "best_model.pth")
    shutil.copytree(finished / "prior", other / "prior")
    with pytest.raises(UserError, match=r"latents.of"):
        train_prior(parse(options(*cached)), other)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prior__all_masked": 1.5}, "all_masked"),
        ({"data__sources": "[drums,piano]"}, "another --tag"),
        ({"data__cache": "/nowhere"}, "run stage 1"),
        ({"prior__frames": 100_000}, "frames"),
        ({"prior__seed": -1}, "prior.seed -1"),
        ({"prior__subsets": True, "prior__batch_size": 0}, "prior.batch_size"),
    ],
)
def test_bad_settings(cached, decomposition, tmp_path, changes, words):
    folder = experiment(decomposition, tmp_path / "exp")
    with pytest.raises(UserError, match=words):
        train_prior(parse(options(*cached, **changes)), folder)


def test_without_a_model_the_stage_is_named(cached, tmp_path):
    with pytest.raises(UserError, match="no model"):
        train_prior(parse(options(*cached)), tmp_path / "nowhere")


def test_the_digest_tells_encoders_apart(cached):
    models = [build_model(parse(options(*cached, training__seed=seed))) for seed in (0, 0, 1)]
    digests = [ComponentCodec(model).fingerprint for model in models]
    assert digests[0] == digests[1] != digests[2]
    weight = models[0].decomposition.encoder.state_dict().values()
    weight = next(value for value in weight if value.is_floating_point() and value.ndim > 1)
    found = []
    for zero in (0.0, -0.0):
        weight[0, 0] = zero
        found.append(ComponentCodec(models[0]).fingerprint)
    assert found[0] == found[1] != digests[0]


def test_rendered_mixtures_have_the_power_of_mixtures(cached, decomposition):
    model = UCRSeparator.from_pretrained(str(decomposition))
    cache = open_cache(parse(options(*cached)), "train")
    gains = torch.tensor(measure_render_gain(model, cache, 64, seed=3))
    assert gains.shape == (model.codec.channels,) and (gains >= 1).all()
    # By hand, on the same crops, one after the other.
    noise = iadb.frame_noise(model.codec.channels, 0, 64, 3)
    true, rendered = 0, 0
    crops = RandomCrops(cache, 64, 3)
    for latents in (crops[number] for number in range(GAIN_CROPS)):
        with torch.no_grad():
            z = model.decomposition.encode(latents[None])
            mixed = model.decomposition.compose(model.decomposition.render(z, noise, 1))
        true = true + model.codec.to_power(latents).sum(-1)
        rendered = rendered + model.codec.to_power(mixed[0]).sum(-1)
    assert torch.allclose(gains, (true / rendered).clamp(1, LARGEST_GAIN), rtol=1e-3)
    # Generation multiplies by them, and nothing else does.
    model.add_prior(widths=[8], kernel_sizes=[3], frames=64)
    model.render_gain = gains.tolist()
    generator = torch.Generator().manual_seed(0)
    components = torch.rand(1, 2, model.codec.channels, 8, generator=generator) + 0.1
    loud, _ = model.latents.balance(components)
    model.render_gain = None
    quiet, _ = model.latents.balance(components)
    ratio = model.codec.to_power(loud) / model.codec.to_power(quiet)
    assert torch.allclose(ratio, gains[:, None].expand_as(ratio), rtol=1e-2)
