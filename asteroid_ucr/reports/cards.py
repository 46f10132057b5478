"""A trained separator as the package ships it, and the card that scores it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from asteroid_ucr.base import describe_budget
from asteroid_ucr.data.clips import folder_clips, slakh_clips
from asteroid_ucr.evaluation.model_rows import file_rows
from asteroid_ucr.evaluation.separation import evaluate
from asteroid_ucr.minislakh.collection import RECORD
from asteroid_ucr.reports.score_tables import score_table
from asteroid_ucr.reports.tables import TEMPLATES, Table
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.solos.library import RECORD as SOLOS_RECORD
from asteroid_ucr.utils.atomic import atomic_path, make_folder

PAPER_SUFFIX = "_paper"  # Ending of published estimates beside the clips' stems.


def write_model(
    model: UCRSeparator,
    config: Mapping[str, Any],
    out: str | Path,
    results_dir: str | Path,
    test_dir: str | Path,
    clips_dir: str | Path | None,
    command: str,
    commit: str,
) -> Path:
    """Writes `out.pth`, in half precision, and its card `out.md`, with the scores of that file.

    Args:
        model: The trained model.
        config: Configuration of its training and evaluation, section by section.
        out: Path without ending.
        results_dir: Folder of the evaluations' results.
        test_dir: Slakh tree with test songs that were not used in training.
        clips_dir: Folder of CLIP/{mix,SOURCE}.wav to score as well, or None.
        command: Command that trained the model.
        commit: Commit of the code that trained it.

    Returns:
        The card's path.

    Raises:
        UserError: If the songs or clips cannot be read, or nothing can be written.
    """
    out = Path(out)
    make_folder(out.parent)
    weights, card = out.with_name(f"{out.name}.pth"), out.with_name(f"{out.name}.md")
    save_halved(model, weights)
    model = UCRSeparator.from_pretrained(weights)
    data = config["data"]
    text = TEMPLATES.get_template("card.md").render(
        name=out.name,
        model=model,
        megabytes=weights.stat().st_size / 1e6,
        collection=json.loads((Path(data["root"]) / RECORD).read_text()),
        solos=json.loads((Path(data["solos"]) / SOLOS_RECORD).read_text())["found"],
        seed=config["training"]["seed"],
        budget=describe_budget(model.budget),
        command=command,
        commit=commit,
        scores=_scores(model, config, Path(results_dir) / out.name, test_dir, clips_dir),
        config=yaml.safe_dump({k: config[k] for k in ("model", "training")}, sort_keys=False),
    )
    with atomic_path(card) as temporary:
        temporary.write_text(text)
    return card


def save_halved(model: UCRSeparator, path: Path) -> None:
    """Writes a model with its weights in half precision and its statistics as they are."""
    conf = model.serialize()
    conf["state_dict"] = {
        key: (
            value
            if not value.is_floating_point() or key.rsplit(".", 1)[-1].startswith("latent_")
            else value.half()
        )
        for key, value in conf["state_dict"].items()
    }
    with atomic_path(path) as temporary:
        torch.save(conf, temporary)


def _scores(
    model: UCRSeparator,
    config: Mapping[str, Any],
    folder: Path,
    test_dir: str | Path,
    clips_dir: str | Path | None,
) -> dict[str, dict[str, Table]]:
    """Evaluates the model on songs and clips; returns tables by evaluation and source."""
    settings = config["evaluation"]
    how = (settings["steps"], settings["seeds"], settings["bss_eval"])
    common = {"seconds": settings["segment_seconds"], "mix": config["data"]["mix"]}
    clips, validation = (
        slakh_clips(test_dir, split, model.sources, max_clips=settings["max_clips"], **common)
        for split in ("test", "validation")
    )
    place = folder.with_name(f"{folder.name}-songs")
    found = {"Songs of mini-Slakh": evaluate({"": model}, clips, validation, place, *how)}
    if clips_dir is not None:
        place = folder.with_name(f"{folder.name}-clips")
        extra = file_rows(PAPER_SUFFIX)
        clips = folder_clips(Path(clips_dir), model.sources)
        scored = evaluate({"": model}, clips, [], place, *how, extra_rows=extra)
        found["Clips of Slakh2100's test set"] = scored
    return {
        title: {s: score_table(results, source=s) for s in ("all", *model.sources)}
        for title, results in found.items()
    }
