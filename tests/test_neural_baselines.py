"""Neural baselines: Asteroid's contract, training, assignment, and their rows."""

import sys

import pytest
import torch
from asteroid.dsp import LambdaOverlapAdd
from asteroid.models import BaseModel, get
from conftest import SMALL
from torch import nn

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.base import SeparatorModel, describe_budget
from asteroid_ucr.baselines.demucs import share_outputs
from asteroid_ucr.baselines.neural import ConvTasNetSeparator, HDemucsSeparator, WaveSeparator
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.config import fill_cache, open_cache, parse_recipe, recipe_parser
from asteroid_ucr.data.clips import Clip, slakh_clips
from asteroid_ucr.data.crops import RandomCrops
from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import read_sources
from asteroid_ucr.evaluation.model_rows import assign_outputs, demucs_row, trained_rows
from asteroid_ucr.training.baselines import BASELINES, find_baseline, train_baseline
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.flops import gflop_per_second

TINY = {"n_filters": 16, "bn_chan": 8, "hid_chan": 16, "skip_chan": 8, "n_blocks": 2}
TINY["n_repeats"] = 1
MODELS = {
    "ucr": lambda: UCRSeparator(("bass", "drums"), **SMALL),
    "convtasnet": lambda: ConvTasNetSeparator(("bass", "drums"), **TINY),
    "mixit": lambda: ConvTasNetSeparator(("bass", "drums"), outputs=4, consistent=True, **TINY),
    "hdemucs": lambda: HDemucsSeparator(("bass", "drums"), channels=4),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


@pytest.fixture
def wav():
    return 0.1 * torch.randn(2, 1, 9000, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_every_model_keeps_asteroids_contract(model, wav, tmp_path):
    assert isinstance(model, BaseModel) and get(type(model).__name__) is type(model)
    assert model.sample_rate == 24_000
    for shape in [(7,), (3, 500), (2, 1, 3001)]:
        expected = (2, shape[-1]) if len(shape) == 1 else (shape[0], 2, shape[-1])
        assert model(torch.randn(shape)).shape == expected
        assert model.separate(torch.randn(shape)).shape == expected
    assert torch.allclose(model(5 * wav), 5 * model(wav), atol=1e-3)
    assert model(torch.zeros(1, 1, 3000)).abs().max() == 0
    whole = LambdaOverlapAdd(model, n_src=2, window_size=4000, window="hann")(wav)
    assert whole.shape == (2, 2, 9000)
    model.assign([1, 0] if len(getattr(model, "owner", "xx")) == 2 else [1, 0, 0, 1])
    model.budget = {"kind": "convtasnet", "steps": 3}
    path = str(tmp_path / "best_model.pth")
    torch.save(model.serialize(), path)
    assert torch.load(path, weights_only=True)["infos"]["budget"]["steps"] == 3
    for loader in (BaseModel, SeparatorModel, type(model)):
        loaded = loader.from_pretrained(path).eval()
        assert type(loaded) is type(model)
        assert loaded.sources == ["bass", "drums"]
        assert torch.equal(loaded(wav), model(wav))
    assert SeparatorModel.from_pretrained(str(tmp_path)).budget == model.budget


def test_bad_models_are_refused(tmp_path):
    with pytest.raises(UserError, match="different names"):
        ConvTasNetSeparator(("bass", "bass"), **TINY)
    with pytest.raises(UserError, match="at least as many"):
        ConvTasNetSeparator(outputs=1, **TINY)
    model = ConvTasNetSeparator(**TINY)
    with pytest.raises(UserError, match="average the channels"):
        model(torch.zeros(1, 2, 100))
    with pytest.raises(ValueError, match="each output"):
        model.assign([0, 2])
    with pytest.raises(UserError, match="holds a ConvTasNetSeparator, not a UCRSeparator"):
        UCRSeparator.from_pretrained(model.serialize())
    torch.save(model.serialize(), tmp_path / "best_model.pth")
    with pytest.raises(UserError, match="not a trained model"):
        trained_rows([tmp_path], ["drums", "bass"])


@torch.no_grad()
def test_mixit_outputs_add_up_to_the_mixture(wav):
    model = MODELS["mixit"]().eval()
    assert torch.allclose(model(wav).sum(1), wav[:, 0], atol=1e-5)


class Known(WaveSeparator):
    """Its outputs are scaled parts of what it is given, in an order that is to be found."""

    def __init__(self, parts):
        super().__init__(("drums", "bass"), len(parts), 24_000, shortest=1)
        self.parts = nn.Parameter(parts)

    def components(self, wav):
        return self.parts[None]


def test_owners_are_found():
    first, second = torch.randn(2, 9000, generator=torch.Generator().manual_seed(0))
    low, high = first.clone(), first.clone()
    low[4500:], high[:4500] = 0, 0
    parts = torch.stack([second * 0.6, low, second * 0.4, high])
    clip = Clip("c", "c", first + second, torch.stack([first, second]), ("drums", "bass"))
    model = Known(parts)
    assign_outputs(model, [clip])
    assert model.owner.tolist() == [1, 0, 1, 0]
    assert torch.allclose(model(clip.mixture), clip.references, atol=1e-5)
    silent = Clip("s", "s", first, torch.stack([first, 0 * first]), ("drums", "bass"))
    with pytest.raises(UserError, match="two sources"):
        assign_outputs(model, [silent])


def test_arithmetic_is_counted():
    conv = nn.Conv1d(1, 8, 5, padding=2)
    assert gflop_per_second(conv, 1000, seconds=1) * 1e9 == 2 * 1000 * 8 * 5
    lstm = nn.LSTM(1, 30, 2, bidirectional=True)
    counted = gflop_per_second(lstm, 100, lambda m, wav: m(wav.transpose(1, 2)), seconds=1)
    assert counted * 1e9 == 2 * 100 * 2 * 120 * ((1 + 30) + (60 + 30))
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    run = lambda m, wav: m(*[wav.reshape(1, -1, 16)] * 3)  # noqa: E731
    counted = gflop_per_second(attention, 160, run, seconds=1) * 1e9
    assert counted == 2 * (10 * 16 * 64 + 2 * 10 * 10 * 16)


OPTIONS = {
    "training.steps": 4,
    "training.epoch_steps": 2,
    "training.batch_size": 2,
    "training.frames": 16,
    "training.warmup_steps": 1,
    "training.validation_items": 2,
    "training.accelerator": "cpu",
}
SIZES = {
    "convtasnet": {f"model.{k}": v for k, v in TINY.items()},
    "hdemucs": {"model.channels": 4},
    "twin": {"model.encoder_widths": [8], "model.denoiser_widths": [8, 8]},
}
SIZES["convtasnet_mixit"] = SIZES["convtasnet"]
SIZES["twin"]["model.denoiser_kernels"] = [3, 3]


def parse(kind, root, cache, **changed):
    settings = {"data.root": root, "data.cache": cache, **OPTIONS, **SIZES[kind], **changed}
    parser = recipe_parser("test", find_baseline(kind).options)
    return parse_recipe(parser, [f"--{key}={value}" for key, value in settings.items()])[0]


@pytest.fixture(scope="module")
def cached(slakh_tree, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    config = parse("twin", slakh_tree, cache)
    for split in ("train", "validation"):
        fill_cache(config, split)
        fill_cache(config, split, "stems")
    return slakh_tree, cache


def test_stems_are_the_passages_of_the_latents(cached):
    config = parse("twin", *cached)
    track = load_tracks(cached[0], "train")[0]
    audio = read_sources(track, ["drums", "bass"], 24_000)
    stems, latents = open_cache(config, "train", "stems"), open_cache(config, "train")
    wanted = audio.references * level_gain(audio.mixture)
    assert stems.whole(track.name)[:, : wanted.shape[-1]] == pytest.approx(wanted, abs=2e-3)
    assert latents.lengths() == stems.lengths()
    passage = RandomCrops(stems, 16, seed=3, min_rms=0.01)[2].sum(0)
    direct = build_codec("mel").encode(passage[None, None])[0]
    twin = RandomCrops(latents, 16, seed=3, min_rms=0.01)[2]
    # But for the windows' ends, which see other neighbours.
    assert direct[:, 4:-4] == pytest.approx(twin[:, 4:-4], abs=0.05)


@pytest.mark.parametrize("kind", BASELINES)
def test_baselines_train_and_are_scored(kind, cached, tmp_path):
    config = parse(kind, *cached)
    path = train_baseline(kind, config, tmp_path / "whole")
    budget = SeparatorModel.from_pretrained(str(path)).budget
    assert (budget["kind"], budget["steps"], budget["batch_size"]) == (kind, 4, 2)
    assert budget["minutes"] >= 0
    clips = list(slakh_clips(cached[0], "validation", ("drums", "bass"), seconds=1, max_clips=2))
    (row,) = trained_rows([path], ["drums", "bass"], clips)
    assert (row.name, row.label, row.model) == (kind, BASELINES[kind].label, "seed0")
    assert "4 steps of 2 × 0.213 s" in row.note
    assert row.separate(clips[0]).shape == clips[0].references.shape
    assert row.gflops() > 0
    with pytest.raises(UserError, match="not bass, drums"):
        trained_rows([path], ["bass", "drums"])


def test_a_baseline_that_is_trained_in_two_parts_has_the_same_weights(cached, tmp_path):
    """The loop is that of all models, so one baseline is enough."""
    config = parse("hdemucs", *cached)
    short = parse("hdemucs", *cached, **{"training.minutes": 1e-6})
    train_baseline("hdemucs", short, tmp_path / "parts")
    paths = [train_baseline("hdemucs", config, tmp_path / name) for name in ("parts", "whole")]
    parts, whole = (torch.load(path, weights_only=True)["state_dict"] for path in paths)
    assert all(torch.equal(parts[key], whole[key]) for key in whole)


def test_a_model_of_unknown_cost_has_no_budget():
    assert describe_budget(None) == ""


def test_unknown_names_and_options_are_one_line(cached):
    with pytest.raises(UserError, match="no baseline 'wavenet'"):
        find_baseline("wavenet")
    with pytest.raises(UserError, match="n_filters"):
        parse("hdemucs", *cached, **{"model.n_filters": 3})
    with pytest.raises(UserError, match="outputs"):  # follows from the sources
        parse("convtasnet", *cached, **{"model.outputs": 3})


def test_demucs_is_refused_where_it_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "demucs.pretrained", None)
    with pytest.raises(UserError, match="pip install demucs"):
        demucs_row("htdemucs", ["drums", "bass"])


def test_demucs_outputs_by_name_and_the_rest_shared():
    outputs = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    names = ["drums", "bass", "other", "vocals"]
    assert share_outputs(outputs, names, ["bass", "drums"]).tolist() == [[2.0], [1.0]]
    three = share_outputs(outputs, names, ["bass", "drums", "piano"])
    assert three.tolist() == [[2.0], [1.0], [12.0]]
    four = share_outputs(outputs, names, ["bass", "drums", "piano", "other"])
    assert four.tolist() == [[2.0], [1.0], [8.0], [4.0]]
