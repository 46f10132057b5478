"""Trained separators as the package bundles them, and the cards that score them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from asteroid_ucr.base import describe_budget
from asteroid_ucr.data.clips import folder_clips, slakh_clips
from asteroid_ucr.evaluation.model_rows import file_rows
from asteroid_ucr.evaluation.separation import evaluate
from asteroid_ucr.hub import card_metadata, licence_of
from asteroid_ucr.minislakh.collection import RECORD
from asteroid_ucr.reports.score_tables import score_table
from asteroid_ucr.reports.tables import TEMPLATES
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.solos.library import RECORD as SOLOS_RECORD
from asteroid_ucr.store import read_bundle, write_bundle
from asteroid_ucr.utils.atomic import atomic_path, make_folder

BUNDLE = "bundled.safetensors"


def write_cards(
    models: Mapping[str, UCRSeparator],
    config: Mapping[str, Any],
    out: str | Path,
    results_dir: Path,
    test_dir: str | Path,
    clips_dir: str | Path | None,
    command: str,
    commit: str,
) -> list[Path]:
    """Writes one file with all models, in half precision, and a card `NAME.md` for each of them.

    The cards show the scores of the models as they are in this file.

    Args:
        models: Trained models by name.
        config: Configuration of their training and evaluation, section by section.
        out: Folder of the file `bundled.safetensors`, its index, and the cards.
        results_dir: Folder of the results of the evaluations.
        test_dir: Slakh tree with test songs that were not used in training.
        clips_dir: Folder of CLIP/{mix,SOURCE,SOURCE_paper}.wav to score as well, or None.
        command: Command that trained the models.
        commit: Commit of the code that trained them.

    Returns:
        The paths of the cards.

    Raises:
        UserError: If the songs or clips cannot be read, or nothing can be written.
    """
    bundle, cards = make_folder(out) / BUNDLE, []
    write_bundle(models, bundle)
    data = config["data"]
    facts = {
        "megabytes": bundle.stat().st_size / 1e6,
        "collection": json.loads((Path(data["root"]) / RECORD).read_text()),
        "solos": json.loads((Path(data["solos"]) / SOLOS_RECORD).read_text())["found"],
        "seed": config["training"]["seed"],
        "command": command,
        "commit": commit,
        "config": yaml.safe_dump({k: config[k] for k in ("model", "training")}, sort_keys=False),
    }
    for name in models:
        model = UCRSeparator.from_pretrained(read_bundle(bundle, name))
        found = _evaluate(model, config, results_dir / name, test_dir, clips_dir)
        scores = {
            title: {s: score_table(results, source=s) for s in ("all", *model.sources)}
            for title, results in found.items()
        }
        metadata = card_metadata(name, licence_of(model.codec.name)[0], found).to_yaml()
        budget = describe_budget(model.budget)
        text = TEMPLATES.get_template("card.md").render(
            name=name, model=model, metadata=metadata, budget=budget, scores=scores, **facts
        )
        cards.append(bundle.with_name(f"{name}.md"))
        with atomic_path(cards[-1]) as temporary:
            temporary.write_text(text)
    return cards


def _evaluate(
    model: UCRSeparator,
    config: Mapping[str, Any],
    folder: Path,
    test_dir: str | Path,
    clips_dir: str | Path | None,
) -> dict[str, dict[str, Any]]:
    """Evaluates the model on songs and clips; returns the results by the title of the data."""
    settings, models = config["evaluation"], {"": model}
    how = (settings["steps"], settings["seeds"], settings["bss_eval"])
    common = {"seconds": settings["segment_seconds"], "mix": config["data"]["mix"]}
    clips, validation = (
        slakh_clips(test_dir, split, model.sources, max_clips=settings["max_clips"], **common)
        for split in ("test", "validation")
    )
    place = folder.with_name(f"{folder.name}-songs")
    found = {"Songs of mini-Slakh": evaluate(models, clips, validation, place, *how)}
    if clips_dir is not None:
        clips, place = folder_clips(clips_dir, model.sources), place.with_name(
            f"{folder.name}-clips"
        )
        results = evaluate(models, clips, [], place, *how, extra_rows=file_rows("_paper"))
        found["Clips of Slakh2100's test set"] = results
    return found
