"""The renderer: its latents, its training on solos, and a model that generates through it."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, draw_latents
from safetensors.numpy import load_file
from test_prior_training import options
from test_training import parse, weights

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import read_sources
from asteroid_ucr.renderer import FOLD, Renderer
from asteroid_ucr.solos.library import write_stems
from asteroid_ucr.training.decomposition import load_weights
from asteroid_ucr.training.prior import train_prior
from asteroid_ucr.training.renderer import train_renderer
from asteroid_ucr.utils.audio import level_gain, write_audio

RATE, TINY = 24_000, {"latent_dim": 6, "bands": 64, "encoder_width": 16, "decoder_width": 16}
PRIOR = {"widths": (16, 32), "kernel_sizes": (3, 3), "frames": 16, "subsets": True}
SETTINGS = {
    "renderer.steps": 60,
    "renderer.epoch_steps": 20,
    "renderer.batch_size": 4,
    "renderer.frames": 64,
    "renderer.lr": 0.01,
    "renderer.warmup_steps": 5,
    "renderer.validation_items": 8,
    "renderer.accelerator": "cpu",
    "renderer.latent_dim": 8,
    "renderer.bands": 64,
    "renderer.encoder_width": 32,
    "renderer.decoder_width": 32,
    "prior.frames": 16,
    "prior.versions": 2,
}


def noise(*shape, seconds=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.05 * torch.randn(*shape, round(seconds * RATE), generator=generator)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = UCRSeparator(["drums", "piano", "bass"], **SMALL).eval()
    model.add_renderer(**TINY)
    model.add_prior(**PRIOR)
    return model


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 4, 7, 64])
def test_four_frames_share_a_latent(frames):
    renderer = Renderer(2, **TINY).eval()
    z = renderer.encode(torch.rand(3, 64, frames), 1)
    assert z.shape == (3, 6, -(-frames // FOLD))
    rendered = renderer.render(z)
    assert rendered.shape == (3, 64, FOLD * z.shape[-1]) and rendered.min() >= 0


def test_loss_by_its_formula():
    torch.manual_seed(0)
    renderer = Renderer(2, **TINY)
    renderer.set_statistics(torch.randn(64), torch.rand(64) + 0.5)
    latents, noise = torch.rand(1, 2, 64, 8), torch.randn(1, 2, 6, 2)
    with torch.no_grad():
        errors, sizes = [], []
        for k in range(2):
            z = renderer.encode(latents[:, k], k)
            x = renderer.decoder[:-1](z + 0.3 * noise[:, k])
            # A latent's outputs are four frames of each band, one band after another.
            frames = x.reshape(64, FOLD, 2).transpose(1, 2).reshape(64, 8)
            target = (latents[0, k] - renderer.latent_mean) / renderer.latent_std
            errors.append((frames - target).square().mean())
            sizes.append(z.square().mean())
        expected = (sum(errors) + 1e-3 * sum(sizes)) / 2
        assert torch.allclose(renderer.loss(latents, noise), expected, rtol=1e-5)


@torch.no_grad()
def test_stems_are_encoded_alone_and_mixtures_by_their_stems(model):
    wav = noise(2, seconds=1.3)
    z = model.latents.of_mixture(wav)
    assert z.shape == (2, 3, 6, -(-75 * 13 // 10 // FOLD))
    stems = model(wav[:, None])
    for k in range(3):
        assert torch.equal(z[:, k], model.latents.of_stem(stems[:, k], k))
    kept = noise(seconds=1.3, seed=1)
    found = draw_latents(model, 1.3, {"bass": kept}, steps=2)
    gain = (1 / 3) ** 0.5 * level_gain(kept)
    assert torch.allclose(found[:, 2], model.latents.of_stem(gain * kept[None], 2), atol=1e-5)


def test_generation(model):
    stems = model.generate(2.1, steps=2, batch=2, seed=3)
    assert stems.shape == (2, 3, round(2.1 * RATE)) and stems.isfinite().all()
    z = draw_latents(model, 2.1, steps=2, batch=2, seed=3)
    assert torch.allclose(z[1], draw_latents(model, 2.1, steps=2, seed=4)[0], atol=1e-5)
    drums = noise(seconds=2.0)
    assert torch.equal(model.generate(2.0, {"drums": drums}, steps=2)[0, 0], drums)
    guided = model.generate(2.0, {"drums": drums}, steps=2, guidance=2.0)
    assert not torch.allclose(guided[0, 1], model.generate(2.0, {"drums": drums}, steps=2)[0, 1])
    long = model.generate(35.0, {"drums": noise(seconds=35.0)}, steps=1)  # two chunks
    assert long.shape == (1, 3, 35 * RATE) and long.isfinite().all()


@torch.no_grad()
def test_parts_of_a_model_keep_renderer_and_prior(model):
    part = model.select(["bass", "drums"])
    wav = noise(1)
    for k, name in enumerate(part.sources):
        whole = model.latents.of_stem(wav, model.sources.index(name))
        assert torch.equal(part.latents.of_stem(wav, k), whole)
    loaded = UCRSeparator.from_pretrained(part.serialize())
    assert torch.equal(draw_latents(loaded, 1.0, steps=2), draw_latents(part, 1.0, steps=2))
    assert loaded.prior.slots == [2, 0]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(model, dtype):
    copied = UCRSeparator.from_pretrained(model.serialize()).to(dtype)
    stems = copied.generate(0.5, {"drums": noise(seconds=0.5)}, steps=1)
    assert stems.isfinite().all()


def test_another_training_may_start_from_the_separator(model, tmp_path):
    model.save(tmp_path / "best_model.pth")
    plain = UCRSeparator(["drums", "piano", "bass"], **SMALL)
    load_weights(plain, str(tmp_path))
    wav = noise(1)
    with torch.no_grad():
        assert torch.equal(plain.eval()(wav), model(wav))


@pytest.fixture(scope="module")
def trained(slakh_tree, tmp_path_factory):
    """An experiment with a renderer and a prior, and its configuration."""
    folder = tmp_path_factory.mktemp("exp")
    solos = folder / "solos"
    write_stems(solos, ["drums", "bass"], slakh_tree)
    given = {**SETTINGS, "data.solos": solos}
    changed = {k.replace(".", "__"): v for k, v in given.items()}
    config = parse(options(slakh_tree, folder / "cache", **changed))
    torch.manual_seed(0)
    UCRSeparator(["drums", "bass"], **SMALL).save(folder / "best_model.pth")
    train_renderer(config, folder)
    shutil.copy(folder / "best_model.pth", folder / "without_prior.pth")
    train_prior(config, folder)
    return folder, config


def test_it_learns_from_solos(trained):
    folder, _ = trained
    log = pd.concat(map(pd.read_csv, sorted(folder.glob("renderer/logs/*/metrics.csv"))))
    losses = log["val_loss"].dropna()
    assert len(losses) == 3 and losses.iloc[-1] < 0.6 * losses.iloc[0]
    model = UCRSeparator.from_pretrained(folder / "without_prior.pth")
    stored = weights(folder / "renderer" / "checkpoints" / "best.ckpt")["state_dict"]
    for key, value in model.renderer.state_dict().items():
        assert torch.equal(value, stored[f"model.renderer.{key}"])


def test_the_prior_learns_its_latents_of_separated_songs_at_several_speeds(slakh_tree, trained):
    folder, config = trained
    model = UCRSeparator.from_pretrained(folder)
    assert model.prior.latent_dim == 8 and model.generate(1.0, steps=2).isfinite().all()
    track, *others = load_tracks(slakh_tree, "train", sources=model.sources)
    names = {path.stem for path in folder.glob("prior/latents/drums-bass/train-2/*.safetensors")}
    tracks = [track, *others]
    assert names == {t.name for t in tracks} | {f"{t.name}-1" for t in tracks}
    mixture = read_sources(track, model.sources, RATE).mixture
    with torch.no_grad():
        z = model.latents.of_mixture((mixture * level_gain(mixture))[None])[0].flatten(0, 1)
    place = folder / "prior" / "latents" / "drums-bass" / "train-2"
    cached = load_file(place / f"{track.name}.safetensors")
    assert np.allclose(cached["signal"].T, z, atol=0.02)
    # Another renderer has other latents.
    train_renderer(config, folder)
    assert UCRSeparator.from_pretrained(folder).prior is None


def test_bad_settings(trained, tmp_path):
    folder, config = trained
    shutil.copy(folder / "without_prior.pth", tmp_path / "best_model.pth")
    config.renderer.frames = 66
    with pytest.raises(UserError, match="a multiple of 4"):
        train_renderer(config, tmp_path)
    config.renderer.frames = 64
    config.data.solos = str(tmp_path / "none")
    with pytest.raises(UserError, match="holds no solos"):
        train_renderer(config, tmp_path)


def test_a_prior_of_subsets_learns_from_mixtures_of_each(tmp_path, model):
    for number, split in enumerate(["train", "validation"]):
        for k, name in enumerate(model.sources):
            stem = noise(seconds=4.0, seed=3 * number + k)
            write_audio(tmp_path / "songs" / split / "song" / f"{name}.wav", stem[None], RATE)
    parts = UCRSeparator.from_pretrained(model.serialize())
    parts.remove_prior()
    parts.save(tmp_path / "best_model.pth")
    few = {"data.sources": "[drums,piano,bass]", "prior.subsets": True, "prior.steps": 2}
    changed = {k.replace(".", "__"): v for k, v in {**SETTINGS, **few}.items()}
    config = parse(options(tmp_path / "songs", tmp_path / "cache", **changed))
    config.prior.epoch_steps = 2
    train_prior(config, tmp_path)
    kinds = {folder.name for folder in (tmp_path / "prior" / "latents").iterdir()}
    assert kinds == {"drums-piano", "drums-bass", "piano-bass", "drums-piano-bass"}
    trained = UCRSeparator.from_pretrained(tmp_path)
    assert trained.select(["bass", "piano"]).generate(1.0, steps=2).isfinite().all()
