"""Measures of generation against known answers, and the evaluation as a whole."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL
from matplotlib.image import imread

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.codecs import MelCodec
from asteroid_ucr.config import GenerationConfig
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.coherence import (
    chroma_agreement,
    onset_correlation,
    onsets_kept,
    pitch_kept,
)
from asteroid_ucr.evaluation.frechet import Sounds
from asteroid_ucr.evaluation.generation import evaluate_generation, nearest_distances
from asteroid_ucr.reports.generation_tables import draw_generation, generation_text
from asteroid_ucr.reports.page import generation_section
from asteroid_ucr.reports.tables import Table

RATE = 24_000


def clicks(times, seconds=4.0):
    wav = torch.zeros(round(seconds * RATE))
    burst = torch.randn(1200, generator=torch.Generator().manual_seed(0))
    burst = burst * torch.linspace(1, 0, 1200) ** 2
    for time in times:
        start = round(time * RATE)
        wav[start : start + 1200] += burst[: len(wav) - start]
    return wav


def tones(midi_notes, seconds=4.0):
    time = torch.arange(round(seconds * RATE)) / RATE
    return sum(torch.sin(2 * np.pi * 440 * 2 ** ((n - 69) / 12) * time) for n in midi_notes) / 10


def test_onsets_tell_rhythms_apart():
    beat = np.arange(0.3, 3.8, 0.5)
    one = clicks(beat)
    assert onset_correlation(one, 0.3 * one) == pytest.approx(1, abs=1e-3)
    assert onset_correlation(one, clicks(beat + 0.01)) > 0.8  # as close as people play
    assert onset_correlation(one, clicks(beat + 0.25)) < 0.1
    assert onset_correlation(one, clicks(np.arange(0.2, 3.8, 0.37))) < 0.5
    assert np.isnan(onset_correlation(one, torch.zeros_like(one)))


def test_chroma_tells_harmonies_apart():
    c_major = tones([48, 60, 64, 67])
    assert chroma_agreement(c_major, c_major) == pytest.approx(1, abs=1e-3)
    assert chroma_agreement(c_major, tones([36, 40, 43])) > 0.7  # two octaves below
    assert chroma_agreement(c_major, tones([49, 61, 66, 68])) < 0  # F sharp major
    noise = 0.1 * torch.randn(len(c_major), generator=torch.Generator().manual_seed(0))
    assert abs(chroma_agreement(c_major, noise)) < 0.25
    assert np.isnan(chroma_agreement(c_major, torch.zeros_like(c_major)))


def test_pitch_and_onsets_are_kept_or_lost():
    scale = torch.cat([tones([note], 0.5) for note in (33, 36, 40, 45)])
    assert pitch_kept(scale, 0.2 * scale) > 0.95
    assert pitch_kept(scale, torch.cat([tones([n], 0.5) for n in (33, 37, 40, 45)])) < 0.8
    assert pitch_kept(scale, 0.1 * torch.randn_like(scale)) < 0.1
    assert np.isnan(pitch_kept(torch.zeros_like(scale), scale))
    beat = np.arange(0.3, 3.8, 0.5)
    assert onsets_kept(clicks(beat), 0.3 * clicks(beat + 0.01)) == 1
    assert onsets_kept(clicks(beat), clicks(beat[::2])) == pytest.approx(4 / 7)
    assert onsets_kept(clicks(beat), clicks(beat + 0.06)) == 0
    assert onsets_kept(clicks(beat), torch.zeros(1000)) == 0
    assert np.isnan(onsets_kept(torch.zeros(1000), clicks(beat)))


def test_nearest_passages_against_a_search_by_hand():
    generator = torch.Generator().manual_seed(0)
    tracks = [torch.randn(2, n, generator=generator) for n in (40, 7, 90)]
    queries = torch.randn(5, 2, 8, generator=generator)
    queries[1] = tracks[2][:, 33:41]
    queries[2] = tracks[0][:, 32:40] + 0.1
    found = nearest_distances(queries, tracks)
    for query, distance in zip(queries, found, strict=True):
        by_hand = min(
            float((track[:, s : s + 8] - query).square().mean().sqrt())
            for track in tracks
            for s in range(track.shape[1] - 7)
        )
        assert distance == pytest.approx(by_hand, abs=1e-6)
    assert found[1] == pytest.approx(0, abs=1e-6) and found[2] == pytest.approx(0.1, abs=1e-5)
    assert nearest_distances(queries, [torch.zeros(2, 3)]).isinf().all()


def test_sounds_keep_collections_and_targets_apart():
    sounds = Sounds(MelCodec(), resamples=3)
    generator = torch.Generator().manual_seed(0)
    for number in range(8):
        white = 0.1 * torch.randn(3 * RATE, generator=generator)
        brown = white.cumsum(0) / 100
        sounds.add("a", f"t{number // 2}", {"mixture": white, "bass": brown - brown.mean()})
        sounds.add("b", f"t{number}", {"mixture": white.flip(0), "bass": white})
    sounds.add("b", "quiet", {"bass": torch.zeros(3 * RATE)})
    sounds.add("few", "t", {"bass": torch.randn(2 * RATE)})
    near, far = sounds.distance("a", "b", "mixture"), sounds.distance("a", "b", "bass")
    assert near["value"] < 0.05 * far["value"]
    assert near["embeddings"] == near["reference_embeddings"] == 24
    assert (near["silent"], far["silent"], far["embeddings"]) == (0, 1, 24)
    assert near["low"] <= near["infinity"] <= near["high"]
    few = sounds.distance("a", "few", "bass")
    assert few["embeddings"] == 2 and few["infinity"] is None
    assert sounds.distance("a", "nothing", "bass") is None


def make_clips(count, split, seconds=2.0):
    clips = []
    for number in range(count):
        generator = torch.Generator().manual_seed(len(split) + 10 * number)
        period = 0.3 + 0.05 * number
        drums = 0.5 * clicks(np.arange(0.1, seconds - 0.1, period), seconds)
        bass = 0.3 * tones([40 + number], seconds)
        drums += 0.001 * torch.randn(len(drums), generator=generator)
        track = f"{split}{number // 2}"
        references = torch.stack([drums, bass])
        name = f"{track}_{number % 2}"
        clips.append(Clip(name, track, references.sum(0), references, ("drums", "bass")))
    return clips


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    torch.manual_seed(0)
    prior = {"widths": (16, 32), "kernel_sizes": (3, 3), "frames": 64}
    options = {"codec_options": {"iterations": 1}, **SMALL, "prior": prior}
    model = UCRSeparator(("drums", "bass"), **options).eval()
    train, test = make_clips(6, "train"), make_clips(6, "test")
    test[5].references[1] = 0  # a bass that pauses
    test[5].mixture = test[5].references.sum(0)
    with torch.no_grad():
        latents = [model.encode(clip.mixture)[0] for clip in train]
    settings = GenerationConfig(
        segment_seconds=2.0, unconditional=9, steps=2, curve=[1, 2], resamples=2, examples=2
    )
    folder = tmp_path_factory.mktemp("generation")
    results = evaluate_generation(model, train, test, latents, folder, settings, MelCodec())
    return folder, results


def test_results_are_written_whole(evaluated):
    folder, results = evaluated
    assert json.loads((folder / "generation.json").read_text()).keys() == results.keys()
    assert results["kept_mse"] == 0
    rows = {(line["reference"], line["sounds"], line["target"]) for line in results["frechet"]}
    for sounds in ("test", "round trip", "rendered from z", "generated", "white noise"):
        assert {("train", sounds, t) for t in ("mixture", "drums", "bass")} <= rows
    for kept, partner in (("drums", "bass"), ("bass", "drums")):
        assert ("train", f"generated, given {kept}", "mixture") in rows
        assert ("test", f"generated, given {kept}", partner) in rows
        assert ("test", f"generated from z, given {kept}", partner) in rows
        assert ("train", f"shuffled, given {kept}", "mixture") in rows
        assert ("test", "round trip", partner) in rows
    by_row = {(line["sounds"], line["target"]): line for line in results["frechet"]}
    assert by_row["white noise", "bass"]["silent"] == 1
    assert by_row["generated", "mixture"]["embeddings"] == 18
    means = [by_row[name, "mixture"]["value"] for name in ("test", "white noise")]
    assert means[0] < means[1]
    assert [point["steps"] for point in results["curve"]] == [1, 2]
    rendering = {(line["source"], line["from"]): line for line in results["rendering"]}
    assert len(rendering) == 2 * 3
    assert rendering["bass", "z of the stem"]["pitch"]["mean"] < 0.5  # of an untrained model
    assert rendering["bass", "z of the stem"]["pitch"]["clips"] == 5  # and one bass pauses
    draw_generation(results, folder)
    pictures = [imread(folder / f"generation_{name}") for name in ("steps.png", "random.webp")]
    assert all(min(picture.shape[:2]) > 300 for picture in pictures)
    page = generation_text(results, Table.markdown)
    bass = next(line for line in page.splitlines() if line.startswith("| white noise | bass |"))
    assert f"| {by_row['white noise', 'bass']['infinity']:.1f} |" in bass
    assert "| bass | z of the stem |" in page
    assert "| drums | generated − shuffled |" in page and "change of the kept components" in page
    assert len(list((folder / "generation_examples" / "random").iterdir())) == 8


def test_lines_hold_four_partners_of_every_clip(evaluated):
    folder, results = evaluated
    lines = pd.read_csv(folder / "generation.csv")
    assert len(lines) == 6 * 2 * 4
    assert lines["silent"].sum() == 2 * 4  # counted, not dropped
    true = lines[(lines["partner"] == "true") & ~lines["silent"]]
    assert (true["component_mse"] == 0).all() and (true["codec_mse"] == 0).all()
    assert (true["level"].abs() < 1e-4).all() and true["leakage"].between(0, 1).all()
    others = lines[(lines["partner"] != "true") & ~lines["silent"]]
    assert others["level"].between(-60, 60).all() and others["leakage"].between(0, 1).all()
    assert (others["component_mse"] > 0).all() and (others["codec_mse"] > 0).all()
    fit = {(entry["kept"], entry["partner"]): entry for entry in results["fit"]}
    own = lines[(lines["kept"] == "drums") & (lines["partner"] == "shuffled")]
    by_track = own.groupby("track")["codec_mse"].mean()
    assert fit["drums", "shuffled"]["codec_mse"]["mean"] == pytest.approx(by_track.mean(), rel=1e-4)
    difference = fit["drums", "true − shuffled"]["codec_mse"]["mean"]
    paired = own[~own["silent"]].groupby("track")["codec_mse"].mean().mean()
    assert difference == pytest.approx(-paired, rel=1e-4)


def test_copies_are_found(evaluated):
    _, results = evaluated
    copies = results["memorisation"]
    assert copies["generated"]["clips"] == 9 and copies["test"]["clips"] == 6
    assert copies["generated"]["mean"] > 0
    assert 0 <= copies["nearer_than_any_test"] <= 9


def test_the_report_plays_what_was_generated(evaluated):
    folder, _ = evaluated
    section = generation_section(folder)
    names = [player["name"] for player in section["examples"][0]["signals"]]
    assert names == ["kept stem", "generated partner", "kept + generated", "true partner"]
    assert len(section["examples"]) == 2 * 2 and len(section["random"]) == 8
    assert "<svg" in section["steps"]
    assert generation_section(folder / "nowhere") is None


def test_one_song_has_no_shuffled_partners(tmp_path):
    torch.manual_seed(0)
    prior = {"widths": (16,), "kernel_sizes": (3,), "frames": 64}
    options = {"codec_options": {"iterations": 1}, **SMALL, "prior": prior}
    model = UCRSeparator(("drums", "bass"), **options).eval()
    clips = make_clips(1, "test", seconds=1.0)
    settings = GenerationConfig(1.0, None, unconditional=1, steps=1, resamples=1, examples=0)
    latents = [torch.zeros(2, 1, 10)]
    results = evaluate_generation(model, clips, clips, latents, tmp_path, settings, MelCodec())
    kinds = {entry["partner"] for entry in results["fit"]}
    assert kinds == {"true", "generated", "generated from z"}
    assert results["memorisation"]["test"]["mean"] is None or np.isnan(
        results["memorisation"]["test"]["mean"]
    )
    assert all(line["infinity"] is None for line in results["frechet"])
    with pytest.raises(UserError, match="training and the test split"):
        evaluate_generation(model, [], clips, latents, tmp_path, settings, MelCodec())
