"""The report: one self-contained HTML page with scores, audio, figures and training curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from asteroid_ucr.evaluation.accompaniment import EXAMPLES as GENERATION_EXAMPLES
from asteroid_ucr.reports import figures, generation_tables
from asteroid_ucr.reports.players import loudest, players
from asteroid_ucr.reports.score_tables import (
    COLUMNS,
    failures,
    listed,
    load_results,
    references,
    score_cell,
    score_table,
    summary_sentence,
)
from asteroid_ucr.reports.tables import TEMPLATES
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.prior import FOLDER as PRIOR_FOLDER
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.audio import read_audio
from asteroid_ucr.utils.errors import UserError

# Rows that are in the table, but have no audio on the page.
_UNHEARD = {"oracle_codec_mask"}
_HEARD_PARTNERS = {
    "kept": "kept stem",
    "generated": "generated partner",
    "mix_generated": "kept + generated",
    "true": "true partner",
}


def write_report(
    exp_dir: str | Path, model: UCRSeparator | None = None, out: str | Path = "report.html"
) -> Path:
    """Writes the report of an evaluated experiment.

    The folder holds `final_metrics.json`, `all_metrics.csv` and `examples/`. Training logs in it
    (`**/logs/**/metrics.csv`) add the training curve, `generation.json` adds a section about
    generation. Component latents are those of the model, by default `best_model.pth` in the folder,
    if it exists.

    Returns:
        The path of the page, which needs neither other files nor a network.

    Raises:
        UserError: If the folder holds no results, or the page cannot be written.
    """
    folder = Path(exp_dir)
    results = load_results(folder)
    protocol, metrics = results["protocol"], folder / "all_metrics.csv"
    if not metrics.is_file():
        raise UserError(f"{metrics} does not exist: run the evaluation again.")
    # By default pandas reads a column that holds nothing but "true" as booleans.
    lines = pd.read_csv(metrics, dtype={"reference": str}).query("reference == 'true'")
    if model is None and (folder / "best_model.pth").is_file():
        model = UCRSeparator.from_pretrained(folder / "best_model.pth")
    tables = [score_table(results, kind) for kind in references(results)]
    page = TEMPLATES.get_template("report.html").render(
        title=f"Separating {listed(protocol['sources'])}",
        summary=summary_sentence(results),
        tables=tables,
        columns=[column for column in COLUMNS.values() if column[0] in tables[0].frame],
        plots={source: _dots(results, lines, source) for source in protocol["sources"]},
        examples=[_example(folder / "examples", e, results, lines) for e in results["examples"]],
        ticks=figures.frequency_ticks(protocol["sample_rate"]),
        latents=_latents(folder, results, model),
        curve=_curve(folder, prior=False),
        prior_curve=_curve(folder, prior=True),
        generation=generation_section(folder),
        protocol=protocol,
        failures=failures(results),
    )
    with atomic_path(folder / out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return folder / out


def _dots(results: Mapping[str, Any], lines: pd.DataFrame, source: str) -> str:
    """The chart of the scores of all clips for one source."""
    chosen = lines[lines["source"] == source].groupby("row")["si_sdr"]
    scores = {name: values.to_numpy(dtype=float) for name, values in chosen}
    means = {entry["name"]: score_cell(entry, "si_sdr").value for entry in results["rows"]}
    floor = means.get("mixture")
    # A codec that estimates the phase scores far below the mixture, outside the range of the rest.
    shown = [
        e
        for e in results["rows"]
        if e["group"] != "ceiling" or None in (floor, means[e["name"]]) or means[e["name"]] >= floor
    ]
    ours = {entry["label"] for entry in shown if entry["group"] == "ours"}
    by_label = {e["label"]: scores[e["name"]] for e in shown if e["name"] in scores}
    return figures.inline_svg(figures.score_dots(by_label, ours), f"dots-{source}")


def _example(
    folder: Path, example: Mapping[str, Any], results: Mapping[str, Any], lines: pd.DataFrame
) -> dict[str, Any]:
    """The players of an example: the mixture, the true stems, then the estimates of each row."""
    place, names = folder / example["name"], {source: source for source in example["sources"]}
    mixture, rate = read_audio(place / "mixture.wav", mono=True)
    top = loudest(mixture[0], rate)
    means = lines[lines["clip"] == example["name"]].groupby(["row", "source"])["si_sdr"].mean()
    strips = [{"label": "True stems", "signals": players(place, names, top)}]
    heard = [e for e in results["rows"] if e["name"] in set(example["rows"]) - _UNHEARD]
    for entry in sorted(heard, key=lambda e: e["group"] != "ours"):
        row = entry["name"]
        own = means[row].to_dict() if row in means else {}
        signals = players(place / row, names, top, own)
        strips.append({"label": entry["label"], "signals": signals})
    (whole,) = players(place, {"mixture": "mixture"}, top)
    return {"name": example["name"], "mixture": whole, "strips": strips, "n": len(names)}


def _latents(
    folder: Path, results: Mapping[str, Any], model: UCRSeparator | None
) -> dict[str, Any] | None:
    """Component latents of the first example."""
    if model is None or not results["examples"]:
        return None
    name = results["examples"][0]["name"]
    wav, _ = read_audio(folder / "examples" / name / "mixture.wav", model.sample_rate, mono=True)
    with torch.no_grad():
        z = model.encode(wav[None].to(model.device))[0].cpu()
    rate = z.shape[-1] / (wav.shape[-1] / model.sample_rate)
    svg = figures.inline_svg(figures.latents_over_time(z, model.sources, rate), "latents")
    return {"name": name, "svg": svg, "frame_rate": round(rate), "channels": z.shape[1]}


def _curve(folder: Path, prior: bool) -> str | None:
    """Losses of the prior, or of all other runs; the parts of a resumed run are joined."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for path in sorted(folder.glob("**/logs/**/metrics.csv")):
        run = path.relative_to(folder).parts[0]
        if (run == PRIOR_FOLDER) == prior:
            parts.setdefault(run, []).append(pd.read_csv(path))
    figure = figures.training_curve({run: _joined(logs) for run, logs in parts.items()})
    return None if figure is None else figures.inline_svg(figure, f"curve-{prior}")


def _joined(logs: list[pd.DataFrame]) -> pd.DataFrame:
    """Joins the logs of a run, each without the steps that the next one repeats."""
    kept = [log[log["step"] < following["step"].min()] for log, following in pairwise(logs)]
    return pd.concat([*kept, logs[-1]], ignore_index=True)


def generation_section(folder: Path) -> dict[str, Any] | None:
    """Content of the section about generation; None without `generation.json`."""
    if not (folder / "generation.json").is_file():
        return None
    results = json.loads((folder / "generation.json").read_text())
    place, seed = folder / GENERATION_EXAMPLES, results["protocol"]["seed"]
    random = {str(k): f"seed {seed + k}" for k in range(results["random_examples"])}
    curve = generation_tables.known_curve(results)
    steps = figures.inline_svg(figures.steps_curve(curve), "steps") if len(curve) > 1 else None
    return {
        "protocol": generation_tables.protocol_line(results),
        "sentences": generation_tables.sentences(results),
        "frechet": generation_tables.frechet_table(results),
        "rendering": generation_tables.rendering_table(results),
        "fit": generation_tables.fit_table(results),
        "examples": [
            {
                "name": f"{name}, given {kept}",
                "signals": players(place / name / kept, _HEARD_PARTNERS),
            }
            for name in results["examples"]
            for kept in results["protocol"]["sources"]
        ],
        "random": players(place / "random", random),
        "steps": steps,
    }
