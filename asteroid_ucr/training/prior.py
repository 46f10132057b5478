"""Trains the masking prior of a trained decomposition model, on its component latents."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from asteroid_ucr import iadb
from asteroid_ucr.config import RecipeConfig, load_model, open_cache
from asteroid_ucr.data.cache import TrackCache
from asteroid_ucr.data.components import ComponentCache
from asteroid_ucr.data.crops import RandomCrops
from asteroid_ucr.prior import draw_masks
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.loop import TrainingSystem, crop_loaders, fit, start_run
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import draw_items

FOLDER = "prior"  # of the run, inside the experiment's folder
GAIN_CROPS = 64
LARGEST_GAIN = 100.0  # 20 dB; a band that needs more is one that the model does not render


def train_prior(config: RecipeConfig, exp_dir: str | Path, resume: str = "auto") -> Path:
    """Trains a prior for `exp_dir/best_model.pth`, and stores it in that file.

    The folder `exp_dir/prior` holds `conf.yml`, `checkpoints/` and `logs/`, as that of a
    decomposition does. The model separates as before.

    Args:
        config: Configuration of the recipe.
        exp_dir: Folder of the experiment.
        resume: "auto", "none" or a checkpoint; see `start_run`.

    Returns:
        The path of `best_model.pth`.

    Raises:
        UserError: If there is no model, the caches are missing or of other data, or the folder has
            the prior of another model or configuration.
    """
    folder, settings = Path(exp_dir) / FOLDER, config.prior
    if not 0 <= settings.all_masked <= 1:
        raise UserError(f"prior.all_masked {settings.all_masked:g} must lie between 0 and 1.")
    device = "cpu" if settings.accelerator == "cpu" else "auto"
    model = load_model(Path(exp_dir), device, config.codec.dir)
    if model.sources != config.data.sources:
        raise UserError(
            f"The model in {exp_dir} separates {', '.join(model.sources)}, but data.sources is "
            f"{', '.join(config.data.sources)}: choose another --tag."
        )
    sections = {"data": config.data, "codec": config.codec, "prior": settings}
    sections["decomposition"] = {"encoder": encoder_digest(model)}
    checkpoint = start_run(folder, resume, sections)

    # Data: component latents of all mixtures, encoded once.
    latents = [open_cache(config, split, codec=model.codec) for split in ("train", "validation")]
    encode = model.decomposition.encode
    caches = [ComponentCache(cache, lambda x: encode(x.to(model.device))) for cache in latents]
    loaders = crop_loaders(*caches, settings, config.data.workers)

    # Model: a new prior; all else is frozen.
    model.cpu()
    pl.seed_everything(settings.seed, verbose=False)
    sizes = {"widths": settings.widths, "kernel_sizes": settings.kernels}
    model.add_prior(**sizes, frames=settings.frames)
    model.prior.set_statistics(*map(torch.from_numpy, caches[0].statistics()))
    model.decomposition.requires_grad_(False)

    loss = partial(loss_step, all_masked=settings.all_masked)
    system = TrainingSystem(model, loss, model.prior.parameters(), settings)
    fit(system, *loaders, settings, folder, checkpoint)
    model.render_gain = measure_render_gain(model.cpu(), latents[0], settings.frames, settings.seed)
    model.save(Path(exp_dir) / "best_model.pth")
    return Path(exp_dir) / "best_model.pth"


def loss_step(
    model: UCRSeparator, latents: Tensor, generator: torch.Generator, all_masked: float
) -> Tensor:
    """The prior's loss on component latents, `(batch, n_src, latent_dim, frames)`."""
    noise = draw_items(torch.randn, latents.shape, generator).to(latents)
    alpha = draw_items(torch.rand, latents.shape[:1], generator).to(latents)

    def masks(size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return draw_masks(*size, all_masked, generator)

    mask = draw_items(masks, latents.shape[:2], generator)
    return model.prior.loss(latents, noise, alpha, mask.to(latents.device))


def encoder_digest(model: UCRSeparator) -> str:
    """A hash that changes whenever the component latents would: of weights and statistics."""
    core = model.decomposition
    state = core.encoder.state_dict() | {"mean": core.latent_mean, "std": core.latent_std}
    digest = hashlib.sha256(model.codec.fingerprint.encode())
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def measure_render_gain(
    model: UCRSeparator, cache: TrackCache, frames: int, seed: int = 0
) -> list[float] | None:
    """Factors that correct the power of rendered components, one for each channel of the codec.

    One step from noise renders the mean over possible components. Latents are compressed spectra,
    and averaging compressed power underestimates power (Jensen's inequality): components are
    rendered several decibels too quiet, by different amounts in different bands. The error is
    measured on mixtures, to which the components rendered from their component latents should
    compose. No stems are needed.

    Args:
        model: Model with a trained decomposition, on the CPU.
        cache: Latents of the training mixtures.
        frames: Length of the crops to measure on.
        seed: Seed of the choice of crops.

    Returns:
        Gains of the power, `channels` of them, in [1, 100]; None for codecs without power.
    """
    codec, core = model.codec, model.decomposition
    if not codec.has_power:
        return None
    noise = iadb.frame_noise(codec.channels, 0, frames, seed)
    true = rendered = torch.zeros(codec.channels)
    crops = RandomCrops(cache, frames, seed)
    for number in range(GAIN_CROPS):
        latents = crops[number][None]
        composed = core.compose(core.render(core.encode(latents), noise, model.steps))
        true = true + codec.to_power(latents)[0].mean(-1)
        rendered = rendered + codec.to_power(composed)[0].mean(-1)
    return (true / rendered.clamp(min=1e-20)).clamp(1.0, LARGEST_GAIN).tolist()
