"""The recipe, end to end and through its options, on tiny settings."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch

from asteroid_ucr import UCRSeparator
from asteroid_ucr.cli import main

RECIPE = Path(__file__).resolve().parents[1] / "egs" / "slakh_ucr"
TINY = (
    "--training.steps 4 --training.epoch_steps 2 --training.batch_size 2 --training.frames 32 "
    "--training.warmup_steps 1 --training.validation_items 2 --model.encoder_widths [16] "
    "--model.denoiser_widths [16,32] --model.denoiser_kernels [3,3] --evaluation.segment_seconds 2 "
    "--evaluation.max_clips 3 --evaluation.steps [1,2] --evaluation.examples 1 "
    "--prior.steps 4 --prior.epoch_steps 2 --prior.batch_size 2 --prior.frames 32 "
    "--prior.warmup_steps 1 --prior.validation_items 2 --prior.widths [16,32] "
    "--prior.kernels [3,3] --generation.segment_seconds 2 --generation.max_clips 3 "
    "--generation.unconditional 6 --generation.steps 2 --generation.resamples 2 "
    "--generation.examples 1"
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, quick_python):
    """A copy of the recipe, so that the repository's data/ and exp/ stay as they are."""
    folder = tmp_path_factory.mktemp("repository") / "egs" / "slakh_ucr"
    ignore = shutil.ignore_patterns("data", "exp", "__pycache__")
    shutil.copytree(RECIPE, folder, ignore=ignore)
    shutil.copy(RECIPE.parents[1] / "env.sh", folder.parents[1])
    (folder / "python").symlink_to(quick_python)
    return folder


def run(recipe, *arguments, code=0):
    done = subprocess.run(
        ["bash", str(recipe / "run.sh"), "--python_path", str(recipe / "python"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=recipe.parent,
        env={**os.environ, "PYTHONPATH": str(RECIPE.parents[1])},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def train(recipe, monkeypatch, kind, folder, seed):
    """Trains as run.sh does, but in this process."""
    monkeypatch.chdir(recipe)
    place = ["--config", "local/conf.yml", "--data.root", "data/minislakh"]
    place += ["--data.solos", "data/solos/minislakh"]
    options = [*TINY.split(), "--training.seed", str(seed), "--exp_dir", f"exp/{folder}"]
    assert main(["train", kind, *place, *options]) == 0


def test_all_stages_on_mini_slakh(recipe, monkeypatch):
    arguments = ("--songs", "4", "--seconds", "4", "--options", TINY, "--seeds", "0")
    run(recipe, "--stage", "0", "--stop_stage", "2", "--model", "ucr", *arguments)
    exp = recipe / "exp" / "train_ucr_mini"
    # Again: finished training is left as it is.
    before = (exp / "seed0" / "checkpoints" / "last.ckpt").read_bytes()
    train(recipe, monkeypatch, "ucr", "train_ucr_mini/seed0", 0)
    assert (exp / "seed0" / "checkpoints" / "last.ckpt").read_bytes() == before
    # Models of the same tag and the bundled one are scored beside ours. Four songs have few solos.
    root, solos = str(recipe / "data" / "minislakh"), str(recipe / "data" / "solos" / "minislakh")
    assert main(["solos", "--from_stems", "--data.root", root, "--data.solos", solos]) == 0
    text, _ = run(recipe, "--stage", "1", *arguments, "--model", "solos")
    assert "scores exp/train_solos_mini" in text
    train(recipe, monkeypatch, "ucr", "train_ucr_mini/seed1", 1)
    train(recipe, monkeypatch, "twin", "train_twin_mini/seed0", 0)
    arguments = (*arguments[:-1], "0 1")
    text, _ = run(recipe, "--stage", "3", "--model", "ucr", *arguments)
    for name in ("all_metrics.csv", "final_metrics.json", "examples", "report.html", "publish_dir"):
        assert (exp / name).exists(), name
    results = json.loads((exp / "final_metrics.json").read_text())
    names = {row["name"] for row in results["rows"]}
    assert {"mixture", "static_eq", "hpss", "oracle_wiener", "oracle_codec_mask"} <= names
    assert {"solos", "bundled", "twin"} <= names
    assert results["protocol"]["mix"] == "sum"
    lines = pd.read_csv(exp / "all_metrics.csv")
    ours = lines[lines["row"].str.startswith("ours_")]
    assert set(ours["model"]) == {"seed0", "seed1"}
    assert ours["si_sdr"].notna().any()
    page = (exp / "report.html").read_text()
    assert "<audio" in page and "http" not in page.replace("http://www.w3.org", "")
    model = UCRSeparator.from_pretrained(str(exp))
    assert model.sources == ["drums", "bass"]
    assert model.generate(0.5).shape == (1, 2, 12_000)
    generation = json.loads((exp / "generation.json").read_text())
    assert generation["kept_mse"] == 0
    assert "Generation" in page
    published = torch.load(exp / "publish_dir" / "model.pth", weights_only=True)
    assert published["infos"]["final_metrics"]
    assert "HPSS" in text

    twin = next(row for row in results["rows"] if row["name"] == "twin")
    assert twin["group"] == "supervised" and "4 steps of 2 × 0.427 s" in twin["note"]
    assert twin["scores"]["true"]["all"]["si_sdr"]["clips"] > 0


def test_a_tree_of_ones_own(recipe, slakh_tree):
    arguments = ["--slakh_dir", str(slakh_tree), "--tag", "own", "--seeds", "0", "--options", TINY]
    text, _ = run(recipe, "--stage", "0", "--stop_stage", "2", *arguments)
    assert "train 3" in text
    assert (recipe / "exp" / "train_ucr_own" / "seed0" / "best_model.pth").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--speed", "3"], "unknown option --speed"),
        (["--stage"], "needs a value"),
        (["--stage", "9"], "go from 0 to 6"),
        (["--model", "wavenet"], "no baseline 'wavenet'"),
        (["--python_path", "/nowhere/python"], "/nowhere/python"),
        (["--conf", "nowhere.yml"], "nowhere.yml does not exist"),
        (["--slakh_dir", "nowhere", "--stop_stage", "0"], "nowhere"),
        (["--stage", "1", "--stop_stage", "1", "--options", "--data.colour red"], "colour"),
    ],
)
def test_bad_options_are_one_line(recipe, arguments, words):
    _, error = run(recipe, "--options", "--data.cache empty", *arguments, code=2)
    lines = [line for line in error.splitlines() if "error:" in line]
    assert len(lines) == 1 and words in lines[0]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("evaluate-runs --runs 0 --compare hdemucs --exp_dir exp/x", "train it first"),
        ("evaluate-runs --runs 0 --exp_dir exp/train_ucr_y", "no model exp/train_ucr_y/seed0"),
        ("train-prior --exp_dir exp/train_ucr_v", "no model exp/train_ucr_v"),
        ("evaluate-generation --exp_dir exp/train_ucr_w", "no model exp/train_ucr_w"),
        ("report --exp_dir exp/train_ucr_z", "run the evaluation first"),
    ],
)
def test_a_stage_without_the_one_before_is_one_line(tmp_path, monkeypatch, capsys, command, words):
    monkeypatch.chdir(tmp_path)
    name, *rest = command.split()
    place = ["--config", str(RECIPE / "local" / "conf.yml")] if name != "report" else []
    assert main([name, *place, *rest]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1 and words in lines[0]


def test_help(recipe):
    text, _ = run(recipe, "--help")
    assert "--slakh_dir" in text and "Stages" in text and not text.startswith("#")
