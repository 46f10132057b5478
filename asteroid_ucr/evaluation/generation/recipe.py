"""The recipe's evaluation of generation: the model of an experiment, on the splits of one tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from asteroid_ucr.codecs import build_codec
from asteroid_ucr.config import RecipeConfig, open_cache
from asteroid_ucr.data.clips import slakh_clips
from asteroid_ucr.data.components import ComponentCache
from asteroid_ucr.evaluation.generation.evaluate import evaluate_generation
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError


def evaluate_experiment(config: RecipeConfig, exp_dir: Path) -> dict[str, Any]:
    """Generates with `exp_dir/best_model.pth`, and evaluates what it generates.

    Args:
        config: the recipe's configuration.
        exp_dir: the experiment's folder, which receives the results.

    Returns:
        What `evaluate_generation` returns.

    Raises:
        UserError: if there is no model with a prior, or the data cannot be used.
    """
    data, settings = config.data, config.generation
    options = {"codec_dir": config.codec.dir} if config.codec.name == "encodec_24khz" else {}
    model = UCRSeparator.from_pretrained(Path(exp_dir), **options)
    if model.prior is None:
        raise UserError(f"The model in {exp_dir} has no prior: run stage 4 first.")
    cache = open_cache(config, "train", codec=model.codec)
    cache = ComponentCache(cache, model.decomposition.encode)
    latents = [torch.from_numpy(cache.whole(track)) for track in cache.tracks]
    train, test = (
        list(
            slakh_clips(
                data.root,
                split,
                model.sources,
                seconds=settings.segment_seconds,
                mix=data.mix,
                max_clips=settings.max_clips,
                allow_shared_midi=data.allow_shared_midi,
            )
        )
        for split in ("train", "test")
    )
    own = config.codec.options() if settings.embedding == config.codec.name else {}
    unquantised = {"bandwidth": 0.0} if settings.embedding == "encodec_24khz" else {}
    embedding = build_codec(settings.embedding, **{**own, **unquantised})
    model = model.to(pick_device())
    return evaluate_generation(model, train, test, latents, exp_dir, settings, embedding)
