"""Files of any length, rate and number of channels, in bounded memory."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import separate_file

from asteroid_ucr import UserError
from asteroid_ucr.streaming import AudioSource
from asteroid_ucr.utils.audio import level_gain, read_audio
from asteroid_ucr.utils.errors import AudioWarning


def music(seconds, rate, channels=1, seed=0):
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    wav = 0.1 * np.sin(2 * np.pi * 110 * time) + 0.05 * generator.standard_normal(len(time))
    pans = np.linspace(1, 0.3, channels)
    return (wav[:, None] * pans).astype(np.float32)


@pytest.mark.parametrize(
    ("rate", "channels", "suffix"), [(24_000, 1, "wav"), (44_100, 2, "flac"), (48_000, 6, "wav")]
)
def test_stems_add_up_at_the_files_own_rate(small_model, tmp_path, rate, channels, suffix):
    wav = music(2.5, rate, channels)
    sf.write(tmp_path / "song.wav", wav, rate, subtype="FLOAT")
    paths = separate_file(small_model, tmp_path / "song.wav", tmp_path / "out", suffix)
    assert [p.name for p in paths] == [f"drums.{suffix}", f"bass.{suffix}"]
    stems = [sf.read(p, dtype="float32", always_2d=True) for p in paths]
    assert all(r == rate and s.shape == wav.shape for s, r in stems)
    assert np.allclose(
        sum(s for s, _ in stems), wav, atol=1e-5 if suffix == "wav" else 1e-6 + 2**-22
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in paths)


def test_one_chunk_is_forward(small_model, tmp_path):
    wav = music(2.0, 24_000)
    sf.write(tmp_path / "a.wav", wav, 24_000, subtype="FLOAT")
    paths = separate_file(small_model, tmp_path / "a.wav", tmp_path)
    stems = torch.cat([read_audio(p)[0] for p in paths])
    with torch.no_grad():
        assert torch.allclose(stems, small_model(torch.from_numpy(wav.T))[0], atol=1e-5)


@pytest.mark.parametrize("seconds", [4.0, 4.0001, 6.0, 9.7, 11.99])
def test_chunks_join_without_a_seam(small_model, tmp_path, seconds):
    wav = music(seconds, 24_000)
    sf.write(tmp_path / "a.wav", wav, 24_000, subtype="FLOAT")
    done = []
    cut = separate_file(
        small_model, tmp_path / "a.wav", tmp_path / "cut", chunk_seconds=4, progress=done.append
    )
    stems = np.stack([sf.read(p, dtype="float32")[0] for p in cut])
    assert stems.shape[1] == len(wav)
    assert np.allclose(stems.sum(0), wav[:, 0], atol=1e-5)
    assert done[-1] == 1 and done == sorted(done)
    whole = separate_file(small_model, tmp_path / "a.wav", tmp_path / "whole")
    reference = np.stack([sf.read(p, dtype="float32")[0] for p in whole])
    # The same noise at the same place and the same level: chunks differ by their context alone.
    assert np.square(stems - reference).mean() < 0.02 * np.square(reference).mean()


def test_silence_gives_silence(small_model, tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros((50_000, 2)), 22_050)
    for path in separate_file(small_model, tmp_path / "a.wav", tmp_path):
        assert np.abs(sf.read(path)[0]).max() == 0


def stems_of(model, folder, wav, rate=24_000, **options):
    """Stems `(n_src, time, channels)` of samples `(time, channels)`."""
    sf.write(folder / "a.wav", wav, rate, subtype="FLOAT")
    paths = separate_file(model, folder / "a.wav", folder / "out", **options)
    return np.stack([sf.read(p, dtype="float32", always_2d=True)[0] for p in paths])


def test_channels_of_opposite_phase_do_not_cancel(small_model, tmp_path):
    wav = music(2.5, 44_100)
    mono = stems_of(small_model, tmp_path, wav, 44_100)
    for sign in (1, -1):
        pair = stems_of(small_model, tmp_path, np.concatenate([wav, sign * wav], 1), 44_100)
        assert np.allclose(pair[..., 0], mono[..., 0], atol=1e-3)
        assert np.allclose(pair[..., 1], sign * mono[..., 0], atol=1e-3)


@torch.no_grad()
def test_offset_and_long_silence_do_not_change_the_analysis(small_model):
    wav = torch.from_numpy(music(3, 24_000).T)
    gain = level_gain(wav)
    for changed in (wav, wav + 0.5, torch.cat([0 * wav] * 9 + [wav], -1)):
        assert torch.allclose(AudioSource.of_tensor(changed, 24_000).gain(), gain[0], rtol=2e-3)
    difference = small_model.masks(wav + 0.5) - small_model.masks(wav)
    assert difference.abs().mean() < 0.01


@pytest.mark.parametrize("rate", [44_099, 96_001])
def test_odd_rates(small_model, tmp_path, rate):
    wav = music(2, rate)
    stems = stems_of(small_model, tmp_path, wav, rate)
    assert np.allclose(stems.sum(0), wav, atol=1e-5)


def test_stems_beyond_full_scale_are_never_clipped_silently(small_model, tmp_path):
    wav = 20 * music(2, 24_000)
    for suffix, bits in [("wav", None), ("flac", None), ("wav", 16), ("wav", 24)]:
        options = {"suffix": suffix, "bits": bits}
        if (suffix, bits) == ("wav", None):
            whole = stems_of(small_model, tmp_path, wav)
            assert np.abs(whole).max() > 1 and np.allclose(whole.sum(0), wav, atol=1e-4)
            continue
        with pytest.warns(AudioWarning, match="scaled by"):
            stems = stems_of(small_model, tmp_path, wav, **options)
        scale = 1 / np.abs(whole).max()
        assert np.allclose(stems, scale * whole, atol=1e-4 if bits == 16 else 1e-6)
        with pytest.warns(AudioWarning, match="limited"):
            stems = stems_of(small_model, tmp_path, wav, clip="clamp", **options)
        assert np.allclose(stems, whole.clip(-1, 1), atol=1e-4)
        with pytest.raises(UserError, match="peak"):
            stems_of(small_model, tmp_path, wav, clip="refuse", **options)


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_lossy_formats_keep_the_length(small_model, tmp_path, suffix):
    wav = music(2, 24_000, 2)
    sf.write(tmp_path / "a.wav", wav, 24_000)
    for path in separate_file(small_model, tmp_path / "a.wav", tmp_path / "out", suffix):
        found, rate = read_audio(path)
        assert rate == 24_000 and found.shape == (2, len(wav))


def test_a_stem_never_replaces_its_mixture(small_model, tmp_path):
    sf.write(tmp_path / "drums.wav", music(1, 8000), 8000)
    before = (tmp_path / "drums.wav").read_bytes()
    with pytest.raises(UserError, match="replace its mixture"):
        separate_file(small_model, tmp_path / "drums.wav", tmp_path)
    assert (tmp_path / "drums.wav").read_bytes() == before


def test_nan_weights_never_become_stems(small_model, tmp_path):
    sf.write(tmp_path / "a.wav", music(1, 8000), 8000)
    next(small_model.parameters()).data.fill_(float("nan"))
    with pytest.raises(UserError, match="NaN"):
        separate_file(small_model, tmp_path / "a.wav", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


MEASURE = """
import resource, sys, torch
sys.path.insert(0, {tests!r})
from conftest import SMALL, separate_file
from asteroid_ucr import UCRSeparator
torch.manual_seed(0)
model = UCRSeparator(sources=("drums", "bass"), **SMALL).eval()
separate_file(model, sys.argv[1], sys.argv[2], "flac", chunk_seconds=8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    import os

    peaks = []
    for seconds in (20, 400):
        path = tmp_path / f"{seconds}.flac"
        sf.write(path, music(seconds, 16_000), 16_000)
        script = MEASURE.format(tests=os.path.dirname(__file__))
        command = [sys.executable, "-c", script, str(path), str(tmp_path / "out")]
        peaks.append(int(subprocess.run(command, capture_output=True, check=True).stdout))
    assert peaks[1] < 1.15 * peaks[0]


def test_a_bad_end_leaves_nothing(small_model, tmp_path):
    wav = music(10, 8000)
    wav[-5] = np.nan
    sf.write(tmp_path / "a.wav", wav, 8000, subtype="FLOAT")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "drums.wav").write_text("before")
    with pytest.raises(UserError, match="NaN"):
        separate_file(small_model, tmp_path / "a.wav", tmp_path / "out", chunk_seconds=4)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["drums.wav"]
    assert (tmp_path / "out" / "drums.wav").read_text() == "before"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"suffix": "mid"}, "mid"),
        ({"suffix": "flac", "bits": 32}, "32 bits"),
        ({"suffix": "mp3", "bits": 16}, "16 bits"),
        ({"clip": "magic"}, "magic"),
        ({"chunk_seconds": 1}, "chunk"),
    ],
)
def test_bad_options(small_model, tmp_path, options, words):
    sf.write(tmp_path / "a.wav", music(1, 8000), 8000)
    with pytest.raises(UserError, match=words):
        separate_file(small_model, tmp_path / "a.wav", tmp_path / "out", **options)
