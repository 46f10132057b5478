"""The report's section on generation: tables, players, curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from asteroid_ucr.evaluation.generation.accompaniment import EXAMPLES
from asteroid_ucr.evaluation.generation.evaluate import RESULTS_JSON
from asteroid_ucr.evaluation.generation.table import (
    FIT,
    fit_rows,
    frechet_rows,
    protocol_line,
    sentences,
)
from asteroid_ucr.reports import figures
from asteroid_ucr.utils.audio import read_audio

# What is heard of an accompaniment, in this order, and its names.
HEARD = {
    "kept": "kept stem",
    "generated": "generated partner",
    "mix_generated": "kept + generated",
    "true": "true partner",
}


def generation_section(folder: Path, signal: Any) -> dict[str, Any] | None:
    """What the template needs of `generation.json` and the examples; None where there are none.

    Args:
        folder: of the experiment.
        signal: makes a player: `signal(name, wav, rate, top_db)`.
    """
    path = folder / RESULTS_JSON
    if not path.is_file():
        return None
    results = json.loads(path.read_text())
    examples = []
    for name in results["examples"]:
        for kept in results["protocol"]["sources"]:
            players = _players(folder / EXAMPLES / name / kept, HEARD, signal)
            examples.append({"name": f"{name}, given {kept}", "signals": players})
    numbers = map(str, range(results["random_examples"]))
    random = {number: f"seed {results['protocol']['seed'] + int(number)}" for number in numbers}
    curve = [p for p in results["curve"] if p.get("infinity") is not None]
    return {
        "protocol": protocol_line(results),
        "sentences": sentences(results),
        "frechet": frechet_rows(results),
        "fit": fit_rows(results),
        "fit_heads": [title for title, _ in FIT.values()],
        "examples": examples,
        "random": _players(folder / EXAMPLES / "random", random, signal),
        "steps": Markup(figures.steps_curve(curve)) if len(curve) > 1 else None,
    }


def _players(place: Path, names: dict[str, str], signal: Any) -> list[dict[str, Any]]:
    sounds = {name: read_audio(place / f"{name}.wav", mono=True) for name in names}
    tops = [figures.log_spectrogram(wav[0], rate).max() for wav, rate in sounds.values()]
    return [
        signal(names[name], wav[0], rate, float(max(tops))) for name, (wav, rate) in sounds.items()
    ]
