"""Many files at once: which are songs, where the stems go, and what is never overwritten."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import SMALL

from asteroid_ucr import UCRSeparator
from asteroid_ucr.batch import find_songs
from asteroid_ucr.cli import main
from asteroid_ucr.utils.stems import written_by


@pytest.fixture
def here(tmp_path, monkeypatch, small_model):
    """The current folder, with two models that separate drums and bass."""
    monkeypatch.chdir(tmp_path)
    torch.save(small_model.serialize(), "model.pth")
    other = UCRSeparator(sources=("drums", "rest"), **SMALL)
    torch.save(other.serialize(), "other.pth")
    return tmp_path


def song(path, seconds=0.3, channels=1, rate=24_000, scale=0.1, seed=0, **options):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    wav = scale * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    sf.write(path, wav, rate, **options)
    return sf.read(path, always_2d=True)[0]


def separate(*arguments, code=0, model="model.pth", command="separate"):
    before = ["infer", model] if command == "infer" else [command, "--model", model]
    assert main([*before, "--device", "cpu", *map(str, arguments)]) == code


def error(capsys):
    return " ".join(capsys.readouterr().err.split())


def files(folder="."):
    return sorted(path.as_posix() for path in Path(folder).rglob("*.*") if path.is_file())


def test_an_output_is_never_an_input(here, capsys):
    before = song("drums/drums.wav")
    separate("drums/drums.wav", "-o", ".", "--overwrite", code=2)
    assert "drums/drums.wav would replace an input" in error(capsys)
    os.makedirs("out/song")
    song("song.wav")
    os.link("song.wav", "out/song/bass.wav")  # another name of the song
    separate("song.wav", "-o", "out", "--overwrite", code=2)
    assert "out/song/bass.wav would replace an input" in error(capsys)
    assert np.array_equal(sf.read("drums/drums.wav", always_2d=True)[0], before)
    for name, arguments in {
        "select": ["model.pth", "--sources", "bass", "-o", "."],
        "generate": ["model.pth", "--keep", "drums=00000/drums.wav", "-o", "."],
    }.items():
        shutil.copy("model.pth", "best_model.pth")
        model = UCRSeparator.from_pretrained("model.pth")
        model.add_prior(widths=(16, 32), kernel_sizes=(3, 3))
        model.save("model.pth")
        song("00000/drums.wav")
        given = [".", *arguments[1:]] if name == "select" else arguments
        assert main([name, *given]) == 2
        assert "would replace an input" in error(capsys)


def test_a_second_run_takes_no_stems_for_songs(here, capsys):
    song("a.wav")
    song("sub/b.flac")
    separate(".", "-o", "stems")
    stems = [
        "stems/a/bass.wav",
        "stems/a/drums.wav",
        "stems/sub/b/bass.wav",
        "stems/sub/b/drums.wav",
    ]
    assert files("stems") == stems
    assert written_by(here / stems[0]).startswith("model ")
    separate(".", "-o", "stems", "--skip-existing")
    assert files("stems") == stems
    assert set(find_songs(["**/*.wav"]).values()) == {"a"}
    separate("stems", "-o", "again", code=2)
    assert "stems that asteroid-ucr wrote" in error(capsys)
    separate("stems/a/drums.wav", "-o", "again")  # a file that is named is meant
    assert files("again") == ["again/drums/bass.wav", "again/drums/drums.wav"]


def test_existing_files_are_replaced_only_on_request(here, capsys):
    song("a.wav")
    separate("a.wav", "-o", "out")
    sf.write("out/a/bass.wav", np.zeros(5), 8000)
    separate("a.wav", "-o", "out", code=2)
    assert "--overwrite" in error(capsys) and sf.info("out/a/bass.wav").frames == 5
    separate("a.wav", "-o", "out", "--skip-existing")
    assert sf.info("out/a/bass.wav").frames == 5
    separate("a.wav", "-o", "out", "--overwrite")
    assert sf.info("out/a/bass.wav").frames == 7200


def test_stems_of_two_models_are_not_mixed(here, capsys):
    song("a.wav")
    separate("a.wav", "-o", "out")
    for extra in ([], ["--overwrite"], ["--overwrite", "--filename", "{track}/{stem}.{ext}"]):
        separate("a.wav", "-o", "out", *extra, model="other.pth", code=2)
    assert "stem of another model" in error(capsys)
    separate("a.wav", "-o", "out", "--filename", "{model}/{track}/{stem}.{ext}", model="other.pth")
    assert files("out/other") == ["out/other/a/drums.wav", "out/other/a/rest.wav"]


def test_what_is_in_a_folder(here):
    """Other systems' notes, broken links, folders called .wav, rare endings, equal names."""
    song("in/CD1/01.wav")
    song("in/CD2/01.WAV")
    song("in/x.wav/inner.caf", format="CAF")
    song("in/y.flac")
    song("in/y.wav")
    (here / "in/._y.wav").write_bytes(b"\0\5\x16\7")
    (here / "in/.hidden").mkdir()
    song("in/.hidden/z.wav")
    os.symlink("/nowhere.wav", "in/gone.wav")
    found = {file.as_posix(): track for file, track in find_songs(["in"]).items()}
    assert found == {
        "in/CD1/01.wav": "CD1/01",
        "in/CD2/01.WAV": "CD2/01",
        "in/gone.wav": "gone",
        "in/x.wav/inner.caf": "x.wav/inner",
        "in/y.flac": "y.flac",
        "in/y.wav": "y.wav",
    }
    assert list(find_songs(["in/CD1/01.wav", "./in/CD2/01.WAV"]).values()) == ["CD1/01", "CD2/01"]
    assert list(find_songs(["in/CD1/01.wav", "./in/CD1/01.wav"]).values()) == ["01"]
    assert list(find_songs(["in/CD*/*"]).values()) == ["CD1/01", "CD2/01"]
    for name in ("in/...wav", "in/" + "x" * 251 + ".wav"):
        song(name, format="WAV")
    assert list(find_songs(["in/...wav", f"in/{'x' * 251}.wav"]).values()) == ["...wav", "x" * 251]


