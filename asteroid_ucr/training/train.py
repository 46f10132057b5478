"""Trains a model on a cache, and writes it in Asteroid's form; ours learns from latents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch

from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.config import RecipeConfig, record_config
from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.data.encode import cache_metadata
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.solos.library import read_solos
from asteroid_ucr.solos.loss import SoloSystem
from asteroid_ucr.solos.sums import SoloSums
from asteroid_ucr.training.fit import LatentData, build_optimizer, find_checkpoint, fit
from asteroid_ucr.training.system import DecompositionSystem, StepwiseSystem
from asteroid_ucr.utils.atomic import make_folder
from asteroid_ucr.utils.errors import UserError


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


def latent_caches(config: RecipeConfig) -> tuple[LatentCache, LatentCache]:
    """The latents of the training and validation mixtures that stage 1 wrote.

    Raises:
        UserError: if they are missing or foreign.
    """
    codec = build_codec(config.codec.name, **config.codec.options())
    data = config.data
    train_cache, validation_cache = (
        LatentCache(
            cache_folder(config, split),
            cache_metadata(data.root, split, codec, data.sources, data.mix),
        )
        for split in ("train", "validation")
    )
    return train_cache, validation_cache


def train(config: RecipeConfig, exp_dir: str | Path, resume: str = "auto") -> Path:
    """Trains a decomposition on the latents of mixtures; see `train_model`.

    Args:
        config: the recipe's configuration.
        exp_dir: the experiment folder.
        resume: see `train_model`.

    Returns:
        The path of `best_model.pth`.

    Raises:
        UserError: if the caches or the solos are missing or foreign, or the folder has another
            run's files.
    """

    def build() -> tuple[UCRSeparator, tuple[LatentCache, LatentCache]]:
        caches = latent_caches(config)
        model = build_model(config)
        model.decomposition.set_statistics(*map(torch.from_numpy, caches[0].statistics()))
        return model, caches

    settings, solos, system = config.training, None, DecompositionSystem
    if not 0 <= settings.solo_share < 1:
        raise UserError(
            f"training.solo_share is {settings.solo_share}: give 0, or a share of less than 1."
        )
    if settings.solo_share > 0:
        solos = _solo_sums(config)
        system = partial(SoloSystem, mask_weight=settings.mask_weight)
    return train_model("ucr", config, exp_dir, resume, build, system, solos)


def train_model(
    kind: str,
    config: RecipeConfig,
    exp_dir: str | Path,
    resume: str,
    build: Callable[[], tuple[SeparatorModel, Sequence[LatentCache]]],
    system: Callable[..., StepwiseSystem],
    solos: Callable[[int, int], SoloSums] | None = None,
) -> Path:
    """Trains, and writes `best_model.pth` in Asteroid's form.

    The experiment folder holds `conf.yml`, `checkpoints/` (best and last), `logs/` (CSV) and
    `best_model.pth`: the averaged weights of the epoch with the lowest validation loss, and the
    budget of the training.

    Args:
        kind: "ucr" or a name of `asteroid_ucr.training.baselines.BASELINES`, for the record.
        config: the recipe's configuration.
        exp_dir: the experiment folder.
        resume: "auto" goes on from the last checkpoint where there is one; "none" refuses to
            touch a folder that has one; otherwise the path of a checkpoint.
        build: makes the untrained model, and opens the caches of both splits.
        system: makes the system of a model, an optimizer, a scheduler and a seed.
        solos: what `LatentData` calls by that name; None does without.

    Returns:
        The path of `best_model.pth`.

    Raises:
        UserError: if the folder has another run's files, or `build` cannot use the caches.
    """
    exp_dir = make_folder(exp_dir)
    checkpoint = find_checkpoint(exp_dir, resume)
    sections = {k: dataclasses.asdict(getattr(config, k)) for k in _SECTIONS}
    record_config(sections, exp_dir / "conf.yml", checkpoint is not None, _FREE)
    settings = config.training
    model, caches = build()
    optimizer, scheduler = build_optimizer(model.parameters(), settings)
    sums = {} if solos is None else {"solos": solos, "solo_share": settings.solo_share}
    data = LatentData(settings, config.data.workers, *caches, **sums)
    budget = fit(
        system(model, optimizer, scheduler, settings.seed), data, settings, exp_dir, checkpoint
    )
    model.budget = {
        "kind": kind,
        "parameters": sum(p.numel() for p in model.parameters()),
        "crop_seconds": round(settings.frames / caches[0].metadata.frame_rate, 3),
        **budget,
    }
    model.save(exp_dir / "best_model.pth")
    return exp_dir / "best_model.pth"


def _solo_sums(config: RecipeConfig) -> Callable[[int, int], SoloSums]:
    """Sums of the solos of the configured sources."""
    if config.model.composition != "power_sum":
        raise UserError(
            f"Sums of solos add up as model.composition 'power_sum' does and "
            f"{config.model.composition!r} does not: choose that, or training.solo_share 0."
        )
    solos = read_solos(config.data.solos, config.data.sources)
    codec = build_codec(config.codec.name, **config.codec.options())
    return partial(SoloSums, codec, solos, config.training.seed)


# What the run depends on.
_SECTIONS = ("data", "codec", "model", "training")
# What may change between a run and its resumption without making it another run.
_FREE = {
    ("data", "workers"),
    ("training", "devices"),
    ("training", "accelerator"),
    ("training", "minutes"),
}
