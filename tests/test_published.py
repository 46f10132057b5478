"""Scores by published protocols: what they count, and the files of other tools."""

import json
import math
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pandas as pd
import pytest
import torch
from asteroid.metrics import get_metrics
from conftest import SMALL, make_clip

from asteroid_ucr import UCRSeparator
from asteroid_ucr.cli import main
from asteroid_ucr.evaluation.published import PublishedScores, msdm_scores
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.utils.audio import write_audio

RATE = 22_050


def test_msdm_windows_and_silence():
    """4 s every 2 s, only where two sources sound; a source is silent by its norm per sample."""
    noise = torch.randn(3, 9 * RATE, generator=torch.Generator().manual_seed(0))
    references = 0.1 * noise
    references[1, 5 * RATE :] = 0
    references[2] = 0.003 * noise[2] / noise[2].square().mean().sqrt()  # −50 dBFS
    scores = msdm_scores(references, 0.9 * references, references.sum(0), RATE)
    # The last window, 3 s from 6 s on, holds one source.
    assert [start // RATE for start, _, _ in scores] == [0, 2, 4]
    assert all(end - start == 4 * RATE for start, end, _ in scores)
    _, _, gain = scores[0]
    mixture = references.sum(0)[: 4 * RATE]
    truth = references[0, : 4 * RATE]
    scaled = (mixture @ truth) / (truth @ truth) * truth
    before = 10 * torch.log10(scaled.square().sum() / (mixture - scaled).square().sum())
    assert gain[0] > 60 and gain[0] + before == pytest.approx(
        10 * math.log10(0.81 * truth.square().sum() / 1e-8), abs=1
    )


def test_msdm_counts_silent_sources():
    """An output that is 20 dB below the mixture where its source is silent gains 20 dB."""
    noise = 0.1 * torch.randn(3, 4 * RATE, generator=torch.Generator().manual_seed(0))
    references = torch.stack([noise[0], noise[1], torch.zeros(4 * RATE)])
    mixture = references.sum(0)
    estimates = torch.stack([mixture, mixture, 0.1 * mixture])
    ((_, _, gain),) = msdm_scores(references, estimates, mixture, RATE)
    assert gain.tolist() == pytest.approx([0, 0, 20], abs=1e-6)


def test_files_have_the_forms_of_the_tools(tmp_path):
    """A track of two clips, of which one row fails on the second."""
    clips = [make_clip(seed, seconds=1.5) for seed in (0, 1)]
    for number, clip in enumerate(clips):
        clip.track, clip.name = "Track00001", f"Track00001_{number:03d}"
    good = Row("ours_1", "Ours", "ours", lambda clip: None, model="seed0")
    rest = Row("hpss", "HPSS", "classical", lambda clip: None)
    scores = PublishedScores(tmp_path, ("msdm", "museval", "asteroid"))
    for clip in clips:
        scores.add(clip, [(good, 0.7 * clip.references + 0.3 * clip.mixture), (rest, None)])
    summary = scores.close()
    assert list(summary) == ["Ours"] and summary["Ours"]["windows"] == 1
    assert min(summary["Ours"]["drums"], summary["Ours"]["bass"]) > 3

    place = tmp_path / "museval" / "ours_1_seed0" / "test" / "Track00001.json"
    written = json.loads(place.read_text())
    schema = Path(find_spec("museval").origin).with_name("musdb.schema.json")
    jsonschema.validate(written, json.loads(schema.read_text()))
    assert [target["name"] for target in written["targets"]] == ["drums", "bass"]
    frames = written["targets"][1]["frames"]
    assert [frame["time"] for frame in frames] == [0, 1, 2] and frames[0]["duration"] == 1
    assert all(frame["metrics"]["SDR"] > 3 for frame in frames)

    table = pd.read_csv(tmp_path / "asteroid.csv").set_index("clip")
    clip = clips[0]
    estimates = 0.7 * clip.references + 0.3 * clip.mixture
    waves = [wav.double().numpy() for wav in (clip.mixture, clip.references, estimates)]
    expected = get_metrics(*waves, sample_rate=24_000, metrics_list=["si_sdr", "sir"])
    for name, value in expected.items():
        assert table.loc[clip.name, name] == pytest.approx(value, rel=1e-4)


def test_failures_show(tmp_path):
    row = Row("ours_1", "Ours", "ours", lambda clip: None)
    scores = PublishedScores(tmp_path, ("msdm", "museval", "asteroid"))
    scores.add(make_clip(seconds=2.5), [(row, None)])
    assert math.isnan(scores.close()["Ours"]["drums"])
    assert pd.read_csv(tmp_path / "asteroid.csv")["si_sdr"].isna().all()
    assert "NaN" in (tmp_path / "museval" / "ours_1" / "test" / "c0.json").read_text()


def test_the_command_writes_them(tmp_path, capsys):
    torch.manual_seed(0)
    UCRSeparator(["drums", "bass"], **SMALL).save(tmp_path / "best_model.pth")
    clip = make_clip(seconds=2.5)
    for source, wav in zip(clip.sources, clip.references, strict=True):
        write_audio(tmp_path / "clips" / "Song" / f"{source}.wav", wav, clip.sample_rate)
    command = ["evaluate", str(tmp_path), "--clips", str(tmp_path / "clips"), "--steps", "1"]
    command += ["--no_bss_eval", "-o", str(tmp_path / "out"), "--protocols", "msdm", "asteroid"]
    assert main([*command, "--max_clips", "2"]) == 2 and "whole tracks" in capsys.readouterr().err
    assert main(command) == 0
    assert "Multi-Source Diffusion Models:\nOurs, 1 step: drums" in capsys.readouterr().out
    windows = pd.read_csv(tmp_path / "out" / "msdm.csv")
    assert {"track", "start_sample", "end_sample", "drums", "bass"} <= {*windows.columns}
    results = json.loads((tmp_path / "out" / "final_metrics.json").read_text())
    assert results["msdm"]["Ours, 1 step"]["windows"] == len(windows) == 1
    assert len(pd.read_csv(tmp_path / "out" / "asteroid.csv")) == 1
