"""The command line, as a user meets it: a process, its files, its last line, its exit code."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import write_track

from asteroid_ucr import UCRSeparator
from asteroid_ucr.baselines.neural import ConvTasNetSeparator
from asteroid_ucr.batch import find_songs
from asteroid_ucr.cli import main
from asteroid_ucr.commands import COMMANDS


@pytest.fixture
def model(small_model, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(small_model.serialize(), path)
    return str(path)


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "in" / "song.one.wav"
    path.parent.mkdir()
    generator = np.random.default_rng(0)
    sf.write(path, 0.1 * generator.standard_normal((30_000, 2)), 44_100)
    return path


def run(*arguments, code=0):
    """Runs the installed command's module in a process; checks the code; returns both outputs."""
    done = subprocess.run(
        [sys.executable, "-m", "asteroid_ucr", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def fails(capsys, *arguments):
    """Runs in this process; returns the one line of error."""
    assert main(list(map(str, arguments))) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    return lines[0]


def test_models_are_listed():
    # In a process of its own, where nothing has been imported before.
    assert "drums-bass        drums, bass (24000 Hz)" in run("models")[0]


def test_separate_names_stems(model, song, tmp_path):
    out = tmp_path / "out"
    run("separate", song, "-o", out, "--model", model, "--device", "cpu", "--seed", 3)
    stems = [sf.read(out / "song.one" / f"{source}.wav")[0] for source in ("drums", "bass")]
    assert np.allclose(sum(stems), sf.read(song)[0], atol=1e-5)


def test_separate_takes_folders_and_globs(model, song, tmp_path, capsys):
    sf.write(song.parent / "b.flac", np.zeros((100, 1)), 8000)
    (song.parent / "notes.txt").write_text("no audio")
    assert find_songs([str(song.parent)]) == {song.parent / "b.flac": "b", song: "song.one"}
    assert next(iter(find_songs([str(song.parent / "*.flac"), str(song.parent)]))).name == "b.flac"
    for number, what in enumerate([song.parent, song.parent / "*"]):
        code = main(["separate", str(what), "-o", str(tmp_path / f"{number}"), "--model", model])
        assert code == (0 if number == 0 else 2)  # the glob names the text file too
        assert (tmp_path / f"{number}" / "b" / "drums.wav").is_file()
        assert (tmp_path / f"{number}" / "song.one" / "bass.wav").is_file()
    assert "1 of 3 files failed" in capsys.readouterr().err


def test_seed_decides(model, song, tmp_path):
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        main(
            [
                "separate",
                str(song),
                "-o",
                str(tmp_path / name),
                "--model",
                model,
                "--seed",
                str(seed),
            ]
        )
    # Samples, not bytes: float files carry the time at which they were written.
    a, b, c = (sf.read(tmp_path / n / "song.one" / "bass.wav")[0] for n in "abc")
    assert np.array_equal(a, b) and not np.array_equal(b, c)


def test_bad_input(model, song, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "record"))
    out = ["-o", tmp_path / "out"]
    (tmp_path / "text.wav").write_text("hello")
    sf.write(tmp_path / "none.wav", np.zeros((0, 1)), 8000)
    sf.write(tmp_path / "nan.wav", np.array([np.nan]), 8000, subtype="FLOAT")
    (tmp_path / "file").write_text("")
    cases = [
        (["separate", "no.wav", "--model", model, *out], "no.wav does not exist"),
        (["separate", tmp_path / "text.wav", "--model", model, *out], "not audio"),
        (["separate", tmp_path / "none.wav", "--model", model, *out], "zero length"),
        (["separate", tmp_path / "nan.wav", "--model", model, *out], "NaN"),
        (["separate", tmp_path / "*.mp3", "--model", model, *out], "No file matches"),
        (["separate", song, "--model", "no-such", *out], "no model no-such"),
        (["separate", song, "--model", tmp_path / "text.wav", *out], "not a model file"),
        (["separate", song, "--model", model, "-o", tmp_path / "file"], "Cannot write"),
        (["separate", song, "--model", model, "--steps", 0, *out], "steps"),
        (["separate", song, "--model", model, "--chunk", 1, *out], "chunk"),
        (["separate", song, "--model", model, "--device", "cuda:77", *out], "cuda:77"),
        (["generate", model, *out], "no prior"),
        (["doctor", tmp_path], "holds no audio"),
        (["info", "no-such"], "no model"),
        (["evaluate", model, "--clips", tmp_path, *out], "no clip"),
        (["evaluate", model, "--slakh_dir", tmp_path, *out], "holds no audio"),
    ]
    for arguments, words in cases:
        assert words in fails(capsys, *arguments), arguments
        assert not list(tmp_path.glob("out/*/*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(model, song, tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "permission" in fails(
        capsys, "separate", song, "--model", model, "-o", tmp_path / "locked"
    )


def test_doctor_and_info(model, tmp_path, capsys):
    for number in range(3):
        write_track(tmp_path / "tree" / f"Track{number:05d}", 1.0, number)
    (tmp_path / "tree" / "Track00001" / "stems" / "S00.flac").unlink()
    assert main(["doctor", str(tmp_path / "tree")]) == 0
    text = capsys.readouterr().out
    assert "Track00001" in text and "S00" in text
    assert main(["info", model]) == 0
    text = capsys.readouterr().out
    assert "drums, bass" in text and "24000 Hz" in text and "mel" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["seperate", "a.wav"], "invalid choice: 'seperate'"),
        (["separate", "a.wav", "--model", "drums-bass", "--speed", "3"], "--speed"),
        (["separate", "a.wav"], "--model"),
        (["minislakh", "--out", "x", "--songs", "many"], "many"),
        (["evaluate", "drums-bass"], "either --slakh_dir or --clips"),
        (["cache", "--data.colour", "red"], "--data.colour"),
        (["cache", "wavenet"], "wavenet"),
        (["train", "--training.steps", "many", "--exp_dir", "x"], "training.steps"),
        (["train"], "exp_dir"),
        (["evaluate-runs", "--config", "nowhere.yml"], "nowhere.yml"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys):
    assert words in fails(capsys, *arguments)


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    text = capsys.readouterr().out
    assert not stopped.value.code
    assert {"separate", "evaluate", "infer", "train", "evaluate-generation"} <= set(COMMANDS)
    for name in COMMANDS:
        assert f"\n    {name}" in text
        with pytest.raises(SystemExit) as stopped:
            main([name, "--help"])
        assert not stopped.value.code and f"asteroid-ucr {name}" in capsys.readouterr().out


def test_select_makes_a_model_of_fewer_sources(tmp_path):
    assert (
        main(["select", "drums-piano-bass", "--sources", "bass", "drums", "-o", str(tmp_path)]) == 0
    )
    assert UCRSeparator.from_pretrained(tmp_path).sources == ["bass", "drums"]


def test_infer_takes_asteroids_arguments(model, tmp_path):
    sf.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(48_000), 24_000)
    out = tmp_path / "new" / "out"
    run("infer", model, "--files", tmp_path / "a.wav", "-o", out, "--ola-window", 16_000)
    names = sorted(p.name for p in out.iterdir())
    assert names == ["a_est1.wav", "a_est2.wav"]
    stems = [sf.read(out / name)[0] for name in names]
    assert np.allclose(sum(stems), sf.read(tmp_path / "a.wav")[0], atol=1e-5)
    assert main(["infer", str(model), "--files", str(tmp_path / "b.wav"), f"-o={out}"]) == 2


