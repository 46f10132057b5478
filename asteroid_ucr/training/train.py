"""Trains a decomposition model on cached latents."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from asteroid_ucr.codecs import build_codec
from asteroid_ucr.config import RecipeConfig, record_config
from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.data.crops import RandomCrops
from asteroid_ucr.data.encode import cache_metadata
from asteroid_ucr.errors import UserError
from asteroid_ucr.files import atomic_path, make_folder
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.system import DecompositionSystem, WarmEMA, build_scheduler

VALIDATION_SEED = 2**31  # crops unlike those of any training seed


def cache_folder(config: RecipeConfig, split: str) -> Path:
    """Where the cache of a split lies: a folder for each tree, set of sources and codec."""
    dataset = Path(config.data.root).resolve().name
    name = "-".join([*config.data.sources, config.data.mix, config.codec.name])
    return Path(config.data.cache) / dataset / name / split


class LatentData(pl.LightningDataModule):
    """Random crops of the training and validation caches.

    An epoch's crops follow from its number, so the loader is built anew for each of them.
    """

    def __init__(self, config: RecipeConfig, train: LatentCache, validation: LatentCache):
        super().__init__()
        self.config, self.train, self.validation = config, train, validation

    def train_dataloader(self) -> DataLoader:
        """Crops of the current epoch."""
        settings, trainer = self.config.training, self.trainer
        # Under a distributed strategy Lightning deals these items out to the devices.
        items = settings.epoch_steps * settings.batch_size * trainer.world_size
        crops = RandomCrops(
            self.train,
            settings.frames,
            items,
            settings.seed,
            first=trainer.current_epoch * items,
            min_rms=settings.min_rms,
        )
        return DataLoader(crops, settings.batch_size, num_workers=self.config.data.workers)

    def val_dataloader(self) -> DataLoader:
        """The same crops every time."""
        settings = self.config.training
        crops = RandomCrops(
            self.validation, settings.frames, settings.validation_items, VALIDATION_SEED
        )
        return DataLoader(crops, settings.batch_size, num_workers=self.config.data.workers)


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
    `best_model.pth`: the averaged weights of the epoch with the lowest validation loss.

    Args:
        config: the recipe's configuration.
        exp_dir: the experiment folder.
        resume: "auto" goes on from the last checkpoint where there is one; "none" refuses to
            touch a folder that has one; otherwise the path of a checkpoint.

    Returns:
        The path of `best_model.pth`.

    Raises:
        UserError: if the caches are missing or foreign, or the folder has another run's files.
    """
    exp_dir = make_folder(exp_dir)
    checkpoint = find_checkpoint(exp_dir, resume)
    sections = {k: v for k, v in dataclasses.asdict(config).items() if k != "evaluation"}
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
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    scheduler = build_scheduler(optimizer, settings.schedule, settings.warmup_steps, settings.steps)
    system = DecompositionSystem(model, optimizer, scheduler, settings.seed)

    best = ModelCheckpoint(
        exp_dir / "checkpoints",
        "best",
        monitor="val_loss",
        save_last=True,
        enable_version_counter=False,
    )
    trainer = pl.Trainer(
        max_steps=settings.steps,
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=settings.strategy,
        precision=_precision(settings.precision),
        gradient_clip_val=settings.clip_norm,
        reload_dataloaders_every_n_epochs=1,
        log_every_n_steps=min(50, settings.epoch_steps),
        logger=CSVLogger(exp_dir, "logs", version=f"from_epoch_{_epoch_of(checkpoint)}"),
        callbacks=[WarmEMA(settings.ema_decay), best, LearningRateMonitor("step")],
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )
    data = LatentData(config, train_cache, validation_cache)
    # Checkpoints hold the optimizer's state and more than tensors; they are this run's own.
    trainer.fit(system, data, ckpt_path=checkpoint, weights_only=False)

    stored = torch.load(best.best_model_path, map_location="cpu", weights_only=False)
    system.load_state_dict(stored["state_dict"])
    with atomic_path(exp_dir / "best_model.pth") as temporary:
        torch.save(model.serialize(), temporary)
    return exp_dir / "best_model.pth"


def find_checkpoint(exp_dir: Path, resume: str) -> Path | None:
    """The checkpoint to go on from, if any.

    Raises:
        UserError: if a named checkpoint is missing, or "none" was asked for and there is one.
    """
    last = exp_dir / "checkpoints" / "last.ckpt"
    if resume == "auto":
        return last if last.is_file() else None
    if resume == "none":
        if last.is_file():
            raise UserError(f"{exp_dir} holds a run: resume it (auto), or choose another folder.")
        return None
    if not Path(resume).is_file():
        raise UserError(
            f"--resume {resume}: there is no such checkpoint; say auto, none or a file."
        )
    return Path(resume)


# What may change between a run and its resumption without making it another run.
_FREE = {("data", "workers"), ("training", "devices"), ("training", "accelerator")}


def _precision(name: str) -> str:
    if name != "auto":
        return name
    return (
        "bf16-mixed" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "32-true"
    )


def _epoch_of(checkpoint: Path | None) -> str:
    if checkpoint is None:
        return "00000"
    return f"{torch.load(checkpoint, map_location='cpu', weights_only=False)['epoch'] + 1:05d}"
