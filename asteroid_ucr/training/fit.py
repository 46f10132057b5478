"""The training loop: averaged weights, and checkpoints from which training resumes exactly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, Timer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader

from asteroid_ucr.config import TrainingConfig
from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.data.components import ComponentCache
from asteroid_ucr.data.crops import RandomCrops
from asteroid_ucr.solos.sums import SoloSums
from asteroid_ucr.training.system import StepwiseSystem, WarmEMA, build_scheduler
from asteroid_ucr.utils.errors import UserError

VALIDATION_SEED = 2**31  # crops unlike those of any training seed


class LatentData(pl.LightningDataModule):
    """Random crops of the training and validation caches, of latents or of stems.

    An epoch's crops follow from its number, so the loader is built anew for each of them.

    Args:
        settings: of the training.
        workers: processes that read data.
        train: to crop training items from.
        validation: to crop validation items from.
        solos: makes `solos(items, first)`, sums of solos.
        solo_share: share of each batch that are such.
    """

    def __init__(
        self,
        settings: TrainingConfig,
        workers: int,
        train: LatentCache | ComponentCache,
        validation: LatentCache | ComponentCache,
        solos: Callable[[int, int], SoloSums] | None = None,
        solo_share: float = 0.0,
    ):
        super().__init__()
        self.solos, self.solo_share = solos, solo_share
        self.settings, self.workers = settings, workers
        self.train, self.validation = train, validation

    def train_dataloader(self) -> DataLoader | CombinedLoader:
        """Crops of the current epoch."""
        settings, trainer = self.settings, self.trainer
        summed = round(self.solo_share * settings.batch_size)
        # Under a distributed strategy Lightning deals these items out to the devices.
        batches = settings.epoch_steps * trainer.world_size
        items = batches * (settings.batch_size - summed)
        crops = RandomCrops(
            self.train,
            settings.frames,
            items,
            settings.seed,
            first=trainer.current_epoch * items,
            min_rms=settings.min_rms,
        )
        mixtures = DataLoader(crops, settings.batch_size - summed, num_workers=self.workers)
        if self.solos is None or summed == 0:
            return mixtures
        sums = self.solos(batches * summed, trainer.current_epoch * batches * summed)
        solos = DataLoader(sums, summed, num_workers=self.workers)
        return CombinedLoader({"mixtures": mixtures, "solos": solos}, "min_size")

    def val_dataloader(self) -> DataLoader:
        """The same crops every time."""
        settings = self.settings
        crops = RandomCrops(
            self.validation, settings.frames, settings.validation_items, VALIDATION_SEED
        )
        return DataLoader(crops, settings.batch_size, num_workers=self.workers)


def build_optimizer(
    parameters, settings: TrainingConfig
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW and its learning rates."""
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = (settings.schedule, settings.warmup_steps, settings.steps)
    return optimizer, build_scheduler(optimizer, *schedule)


def fit(
    system: StepwiseSystem,
    data: LatentData,
    settings: TrainingConfig,
    exp_dir: Path,
    checkpoint: Path | None,
) -> dict[str, Any]:
    """Trains, and leaves the averaged weights of the best epoch in the system.

    That is the epoch of the lowest loss, or, with solos, the last.

    Args:
        system: with the model and its optimizer.
        data: crops.
        settings: how to train.
        exp_dir: receives `checkpoints/` (best and last) and `logs/` (CSV).
        checkpoint: to go on from, or None.

    Returns:
        The training's budget: seed, steps, crops per step, minutes and device.
    """
    # On mixtures alone, a lower loss is no better separation: what learnt from solos ends where its
    # learning rate does.
    best = ModelCheckpoint(
        exp_dir / "checkpoints",
        "best",
        monitor="val_loss" if data.solos is None else None,
        save_last=True,
        enable_version_counter=False,
    )
    limit = None if settings.minutes is None else timedelta(minutes=settings.minutes)
    timer = Timer(limit, interval="epoch")  # its time is in the checkpoints
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
        callbacks=[WarmEMA(settings.ema_decay), best, timer, LearningRateMonitor("step")],
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )
    # Checkpoints hold the optimizer's state and more than tensors; they are this run's own.
    trainer.fit(system, data, ckpt_path=checkpoint, weights_only=False)

    stored = torch.load(best.best_model_path, map_location="cpu", weights_only=False)
    system.load_state_dict(stored["state_dict"])
    return {
        "seed": settings.seed,
        "steps": trainer.global_step,
        "batch_size": settings.batch_size * trainer.world_size,
        "minutes": round(timer.time_elapsed("train") / 60, 2),
        "device": system.device.type,
    }


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