def test_evaluate_folder_of_clips(model, tmp_path, slakh_tree, capsys):
    clip = tmp_path / "clips" / "one"
    clip.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("drums", "bass"):
        sf.write(clip / f"{name}.wav", 0.1 * generator.standard_normal(48_000), 24_000)
        sf.write(clip / f"{name}_other.wav", 0.1 * generator.standard_normal(48_000), 24_000)
    common = ["--steps", "1", "--no_bss_eval", "--device", "cpu"]
    out = tmp_path / "scores"
    arguments = ["--clips", tmp_path / "clips", "--estimates", "_other", "-o", out, *common]
    assert main(list(map(str, ["evaluate", model, *arguments]))) == 0
    text = capsys.readouterr().out
    assert "HPSS" in text
    assert (out / "all_metrics.csv").is_file() and (out / "final_metrics.json").is_file()
    tree = ["--slakh_dir", slakh_tree, "--segment_seconds", 2, "--max_clips", 2, "-o", out, *common]
    parts = ConvTasNetSeparator(outputs=4, n_filters=16, n_blocks=1, n_repeats=1)
    parts.assign([0, 0, 0, 0])
    parts.budget = {"kind": "convtasnet_mixit", "parameters": 1, "crop_seconds": 1.0, "seed": 0}
    parts.budget |= {"steps": 1, "batch_size": 1, "minutes": 0.0, "device": "cpu"}
    torch.save(parts.serialize(), tmp_path / "mixit.pth")
    tree += ["--compare", tmp_path / "mixit.pth"]
    assert main(list(map(str, ["evaluate", model, *tree]))) == 0
    # Its outputs were assigned on the tree's validation songs: not all to one source.
    owner = torch.load(tmp_path / "mixit.pth", weights_only=True)["state_dict"]["owner"]
    assert set(owner.tolist()) == {0, 1}
    assert "Conv-TasNet, MixIT" in capsys.readouterr().out
