"""Odd names and folders, full disks, missing permissions and kills: what the command does."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import separate_file

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.cli import main
from asteroid_ucr.commands import exit_code
from asteroid_ucr.data.clips import folder_clips
from asteroid_ucr.utils.atomic import atomic_folder, atomic_path
from asteroid_ucr.utils.audio import close_written, read_audio, write_audio, writing

ROOT = Path(__file__).parents[1]


def noise(seconds=0.5, rate=24_000, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))


@pytest.fixture
def disk():
    """A file system of 256 KiB."""
    folder = Path(tempfile.mkdtemp())
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


@contextmanager
def largest_file(size):
    """Limits the size of files, which `write` reports like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_full_disk_is_named_and_nothing_is_left(small_model, tmp_path, disk, suffix):
    write_audio(tmp_path / "a.wav", torch.from_numpy(noise(4)), 24_000)
    with pytest.raises(UserError, match="disk is full"):
        separate_file(small_model, tmp_path / "a.wav", disk / "out", suffix)
    with pytest.raises(UserError, match="disk is full"):
        small_model.save(disk / "model.pth")
    with pytest.raises(UserError, match="disk is full"):
        write_audio(disk / f"a.{suffix}", torch.from_numpy(noise(10)), 24_000)
    assert [p.name for p in disk.rglob("*")] == ["out"]


def test_a_limit_on_file_sizes_is_named(small_model, tmp_path):
    with largest_file(50_000), pytest.raises(UserError, match=r"Cannot write .*too large"):
        small_model.save(tmp_path / "model.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_full_or_missing_folder_of_temporary_files_is_named(
    small_model, tmp_path, disk, monkeypatch
):
    for name in ("a.wav", "a.mp3"):
        sf.write(tmp_path / name, noise(6), 24_000)
    for folder, words in ((disk, "disk of .* is full.*TMPDIR"), ("/nowhere", "set TMPDIR")):
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with pytest.raises(UserError, match=rf"a\.mp3.*{words}"):
            separate_file(small_model, tmp_path / "a.mp3", tmp_path / "out")
        separate_file(small_model, tmp_path / "a.wav", tmp_path / "out", "flac")  # needs none
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["bass.flac", "drums.flac"]


def test_what_an_encoder_keeps_back_is_not_lost_in_silence(disk):
    """An Ogg file is written in pages; the last one is written when the file is closed."""
    path = disk / "a.ogg"
    file = sf.SoundFile(path, "w", 8000, 1)
    file.write(noise(4, 8000))
    (disk / "rest").write_bytes(bytes(shutil.disk_usage(disk).free))
    with pytest.raises(OSError, match="No space"):
        with writing(path):
            file.write(noise(0.5, 8000))
        close_written(file)


def test_temporary_names_are_short_and_unique(tmp_path):
    name = "x" * 251 + ".wav"  # as long as a name may be
    with atomic_path(tmp_path / name) as one, atomic_path(tmp_path / name) as other:
        assert one != other and one.suffix == ".wav"
        one.write_text("1")
        other.write_text("2")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_replaced_folder_is_never_half_removed(tmp_path, monkeypatch):
    (tmp_path / "solos").mkdir()
    (tmp_path / "solos" / "a").write_text("old")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a kill before what it removes
    with atomic_folder(tmp_path / "solos") as temporary:
        (temporary / "b").write_text("new")
        assert [p.name for p in (tmp_path / "solos").iterdir()] == ["a"]
    assert [p.name for p in (tmp_path / "solos").iterdir()] == ["b"]
    assert (tmp_path / f".solos.{os.getpid()}.old" / "a").read_text() == "old"


