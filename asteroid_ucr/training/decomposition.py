"""Trains the decomposition model, from cached latents to `best_model.pth`.

Source: Bindi & Esling 2024, section 3. The model is trained on the latents of mixtures only: the
components that the denoiser renders from the encoder's latents have to compose to the mixture. With
`training.solo_share`, a share of each batch consists of sums of solos, whose components are known
(`asteroid_ucr.solos`). This extension is not in the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from asteroid_ucr.base import hours_of_audio
from asteroid_ucr.config import RecipeConfig, load_model, open_cache
from asteroid_ucr.data.cache import TrackCache
from asteroid_ucr.data.crops import item_loader
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.solos.library import Passage, read_solos
from asteroid_ucr.solos.loss import solo_loss
from asteroid_ucr.solos.sums import SoloSums
from asteroid_ucr.training.loop import TrainingSystem, crop_loaders, fit, start_run
from asteroid_ucr.training.monitor import ComponentMonitor
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import draw_items


def train(config: RecipeConfig, exp_dir: str | Path, resume: str = "auto") -> Path:
    """Trains a decomposition on the latents of mixtures.

    The experiment folder gets `conf.yml`, `checkpoints/` (best and last), `logs/` (CSV) and
    `best_model.pth`: the averaged weights, with the budget of the training.

    Args:
        config: Configuration of the recipe.
        exp_dir: Folder of the experiment.
        resume: "auto", "none" or a checkpoint; see `start_run`.

    Returns:
        The path of `best_model.pth`.

    Raises:
        UserError: If the caches or the solos are missing or of other data, or the folder has the
            files of a run with other settings.
    """
    settings = config.training
    if not 0 <= settings.solo_share < 1:
        raise UserError(
            f"training.solo_share is {settings.solo_share}: give 0, or a share of less than 1."
        )
    sections = {name: getattr(config, name) for name in ("data", "codec", "model", "training")}
    checkpoint = start_run(exp_dir, resume, sections)

    # Model: standardises latents by the statistics of the training mixtures.
    caches = [open_cache(config, split) for split in ("train", "validation")]
    model = build_model(config)
    model.decomposition.set_statistics(*map(torch.from_numpy, caches[0].statistics()))
    earlier = load_weights(model, settings.init) if settings.init else 0.0

    batches, validation, summed = load_batches(config, *caches)

    # Training. A lower mixture loss does not mean better separation, so runs with solos keep the
    # last epoch.
    loss = partial(loss_step, mask_weight=settings.mask_weight)
    for part in settings.freeze:
        getattr(model.decomposition, part).requires_grad_(False)
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learnt:
        raise UserError("training.freeze leaves nothing to train: name one part.")
    system = TrainingSystem(model, loss, learnt, settings)
    keep = "last" if summed else "best"
    shown = settings.logger != "csv"
    watchers = [ComponentMonitor(caches[1], settings.frames)] if shown else []
    budget = fit(system, batches, validation, settings, exp_dir, checkpoint, keep, watchers)
    seconds = round(settings.frames / model.codec.frame_rate, 3)
    kind = "solos" if summed else "ucr"
    model.budget = {"kind": kind, "crop_seconds": seconds, "earlier_hours": earlier, **budget}
    model.save(Path(exp_dir) / "best_model.pth")
    return Path(exp_dir) / "best_model.pth"


def load_batches(
    config: RecipeConfig, train: TrackCache, validation: TrackCache
) -> tuple[Iterable[Any], DataLoader, int]:
    """Loaders of batches for training and validation, and how many items of each are sums of solos.

    Training batches are those of `loss_step`.

    Raises:
        UserError: If there are no solos where they are needed, or no track is as long as a crop.
    """
    settings, workers = config.training, config.data.workers
    summed = min(round(settings.solo_share * settings.batch_size), settings.batch_size - 1)
    mixtures = settings.batch_size - summed
    batches, validating = crop_loaders(train, validation, settings, workers, mixtures)
    if not summed:
        return batches, validating, 0
    if config.model.composition != "power_sum":
        raise UserError(
            f"Sums of solos add up as model.composition 'power_sum' does and "
            f"{config.model.composition!r} does not: choose that, or training.solo_share 0."
        )
    found = solos_of(config.data.solos, config.data.estimates, config.data.sources)
    sums = SoloSums(config.codec.build(), found, settings.seed, settings.solo_frames)
    count = settings.epoch_steps * settings.accumulate * summed
    solos = item_loader(sums, count, summed, workers)
    return CombinedLoader({"mixtures": batches, "solos": solos}, "min_size"), validating, summed


def loss_step(
    model: UCRSeparator,
    batch: Tensor | dict[str, Tensor],
    generator: torch.Generator,
    mask_weight: float = 0.0,
) -> Tensor:
    """The decomposition's loss on a batch, in which every item weighs the same.

    Args:
        model: Model in training.
        batch: Latents of mixtures, `(batch, channels, frames)`; or a dictionary of such "mixtures"
            and of "solos" `(batch, 1 + n_src, channels, frames)`, sums and their components.
        generator: Source of noise and α.
        mask_weight: Weight of the mask loss on sums of solos.
    """
    mixtures = batch["mixtures"] if isinstance(batch, dict) else batch
    noise = draw_items(torch.randn, mixtures.shape, generator).to(mixtures)
    alpha = draw_items(torch.rand, mixtures.shape[:1], generator).to(mixtures)
    loss = model.decomposition.loss(mixtures, noise, alpha)
    if not isinstance(batch, dict):
        return loss
    solos = batch["solos"]
    on_solos = solo_loss(model, solos, generator, mask_weight)
    return torch.lerp(loss, on_solos, len(solos) / (len(solos) + len(mixtures)))


def build_model(config: RecipeConfig) -> UCRSeparator:
    """An untrained separator with the weights of the configured seed."""
    pl.seed_everything(config.training.seed, verbose=False)
    return UCRSeparator(
        sources=config.data.sources,
        codec=config.codec.name,
        codec_options=config.codec.options(),
        **asdict(config.model),
    )


def load_weights(model: UCRSeparator, path: str) -> float:
    """Takes the weights and statistics of a trained model of the same shape.

    Its renderer and its prior are left out.

    Returns:
        Hours of audio that the model was trained on.

    Raises:
        UserError: If there is no such model, it has another codec, or some of its weights do not
            fit.
    """
    trained = load_model(path, "cpu")
    if trained.codec.fingerprint != model.codec.fingerprint:
        raise UserError(
            f"training.init {path} is a model of the codec {trained.codec.fingerprint}, not of "
            f"{model.codec.fingerprint}: choose that codec, or another model."
        )
    state, apart = trained.state_dict(), ("prior.", "renderer.")
    given = {key: value for key, value in state.items() if not key.startswith(apart)}
    shapes = [{k: tuple(v.shape) for k, v in s.items()} for s in (given, model.state_dict())]
    if wrong := sorted(name for name, _ in shapes[0].items() ^ shapes[1].items()):
        there, here = (shape.get(wrong[0], "missing") for shape in shapes)
        raise UserError(
            f"training.init {path} does not fit: {len(set(wrong))} weights differ, such as "
            f"{wrong[0]}, {there} there and {here} here. Set the options of model.* as it has them."
        )
    model.load_state_dict(given)
    return hours_of_audio(trained.budget)


def solos_of(
    solos: str, estimates: str | None, sources: Sequence[str]
) -> dict[str, list[list[Passage]]]:
    """Passages of the sources, by source and folder: solos, and estimates if any.

    Raises:
        UserError: If there are none.
    """
    folders = [solos] + ([estimates] if estimates else [])
    passages = [read_solos(folder, sources) for folder in folders]
    return dict(zip(sources, map(list, zip(*passages, strict=True)), strict=True))
