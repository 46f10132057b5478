"""What a training sounds like while it runs: components of two mixtures, and their diagnostics."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch import Tensor

from asteroid_ucr.data.cache import TrackCache
from asteroid_ucr.data.crops import RandomCrops
from asteroid_ucr.masking import apply_masks, energy_share, frequency_share, stft
from asteroid_ucr.utils.errors import UserError

MIXTURES, SEED = 2, 2**31 + 1


def loggers(kind: str, exp_dir: str | Path, version: str) -> list[Logger]:
    """The table of losses (CSV), and the logger of the settings besides.

    Raises:
        UserError: If its package is not installed.
    """
    table = CSVLogger(exp_dir, "logs", version=version)
    if kind == "csv":
        return [table]
    if find_spec(kind) is None:
        raise UserError(f"training.logger {kind}: run `pip install asteroid-ucr[{kind}]` for it.")
    if kind == "tensorboard":
        return [table, TensorBoardLogger(exp_dir, "logs", version=kind)]
    name = Path(exp_dir).resolve().name
    return [table, WandbLogger(name, exp_dir, project="asteroid-ucr", id=name, resume="allow")]


class ComponentMonitor(Callback):
    """Logs what each component of two validation mixtures does, at every validation.

    Numbers go to all loggers: the component's share of the energy, and R², the share of its mask's
    variance that frequency alone explains (1 for a band split). Audio and spectrograms go to
    TensorBoard and Weights & Biases. The averaged weights are used, so the callback has to come
    before the one that averages.

    Args:
        validation: Cache of the validation split.
        frames: Length of the mixtures in latent frames.
    """

    def __init__(self, validation: TrackCache, frames: int):
        crops = RandomCrops(validation, frames, SEED)
        self.latents = torch.stack([crops[number] for number in range(MIXTURES)])
        self.mixtures: Tensor | None = None  # `(2, 1, time)`

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: pl.Trainer, system: Any) -> None:
        """Lightning's hook."""
        model = system.model
        if self.mixtures is None:
            length = self.latents.shape[-1] * model.codec.hop
            self.mixtures = model.codec.decode(self.latents.to(model.device), length)
        rate, shares, splits = int(model.sample_rate), [], []
        for number, mixture in enumerate(self.mixtures):
            masks = model.masks(mixture[None], steps=1)[0]
            power = stft(mixture[0], rate).abs().square()
            shares.append(energy_share(masks, power))
            splits.append(frequency_share(masks, power))
            wavs = apply_masks(mixture[None], masks[None], rate)[0, :, 0]
            for name, wav in zip(("mixture", *model.sources), [mixture[0], *wavs], strict=True):
                if trainer.is_global_zero:
                    self._show(trainer, f"{number}/{name}", wav.cpu(), rate)
        for name, values in {"share": shares, "r2": splits}.items():
            for source, value in zip(model.sources, torch.stack(values).nanmean(0), strict=True):
                system.log(f"{name}_{source}", value.float())

    @staticmethod
    def _show(trainer: pl.Trainer, name: str, wav: Tensor, rate: int) -> None:
        """Logs a waveform `(time,)` and its spectrogram, low frequencies at the bottom."""
        level = stft(wav, rate).abs().clamp(min=1e-4).log10().flip(0)
        picture = (level - level.min()) / (level.max() - level.min()).clamp(min=1e-6)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                writer, step = logger.experiment, trainer.global_step
                writer.add_audio(name, wav / wav.abs().max().clamp(min=1.0), step, rate)
                writer.add_image(name, picture, step, dataformats="HW")
            elif isinstance(logger, WandbLogger):
                logger.log_audio(name, [wav.numpy()], sample_rate=[rate])
                logger.log_image(f"{name} spectrogram", [picture.numpy()])
