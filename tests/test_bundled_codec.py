"""The codec that ships: it loads anywhere, sounds as its card says, and its card is a command's."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from test_codec_training import arguments, parse

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.audio import level_gain
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.codecs.encodec import BUNDLED_WEIGHTS
from asteroid_ucr.config import CodecConfig
from asteroid_ucr.data.minislakh import build
from asteroid_ucr.data.slakh import load_tracks, read_sources
from asteroid_ucr.evaluation import codec_card
from asteroid_ucr.evaluation.frechet import embed, frechet_distance
from asteroid_ucr.evaluation.scores import si_sdr_matrix
from asteroid_ucr.pretrained import bundled_models
from asteroid_ucr.training.codec import train_codec

CARD = BUNDLED_WEIGHTS.with_suffix(".md")
ROOT = Path(__file__).parents[1]
# Of the weights' release: whoever changes them changes every latent that users have stored.
RELEASED = [-0.09042, -0.2502, 0.0058, 0.08317, -0.1192]
FINGERPRINT = "encodec-v1 bandwidth=0.0 weights=8d90c78cf1b398b6"
SMALL = {"encoder_widths": (8,), "denoiser_widths": (16,), "denoiser_kernels": (3,)}


@pytest.fixture(scope="module")
def codec():
    return build_codec("ucr_24khz")


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    """The mixture of a song that is in nobody's training, `(time,)`."""
    root = tmp_path_factory.mktemp("song")
    build(root, songs=3, seconds=8.0, seed=4711, workers=1, progress=False)
    track = load_tracks(root, "test")[0]
    mixture = read_sources(track, ("drums", "bass", "piano"), 24_000).mixture
    return mixture * level_gain(mixture)


def test_it_ships_small_and_whole():
    assert BUNDLED_WEIGHTS.stat().st_size < 20e6
    assert "models/*" in (ROOT / "setup.py").read_text()
    assert "asteroid_ucr/models *" in (ROOT / "MANIFEST.in").read_text()
    assert not any("codec" in name for name in bundled_models())  # it is no separator


def test_options_say_nothing_of_this_machine(codec):
    assert codec.options == {"bandwidth": 0.0, "weights": None}
    recipe = CodecConfig(name="ucr_24khz").options()
    assert build_codec("ucr_24khz", **recipe).options == codec.options


def test_round_trip_is_what_the_card_says(codec, song):
    row = re.search(r"\| un-quantised \| 9600 numbers \| (\S+) ± (\S+) \|", CARD.read_text())
    mean = float(row[1])
    decoded = codec.decode(codec.encode(song[None, None]), len(song))[0]
    assert mean > 8
    # Songs differ by some dB.
    assert si_sdr_matrix(song[None], decoded).item() > mean - 8


def test_quantised_round_trips_improve_with_the_bandwidth(song):
    scores = []
    for bandwidth in (1.5, 6, 24, 0):
        codec = build_codec("ucr_24khz", bandwidth=bandwidth)
        decoded = codec.decode(codec.encode(song[None, None]), len(song))[0]
        scores.append(si_sdr_matrix(song[None], decoded).item())
    assert scores == sorted(scores)


def test_latents_are_those_of_its_release(codec):
    time = torch.arange(3200) / 24_000
    wav = 0.2 * torch.sin(2 * torch.pi * (300 + 2000 * time) * time)[None, None]
    latents = codec.encode(wav)[0]
    found = torch.stack(
        [latents[0, 4], latents[10, 4], latents[64, 7], latents[115, 8], latents[127, 9]]
    )
    assert torch.allclose(found, torch.tensor(RELEASED), atol=1e-4)
    assert codec.fingerprint == FINGERPRINT


def test_separator_on_it_moves_between_machines(tmp_path):
    torch.manual_seed(0)
    model = UCRSeparator(codec="ucr_24khz", refine="none", **SMALL).eval()
    torch.save(model.serialize(), tmp_path / "model.pth")
    stored = torch.load(tmp_path / "model.pth", weights_only=True)
    assert str(BUNDLED_WEIGHTS.parent) not in str(stored["model_args"])
    again = UCRSeparator.from_pretrained(str(tmp_path / "model.pth"))
    wav = 0.1 * torch.randn(1, 1, 6400)
    assert torch.equal(again(wav), model(wav))


@torch.inference_mode()
def test_component_latents_of_any_length_are_rendered():
    torch.manual_seed(0)
    model = UCRSeparator(codec="ucr_24khz", **SMALL).eval()
    z = torch.randn(1, 2, 1, 75 * 40 + 3)
    wav = model.decode(z)
    assert wav.shape == (1, 2, z.shape[-1] * 320)
    latents = model._render(z, None, None, first_frame=0)[0]
    assert torch.allclose(model.codec.model.decoder(latents)[:, 0], wav[0], atol=1e-5)


def test_embeddings_tell_music_from_noise(song):
    noise = 0.1 * torch.randn(len(song), generator=torch.Generator().manual_seed(0))
    half = len(song) // 2
    own = frechet_distance(embed(song[:half]), embed(song[half:]))
    assert own < 0.6 * frechet_distance(embed(song), embed(noise))


def test_tables_of_the_documentation_are_the_cards():
    card = set(CARD.read_text().splitlines())
    rows = [r for r in (ROOT / "docs" / "codec.md").read_text().splitlines() if " ± " in r]
    assert len(rows) > 5 and set(rows) <= card


def test_card_of_a_fresh_codec(slakh_tree, tmp_path, monkeypatch):
    train_codec(parse(arguments(slakh_tree, tmp_path / "store")), tmp_path / "exp")
    monkeypatch.setattr(codec_card, "RESAMPLES", 3)
    monkeypatch.setattr(codec_card, "BANDWIDTHS", (6.0,))
    card = codec_card.write_card(
        tmp_path / "exp", slakh_tree, None, tmp_path / "out", "train it", "abc", ("drums", "bass")
    )
    text = card.read_text()
    assert (tmp_path / "out.pth").read_bytes() == (tmp_path / "exp" / "codec.pth").read_bytes()
    for words in (
        "commit abc",
        "`train it`",
        "seed: 0",
        "steps: 15",
        "MIT",
        "1 CPU core",
        "(2 tracks)",
    ):
        assert words in text
    low_pass = re.search(r"\| low-pass 4.8 kHz \| 9600 numbers \| (\S+) ±", text)
    assert float(low_pass[1]) > 3
    for row in ("un-quantised", "6 kbit/s", "floor: other songs (train)", "floor: white noise"):
        assert f"| {row} |" in text
    settings = yaml.safe_load((tmp_path / "exp" / "conf.yml").read_text())
    assert settings["network"]["n_filters"] == 2 and "SEANet, 2 filters" in text
    with pytest.raises(UserError, match="no run of train_codec"):
        codec_card.training_facts(tmp_path, "c", "d")
