"""The notebooks run from their first to their last cell, here with small settings."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"


def run(name, settings, folder, monkeypatch):
    """Runs a notebook in a folder with other settings; returns what it shows and prints."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    cell.source = settings
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = json.dumps([output["data"] for output in outputs if "data" in output])
    return shown, "".join(o["text"] for o in outputs if o.get("name") == "stdout")


def test_separate_and_evaluate(tmp_path, monkeypatch):
    settings = 'MODEL, SONGS, SECONDS, CLIPS, CLIP = "drums-bass", 3, 4.0, 1, 4.0'
    shown, _ = run("separate-and-evaluate", settings, tmp_path, monkeypatch)
    assert shown.count("data:audio/wav") == 3 and "image/png" in shown
    assert "improvement" in shown and "Track00003_000" in shown
    assert {path.name for path in (tmp_path / "stems").iterdir()} == {"drums.wav", "bass.wav"}


def test_train_and_generate(tmp_path, monkeypatch):
    for split in ("train", "validation"):
        (tmp_path / "music" / split).mkdir(parents=True)
    rng, time = np.random.default_rng(0), np.arange(4 * 24_000) / 24_000
    for number in range(4):
        song = 0.1 * rng.standard_normal(len(time)) * np.exp(-9 * (time % (0.3 + number / 10)))
        split = "train" if number else "validation"
        sf.write(tmp_path / "music" / split / f"{number}.wav", song, 24_000)
    settings = 'MUSIC, STEPS, ITEMS, SAMPLER_STEPS = "music", 2, 2, 2'
    shown, printed = run("train-and-generate", settings, tmp_path, monkeypatch)
    assert "4 songs" in printed
    assert "val_loss" in shown and shown.count("data:audio/wav") == 3 and "image/png" in shown


def test_notebooks_are_light_and_come_without_outputs():
    for path in NOTEBOOKS.iterdir():
        assert path.stat().st_size < 20_000
        cells = json.loads(path.read_text())["cells"]
        assert not any(cell.get("outputs") for cell in cells)
