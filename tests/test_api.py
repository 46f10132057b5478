"""`Separator`: files, tensors and arrays of any kind, in one line."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import separate_file

from asteroid_ucr import Separator, UserError
from asteroid_ucr.utils.audio import read_audio

RATE = 44_100


@pytest.fixture
def wav():
    return 0.1 * torch.randn(2, 2 * RATE, generator=torch.Generator().manual_seed(0))


def test_files_and_tensors_give_the_same_stems(small_model, tmp_path, wav):
    done = []
    separator = Separator(small_model, chunk_seconds=4, progress=done.append)
    sf.write(tmp_path / "a.wav", wav.T.numpy(), RATE, subtype="FLOAT")
    stems = separator.separate(tmp_path / "a.wav")
    assert list(stems) == separator.sources == ["drums", "bass"]
    assert stems.sample_rate == RATE and done[-1] == 1
    assert stems["drums"].shape == wav.shape
    assert torch.allclose(sum(stems.values()), wav, atol=1e-5)
    again = separator.separate(wav, RATE)
    written = separate_file(small_model, tmp_path / "a.wav", tmp_path / "cli", chunk_seconds=4)
    saved = separator.save(stems, tmp_path / "saved")
    streamed = separator.separate_file(tmp_path / "a.wav", tmp_path / "streamed")
    for number, name in enumerate(stems):
        assert torch.equal(again[name], stems[name])
        for paths in (written, saved, streamed):
            assert paths[number].name == f"{name}.wav"
            assert torch.equal(read_audio(paths[number])[0], stems[name])


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int16, torch.float64, torch.int16])
def test_all_kinds_of_samples(small_model, wav, kind):
    separator = Separator(small_model)
    expected = separator.separate(wav, RATE)
    integers = "int16" in str(kind)
    given = (wav * (2**15 if integers else 1)).round() if integers else wav
    given = given.to(kind) if isinstance(kind, torch.dtype) else given.numpy().astype(kind)
    stems = separator.separate(given, RATE)
    for name, stem in stems.items():
        assert stem.dtype == (torch.float64 if "64" in str(kind) else torch.float32)
        assert torch.allclose(stem.float(), expected[name], atol=1e-2 if integers else 1e-6)


def test_shapes(small_model, wav):
    separator = Separator(small_model)
    expected = separator.separate(wav, RATE)["bass"]
    batch = separator.separate(torch.stack([wav, 0 * wav]), RATE)["bass"]
    assert torch.equal(batch[0], expected) and not batch[1].any()
    assert separator.separate(wav[0], RATE)["bass"].shape == wav[0].shape
    assert separator.separate(wav[None][:0], RATE)["bass"].shape == (0, *wav.shape)
    assert separator.separate(wav[:, :1], RATE)["bass"].shape == (2, 1)


def test_mistakes_are_named(small_model, wav, tmp_path):
    separator = Separator(small_model)
    for arguments, words in [
        ((wav,), "sample_rate"),
        ((wav, 0), "sample_rate"),
        ((wav.T, RATE), "shape"),
        ((wav[:, :0], RATE), "zero length"),
        ((wav / 0, RATE), "infinite"),
        ((["a.wav"], RATE), "numbers"),
        ((tmp_path / "none.wav",), "does not exist"),
    ]:
        with pytest.raises(UserError, match=words):
            separator.separate(*arguments)
    for stems in ({}, {"drums": wav}, {"drums": wav[None]}):
        with pytest.raises(UserError, match="sample rate"):
            separator.save(stems, tmp_path)
    with pytest.raises(UserError, match="no-such-model"):
        Separator("no-such-model")


def test_torch_hub(wav):
    root = str(Path(__file__).parents[1])
    separator = torch.hub.load(root, "separator", "drums-bass", source="local", device="cpu")
    stems = separator.separate(wav[:, :RATE], RATE)
    assert torch.allclose(sum(stems.values()), wav[:, :RATE], atol=1e-5)
    assert torch.hub.load(root, "ucr", source="local").sources == ["drums", "bass"]
