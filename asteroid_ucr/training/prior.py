"""Trains the masking prior of a trained model, on the component latents of its mixtures."""

from __future__ import annotations

import hashlib
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from asteroid_ucr import iadb
from asteroid_ucr.codecs import Codec
from asteroid_ucr.config import RecipeConfig, load_model, open_cache
from asteroid_ucr.data.cache import TrackCache
from asteroid_ucr.data.crops import RandomCrops
from asteroid_ucr.data.encode import cache_metadata, fill
from asteroid_ucr.prior import draw_masks
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.loop import TrainingSystem, crop_loaders, fit, start_run
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import draw_items

_log = logging.getLogger(__name__)
SPLITS = ("train", "validation")
FOLDER = "prior"  # of the run, inside the experiment's folder
GAIN_CROPS = 64
LARGEST_GAIN = 100.0  # 20 dB; a band that needs more is one that the model does not render


def train_prior(config: RecipeConfig, exp_dir: str | Path, resume: str = "auto") -> Path:
    """Trains a prior for `exp_dir/best_model.pth`, and stores it in that file.

    The folder `exp_dir/prior` holds `conf.yml`, `checkpoints/` and `logs/`, as that of a
    decomposition does, and the component latents of all mixtures in `latents/`. The model separates
    as before.

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
    for name in ("all_masked", "all_present"):
        if not 0 <= getattr(settings, name) <= 1:
            raise UserError(f"prior.{name} {getattr(settings, name):g} must lie between 0 and 1.")
    device = "cpu" if settings.accelerator == "cpu" else "auto"
    model = load_model(Path(exp_dir), device, config.codec.dir)
    if model.sources != config.data.sources:
        raise UserError(
            f"The model in {exp_dir} separates {', '.join(model.sources)}, but data.sources is "
            f"{', '.join(config.data.sources)}: choose another --tag."
        )
    components = ComponentCodec(model)
    sections = {"data": config.data, "codec": config.codec, "prior": settings}
    sections["latents"] = {"of": components.fingerprint}
    checkpoint = start_run(folder, resume, sections)

    # Data: component latents of all mixtures, encoded once.
    caches = [fill_components(config, components, split, folder) for split in SPLITS]
    loaders = crop_loaders(*caches, settings, config.data.workers)

    # Model: a new prior; all else is frozen.
    model.cpu().requires_grad_(False)
    pl.seed_everything(settings.seed, verbose=False)
    sizes = {"widths": settings.widths, "kernel_sizes": settings.kernels}
    sizes |= {"frames": settings.frames, "kept_noise": settings.kept_noise}
    model.add_prior(**sizes, subsets=settings.all_present < 1)
    model.prior.set_statistics(*map(torch.from_numpy, caches[0].statistics()))

    loss = partial(loss_step, all_masked=settings.all_masked, all_present=settings.all_present)
    system = TrainingSystem(model, loss, model.prior.parameters(), settings)
    fit(system, *loaders, settings, folder, checkpoint)
    if model.renderer is None:
        mixtures = open_cache(config, "train", codec=model.codec)
        model.render_gain = measure_render_gain(
            model.cpu(), mixtures, settings.frames, settings.seed
        )
    model.save(Path(exp_dir) / "best_model.pth")
    return Path(exp_dir) / "best_model.pth"


class ComponentCodec(Codec):
    """The stacked component latents of a model, `(batch, n_src · latent_dim, frames)`, as a codec.

    Mixtures are encoded as their components, and decoded as the sum of what these sound like.
    """

    name = "components"

    def __init__(self, model: UCRSeparator):
        super().__init__()
        self.model = model.eval()
        latents = model.latents
        self.sample_rate, self.hop = latents.codec.sample_rate, latents.hop
        self.channels = model.n_src * latents.latent_dim

    @property
    def options(self) -> dict[str, Any]:
        """None: the model determines everything."""
        return {}

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever the component latents would: of weights and statistics."""
        digest = hashlib.sha256(self.model.codec.fingerprint.encode())
        for key, value in sorted(self.model.state_dict().items()):
            if not key.startswith("prior."):
                digest.update(key.encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def encode(self, wav: Tensor) -> Tensor:
        """Component latents of mixtures at the training level."""
        return self.model.latents.of_mixture(wav[:, 0]).flatten(1, 2)

    def decode(self, latents: Tensor, length: int) -> Tensor:
        """Mixtures of rendered components."""
        z, every = latents.unflatten(1, (self.model.n_src, -1)), range(self.model.n_src)
        return self.model.latents.sound(z, every, length, 0, None, 0).sum(1, keepdim=True)


def fill_components(
    config: RecipeConfig, codec: ComponentCodec, split: str, folder: Path
) -> TrackCache:
    """The component latents of a split's mixtures, in a cache, which is filled if needed."""
    data, versions = config.data, config.prior.versions if split == "train" else 1
    about = cache_metadata(data.root, split, data.sources, data.mix, codec)
    cache = TrackCache(folder / "latents" / f"{split}-{versions}", about, write=True)
    options = {"workers": data.workers, "versions": versions}
    for failure in fill(cache, data.root, codec, data.allow_shared_midi, **options):
        _log.warning("left out: %s", failure)
    return cache


def loss_step(
    model: UCRSeparator,
    latents: Tensor,
    generator: torch.Generator,
    all_masked: float,
    all_present: float = 1.0,
) -> Tensor:
    """The prior's loss on stacked component latents, `(batch, n_src · latent_dim, frames)`."""
    latents = latents.unflatten(1, (model.prior.n_src, -1))
    noise = draw_items(torch.randn, latents.shape, generator).to(latents)
    alpha = draw_items(torch.rand, latents.shape[:1], generator).to(latents)

    def cases(size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return draw_masks(*size, all_masked, all_present, generator)

    present, mask = draw_items(cases, latents.shape[:2], generator).to(latents.device).unbind(1)
    return model.prior.loss(latents, noise, alpha, mask, present)


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