def test_one_bad_file_does_not_stop_the_others(here, capsys):
    song("in/a.wav")
    song("in/c.wav")
    (here / "in/b.wav").write_text("no audio")
    os.symlink("/nowhere.wav", "in/gone.wav")
    for jobs in (1, 2):
        separate("in", "-o", f"out{jobs}", "--jobs", jobs, code=2)
        text = error(capsys)
        assert "b.wav is not audio" in text and "gone.wav is a link to nothing" in text
        assert "2 of 4 files failed" in text
        assert len(files(f"out{jobs}")) == 4


def test_odd_names(here):
    song("...wav", format="WAV")
    song("x" * 251 + ".wav")
    os.makedirs(os.fsdecode(b"\xff"))
    shutil.copy("...wav", os.fsdecode(b"\xff/caf\xe9.wav"))
    separate("...wav", "x" * 251 + ".wav", os.fsdecode(b"\xff"), "-o", "out")
    names = {"...wav", "x" * 251, os.fsdecode(b"caf\xe9")}
    assert {p.name for p in (here / "out").iterdir()} == names
    assert not (here / "drums.wav").exists()


def test_names_from_a_template(here, capsys):
    song("a.wav")
    separate("a.wav", "-o", "out", "--filename", "{model}/{track}_{number}_{stem}.{ext}")
    assert files("out") == ["out/model/a_1_drums.wav", "out/model/a_2_bass.wav"]
    for template, words in {
        "{track}.{ext}": "written twice",
        "{song}/{stem}.{ext}": "{song}",
        "{track/{stem}.{ext}": "--filename",
        "../{stem}.{ext}": "leads out of --out",
        "/tmp/{stem}.{ext}": "leads out of --out",
        "{stem}.mp3": "does not end in",
    }.items():
        separate("a.wav", "-o", "bad", "--filename", template, code=2)
        assert words in error(capsys), template
    assert not os.path.exists("bad")


def test_some_stems_and_the_rest(here, capsys):
    mixture = song("a.wav", channels=2)
    separate("a.wav", "-o", "all")
    separate("a.wav", "-o", "two", "--stems", "drums", "--residual")
    assert files("two") == ["two/a/drums.wav", "two/a/no_drums.wav"]
    drums, rest = (sf.read(f"two/a/{name}.wav")[0] for name in ("drums", "no_drums"))
    assert np.allclose(drums + rest, mixture, atol=1e-5)
    assert np.array_equal(drums, sf.read("all/a/drums.wav")[0])
    for arguments, words in {
        ("--stems", "voice"): "the model has drums, bass",
        ("--residual",): "leave something",
    }.items():
        separate("a.wav", "-o", "bad", *arguments, code=2)
        assert words in error(capsys)


