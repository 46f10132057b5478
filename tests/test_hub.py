"""Models in the form of the Hugging Face hub: folders, its cache, and what is refused."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import soundfile as sf
import torch
import yaml
from conftest import SMALL
from huggingface_hub import ModelCard

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.baselines.neural import ConvTasNetSeparator
from asteroid_ucr.cli import main
from asteroid_ucr.reports.publish import write_package

FILES = {"README.md", "config.json", "model.safetensors"}
WAV = 0.1 * torch.randn(1, 1, 9600, generator=torch.Generator().manual_seed(0))


def separator(seed=0, **options):
    torch.manual_seed(seed)
    return UCRSeparator(["drums", "bass"], **SMALL, **options).eval()


def put_into_cache(cache, revisions):
    """The layout of the hub's cache, with a model of each revision."""
    repository = cache / "models--user--model-1.0"
    (repository / "refs").mkdir(parents=True)
    for number, (revision, model) in enumerate(revisions.items()):
        commit = f"{number:040x}"
        model.save_pretrained(repository / "snapshots" / commit)
        (repository / "refs" / revision).write_text(commit)


@torch.no_grad()
def test_a_saved_folder_is_the_model(tmp_path):
    prior = {"widths": (16, 32), "kernel_sizes": (3, 3), "frames": 64}
    model = separator(prior=prior)
    model.steps = 3  # the present setting, not the constructor's
    model.budget = {"parameters": 1000, "steps": 7, "batch_size": 2, "crop_seconds": 1.0,
                    "minutes": 1.0, "device": "cpu"}  # fmt: skip
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    for name in (tmp_path, str(tmp_path), tmp_path / "model.safetensors"):
        loaded = SeparatorModel.from_pretrained(name)
        assert loaded.get_model_args() == model.get_model_args() and loaded.budget == model.budget
        assert torch.equal(loaded(WAV), model(WAV))
    assert UCRSeparator.from_pretrained(tmp_path, steps=5).steps == 5
    neural = ConvTasNetSeparator(["a", "b"], n_filters=16, bn_chan=8, hid_chan=8, n_blocks=1)
    neural.eval().save_pretrained(tmp_path / "neural")
    loaded = SeparatorModel.from_pretrained(tmp_path / "neural")
    assert isinstance(loaded, ConvTasNetSeparator) and torch.equal(loaded(WAV), neural(WAV))


def test_commands_take_a_saved_folder(tmp_path, capsys):
    folder = str(tmp_path / "mine")
    separator().save_pretrained(folder)
    sf.write(tmp_path / "song.wav", WAV[0, 0].numpy(), 24_000)
    out = tmp_path / "out"
    assert main(["separate", str(tmp_path / "song.wav"), "-o", str(out), "--model", folder]) == 0
    assert {path.name for path in out.rglob("*.wav")} == {"drums.wav", "bass.wav"}
    assert main(["info", folder]) == 0 and "drums, bass" in capsys.readouterr().out
    assert main(["select", folder, "--sources", "bass", "-o", str(out)]) == 0


SUMMARY = {"si_sdr": {"mean": 5.12}, "si_sdri": {"mean": 4.0}, "sdr": {"mean": None}}
RESULTS = {
    "protocol": {"sources": ["drums", "bass"]},
    "rows": [
        {"group": "ours", "label": "Ours, 1 step", "scores": {"true": {"bass": SUMMARY}}},
        {"group": "floor", "label": "Mixture", "scores": {}},
    ],
}


def test_the_card_has_licence_tags_and_scores(tmp_path):
    options = {"evaluations": {"Some songs": RESULTS}, "license": "apache-2.0"}
    separator().save_pretrained(tmp_path, model_card_kwargs=options)
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.license == "apache-2.0" and {"asteroid", "audio-source-separation"} <= {*data.tags}
    assert data.library_name == "asteroid-ucr" and data.pipeline_tag == "audio-to-audio"
    first, second = data.eval_results
    assert (first.dataset_name, first.metric_type, first.metric_value) == (
        "Some songs",
        "si_sdr",
        5.1,
    )
    assert first.metric_name == "SI-SDR in dB, bass, Ours, 1 step" and second.metric_value == 4.0


