"""Adapting a model to a folder of songs: what it learns, keeps, reports and refuses."""

import csv
import re

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from conftest import SMALL
from test_folder import song, write

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.cli import main
from asteroid_ucr.evaluation.adaptation import compare, held_out_clips
from asteroid_ucr.masking import stft, wiener_masks
from asteroid_ucr.solos.remix import write_estimates
from asteroid_ucr.training.adapt import adapt, with_validation

PRIOR = {"widths": (16, 32), "kernel_sizes": (3, 3), "frames": 16}
RENDERER = {"latent_dim": 6, "bands": 64, "encoder_width": 16, "decoder_width": 16}


@pytest.fixture(autouse=True)
def record(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "record"))


def save_model(folder, sources=("drums", "bass"), **options):
    torch.manual_seed(0)
    model = UCRSeparator(list(sources), **{"composition": "power_sum", **SMALL, **options})
    model.add_renderer(**RENDERER)
    model.add_prior(**PRIOR)
    model.save(folder / "best_model.pth")
    return str(folder)


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Songs without stems, which the hash of their content puts into one split or another."""
    folder = tmp_path_factory.mktemp("songs")
    for seed in range(7):
        write(folder / f"{seed}.wav", song(seed, seconds=5.0))
    return folder


@pytest.fixture(scope="module")
def stems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stems")
    for seed in range(7):
        place = folder / ("validation" if seed < 4 else "train") / str(seed)
        for k, name in enumerate(("drums", "bass")):
            write(place / f"{name}.wav", song(2 * seed + k, seconds=5.0))
    return folder


def test_from_songs_without_stems(songs, tmp_path, capsys):
    model, out = save_model(tmp_path / "old"), tmp_path / "new"
    command = ["adapt", model, str(songs), "-o", str(out), "--steps", "4"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "no stems to score with" in said and "Neither tells" in said
    before, after = UCRSeparator.from_pretrained(model), UCRSeparator.from_pretrained(out)
    # What it is trained for changes, and what the training leaves out stays.
    state = after.state_dict()
    changed = {k for k, v in before.state_dict().items() if not torch.equal(v, state[k])}
    assert any(key.startswith("decomposition.denoiser") for key in changed)
    assert not any(key.startswith(("renderer.", "prior.")) for key in changed)
    assert after.budget["kind"] == "solos" and after.budget["steps"] == 4
    examples = {
        path.relative_to(out / "examples").parts[1:] for path in out.rglob("examples/*/*/*")
    }
    assert examples == {(m, f"{s}.wav") for m in ("before", "after") for s in ("drums", "bass")}
    # The same command again ends with the same model.
    assert main(command) == 0
    again = UCRSeparator.from_pretrained(out).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in state.items())
    with pytest.raises(UserError, match="would replace an input"):
        adapt(str(out), songs, out)
    with pytest.raises(UserError, match="steps must be"):
        adapt(model, songs, tmp_path / "other", steps=0)
    with pytest.raises(UserError, match="seed must be"):
        adapt(model, songs, tmp_path / "other", seed=-1)
    with pytest.raises(UserError, match=r"training\.seed"):
        adapt(model, with_validation(songs, ("drums", "bass"), out), out, steps=4, seed=1)


def test_songs_with_stems_are_scored(stems, tmp_path, capsys):
    model, out = save_model(tmp_path / "old"), tmp_path / "new"
    assert main(["adapt", model, str(stems), "-o", str(out), "--steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "learns from 3 of these songs, and is compared on 4 others" in said
    found = re.search(r"clips of 4 held-out songs: (\S+) dB before, (\S+) dB after", said)
    lines = pd.read_csv(out / "adaptation.csv")
    for name, value in zip(("before", "after"), found.groups(), strict=True):
        scores = lines[lines["row"] == name].groupby("track")["si_sdr"].mean()
        assert float(value) == pytest.approx(scores.mean(), abs=0.06)


def test_the_verdict(stems, tmp_path):
    """A model that is better on all songs is called better, and the other way round."""
    clips = held_out_clips(stems, ("drums", "bass"))
    model = UCRSeparator.from_pretrained(save_model(tmp_path / "model"))

    oracle = UCRSeparator.from_pretrained(tmp_path / "model")
    true = {clip.mixture: stft(clip.references).abs().square() for clip in clips}

    def masks(wav, **options):
        (power,) = (p for mixture, p in true.items() if torch.equal(mixture, wav[0, 0]))
        return wiener_masks(power)[None]

    oracle.masks = masks
    assert "this is better." in compare({"before": model, "after": oracle}, clips, tmp_path / "a")
    assert "this is worse." in compare({"before": oracle, "after": model}, clips, tmp_path / "b")
    same = compare({"before": model, "after": model}, clips, tmp_path / "c")
    assert "not clearly different" in same and "change of +0.00 dB" in same
    one = [clip for clip in clips if clip.track == clips[0].track]
    assert "One song" in compare({"before": model, "after": oracle}, one, tmp_path / "d")


def test_one_of_few_songs_is_held_out(tmp_path):
    for seed in range(3):
        write(tmp_path / "songs" / f"{seed}.wav", song(seed))
    sources = ("drums", "bass")
    found = with_validation(tmp_path / "songs", sources, tmp_path)
    rows = list(csv.DictReader(open(found)))
    assert sorted(row["split"] for row in rows) == ["train", "train", "validation"]
    (tmp_path / "songs" / "1.wav").unlink()
    with pytest.raises(UserError, match="three are needed"):
        with_validation(tmp_path / "songs", sources, tmp_path)
    for number, split in enumerate(("train", "train", "validation")):
        write(tmp_path / "both" / split / f"{number}.wav", song(7 + number))
    assert with_validation(tmp_path / "both", sources, tmp_path) == str(tmp_path / "both")


def test_three_sources_are_separated_together(songs, tmp_path):
    """A song of unknown instruments may hold all of them, so no pair of sources is assumed."""
    model = UCRSeparator.from_pretrained(save_model(tmp_path, ("drums", "piano", "bass"))).eval()
    write_estimates(tmp_path / "estimates", model, "teacher", songs, progress=False)
    heard = {name: sorted((tmp_path / "estimates" / name).iterdir()) for name in model.sources}
    assert all(heard.values())
    for name, files in heard.items():
        wav, rate = sf.read(files[0])
        assert rate == 24_000 and wav.ndim == 1 and np.abs(wav).max() > 0, name


def test_models_that_cannot_learn_from_estimates_are_refused(songs, tmp_path):
    model = save_model(tmp_path, composition="mean")
    with pytest.raises(UserError, match="power_sum"):
        adapt(model, songs, tmp_path / "new")
    assert not (tmp_path / "new").exists()
