"""One self-contained HTML page about an experiment: scores, sounds, pictures, training."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from torch import Tensor

from asteroid_ucr.evaluation.generation.report import generation_section
from asteroid_ucr.reports import figures
from asteroid_ucr.reports.tables import (
    cell,
    load_results,
    protocol_line,
    shown_columns,
    to_html,
)
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.train_prior import FOLDER as PRIOR_FOLDER
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.audio import read_audio
from asteroid_ucr.utils.errors import UserError

# Rows worth hearing, in this order; the table has them all.
_HEARD_GROUPS = ("ours", "unsupervised", "supervised", "published", "classical", "floor", "ceiling")
_UNHEARD = {"oracle_codec_mask"}


def write_report(
    exp_dir: str | Path, model: UCRSeparator | None = None, out: str | Path = "report.html"
) -> Path:
    """Writes the report of an evaluated experiment.

    Args:
        exp_dir: folder with `final_metrics.json`, `all_metrics.csv` and `examples/` as `evaluate`
            writes them; `logs/**/metrics.csv` (Lightning's), there or in folders of
            runs, adds the training curve.
        model: for the component latents; by default `best_model.pth` in the folder, if it is there.
        out: name of the page, relative to the folder, or an absolute path.

    Returns:
        The page's path. It needs no other file and no network.

    Raises:
        UserError: if the folder holds no results, or the page cannot be written.
    """
    folder = Path(exp_dir)
    results = load_results(folder)
    csv = folder / "all_metrics.csv"
    if not csv.is_file():
        raise UserError(f"{csv} does not exist: run the evaluation again.")
    # Left to itself, pandas reads a column of "true" as booleans.
    lines = pd.read_csv(csv, keep_default_na=False, na_values=[""], dtype={"reference": str})
    if model is None and (folder / "best_model.pth").is_file():
        model = UCRSeparator.from_pretrained(str(folder / "best_model.pth"))
    protocol = results["protocol"]
    environment = Environment(
        loader=PackageLoader("asteroid_ucr.reports", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    kinds = [k for k in ("true", "codec") if any(k in e["scores"] for e in results["rows"])]
    page = environment.get_template("report.html").render(
        title=f"Separating {_listed(protocol['sources'])}",
        summary=summary_sentence(results),
        tables=[
            {
                "title": "Against the true stems" if kind == "true" else "Against decoded stems",
                "protocol": protocol_line(results, kind),
                "html": Markup(to_html(results, kind)),
            }
            for kind in kinds
        ],
        columns=shown_columns(results),
        plots=[
            {"source": source, "svg": Markup(_dots(results, lines, source))}
            for source in protocol["sources"]
        ],
        examples=[
            _example(folder / "examples", example, results, lines)
            for example in results["examples"]
        ],
        ticks=figures.frequency_ticks(protocol["sample_rate"]),
        latents=_latents(folder, results, model),
        curve=_curve(folder, prior=False),
        prior_curve=_curve(folder, prior=True),
        generation=generation_section(folder, _signal),
        protocol=protocol,
        failures=[(e["label"], e["failures"], e["errors"]) for e in results["rows"] if e["errors"]],
    )
    target = folder / out
    with atomic_path(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def summary_sentence(results: Mapping[str, Any]) -> str:
    """The result in a sentence: the best refined row of ours between floor and ceiling."""
    rows = {entry["name"]: entry for entry in results["rows"]}
    scored = [
        (cell(entry, "si_sdr"), entry)
        for entry in results["rows"]
        if entry["group"] == "ours" and cell(entry, "si_sdr").value is not None
    ]
    if not scored:
        return ""
    best, entry = max(scored, key=lambda pair: pair[0].value)
    text = f"{entry['label']}: {best.text()} dB SI-SDR on average"
    comparisons = []
    for name, label in (
        ("static_eq", "a static equaliser"),
        ("hpss", "HPSS"),
        ("oracle_wiener", "the oracle mask"),
    ):
        other = cell(rows[name], "si_sdr").value if name in rows else None
        if other is not None:
            gap = best.value - other
            comparisons.append(f"{abs(gap):.1f} dB {'above' if gap >= 0 else 'below'} {label}")
    return f"{text}, {_listed(comparisons)}." if comparisons else f"{text}."


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _dots(results: Mapping[str, Any], lines: pd.DataFrame, source: str) -> str:
    chosen = lines[(lines["reference"] == "true") & (lines["source"] == source)]
    # A codec that makes the phase up scores far below doing nothing, off the scale of the others.
    means = {entry["name"]: cell(entry, "si_sdr").value for entry in results["rows"]}
    floor = means.get("mixture")
    shown = [
        entry
        for entry in results["rows"]
        if entry["group"] != "ceiling"
        or None in (floor, means[entry["name"]])
        or means[entry["name"]] >= floor
    ]
    scores = {
        entry["label"]: chosen.loc[chosen["row"] == entry["name"], "si_sdr"].to_numpy(dtype=float)
        for entry in shown
    }
    ours = {entry["label"] for entry in results["rows"] if entry["group"] == "ours"}
    return figures.score_dots(scores, ours, f"dots-{source}")


def _example(
    folder: Path, example: Mapping[str, Any], results: Mapping[str, Any], lines: pd.DataFrame
) -> dict[str, Any]:
    """An example's signals: the mixture, then one line per row with a signal per source."""
    place, sources = folder / example["name"], example["sources"]
    mixture, rate = read_audio(place / "mixture.wav", mono=True)
    top = float(figures.log_spectrogram(mixture[0], rate).max())
    mine = lines[(lines["clip"] == example["name"]) & (lines["reference"] == "true")]
    order = sorted(
        (e for e in results["rows"] if e["name"] in example["rows"] and e["name"] not in _UNHEARD),
        key=lambda entry: _HEARD_GROUPS.index(entry["group"]),
    )
    strips = [{"label": "True stems", "signals": _signals(place, sources, top, {})}]
    for entry in order:
        own = mine[mine["row"] == entry["name"]].groupby("source")["si_sdr"].mean().to_dict()
        signals = _signals(place / entry["name"], sources, top, own)
        strips.append({"label": entry["label"], "signals": signals})
    whole = _signal("mixture", mixture[0], rate, top)
    return {"name": example["name"], "mixture": whole, "strips": strips, "n": len(sources)}


def _signals(
    folder: Path, sources: list[str], top: float, scores: Mapping[str, float]
) -> list[dict[str, Any]]:
    found = []
    for source in sources:
        wav, rate = read_audio(folder / f"{source}.wav", mono=True)
        found.append(_signal(source, wav[0], rate, top, scores.get(source)))
    return found


def _signal(
    name: str, wav: Tensor, rate: int, top: float, score: float | None = None
) -> dict[str, Any]:
    known = score is not None and np.isfinite(score)
    return {
        "name": name,
        "audio": figures.mp3_or_flac(wav, rate),
        "image": figures.spectrogram_image(wav, rate, top),
        "score": f"{score:.1f} dB".replace("-", "−") if known else "",
    }


def _latents(
    folder: Path, results: Mapping[str, Any], model: UCRSeparator | None
) -> dict[str, Any] | None:
    if model is None or not results["examples"]:
        return None
    name = results["examples"][0]["name"]
    wav, _ = read_audio(folder / "examples" / name / "mixture.wav", model.sample_rate, mono=True)
    with torch.no_grad():
        z = model.encode(wav[None].to(model.device))[0].cpu()
    rate = z.shape[-1] / (wav.shape[-1] / model.sample_rate)
    svg = figures.latents_over_time(z, model.sources, rate)
    return {"name": name, "svg": Markup(svg), "frame_rate": round(rate), "channels": z.shape[1]}


def _curve(folder: Path, prior: bool) -> Markup | None:
    """Losses of the prior, or of all other runs; the parts of a resumed run are joined."""
    parts: dict[str, list[pd.DataFrame]] = {}
    for path in sorted(folder.glob("**/logs/**/metrics.csv")):
        run = path.relative_to(folder).parts[0]
        if (run == PRIOR_FOLDER) == prior:
            parts.setdefault(run, []).append(pd.read_csv(path))
    name = "prior-curve" if prior else "curve"
    svg = figures.training_curve({run: _joined(logs) for run, logs in parts.items()}, name)
    return None if svg is None else Markup(svg)


def _joined(logs: list[pd.DataFrame]) -> pd.DataFrame:
    """Logs of a run, earliest first, each without the steps that the next one repeats."""
    kept = [log[log["step"] < following["step"].min()] for log, following in pairwise(logs)]
    return pd.concat([*kept, logs[-1]], ignore_index=True)
