"""Trains the renderer of a trained model, on solos and on a separator's own estimates."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from asteroid_ucr.config import RecipeConfig, load_model
from asteroid_ucr.data.crops import item_loader
from asteroid_ucr.renderer import FOLD
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.solos.sums import SingleSolos
from asteroid_ucr.training.decomposition import solos_of
from asteroid_ucr.training.loop import VALIDATION_SEED, TrainingSystem, fit, start_run
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import draw_items

FOLDER = "renderer"  # of the run, inside the experiment's folder
MEASURED = 100  # items whose mean and standard deviation standardise the latents


def train_renderer(config: RecipeConfig, exp_dir: str | Path, resume: str = "auto") -> Path:
    """Trains a renderer for `exp_dir/best_model.pth`, and stores it in that file.

    It learns from the passages of `data.solos` and `data.estimates`. The folder `exp_dir/renderer`
    holds `conf.yml`, `checkpoints/` and `logs/`. The model separates as before, and loses its
    prior, which knows other latents.

    Args:
        config: Configuration of the recipe.
        exp_dir: Folder of the experiment.
        resume: "auto", "none" or a checkpoint; see `start_run`.

    Returns:
        The path of `best_model.pth`.

    Raises:
        UserError: If there is no model, there are no solos, or the folder has the renderer of
            another configuration.
    """
    folder, settings = Path(exp_dir) / FOLDER, config.renderer
    if settings.frames % FOLD:
        raise UserError(f"renderer.frames {settings.frames} must be a multiple of {FOLD}.")
    model = load_model(Path(exp_dir), "cpu", config.codec.dir)
    data = config.data
    solos = solos_of(data.solos, data.estimates, model.sources)
    sections = {"data": data, "codec": config.codec, "renderer": settings}
    checkpoint = start_run(folder, resume, sections)

    pl.seed_everything(settings.seed, verbose=False)
    sizes = ("latent_dim", "bands", "encoder_width", "decoder_width", "blocks")
    model.add_renderer(**{name: getattr(settings, name) for name in sizes})
    model.remove_prior()
    model.render_gain = None  # of the decomposition's latents
    renderer = model.renderer
    items = SingleSolos(renderer.codec, solos, settings.seed, settings.frames)
    same = SingleSolos(renderer.codec, solos, VALIDATION_SEED, settings.frames)
    values = torch.stack([items[number] for number in range(MEASURED)])
    renderer.set_statistics(values.mean((0, 1, 3)), values.std((0, 1, 3)))

    count = settings.epoch_steps * settings.accumulate * settings.batch_size
    loader = partial(item_loader, batch_size=settings.batch_size, workers=data.workers)
    loaders = loader(items, count), loader(same, settings.validation_items, repeat=True)
    system = TrainingSystem(model, loss_step, renderer.parameters(), settings)
    fit(system, *loaders, settings, folder, checkpoint)
    model.cpu().save(Path(exp_dir) / "best_model.pth")
    return Path(exp_dir) / "best_model.pth"


def loss_step(model: UCRSeparator, latents: Tensor, generator: torch.Generator) -> Tensor:
    """The renderer's loss on latents of single sources, `(batch, n_src, bands, frames)`."""
    batch, n_src, _, frames = latents.shape
    size = (batch, n_src, model.renderer.latent_dim, frames // FOLD)
    return model.renderer.loss(latents, draw_items(torch.randn, size, generator).to(latents))
