"""Files from elsewhere run no code, and name no file outside their folder."""

import os
import pickle
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL, write_track

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.codecs.huggingface import read_weights
from asteroid_ucr.config import TrainingConfig
from asteroid_ucr.data.slakh import read_track
from asteroid_ucr.minislakh.kits import Kit
from asteroid_ucr.store import load_checkpoint
from asteroid_ucr.training.loop import TrainingSystem, next_epoch

ROOT = Path(__file__).parents[1]


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_no_model_runs_code(small_model, tmp_path):
    conf = {**small_model.serialize(), "budget": Code(tmp_path / "ran")}
    (tmp_path / "exp").mkdir()
    for path in (tmp_path / "model.pth", tmp_path / "exp" / "best_model.pth"):
        torch.save(conf, path)
        for load in (load_checkpoint, UCRSeparator.from_pretrained):
            with pytest.raises(UserError, match="not a model file"):
                load(path if path.parent == tmp_path else path.parent)
    path.write_bytes(pickle.dumps(conf))
    with pytest.raises(UserError, match="not a model file"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_no_checkpoint_to_resume_runs_code(small_model, tmp_path):
    system = TrainingSystem(small_model, None, small_model.parameters(), TrainingConfig())
    torch.save({"state_dict": system.state_dict(), "epoch": 3}, tmp_path / "last.ckpt")
    assert next_epoch(system, tmp_path / "last.ckpt") == 4
    torch.save({"epoch": Code(tmp_path / "ran")}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last.ckpt.* holds more than weights"):
        next_epoch(system, tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()


def test_no_file_of_the_package_unpickles():
    """Whoever adds a loader of pickles has to think about who wrote them."""
    loaders = (
        r"pickle\.load|weights_only=False|yaml\.(unsafe_|full_)?load\(|allow_pickle|joblib\.load"
    )
    found = subprocess.run(
        ["grep", "-rnE", loaders, "asteroid_ucr", "egs", "--include=*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    # These have loaders of plain values, which the fuzzer's corpus and the next tests try.
    assert {re.split(r":\d+:", line)[0] for line in found} == {
        "asteroid_ucr/minislakh/songbook.py",
        "asteroid_ucr/utils/yaml_files.py",
    }


@pytest.mark.parametrize("name", ["../S00", "/S00", "..", "a/b", "a\0b", "x" * 300, ""])
def test_metadata_names_no_file_outside_its_folder(tmp_path, name):
    write_track(tmp_path / "Track00001", 1.0, 1, 8000)
    (tmp_path / "S00.flac").write_bytes(b"secret")
    metadata = {"stems": {name: {"inst_class": "Bass"}}}
    (tmp_path / "Track00001" / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    with pytest.raises(UserError, match="not a file's"):
        read_track(tmp_path / "Track00001", "train")


def test_a_drum_kit_names_no_file_outside_its_folder(tmp_path):
    (tmp_path / "kit").mkdir()
    (tmp_path / "secret.wav").write_bytes(b"secret")
    for name in ("../secret.wav", str(tmp_path / "secret.wav")):
        text = f"<k><instrument><name>kick</name><filename>{name}</filename></instrument></k>"
        (tmp_path / "kit" / "drumkit.xml").write_text(text)
        with pytest.raises(UserError, match="not inside it"):
            Kit(tmp_path / "kit")


@pytest.mark.parametrize("name", ["../drums", "/drums", "..", "a/b", "x" * 300])
def test_a_model_names_no_file_outside_the_output(small_model, tmp_path, name):
    with pytest.raises(UserError, match="different names, at least one, that files"):
        UCRSeparator(sources=("bass", name), **SMALL)
    conf = small_model.serialize()
    conf["model_args"]["sources"] = ["bass", name]
    torch.save(conf, tmp_path / "model.pth")
    with pytest.raises(UserError, match="that files can have"):
        UCRSeparator.from_pretrained(tmp_path / "model.pth")


def test_members_of_an_archive_stay_in_it(small_model, tmp_path):
    """A model file is a zip archive, which is read in memory; one with other members is refused."""
    small_model.save(tmp_path / "model.pth")
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "model.pth", "a") as archive:
        archive.writestr("../../escaped", "x")
        archive.writestr("/tmp/escaped", "x")
    before = {path.name for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match="not a model file"):
        UCRSeparator.from_pretrained(tmp_path / "model.pth")
    assert {path.name for path in tmp_path.rglob("*")} == before


def test_weights_of_a_codec_run_no_code(tmp_path):
    torch.save({"x": Code(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(pickle.UnpicklingError):
        read_weights(tmp_path / "pytorch_model.bin", {})
    assert not (tmp_path / "ran").exists()