@pytest.mark.parametrize(
    ("arguments", "suffix", "subtype", "atol"),
    [
        ([], "wav", "FLOAT", 1e-5),
        (["--bits", "16"], "wav", "PCM_16", 2**-13),
        (["--bits", "24"], "wav", "PCM_24", 1e-5),
        (["--format", "flac"], "flac", "PCM_24", 1e-5),
        (["--format", "flac", "--bits", "16"], "flac", "PCM_16", 2**-13),
        (["--format", "ogg"], "ogg", "VORBIS", None),
        (["--format", "mp3"], "mp3", "MPEG_LAYER_III", None),
    ],
)
def test_formats(here, arguments, suffix, subtype, atol):
    mixture = song("a.wav", channels=2, rate=44_100, subtype="FLOAT")
    separate("a.wav", "-o", "out", *arguments)
    assert {sf.info(name).subtype for name in files("out")} == {subtype}
    stems = [sf.read(f"out/a/{name}.{suffix}")[0] for name in ("drums", "bass")]
    assert stems[0].shape == mixture.shape
    if atol is None:
        assert np.corrcoef(sum(stems).ravel(), mixture.ravel())[0, 1] > 0.6
    else:
        assert np.allclose(sum(stems), mixture, atol=atol)


def test_nothing_is_clipped_in_silence(here, capsys):
    mixture = song("loud.wav", scale=1.0, subtype="FLOAT")
    separate("loud.wav", "-o", "float")
    assert np.allclose(sum(sf.read(f)[0] for f in files("float")), mixture[:, 0], atol=1e-4)
    separate("loud.wav", "-o", "out", "--format", "flac")
    text = error(capsys)
    gain = float(text.split("scaled by ")[1].split()[0].rstrip("."))
    stems = [sf.read(f)[0] for f in files("out")]
    assert 0.99 < max(np.abs(stem).max() for stem in stems) <= 1
    assert np.allclose(sum(stems), gain * mixture[:, 0], atol=5e-3)
    separate("loud.wav", "-o", "refused", "--bits", 16, "--clip", "refuse", code=2)
    assert "of full scale" in error(capsys) and not files("refused")
    separate("loud.wav", "-o", "clamped", "--bits", 16, "--clip", "clamp")
    assert max(np.abs(sf.read(f)[0]).max() for f in files("clamped")) == pytest.approx(1, abs=1e-4)


def test_infer_takes_what_asteroid_infer_takes(here, capsys):
    mixture = song("in/a.wav", channels=2, rate=44_100)
    rest = ["--ola-window", 16_000, "--ola-hop", 8000, "--ola-window-type", "hann", "-r"]
    separate("--files", "in/a.wav", "--output-dir=new/out", *rest, command="infer")
    stems = [sf.read(f"new/out/a_est{number}.wav")[0] for number in (1, 2)]
    assert np.allclose(sum(stems), mixture, atol=1e-5)
    separate("--files", "in/a.wav", command="infer")  # beside the file
    separate("--files", "in/a.wav", command="infer")  # and again: left as it is
    assert files("in") == ["in/a.wav", "in/a_est1.wav", "in/a_est2.wav"]
    separate("--files", "in/no.wav", command="infer", code=2)
    assert "no.wav does not exist" in error(capsys)
    separate("--files", "in/a.wav", "-o", "b", command="infer", model="drums-bass")
    assert files("b") == ["b/a_est1.wav", "b/a_est2.wav"]


def test_models_and_env_and_completion(capsys):
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name": "drums-bass", "sources": ["drums", "bass"]}.items() <= rows[1].items()
    assert main(["models"]) == 0 and "drums, bass" in capsys.readouterr().out
    assert main(["env"]) == 0 and "torch 2" in capsys.readouterr().out
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    text = capsys.readouterr().out
    assert "--skip-existing" in text and "evaluate-generation" in text
    assert main(["completion", "fishy"]) == 2


def test_quiet_and_verbose(here, capsys):
    (here / "b.wav").write_text("no audio")
    separate("b.wav", "-o", "out", "--verbose", code=2)
    assert "Traceback" in capsys.readouterr().err
    song("a.wav")
    separate("a.wav", "-o", "out", "--quiet")
    assert capsys.readouterr().err == ""
