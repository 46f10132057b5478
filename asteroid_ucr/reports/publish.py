"""The publishable packages: a model with its licence, scores and configuration."""

from __future__ import annotations

from pathlib import Path

import torch

from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.hub import licence_of
from asteroid_ucr.reports.score_tables import load_results
from asteroid_ucr.store import load_checkpoint
from asteroid_ucr.utils.atomic import atomic_folder, atomic_path
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.yaml_files import read_yaml


def write_package(exp_dir: str | Path) -> Path:
    """Writes the publishable packages of an evaluated experiment into `publish_dir`.

    `model.pth` is the input of `asteroid-upload`. It has the fields of Asteroid's
    `save_publishable`, as plain types that `torch.load` can read. The folder `huggingface` is the
    input of `hf upload`: the model as the Hugging Face hub has it, with a card that has the scores.

    Raises:
        UserError: If the experiment is not evaluated, or the package cannot be written.
    """
    folder = Path(exp_dir)
    results = load_results(folder)
    model = load_checkpoint(folder)
    configurations = sorted(folder.glob("seed*/conf.yml"))
    if not configurations:
        raise UserError(f"{folder} holds no trained run (seedN/conf.yml): run stage 2 first.")
    config = read_yaml(configurations[0], sections=True)
    data = Path(config["data"]["root"]).name
    ours = [row for row in results["rows"] if row["group"] == "ours"]
    model |= {
        "dataset": data,
        "task": "sep_" + "_".join(results["protocol"]["sources"]),
        "licenses": licence_of(config["codec"]["name"])[1],
    }
    model["infos"] |= {
        "recipe_name": "asteroid-ucr/slakh_ucr",
        "training_config": config,
        "final_metrics": {row["label"]: row["scores"]["true"] for row in ours},
    }
    loaded, target = SeparatorModel.from_pretrained(model), folder / "publish_dir" / "model.pth"
    with atomic_folder(target.parent / "huggingface") as temporary:
        loaded.save_pretrained(temporary, model_card_kwargs={"evaluations": {data: results}})
    with atomic_path(target) as temporary:
        torch.save(model, temporary)
    return target
