"""Trains a decomposition model on cached latents."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch

from asteroid_ucr.codecs import Codec, build_codec
from asteroid_ucr.config import RecipeConfig, record_config
from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.data.encode import cache_metadata
from asteroid_ucr.data.solo_sums import SoloSums
from asteroid_ucr.data.solos import Solos, find_solos
from asteroid_ucr.errors import UserError
from asteroid_ucr.files import atomic_path, make_folder
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.fit import LatentData, build_optimizer, find_checkpoint, fit
from asteroid_ucr.training.system import DecompositionSystem, SoloSystem


def cache_folder(config: RecipeConfig, split: str) -> Path:
    """Where the cache of a split lies: a folder for each tree, set of sources and codec."""
    dataset = Path(config.data.root).resolve().name
    name = "-".join([*config.data.sources, config.data.mix, config.codec.name])
    return Path(config.data.cache) / dataset / name / split


def build_model(config: RecipeConfig) -> UCRSeparator:
    """An untrained separator with the weights of the configured seed."""
    pl.seed_everything(config.training.seed, verbose=False)
    return UCRSeparator(
        sources=config.data.sources,
        codec=config.codec.name,
        codec_options=config.codec.options(),
        **dataclasses.asdict(config.model),
    )


def train(config: RecipeConfig, exp_dir: str | Path, resume: str = "auto") -> Path:
    """Trains, and writes `best_model.pth` in Asteroid's form.

    The experiment folder holds `conf.yml`, `checkpoints/` (best and last), `logs/` (CSV) and
    `best_model.pth`: the averaged weights of the epoch with the lowest validation loss; and
    `solos.json`, the passages that were found to hold one source, where they are used.

    Args:
        config: the recipe's configuration.
        exp_dir: the experiment folder.
        resume: "auto" goes on from the last checkpoint where there is one; "none" refuses to
            touch a folder that has one; otherwise the path of a checkpoint.

    Returns:
        The path of `best_model.pth`.

    Raises:
        UserError: if the caches are missing or foreign, the folder has another run's files, or
            the mixtures hold no solos.
    """
    exp_dir = make_folder(exp_dir)
    checkpoint = find_checkpoint(exp_dir, resume)
    sections = {k: dataclasses.asdict(getattr(config, k)) for k in _SECTIONS}
    record_config(sections, exp_dir / "conf.yml", checkpoint is not None, _FREE)
    settings = config.training
    codec = build_codec(config.codec.name, **config.codec.options())
    train_cache, validation_cache = (
        LatentCache(
            cache_folder(config, split),
            cache_metadata(config.data.root, split, codec, config.data.sources, config.data.mix),
        )
        for split in ("train", "validation")
    )
    model = build_model(config)
    model.decomposition.set_statistics(*map(torch.from_numpy, train_cache.statistics()))
    optimizer, scheduler = build_optimizer(model.parameters(), settings)
    solos, kind = None, DecompositionSystem
    if settings.solo_share > 0:
        found = _solos(exp_dir / "solos.json", train_cache, codec, config)
        solos, kind = partial(SoloSums, train_cache, codec, found, settings.seed), SoloSystem
    system = kind(model, optimizer, scheduler, settings.seed)
    data = LatentData(settings, config.data.workers, train_cache, validation_cache, solos)
    fit(system, data, settings, exp_dir, checkpoint)
    with atomic_path(exp_dir / "best_model.pth") as temporary:
        torch.save(model.serialize(), temporary)
    return exp_dir / "best_model.pth"


def _solos(path: Path, cache: LatentCache, codec: Codec, config: RecipeConfig) -> Solos:
    """The solos of a run: found once, and the same ones when it is resumed."""
    if not path.is_file():
        if config.model.composition != "power_sum":
            raise UserError(
                f"Sums of solos add powers, as model.composition 'power_sum' does and "
                f"{config.model.composition!r} does not: choose that, or training.solo_share 0."
            )
        found = find_solos(cache, codec, len(config.data.sources), config.training.seed)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(found.to_dict()))
    return Solos.from_dict(json.loads(path.read_text()))


# What the run depends on.
_SECTIONS = ("data", "codec", "model", "training")
# What may change between a run and its resumption without making it another run.
_FREE = {("data", "workers"), ("training", "devices"), ("training", "accelerator")}
