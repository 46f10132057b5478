"""The benchmark and the results page work; no test depends on a time."""

import json
import shutil
from xml.etree import ElementTree

import pytest
import torch
from conftest import make_clip

from asteroid_ucr import UserError
from asteroid_ucr.benchmark import contenders, peak_memory
from asteroid_ucr.cli import main
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.evaluation.separation import evaluate
from asteroid_ucr.reports.results_page import write_results


@pytest.fixture
def model(small_model, tmp_path):
    torch.save(small_model.serialize(), tmp_path / "model.pth")
    return str(tmp_path / "model.pth")


@pytest.fixture
def evaluated(tmp_path):
    rows = [
        Row(
            "net", "A network", "supervised", lambda c: c.references + c.mixture, gflops=lambda: 2.0
        ),
        Row("ours_1", "Ours", "ours", lambda c: c.references + 0.1 * c.mixture, gflops=lambda: 0.5),
    ]
    clips = [make_clip(seed, seconds=1.0) for seed in (1, 2)]
    settings = {"bss_eval": False, "examples": 0}
    evaluate({}, clips, [make_clip(3)], tmp_path / "exp", extra_rows=rows, **settings)
    return tmp_path / "exp"


def test_benchmark_and_results(model, evaluated, tmp_path, capsys):
    out = tmp_path / "benchmark.json"
    command = ["benchmark", "--model", model, "--against", "convtasnet", "--seconds", "0.3"]
    sizes = ["--repeats", "2", "--threads", "1", "--lengths", "1", "--batch", "1"]
    assert main([*command, *sizes, "--crop", "0.3", "-o", str(out)]) == 0
    assert "GFLOP" in capsys.readouterr().out
    results = json.loads(out.read_text())
    ours, other = results["models"]
    assert (ours["name"], other["name"]) == ("ours", "convtasnet")
    assert 5.0e6 < other["parameters"] < 5.2e6
    assert 9 < other["gflops"] < 11 and 0 < ours["gflops"] < 1
    for measured in (*ours["speed"].values(), ours["training"]):
        assert measured["ratio"] == 1
        assert 0 < measured["low"] <= measured["median"] <= measured["high"]
    # A process with torch in it takes more than this.
    assert ours["memory_mib"]["1"] > 50 and other["memory_mib"]["1"] > 50
    assert peak_memory("convtasnet", None, 61.0, 1) is None  # only ours is asked for long files

    page = tmp_path / "docs" / "results.md"
    assert main(["results", str(evaluated), "-o", str(page), "--benchmark", str(out)]) == 0
    text = page.read_text()
    for part in ("| HPSS |", "| **Ours** |", "### Drums", "### Bass", "What it costs"):
        assert part in text
    assert "drums + bass" in text and "- **NMF, clustered**: " in text
    plot = page.with_name("results-exp.svg")
    assert plot.name in text
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
    assert "A network" in plot.read_text()


def test_several_evaluations_have_an_overview(evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "again")
    page = write_results([evaluated, tmp_path / "again"], tmp_path / "results.md").read_text()
    line = next(text for text in page.splitlines() if text.startswith("| A network |"))
    _, _, first, second, _ = line.split("|")
    assert first == second and "±" in first
    assert page.count("- **A network**") == 1  # what is the same everywhere is said once
    (tmp_path / "other").mkdir()
    shutil.copytree(evaluated, tmp_path / "other" / evaluated.name)
    with pytest.raises(UserError, match="rename"):
        write_results([evaluated, tmp_path / "other" / evaluated.name], tmp_path / "r.md")


def test_bad_input_is_named(model, evaluated, tmp_path):
    with pytest.raises(UserError, match="wavenet"):
        contenders(None, ["wavenet"])
    with pytest.raises(UserError, match="run the evaluation"):
        write_results([tmp_path / "nothing"], tmp_path / "r.md")
    with pytest.raises(UserError, match="asteroid-ucr benchmark"):
        write_results([evaluated], tmp_path / "r.md", tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UserError, match="not a benchmark"):
        write_results([evaluated], tmp_path / "r.md", tmp_path / "bad.json")
    assert main(["benchmark", "--repeats", "0", "-o", str(tmp_path / "b.json")]) == 2
