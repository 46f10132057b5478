"""A trained separator as the package ships it, and the card that scores it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from asteroid_ucr.base import describe_budget
from asteroid_ucr.data.clips import folder_clips, slakh_clips
from asteroid_ucr.evaluation.evaluate import evaluate
from asteroid_ucr.evaluation.published_rows import file_estimates
from asteroid_ucr.minislakh.collection import RECORD
from asteroid_ucr.reports.tables import to_markdown
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.solos.library import RECORD as SOLOS_RECORD
from asteroid_ucr.utils.atomic import atomic_path, make_folder

PAPER_SUFFIX = "_paper"  # of published estimates beside the clips' stems


def write_model(
    model: UCRSeparator,
    config: dict[str, Any],
    out: str | Path,
    results_dir: str | Path,
    test_dir: str | Path,
    clips_dir: str | Path | None,
    command: str,
    commit: str,
) -> Path:
    """Writes `out.pth`, in half precision, and `out.md`, its card; what is scored is the file.

    Args:
        model: the trained model.
        config: the configuration of its training, section by section.
        out: path without ending.
        results_dir: for the evaluations.
        test_dir: a Slakh tree whose test songs it never heard.
        clips_dir: folder of CLIP/{mix,SOURCE}.wav to score besides, or None.
        command: that trained it.
        commit: of the code that trained it.

    Returns:
        The card's path.

    Raises:
        UserError: if the songs or clips cannot be read, or nothing can be written.
    """
    out = Path(out)
    make_folder(out.parent)
    conf = model.serialize()
    conf["state_dict"] = {k: _halved(k, v) for k, v in conf["state_dict"].items()}
    weights = out.with_name(f"{out.name}.pth")
    with atomic_path(weights) as temporary:
        torch.save(conf, temporary)
    model = UCRSeparator.from_pretrained(weights)

    settings = config["evaluation"]
    common = {"seconds": settings["segment_seconds"], "mix": config["data"]["mix"]}
    clips, validation = (
        slakh_clips(test_dir, split, model.sources, max_clips=settings["max_clips"], **common)
        for split in ("test", "validation")
    )
    folder, how = Path(results_dir), (settings["steps"], settings["seeds"], settings["bss_eval"])
    scored = evaluate({"": model}, clips, validation, folder / f"{out.name}-songs", *how)
    tables = [("Songs of mini-Slakh", scored)]
    if clips_dir is not None:
        clips = folder_clips(Path(clips_dir), model.sources)
        extra = file_estimates(Path(clips_dir), PAPER_SUFFIX)
        scored = evaluate(
            {"": model}, clips, [], folder / f"{out.name}-clips", *how, extra_rows=extra
        )
        tables.append(("Clips of Slakh2100's test set", scored))
    card = out.with_name(f"{out.name}.md")
    with atomic_path(card) as temporary:
        temporary.write_text(_card(out.name, model, weights, config, tables, command, commit))
    return card


def _halved(key: str, value: torch.Tensor) -> torch.Tensor:
    """Weights in half precision, statistics as they are."""
    keep = not value.is_floating_point() or key.rsplit(".", 1)[-1].startswith("latent_")
    return value if keep else value.half()


def _card(
    name: str,
    model: UCRSeparator,
    weights: Path,
    config: dict[str, Any],
    tables: list[tuple[str, dict[str, Any]]],
    command: str,
    commit: str,
) -> str:
    data, training = config["data"], config["training"]
    collection = json.loads((Path(data["root"]) / RECORD).read_text())
    solos = json.loads((Path(data["solos"]) / SOLOS_RECORD).read_text())
    found = ", ".join(
        f"{solos['found'][s]['windows']} of {s} in {solos['found'][s]['tracks']} songs"
        for s in model.sources
    )
    trained = yaml.safe_dump({k: config[k] for k in ("model", "training")}, sort_keys=False)
    parts = [
        f"# {name}",
        "",
        f"Separates mixtures of {' and '.join(model.sources)} at 24 kHz. "
        f'`UCRSeparator.from_pretrained("{name}")`. {weights.stat().st_size / 1e6:.1f} MB, half '
        f"precision, on the codec `{model.codec.name}`; "
        + ("with a masking prior, so that it generates too." if model.prior else "no prior."),
        "",
        "## How it was trained",
        "",
        "Without stems, on mixtures whose instruments are known by name and which were never heard "
        "apart: drums with piano, drums with bass, bass with piano, and all three. Passages in "
        "which one of them plays alone were found by comparing these kinds "
        "(`asteroid_ucr/data/solos/`), and sums of them are most of what the model learnt from "
        "(docs/method.md, *Solos*). This goes beyond the paper's method, which learns from "
        "mixtures of one kind and finds no solos. The names of the outputs come from the kinds of "
        "mixtures too; no validation stems were used to choose weights or to assign outputs. "
        "Settings (latent_dim, alpha_start, mask_weight) were chosen by SI-SDR on validation "
        "songs, with their stems.",
        "",
        f"- Songs: mini-Slakh's composer, seed {collection['seed']}, "
        f"{collection['seconds']:g} s each, rendered with {len(collection['soundfont'].split())} "
        "General MIDI soundfonts; training split.",
        f"- Solos: windows of 1.3 s, {found}.",
        f"- Command: `{command}` at commit {commit}, seed {training['seed']}.",
        f"- Budget: {describe_budget(model.budget)}. One model of drums, piano and bass was "
        "trained; models of two sources are its parts.",
        "",
        "## Scores",
        "",
        "By `model_cards.py`, of the file as it is. One training seed: intervals are over songs "
        "or clips, not over trainings.",
        "",
    ]
    for title, results in tables:
        parts += [f"### {title}", "", to_markdown(results)]
        for source in model.sources:
            parts += [f"{source.capitalize()}:", "", to_markdown(results, source=source)]
    parts += [
        "## Limits",
        "",
        LIMITS,
        "",
        "## Configuration",
        "",
        "```yaml",
        trained.strip(),
        "```",
    ]
    return "\n".join(parts) + "\n"


LIMITS = """It learnt from composed music and a few General MIDI soundfonts; expect less on
recordings of players, on voices, and on instruments that are not among its outputs, which it has to
give to one of them. Outputs are masks on the mixture's spectrogram: they add up to it, and none has
a phase of its own. What it generates is rendered from mel spectra, with a phase made up by
Griffin-Lim.

Licence: MIT. No recording, stem or published weight was used."""
