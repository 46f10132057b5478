"""Trains the baselines, on crops of the same passages as the decomposition.

To add a baseline, write its network and an entry of `BASELINES`. The command line, the evaluation
and `run.sh` read that table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from asteroid.losses import MixITLossWrapper, multisrc_neg_snr
from einops import rearrange
from torch import Tensor

from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.baselines.neural import ConvTasNetSeparator, HDemucsSeparator, WaveSeparator
from asteroid_ucr.config import ModelConfig, RecipeConfig, open_cache
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.solos.loss import solo_loss
from asteroid_ucr.training.decomposition import build_model
from asteroid_ucr.training.loop import Loss, TrainingSystem, crop_loaders, fit, start_run
from asteroid_ucr.utils.errors import UserError


def supervised(criterion: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """A loss with stems as targets, in a known order: no permutation is searched for.

    Args:
        criterion: Maps estimates and stems `(batch, n_src, time)` to a scalar or a batch of them.
    """

    def loss(model: WaveSeparator, stems: Tensor, generator: torch.Generator) -> Tensor:
        return criterion(model(stems.sum(1, keepdim=True)), stems).mean()

    return loss


def mixit_loss(model: WaveSeparator, stems: Tensor, generator: torch.Generator) -> Tensor:
    """MixIT: parts of a mixture of two mixtures have to add up to each (Wisdom et al. 2020).

    Each crop of the batch is mixed with the next. The stems serve only to make the mixtures.
    """
    mixtures = stems.sum(1)
    pairs = torch.stack([mixtures, mixtures.roll(1, dims=0)], dim=1)
    parts = model.components(pairs.sum(1, keepdim=True))
    return MixITLossWrapper(multisrc_neg_snr)(parts, pairs)


def twin_loss(
    model: UCRSeparator, stems: Tensor, generator: torch.Generator, mask_weight: float
) -> Tensor:
    """This package's network with the stems' latents as targets, to measure what labels add.

    The network receives the mixture blended with noise, as in the unsupervised training, and has to
    render the sources. The composition is not used.
    """
    # Spectra need a higher precision than mixed precision offers.
    with torch.no_grad(), torch.autocast(stems.device.type, enabled=False):
        waves = torch.cat([stems.sum(1, keepdim=True), stems], dim=1)
        latents = model.codec.encode(rearrange(waves, "b n t -> (b n) 1 t"))
    latents = rearrange(latents, "(b n) c t -> b n c t", b=len(stems))
    return solo_loss(model, latents, generator, mask_weight)


def _mixit_network(sources: list[str], **options: Any) -> ConvTasNetSeparator:
    """The network of MixIT, with enough outputs for the sources of two mixtures."""
    return ConvTasNetSeparator(sources, outputs=2 * len(sources), consistent=True, **options)


@dataclass(frozen=True)
class Baseline:
    """A trainable model to compare with.

    Attributes:
        label: Name for people.
        group: Group of its row, one of `asteroid_ucr.evaluation.rows.GROUPS`.
        note: What it is, in half a sentence.
        options: Class whose arguments are the options of the section `model`.
        loss: Maps a model, stems `(batch, n_src, time)` and a generator to a scalar.
        build: Makes the untrained model of the sources and the options; None calls `options`.
        shortest_batch: Smallest batch that the loss takes.
    """

    label: str
    group: str
    note: str
    options: type
    loss: Loss
    build: Callable[..., SeparatorModel] | None = None
    shortest_batch: int = 1


BASELINES = {
    "twin": Baseline(
        "Supervised twin",
        "supervised",
        "this package's network with the stems' latents as targets",
        ModelConfig,
        twin_loss,
    ),
    "convtasnet": Baseline(
        "Conv-TasNet",
        "supervised",
        "Asteroid's Conv-TasNet trained on stems, negative SNR",
        ConvTasNetSeparator,
        supervised(multisrc_neg_snr),
    ),
    "hdemucs": Baseline(
        "HDemucs",
        "supervised",
        "torchaudio's Hybrid Demucs trained on stems, L1",
        HDemucsSeparator,
        supervised(F.l1_loss),
    ),
    "convtasnet_mixit": Baseline(
        "Conv-TasNet, MixIT",
        "unsupervised",
        "Asteroid's Conv-TasNet trained on mixtures of two mixtures; which outputs make up which "
        "source is fitted on validation clips, as ours is",
        ConvTasNetSeparator,
        mixit_loss,
        _mixit_network,
        shortest_batch=2,
    ),
}


def find_baseline(kind: str) -> Baseline:
    """Looks a baseline up by name.

    Raises:
        UserError: If there is no baseline of that name.
    """
    if kind not in BASELINES:
        raise UserError(f"There is no baseline {kind!r}: choose one of {', '.join(BASELINES)}.")
    return BASELINES[kind]


def train_baseline(
    kind: str, config: RecipeConfig, exp_dir: str | Path, resume: str = "auto"
) -> Path:
    """Trains a baseline on cached stems.

    Crops of a seed are the passages that the decomposition of that seed is trained on.

    Args:
        kind: Name of an entry of `BASELINES`.
        config: Configuration, whose section `model` has the options of the baseline.
        exp_dir: Folder of the experiment, with the files that
            `asteroid_ucr.training.decomposition.train` writes.
        resume: "auto", "none" or a checkpoint; see `start_run`.

    Returns:
        The path of `best_model.pth`.

    Raises:
        UserError: If there is no such baseline, the caches are missing or of other data, or the
            folder has the files of a run with other settings.
    """
    baseline, settings = find_baseline(kind), config.training
    if settings.batch_size < baseline.shortest_batch:
        raise UserError(
            f"{baseline.label} mixes the crops of a batch: set training.batch_size to "
            f"{baseline.shortest_batch} or more."
        )
    sections = {name: getattr(config, name) for name in ("data", "codec", "model", "training")}
    checkpoint = start_run(exp_dir, resume, sections)
    caches = [open_cache(config, split, "stems") for split in ("train", "validation")]
    loss = baseline.loss
    if baseline.options is ModelConfig:
        model = build_model(config)
        statistics = open_cache(config, "train").statistics()
        model.decomposition.set_statistics(*map(torch.from_numpy, statistics))
        loss = partial(loss, mask_weight=settings.mask_weight)
    else:
        pl.seed_everything(settings.seed, verbose=False)
        model = (baseline.build or baseline.options)(config.data.sources, **config.model)
    loaders = crop_loaders(*caches, settings, config.data.workers)
    system = TrainingSystem(model, loss, model.parameters(), settings)
    budget = fit(system, *loaders, settings, exp_dir, checkpoint)
    seconds = round(settings.frames / caches[0].metadata.frame_rate, 3)
    model.budget = {"kind": kind, "crop_seconds": seconds, **budget}
    model.save(Path(exp_dir) / "best_model.pth")
    return Path(exp_dir) / "best_model.pth"
