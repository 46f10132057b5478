"""Trains the masking prior of a trained decomposition model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytorch_lightning as pl
import torch

from asteroid_ucr.config import RecipeConfig, record_config
from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.data.components import ComponentCache, encoder_digest
from asteroid_ucr.data.encode import cache_metadata
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.fit import LatentData, build_optimizer, find_checkpoint, fit
from asteroid_ucr.training.render_gain import measure_render_gain
from asteroid_ucr.training.system import PriorSystem
from asteroid_ucr.training.train import cache_folder
from asteroid_ucr.utils.atomic import make_folder
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError

FOLDER = "prior"  # of the run, inside the experiment's folder


def train_prior(config: RecipeConfig, exp_dir: str | Path, resume: str = "auto") -> Path:
    """Trains a prior for `exp_dir/best_model.pth`, and stores it in that file.

    The run's folder `exp_dir/prior` holds `conf.yml`, `checkpoints/` and `logs/`, as those of the
    decomposition do. The model separates as before.

    Args:
        config: the recipe's configuration.
        exp_dir: the experiment's folder.
        resume: as for `asteroid_ucr.training.train.train`.

    Returns:
        The path of `best_model.pth`.

    Raises:
        UserError: if there is no model, the caches are missing or foreign, or the folder has the
            prior of another model or configuration.
    """
    exp_dir, settings = Path(exp_dir), config.prior
    if not 0 <= settings.all_masked <= 1:
        raise UserError(f"prior.all_masked {settings.all_masked:g} must lie between 0 and 1.")
    options = {"codec_dir": config.codec.dir} if config.codec.name == "encodec_24khz" else {}
    model = UCRSeparator.from_pretrained(Path(exp_dir), **options)
    if model.sources != config.data.sources:
        raise UserError(
            f"The model in {exp_dir} separates {', '.join(model.sources)}, but data.sources is "
            f"{', '.join(config.data.sources)}: choose another --tag."
        )
    folder = make_folder(exp_dir / FOLDER)
    checkpoint = find_checkpoint(folder, resume)
    sections = {k: dataclasses.asdict(getattr(config, k)) for k in ("data", "codec", "prior")}
    sections["decomposition"] = {"encoder": encoder_digest(model)}
    record_config(sections, folder / "conf.yml", checkpoint is not None, _FREE)

    device = pick_device("cpu" if settings.accelerator == "cpu" else "auto")
    data = config.data
    latents = [
        LatentCache(
            cache_folder(config, split),
            cache_metadata(data.root, split, model.codec, data.sources, data.mix),
        )
        for split in ("train", "validation")
    ]
    caches = [ComponentCache(cache, model, device) for cache in latents]
    pl.seed_everything(settings.seed, verbose=False)
    model.add_prior(
        widths=settings.widths,
        kernel_sizes=settings.kernels,
        frames=settings.frames,
    )
    model.prior.set_statistics(*map(torch.from_numpy, caches[0].statistics()))
    optimizer, scheduler = build_optimizer(model.prior.parameters(), settings)
    system = PriorSystem(model, optimizer, scheduler, settings.seed, settings.all_masked)
    fit(system, LatentData(settings, config.data.workers, *caches), settings, folder, checkpoint)
    model.render_gain = measure_render_gain(model.cpu(), latents[0], settings.frames, settings.seed)
    model.save(exp_dir / "best_model.pth")
    return exp_dir / "best_model.pth"


# What may change between a run and its resumption without making it another run.
_FREE = {("data", "workers"), ("prior", "devices"), ("prior", "accelerator"), ("prior", "minutes")}
