"""The publishable package of Asteroid: a model with its licences, scores and configuration."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from asteroid_ucr.base import load_checkpoint
from asteroid_ucr.reports.score_tables import load_results
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.errors import UserError


def write_package(exp_dir: str | Path) -> Path:
    """Writes `publish_dir/model.pth` of an evaluated experiment, the input of `asteroid-upload`.

    It has the fields of Asteroid's `save_publishable`, as plain types that `torch.load` can read.

    Raises:
        UserError: If the experiment is not evaluated, or the package cannot be written.
    """
    folder = Path(exp_dir)
    results = load_results(folder)
    model = load_checkpoint(folder)
    configurations = sorted(folder.glob("seed*/conf.yml"))
    if not configurations:
        raise UserError(f"{folder} holds no trained run (seedN/conf.yml): run stage 2 first.")
    config = yaml.safe_load(configurations[0].read_text())
    licence = "MIT (asteroid-ucr)"
    if config["codec"]["name"] == "encodec_24khz":
        licence += "; needs EnCodec's weights, CC BY-NC 4.0 (Meta)"
    ours = [row for row in results["rows"] if row["group"] == "ours"]
    model |= {
        "dataset": Path(config["data"]["root"]).name,
        "task": "sep_" + "_".join(results["protocol"]["sources"]),
        "licenses": f"{licence}.",
    }
    model["infos"] |= {
        "recipe_name": "asteroid-ucr/slakh_ucr",
        "training_config": config,
        "final_metrics": {row["label"]: row["scores"]["true"] for row in ours},
    }
    target = folder / "publish_dir" / "model.pth"
    with atomic_path(target) as temporary:
        torch.save(model, temporary)
    return target
