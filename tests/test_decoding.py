"""Every sample of a file is read, whatever its header says, and damage is reported."""

import shutil
import subprocess
import warnings

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import separate_file

from asteroid_ucr import UserError
from asteroid_ucr.utils.audio import read_audio
from asteroid_ucr.utils.errors import AudioWarning

RATE = 24_000
SECONDS = 3.0

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a sound whose bit rate is even, so that half of a file is half of it."""
    folder = tmp_path_factory.mktemp("decoding")
    time = np.arange(round(SECONDS * RATE)) / RATE
    wav = 0.2 * np.sin(2 * np.pi * 220 * time)
    wav += 0.05 * np.random.default_rng(0).standard_normal(len(time))
    sf.write(folder / "a.wav", wav, RATE)
    return folder


def encode(folder, name, *options):
    """The bytes of `a.wav` in another format."""
    command = ["ffmpeg", "-v", "error", "-y", "-i", folder / "a.wav", *options, folder / name]
    subprocess.run(command, check=True)
    return (folder / name).read_bytes()


def read(path, seconds, damaged, tolerance=0.1):
    """Reads a file, whose length and state are known."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wav, rate = read_audio(path)
    texts = [str(w.message) for w in caught if issubclass(w.category, AudioWarning)]
    assert bool(texts) == damaged, texts
    assert all(str(path) in text and "damaged" in text for text in texts)
    assert wav.shape[-1] / rate == pytest.approx(seconds, abs=tolerance)
    return wav


MP3 = ("-c:a", "libmp3lame", "-q:a", "4")


def test_an_mp3_without_xing_frame_is_read_to_its_end(folder):
    fade = ("-af", "volume='if(lt(t,1),1,0.01)':eval=frame")  # a variable bit rate that varies
    encode(folder, "a.mp3", *fade, *MP3, "-write_xing", "0")
    read(folder / "a.mp3", SECONDS, damaged=False)


def test_joined_and_cut_and_dirty_mp3(folder):
    data = encode(folder, "b.mp3", *MP3)
    read(folder / "b.mp3", SECONDS, damaged=False, tolerance=0.001)
    half = len(data) // 2
    (folder / "joined.mp3").write_bytes(data + data)
    read(folder / "joined.mp3", 2 * SECONDS, damaged=True)  # ffmpeg stumbles over the joint
    (folder / "cut.mp3").write_bytes(data[:half])
    read(folder / "cut.mp3", SECONDS / 2, damaged=True, tolerance=0.7)
    (folder / "dirty.mp3").write_bytes(data[:half] + bytes(range(256)) * 12 + data[half:])
    read(folder / "dirty.mp3", SECONDS, damaged=True, tolerance=0.3)


def test_all_parts_of_a_chained_ogg_are_read(folder):
    parts = [encode(folder, "a.ogg", "-c:a", "libvorbis", "-serial_offset", n) for n in "17"]
    (folder / "chained.ogg").write_bytes(b"".join(parts))
    read(folder / "chained.ogg", 2 * SECONDS, damaged=False)


def test_damaged_m4a_says_what_was_kept(folder):
    data = bytearray(encode(folder, "a.m4a", "-c:a", "aac", "-movflags", "+faststart"))
    read(folder / "a.m4a", SECONDS, damaged=False)
    (folder / "cut.m4a").write_bytes(data[: len(data) // 2])
    read(folder / "cut.m4a", SECONDS / 2, damaged=True, tolerance=0.7)
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    (folder / "hurt.m4a").write_bytes(data)
    read(folder / "hurt.m4a", SECONDS, damaged=True, tolerance=1.5)


@pytest.mark.parametrize("cut", [True, False])
def test_damaged_flac_is_used_as_far_as_it_goes(folder, small_model, tmp_path, cut):
    data = bytearray(encode(folder, "a.flac"))
    half = len(data) // 2
    data[half : half + 3000] = np.random.default_rng(0).bytes(3000)
    path = tmp_path / "a.flac"
    path.write_bytes(data[:half] if cut else data)
    wav = read(path, SECONDS * (0.5 if cut else 0.8), damaged=True, tolerance=0.9)
    with pytest.warns(AudioWarning, match="damaged"):
        stems = [read_audio(p)[0] for p in separate_file(small_model, path, tmp_path / "out")]
    assert torch.allclose(sum(stems), wav, atol=1e-5)


def test_flac_of_unknown_length(folder, tmp_path):
    """As ffmpeg writes it into a pipe; it is valid."""
    command = ["ffmpeg", "-v", "error", "-i", folder / "a.wav", "-f", "flac", "-"]
    (tmp_path / "a.flac").write_bytes(subprocess.run(command, capture_output=True).stdout)
    wav = read(tmp_path / "a.flac", SECONDS, damaged=False, tolerance=0)
    assert torch.equal(wav, read_audio(folder / "a.wav")[0])


@pytest.mark.parametrize("ending", ["wav", "aiff", "au", "w64"])
def test_cut_files_without_compression(folder, tmp_path, ending):
    wav, _ = sf.read(folder / "a.wav")
    path = tmp_path / f"a.{ending}"
    sf.write(path, wav, RATE, "PCM_16")
    read(path, SECONDS, damaged=False, tolerance=0)
    path.write_bytes(path.read_bytes()[: len(wav) + 2])
    read(path, SECONDS / 2, damaged=True, tolerance=0.01)


def test_a_wav_from_a_pipe_is_not_damaged(folder, tmp_path):
    command = ["ffmpeg", "-v", "error", "-i", folder / "a.wav", "-f", "wav", "-"]
    (tmp_path / "a.wav").write_bytes(subprocess.run(command, capture_output=True).stdout)
    read(tmp_path / "a.wav", SECONDS, damaged=False, tolerance=0)


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_16", "MS_ADPCM"])
def test_formats_in_which_libsndfile_cannot_seek(small_model, tmp_path, subtype):
    wav = 0.2 * np.sin(np.arange(20_000) / 10)
    sf.write(tmp_path / "a.wav", wav, 8000, subtype=subtype)
    found = read(tmp_path / "a.wav", 2.5, damaged=False)
    assert np.abs(found[0, :19_000].numpy() - wav[:19_000]).mean() < 0.03
    stems = [
        read_audio(p)[0] for p in separate_file(small_model, tmp_path / "a.wav", tmp_path / "o")
    ]
    assert torch.allclose(sum(stems), found, atol=1e-5)


def test_samples_that_no_arithmetic_survives_are_refused(tmp_path):
    sf.write(tmp_path / "a.wav", np.array([0.0, 1e36]), 8000, subtype="FLOAT")
    with pytest.raises(UserError, match="infinite"):
        read_audio(tmp_path / "a.wav")


def test_errors_name_the_original_of_a_decoded_file(folder, tmp_path):
    wav = np.zeros(8000)
    wav[-1] = np.nan
    sf.write(tmp_path / "a.wav", wav, 8000, subtype="FLOAT")
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "pcm_f32le"]
    subprocess.run([*command, tmp_path / "a.mkv"], check=True)
    with pytest.raises(UserError, match=r"a\.mkv contains NaN"):
        read_audio(tmp_path / "a.mkv")
