"""The models that come with the package, and how a model and its card are written."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from fast_bss_eval.torch import si_sdr_loss
from huggingface_hub import ModelCard

import asteroid_ucr
from asteroid_ucr import UCRSeparator
from asteroid_ucr.config import RecipeConfig
from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import read_sources
from asteroid_ucr.minislakh import build
from asteroid_ucr.reports.cards import write_cards
from asteroid_ucr.store import bundled_models, read_bundle, write_bundle

NAMES = ["bass-piano", "drums-bass", "drums-piano", "drums-piano-bass"]


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Songs that no model was trained on: of a seed of their own."""
    root = tmp_path_factory.mktemp("songs")
    build(root / "songs", songs=8, seconds=8.0, seed=77, progress=False)
    return load_tracks(root / "songs", "train")


def test_all_are_there():
    assert bundled_models() == NAMES
    folder = Path(asteroid_ucr.__file__).parent / "models"
    assert (folder / "bundled.safetensors").stat().st_size < 25e6
    for name in NAMES:
        assert name in (folder / f"{name}.md").read_text()


def test_a_bundle_stores_what_models_share_once(tmp_path):
    torch.manual_seed(0)
    prior = {"widths": (16, 32), "kernel_sizes": (3, 3), "frames": 64}
    whole = UCRSeparator(["drums", "piano", "bass"], **SMALL, prior=prior).eval()
    part, other = whole.select(["bass", "drums"]), UCRSeparator(["drums"], **SMALL).eval()
    models = {"whole": whole, "part": part, "other": other}
    write_bundle({"whole": whole}, tmp_path / "one.safetensors")
    write_bundle({"whole": whole, "part": part}, tmp_path / "two.safetensors")
    write_bundle(models, tmp_path / "all.safetensors")
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("one", "two", "all")]
    assert sizes[0] == sizes[1] < sizes[2]
    wav = 0.1 * torch.randn(1, 1, 9600, generator=torch.Generator().manual_seed(0))
    for name, model in models.items():
        loaded = UCRSeparator.from_pretrained(read_bundle(tmp_path / "all.safetensors", name))
        assert loaded.get_model_args() == model.get_model_args()
        with torch.no_grad():
            assert torch.allclose(loaded(wav), model(wav), atol=2e-3)  # in half precision


@pytest.mark.parametrize("name", NAMES)
def test_they_separate(name, songs):
    model = UCRSeparator.from_pretrained(name)
    assert model.sources == name.split("-")
    gains = []
    for song in songs:
        audio = read_sources(song, model.sources, 24_000)
        with torch.no_grad():
            estimates = model(audio.mixture[None, None])[0]
        assert torch.allclose(estimates.sum(0), audio.mixture, atol=1e-4)
        before = -si_sdr_loss(audio.mixture.expand_as(estimates), audio.references)
        gains.append(float((-si_sdr_loss(estimates, audio.references) - before).mean()))
    assert np.mean(gains) > 1.0


@pytest.mark.parametrize("name", NAMES)
def test_they_generate(name):
    model = UCRSeparator.from_pretrained(name)
    stems = model.generate(1.0, seed=0, steps=2)
    assert stems.shape == (1, model.n_src, 24_000)
    assert stems.isfinite().all() and stems.abs().max() > 1e-3


def test_a_model_is_written_with_its_card(slakh_tree, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(slakh_tree, tree)
    (tree / "minislakh.json").write_text(
        json.dumps({"seed": 1, "seconds": 6.0, "soundfonts": [{}, {}]})
    )
    (tmp_path / "solos").mkdir()
    found = {name: {"windows": 30, "tracks": 20} for name in ("drums", "bass")}
    (tmp_path / "solos" / "solos.json").write_text(json.dumps({"found": found}))
    config = dataclasses.asdict(RecipeConfig())
    config["data"] |= {"root": str(tree), "solos": str(tmp_path / "solos")}
    config["evaluation"] |= {"steps": [1], "bss_eval": False, "segment_seconds": 3.0}
    config["evaluation"]["max_clips"] = 2
    torch.manual_seed(0)
    model = UCRSeparator(["drums", "bass"], composition="power_sum", **SMALL).eval()
    model.budget = {"parameters": 1, "steps": 7, "batch_size": 2, "crop_seconds": 1.0,
                    "minutes": 1.0, "device": "cpu"}  # fmt: skip
    out = tmp_path / "out"
    (card,) = write_cards(
        {"mine": model}, config, out, tmp_path / "scores", tree, None, "train it", "abc"
    )
    text = card.read_text()
    for words in ("# mine", "`train it` at commit abc", "30 of bass in 20 songs", "| Mixture |"):
        assert words in text
    data = ModelCard(text).data
    assert data.license == "mit" and data.eval_results[0].dataset_name == "Songs of mini-Slakh"
    loaded = UCRSeparator.from_pretrained(read_bundle(out / "bundled.safetensors", "mine"))
    wav = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (1, 1, 9600))).float()
    with torch.no_grad():
        assert torch.allclose(loaded(wav), model(wav), atol=2e-3)
