"""Reading and writing sound files, and saying what is wrong with them."""

import shutil

import numpy as np
import pytest
import soundfile as sf
import torch

from asteroid_ucr import UserError
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.audio import as_waveform, level_gain, read_audio, resample, write_audio


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_round_trip(tmp_path, suffix):
    wav = torch.rand(2, 1000) - 0.5
    write_audio(tmp_path / f"a{suffix}", wav, 32_000)
    read, rate = read_audio(tmp_path / f"a{suffix}")
    assert rate == 32_000
    assert torch.allclose(read, wav, atol=1 / 2**15)


def test_samples_beyond_full_scale_are_kept(tmp_path):
    wav = torch.tensor([0.0, 1.5, -2.0])
    write_audio(tmp_path / "a.wav", wav, 8000)
    assert torch.equal(read_audio(tmp_path / "a.wav")[0][0], wav)


def test_mono_and_rate(tmp_path):
    wav = torch.stack([torch.linspace(0, 0.5, 1000), torch.zeros(1000)])
    write_audio(tmp_path / "a.wav", wav, 16_000)
    found, _ = read_audio(tmp_path / "a.wav", mono=True)
    assert torch.allclose(found, wav.mean(0, keepdim=True), atol=1e-4)
    assert read_audio(tmp_path / "a.wav", sample_rate=24_000)[0].shape == (2, 1500)


def test_resampling_keeps_a_tone():
    tone = [torch.sin(2 * torch.pi * 440 * torch.arange(rate) / rate) for rate in (44_100, 24_000)]
    error = resample(tone[0], 44_100, 24_000)[1000:-1000] - tone[1][1000:-1000]
    assert error.abs().max() < 1e-3


def test_level_gain():
    wav = torch.randn(3, 1, 5000) * torch.tensor([0.01, 1.0, 0.0])[:, None, None]
    wav -= wav.mean(-1, keepdim=True)
    levels = (wav * level_gain(wav)).square().mean(-1).sqrt().flatten()
    assert torch.allclose(levels, torch.tensor([0.1, 0.1, 0.0]))


def test_the_level_ignores_offset_and_long_silence():
    wav = 0.1 * torch.randn(1, 12 * 24_000, generator=torch.Generator().manual_seed(0))
    gain = level_gain(wav)
    assert torch.allclose(gain, 0.1 / wav.std(), rtol=1e-3)
    assert torch.allclose(level_gain(wav + 0.5), gain, rtol=1e-3)
    floor = 1e-4 * torch.randn(1, 240 * 24_000, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(level_gain(torch.cat([floor, wav], -1)), gain, rtol=1e-2)
    # Short rests are part of the music.
    rest = torch.cat([wav[:, :48_000], torch.zeros(1, 24_000), wav[:, :48_000]], -1)
    assert torch.allclose(level_gain(rest), 0.1 / rest.square().mean().sqrt(), rtol=1e-3)


def test_gradients_of_the_level_are_finite():
    wav = torch.stack([torch.zeros(100), torch.linspace(-1, 1, 100)]).requires_grad_()
    (level_gain(wav) * wav).sum().backward()
    assert wav.grad.isfinite().all()


@pytest.mark.parametrize("rate", [44_099, 96_001, 4001])
def test_odd_rates_are_resampled_in_bounded_memory(rate):
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(2 * rate) / rate)
    wanted = torch.sin(2 * torch.pi * 440 * torch.arange(48_000) / 24_000)
    found = resample(tone[None], rate, 24_000)
    assert found.shape == (1, 48_000)
    assert (found[0] - wanted)[1000:-1000].abs().max() < 1e-3
    assert resample(torch.zeros(0, 1, rate), rate, 24_000).shape == (0, 1, 24_000)


@pytest.mark.parametrize(
    ("kind", "full"), [(np.int16, 2**15), (np.int32, 2**31), (np.float64, 1), (np.float32, 1)]
)
def test_arrays_of_any_type_have_their_full_scale(kind, full):
    wav = as_waveform((np.array([0.5, -0.25]) * full).astype(kind))
    assert wav.tolist() == [0.5, -0.25]
    assert as_waveform(np.array([0, 128, 192], dtype=np.uint8)).tolist() == [-1.0, 0.0, 0.5]
    for wrong in ("text", [True], [1j], [[1], [2, 3]]):
        with pytest.raises(UserError):
            as_waveform(wrong)


def bad_file(folder, kind):
    path = folder / "bad.wav"
    if kind == "text":
        path.write_text("no audio at all")
    elif kind == "empty":
        path.touch()
    elif kind == "no samples":
        sf.write(path, np.zeros((0, 1)), 8000)
    elif kind == "NaN":
        sf.write(path, np.array([0.0, np.nan]), 8000, subtype="FLOAT")
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "does not exist"),
        ("text", "not audio"),
        ("empty", "empty file"),
        ("no samples", "zero length"),
        ("NaN", "NaN"),
        ("folder", "is a folder"),
    ],
)
def test_bad_files_are_named(tmp_path, kind, words):
    path = bad_file(tmp_path, kind)
    with pytest.raises(UserError, match=words) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_ffmpeg_is_named(tmp_path, monkeypatch):
    path = tmp_path / "song.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="install ffmpeg"):
        read_audio(path)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_ffmpeg_reads_what_soundfile_cannot(tmp_path):
    import subprocess

    wav = 0.3 * torch.sin(torch.arange(48_000) / 20)
    write_audio(tmp_path / "a.wav", wav, 24_000)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "aac", tmp_path / "a.m4a"]
    subprocess.run(command, check=True)
    read, rate = read_audio(tmp_path / "a.m4a")
    assert rate == 24_000
    # The encoder overshoots where the tone sets in.
    assert read.flatten()[4000:40_000].abs().max() == pytest.approx(0.3, abs=0.02)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("before")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        write_audio(tmp_path / "file" / "a.wav", torch.zeros(10), 8000)


def test_full_disk_is_named():
    # /dev/full fails every write with "no space left on device".
    from pathlib import Path

    from asteroid_ucr.utils.errors import system_error

    with pytest.raises(OSError) as caught, open("/dev/full", "w") as file:
        file.write("x")
        file.flush()
    assert "disk is full" in str(system_error(caught.value, Path("a.wav")))