def test_names_need_not_be_unicode(small_model, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    with open(path, "wb") as file:
        sf.write(file, noise(), 24_000, format="WAV")
    folder = tmp_path / os.fsdecode(b"\xff")
    stems = [read_audio(p)[0] for p in separate_file(small_model, path, folder)]
    assert np.allclose(sum(stems), read_audio(path)[0], atol=1e-5)
    write_audio(path, torch.zeros(10), 8000)
    assert read_audio(path)[0].shape == (1, 10)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_colon_is_not_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sf.write("a.wav", noise(), 24_000)
    subprocess.run([*"ffmpeg -v error -i a.wav -c:a aac".split(), "file:Live: a.m4a"], check=True)
    assert read_audio("Live: a.m4a")[0].abs().max() > 0.1


def test_a_folder_does_not_hide_a_bundled_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drums-bass").mkdir()
    assert UCRSeparator.from_pretrained("drums-bass").sources == ["drums", "bass"]
    with pytest.raises(UserError, match="best_model"):
        UCRSeparator.from_pretrained("./drums-bass")


def test_clips_are_found_whatever_the_case_of_their_ending(tmp_path):
    (tmp_path / "one").mkdir()
    for name in ("drums.WAV", "bass.Flac"):
        sf.write(tmp_path / "one" / name, noise(), 24_000)
    (tmp_path / "one" / "._drums.wav").write_bytes(b"\0\5\x16\7")
    (clip,) = folder_clips(tmp_path, ["drums", "bass"])
    assert clip.references.shape == (2, 12_000) and clip.references[1].any()


def test_letters_that_the_output_lacks_are_replaced():
    script = "from asteroid_ucr.commands import as_a_process; as_a_process(); print('1 ±2 \\u4e2d')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment)
    assert done.stdout.decode().strip() == "1 +/-2 \\u4e2d"


def test_ctrl_c_is_one_line(capsys):
    def lightning():
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    # Processes that a script starts in the background ignore the signal by default.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for function in (lightning, lambda: os.kill(os.getpid(), signal.SIGINT) or time.sleep(5)):
            assert exit_code(function) == 130
            assert capsys.readouterr().err == "interrupted\n"
    finally:
        signal.signal(signal.SIGINT, before)


def test_errors_of_the_operating_system_are_one_line(tmp_path, capsys):
    assert main(["separate", "x" * 300 + ".wav", "--model", "drums-bass"]) == 2
    assert "name is too long" in capsys.readouterr().err


HALF = """
import time
from asteroid_ucr.commands import as_a_process, exit_code
from asteroid_ucr.utils.atomic import atomic_path

def write():
    with atomic_path("song.wav") as temporary:
        temporary.write_text("half")
        print("ready", flush=True)
        time.sleep(60)

as_a_process()
exit_code(write)
"""


def test_sigterm_removes_temporary_files(tmp_path):
    command = [sys.executable, "-c", HALF]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, env=environment)
    assert process.stdout.readline() == b"ready\n" and len(list(tmp_path.iterdir())) == 1
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


@pytest.fixture
def unprivileged():
    """A folder that anyone may enter, while this process is not root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    shutil.rmtree(folder)


def test_missing_permissions_are_named(unprivileged, capsys):
    for name in ("song.wav", "model.pth"):
        (unprivileged / name).write_text("secret")
        (unprivileged / name).chmod(0)
    (unprivileged / "locked").mkdir(mode=0o500)
    (unprivileged / "hidden").mkdir(mode=0)
    with pytest.raises(UserError, match=r"locked.*permission is denied"):
        write_audio(unprivileged / "locked" / "a.wav", torch.zeros(10), 8000)
    for function in (
        lambda: read_audio(unprivileged / "song.wav"),
        lambda: read_audio(unprivileged / "hidden" / "song.wav"),
        lambda: UCRSeparator.from_pretrained(unprivileged / "model.pth"),
    ):
        assert exit_code(function) == 2
        text = capsys.readouterr().err
        assert str(unprivileged) in text and "permission is denied" in text
    (unprivileged / "hidden").chmod(0o700)


def test_one_bad_stem_does_not_stop_stage_1(slakh_tree, tmp_path, capsys):
    tree = tmp_path / "tree"
    shutil.copytree(slakh_tree, tree)
    stem = next((tree / "train").iterdir()) / "stems" / "S00.flac"
    stem.write_bytes(stem.read_bytes()[:2000] + bytes(10))
    assert main(["cache", "--data.root", str(tree), "--data.cache", str(tmp_path / "cache")]) == 2
    text = capsys.readouterr().err
    assert "left out" in text and str(stem) in text and "1 tracks were left out" in text