def test_an_evaluated_experiment_is_packed_for_the_hub(tmp_path):
    model = separator()
    model.save(tmp_path / "best_model.pth")
    (tmp_path / "final_metrics.json").write_text(json.dumps(RESULTS))
    (tmp_path / "seed0").mkdir()
    config = {"codec": {"name": "mel"}, "data": {"root": "data/some_songs"}}
    (tmp_path / "seed0" / "conf.yml").write_text(yaml.safe_dump(config))
    packed = write_package(tmp_path).parent / "huggingface"
    assert {path.name for path in packed.iterdir()} == FILES
    with torch.no_grad():
        assert torch.equal(UCRSeparator.from_pretrained(packed)(WAV), model(WAV))
    scores = ModelCard.load(packed / "README.md").data.eval_results
    assert [(s.dataset_name, s.metric_value) for s in scores] == [
        ("some_songs", 5.1),
        ("some_songs", 4.0),
    ]


def test_bundled_models_keep_their_card_until_they_change(tmp_path):
    model = UCRSeparator.from_pretrained("drums-bass")
    card = model.generate_model_card()
    assert card.data.license == "mit" and card.data.eval_results and "## Limits" in card.text
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    assert not model.generate_model_card().data.eval_results


@torch.no_grad()
def test_models_of_the_hub_come_from_its_cache_by_revision(tmp_path):
    models = {"main": separator(0), "v1": separator(1)}
    put_into_cache(tmp_path / "hub", models)
    local = {"cache_dir": tmp_path / "hub", "local_files_only": True}
    name = "user/model-1.0"
    for how, revision in (({}, "main"), ({"revision": "v1"}, "v1"), ({"revision": "main"}, "main")):
        loaded = UCRSeparator.from_pretrained(name, **local, **how)
        assert torch.equal(loaded(WAV), models[revision](WAV))
    loaded = UCRSeparator.from_pretrained(f"{name}@v1", **local)
    assert torch.equal(loaded(WAV), models["v1"](WAV))
    for wrong in ({"revision": "v2"}, {"revision": "no such"}):
        with pytest.raises(UserError, match=r"no model user/model-1\.0 in revision"):
            UCRSeparator.from_pretrained(name, **local, **wrong)
    with pytest.raises(UserError, match="no model user/other"):
        UCRSeparator.from_pretrained("user/other", **local)
    for name in ("drums-bass", str(tmp_path)):
        with pytest.raises(UserError, match="revision is for models of the Hugging Face hub"):
            UCRSeparator.from_pretrained(name, revision="v1")


def test_the_command_works_offline(tmp_path):
    put_into_cache(tmp_path / "hub", {"v1": separator()})
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "asteroid_ucr", "info", "user/model-1.0@v1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "drums, bass" in done.stdout


class Trap:
    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_no_code_of_a_file_runs(tmp_path):
    trap = Trap()
    trap.path = str(tmp_path / "trapped")
    state = {"model_name": "UCRSeparator", "model_args": {}, "state_dict": {"x": trap}}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="not a model file"):
        UCRSeparator.from_pretrained(tmp_path)
    assert not (tmp_path / "trapped").exists()


def test_folders_that_are_no_model_are_named(tmp_path):
    whole = tmp_path / "whole"
    separator().save_pretrained(whole)

    def changed(name, change):
        folder = shutil.copytree(whole, tmp_path / name)
        change(folder)
        return folder

    cases = {
        "both best_model.pth and": lambda f: separator().save(f / "best_model.pth"),
        r"Cannot use .*config\.json": lambda f: (f / "config.json").unlink(),
        r"model\.safetensors is not a model file": lambda f: os.truncate(
            f / "model.safetensors", 5000
        ),
        "is not a serialized model": lambda f: (f / "config.json").write_text("{}"),
        r"safetensors is not a model": lambda f: (f / "config.json").write_text("[1]"),
    }
    for number, (words, change) in enumerate(cases.items()):
        with pytest.raises(UserError, match=words):
            UCRSeparator.from_pretrained(changed(str(number), change))
