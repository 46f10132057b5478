"""What every training shares: random streams, averaged weights, and resuming exactly."""

from __future__ import annotations

import math
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import timedelta
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch
from asteroid.engine.system import System
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    Timer,
    WeightAveraging,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader

from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.config import TrainingConfig
from asteroid_ucr.data.crops import RandomCrops, item_loader
from asteroid_ucr.training.monitor import loggers
from asteroid_ucr.utils.atomic import atomic_path, make_folder
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import generator_for
from asteroid_ucr.utils.yaml_files import read_yaml, write_yaml

VALIDATION_SEED = 2**31  # crops unlike those of any training seed
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"

# Options that may change when a run is resumed, since they do not change what is learnt.
_FREE = {"logger", "workers", "accelerator", "devices", "num_nodes", "minutes"}

Loss = Callable[[SeparatorModel, Any, torch.Generator], Tensor]


class TrainingSystem(System):
    """Asteroid's `System` with a loss that draws random numbers.

    Their generator is seeded with the seed, the epoch and the batch, so that a resumed run draws
    the same numbers as an uninterrupted one, and n processes draw what one with a batch n times as
    large does (`draw_items`). Validation draws the same numbers in every epoch.

    Args:
        model: Model to train.
        loss: Maps the model, a batch and a generator to a scalar.
        parameters: Parameters to optimize.
        settings: How to train.
    """

    def __init__(
        self,
        model: SeparatorModel,
        loss: Loss,
        parameters: Iterable[nn.Parameter],
        settings: TrainingConfig,
    ):
        optimizer = torch.optim.AdamW(
            parameters, lr=settings.lr, weight_decay=settings.weight_decay
        )
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: learning_rate(s, settings))
        super().__init__(
            model, optimizer, loss, None, scheduler={"scheduler": rates, "interval": "step"}
        )
        self.seed = settings.seed

    def common_step(self, batch: Any, batch_nb: int, train: bool = True) -> Tensor:
        """The loss on a batch; Asteroid's hook."""
        stream = (0, self.current_epoch) if train else (1, 0)
        generator = generator_for(self.seed, *stream, batch_nb, 0)
        return self.loss_func(self.model, batch, generator)

    def training_step(self, batch: Any, batch_nb: int) -> Tensor:
        """Lightning's hook; logs the loss of each step and its mean over each epoch."""
        loss = self.common_step(batch, batch_nb)
        everywhere = {"on_epoch": True, "prog_bar": True, "sync_dist": True}
        self.log("loss", loss, on_step=True, batch_size=1, **everywhere)  # batches are alike
        return loss

    def validation_step(self, batch: Tensor, batch_nb: int) -> None:
        """Lightning's hook; logs the mean loss over the batches of all devices."""
        loss = self.common_step(batch, batch_nb, train=False)
        self.log(
            "val_loss", loss, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(batch)
        )


class Watch(Callback):
    """Stops a training whose loss is not finite or diverges, before it saves a checkpoint.

    The loss diverges if that of the validation, of the averaged weights, rises by more than 10 and
    by more than ten times its lowest value. Just before Lightning writes `last.ckpt`, the
    file of the epoch before becomes `previous.ckpt`, to fall back to.

    Args:
        folder: Folder of the checkpoints.
    """

    def __init__(self, folder: Path):
        self.folder, self.lowest = folder, math.inf

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"lowest": self.lowest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes what a checkpoint has kept."""
        self.lowest = state_dict["lowest"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, system: Any, outputs: Any, batch: Any, number: int
    ) -> None:
        """Lightning's hook; checks the loss of a step on all devices."""
        finite = bool(torch.isfinite(outputs["loss"]))
        if not trainer.strategy.reduce_boolean_decision(finite):
            self._stop(trainer, "The training's loss is not a finite number")

    def on_validation_end(self, trainer: pl.Trainer, system: Any) -> None:
        """Lightning's hook; checks the loss of a validation, and makes way for `last.ckpt`."""
        loss = float(trainer.callback_metrics["val_loss"])
        if not math.isfinite(loss):
            self._stop(trainer, "The validation's loss is not a finite number")
        if loss > self.lowest + 10 * max(1.0, abs(self.lowest)):
            self._stop(trainer, f"The training diverges: its loss rose to {loss:.3g}")
        self.lowest = min(self.lowest, loss)
        last = self.folder / LAST
        if trainer.is_global_zero and last.is_file():
            os.replace(last, self.folder / PREVIOUS)

    def _stop(self, trainer: pl.Trainer, what: str) -> None:
        """Raises the error that ends the training."""
        last = self.folder / LAST
        kept = f"{last} holds the last good weights" if last.is_file() else "no weights were saved"
        raise UserError(
            f"{what} at step {trainer.global_step} ({kept}): set a lower learning rate (lr), and "
            "choose another experiment folder."
        )


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place, and renames them.

    Lightning writes them to the folder of temporary files and moves them, which needs space there,
    and leaves a part of a checkpoint if it is killed and that folder is on another disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Lightning's hook."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


class WarmEMA(WeightAveraging):
    """Lightning's weight averaging with an exponential moving average that warms up.

    The decay after `n` updates is min(decay, (1 + n) / (10 + n)), so that the average of a short
    run is not dominated by its first weights. Validation and checkpoints use the average.

    Args:
        decay: Limit of the decay.
    """

    def __init__(self, decay: float):
        def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            n = float(updates)
            return torch.lerp(current, averaged, min(decay, (1 + n) / (10 + n)))

        super().__init__(use_buffers=False, avg_fn=average)


def learning_rate(step: int, settings: TrainingConfig) -> float:
    """Factor of the learning rate: linear warm-up, then constant or half a cosine down to zero."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def start_run(exp_dir: str | Path, resume: str, sections: dict[str, Any]) -> Path | None:
    """Prepares a run's folder: finds the checkpoint to go on from, and records the settings.

    Args:
        exp_dir: Folder of the run.
        resume: "auto" goes on from the last checkpoint if there is one; "none" refuses a folder
            that has one; otherwise the path of a checkpoint.
        sections: Settings that the run depends on, by section.

    Returns:
        The checkpoint, or None. Where the last one is damaged, it is the one before.

    Raises:
        UserError: If a seed is negative, a named checkpoint is missing, "none" was asked for and
            there is a run, the checkpoints are damaged, or the run in the folder has other
            settings.
    """
    for name, section in sections.items():
        if getattr(section, "seed", 0) < 0:
            raise UserError(f"{name}.seed {section.seed} must be 0 or more.")
    folder = make_folder(exp_dir)
    saved = [folder / "checkpoints" / name for name in (LAST, PREVIOUS)]
    found = [path for path in saved if path.is_file()]
    if resume not in ("auto", "none"):
        found = [Path(resume)]
        if not found[0].is_file():
            raise UserError(
                f"--resume {resume}: there is no such checkpoint; give auto, none or a file."
            )
    elif found and resume == "none":
        raise UserError(f"{folder} holds a run: resume it (auto), or choose another folder.")
    whole = [path for path in found if is_whole(path)]
    if found and not whole:
        raise UserError(
            f"{found[0]} is damaged: remove {found[0].parent} to start from step 0, or give "
            "another checkpoint with --resume."
        )
    if whole and whole[0] != found[0]:
        print(f"{found[0]} is damaged: going on from {whole[0].name}", file=sys.stderr)
    record_config(sections, folder / "conf.yml", bool(whole))
    return whole[0] if whole else None


def record_config(sections: dict[str, Any], path: Path, resuming: bool) -> None:
    """Records a run's configuration; when resuming, checks that it is the run's own.

    Args:
        sections: Options by section, as dictionaries or dataclasses.
        path: Path of the YAML file.
        resuming: Whether the run goes on from a checkpoint.

    Raises:
        UserError: If a resumed run was configured differently.
    """
    sections = {k: asdict(v) if is_dataclass(v) else dict(v) for k, v in sections.items()}
    if resuming and path.is_file():
        stored = read_yaml(path, sections=True)
        for section, options in sections.items():
            for option, value in options.items():
                before = stored.get(section, {}).get(option, value)
                if before != value and option not in _FREE:
                    raise UserError(
                        f"{path.parent} was trained with {section}.{option} = {before!r}, not "
                        f"{value!r}: restore the option, or choose another experiment folder."
                    )
    write_yaml(path, sections)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint can be read to its end: it is an archive with checksums."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


def crop_loaders(
    train: Any,
    validation: Any,
    settings: TrainingConfig,
    workers: int,
    batch_size: int | None = None,
) -> tuple[DataLoader, DataLoader]:
    """Loaders of random crops for training and validation.

    Args:
        train: Cache of the training split.
        validation: Cache of the validation split.
        settings: How to train.
        workers: Processes that read data.
        batch_size: Training crops per batch, if not that of the settings.
    """
    crops = RandomCrops(train, settings.frames, settings.seed, settings.min_rms)
    size = settings.batch_size if batch_size is None else batch_size
    batches = settings.epoch_steps * settings.accumulate
    same = RandomCrops(validation, settings.frames, VALIDATION_SEED)
    return (
        item_loader(crops, batches * size, size, workers),
        item_loader(same, settings.validation_items, settings.batch_size, workers, repeat=True),
    )


def next_epoch(system: TrainingSystem, checkpoint: Path) -> int:
    """Number of the epoch that follows a checkpoint.

    Raises:
        UserError: If the checkpoint holds another network, such as that of an earlier version, or
            other objects than tensors and plain values.
    """
    try:
        stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(
            f"{checkpoint} holds more than weights and numbers, and could run code: resume what "
            "this package has written."
        ) from error
    shapes = {name: value.shape for name, value in stored.get("state_dict", {}).items()}
    if shapes != {name: value.shape for name, value in system.state_dict().items()}:
        raise UserError(
            f"{checkpoint} was written by another version of this package or for another network, "
            "and cannot be resumed: choose another experiment folder, which starts from step 0."
        )
    return stored["epoch"] + 1


def fit(
    system: TrainingSystem,
    train: Iterable[Any],
    validation: Iterable[Any],
    settings: TrainingConfig,
    exp_dir: str | Path,
    checkpoint: Path | None,
    keep: str = "best",
    watchers: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Trains, and leaves the averaged weights in the system's model.

    Args:
        system: Model, loss and optimizer.
        train: Loader of training batches.
        validation: Loader of validation batches.
        settings: How to train.
        exp_dir: Folder that receives `checkpoints/` (best, last and previous) and `logs/` (CSV).
        checkpoint: Checkpoint to go on from, or None.
        keep: "best" takes the weights of the epoch with the lowest validation loss, "last" those
            of the last epoch.
        watchers: Callbacks that see the averaged weights when a validation ends.

    Returns:
        The training's budget: seed, steps, crops per step, parameters, minutes and device.

    Raises:
        UserError: If the checkpoint holds another network, the loss is not finite or diverges, or
            the best checkpoint is damaged.
    """
    first_epoch = next_epoch(system, checkpoint) if checkpoint else 0
    folder = Path(exp_dir) / "checkpoints"
    kept = [
        ModelCheckpoint(
            folder,
            name,
            monitor=monitor,
            save_on_train_epoch_end=False,  # Lightning would count the epoch twice when it resumes
            enable_version_counter=False,
        )
        # The last one is written after the best one, so that it knows of it.
        for name, monitor in [("best", "val_loss"), ("last", None)][keep == "last" :]
    ]
    limit = None if settings.minutes is None else timedelta(minutes=settings.minutes)
    timer = Timer(limit, interval="epoch")  # its time is in the checkpoints
    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    automatic = "bf16-mixed" if bf16 else "32-true"
    trainer = pl.Trainer(
        max_steps=settings.steps,
        max_epochs=math.ceil(settings.steps / settings.epoch_steps),  # for the progress bar
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=settings.strategy,
        precision=automatic if settings.precision == "auto" else settings.precision,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip_norm,
        use_distributed_sampler=False,  # EpochSampler deals the items out
        log_every_n_steps=min(50, settings.epoch_steps),
        plugins=AtomicCheckpoints(),
        logger=loggers(settings.logger, exp_dir, f"from_epoch_{first_epoch:05d}"),
        callbacks=[
            *watchers,
            WarmEMA(settings.ema_decay),
            Watch(folder),
            *kept,
            timer,
            LearningRateMonitor("step"),
        ],
        num_sanity_val_steps=0,
        enable_model_summary=False,
    )
    trainer.fit(system, train, validation, ckpt_path=checkpoint, weights_only=True)
    best = folder / f"{keep}.ckpt"
    if not is_whole(best):
        raise UserError(f"{best} is damaged: copy {LAST} in its place, or train in another folder.")
    chosen = torch.load(best, map_location="cpu", weights_only=True)
    system.load_state_dict(chosen["state_dict"])
    return {
        "seed": settings.seed,
        "steps": trainer.global_step,
        "batch_size": settings.batch_size * settings.accumulate * trainer.world_size,
        "parameters": sum(p.numel() for p in system.model.parameters()),
        "minutes": round(timer.time_elapsed("train") / 60, 2),
        "device": system.device.type,
    }
