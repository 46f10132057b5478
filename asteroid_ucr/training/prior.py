"""Trains the masking prior of a trained model, on the component latents of its mixtures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
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

SPLITS = ("train", "validation")
FOLDER = "prior"  # of the run, inside the experiment's folder
FORGOTTEN = 0.15  # share of the items whose kept components are left out
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
    if not 0 <= settings.all_masked <= 1:
        raise UserError(f"prior.all_masked {settings.all_masked:g} must lie between 0 and 1.")
    device = "cpu" if settings.accelerator == "cpu" else "auto"
    model = load_model(Path(exp_dir), device, config.codec.dir)
    if model.sources != config.data.sources:
        raise UserError(
            f"The model in {exp_dir} separates {', '.join(model.sources)}, but data.sources is "
            f"{', '.join(config.data.sources)}: choose another --tag."
        )
    kinds = mixtures_of(model.n_src, settings.subsets)
    size = settings.batch_size // len(kinds)
    if not size:
        raise UserError(
            f"prior.batch_size {settings.batch_size} is less than the {len(kinds)} sets of sources "
            "that each batch has: raise it, or set prior.subsets to false."
        )
    sections = {"data": config.data, "codec": config.codec, "prior": settings}
    sections["latents"] = {"of": ComponentCodec(model).fingerprint}
    checkpoint = start_run(folder, resume, sections)

    # Data: component latents of all mixtures, encoded once.
    parts = [model.select([model.sources[k] for k in kind]) for kind in kinds]
    caches = [[fill_components(config, part, split, folder) for split in SPLITS] for part in parts]
    loaders = [crop_loaders(*pair, settings, config.data.workers, size) for pair in caches]
    train, validation = (
        CombinedLoader(list(each), "min_size") for each in zip(*loaders, strict=True)
    )

    # Model: a new prior; all else is frozen.
    model.cpu().requires_grad_(False)
    pl.seed_everything(settings.seed, verbose=False)
    sizes = {"widths": settings.widths, "kernel_sizes": settings.kernels}
    model.add_prior(**sizes, frames=settings.frames, subsets=settings.subsets)
    if settings.init:
        load_prior(model, settings.init)
    model.prior.set_statistics(*statistics([train for train, _ in caches], kinds, model.n_src))

    loss = partial(loss_step, kinds=kinds, all_masked=settings.all_masked)
    system = TrainingSystem(model, loss, model.prior.parameters(), settings)
    fit(system, train, validation, settings, folder, checkpoint)
    if model.renderer is None:
        mixtures = open_cache(config, "train", codec=model.codec)
        model.render_gain = measure_render_gain(
            model.cpu(), mixtures, settings.frames, settings.seed
        )
    model.save(Path(exp_dir) / "best_model.pth")
    return Path(exp_dir) / "best_model.pth"


def load_prior(model: UCRSeparator, path: str) -> None:
    """Takes the weights of another model's prior of the same shape.

    Raises:
        UserError: If there is no such model, it has no prior, or the prior has another shape.
    """
    trained = load_model(path, "cpu").prior
    if trained is None:
        raise UserError(f"prior.init {path} has no prior: choose a model that has one.")
    state, own = trained.state_dict(), model.prior.state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in own.items()}:
        raise UserError(
            f"prior.init {path} does not fit: set the options of prior.* as it has them."
        )
    model.prior.load_state_dict(state)


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
                # Averaging turns -0.0, which half precision makes of tiny weights, into 0.0.
                digest.update((value.detach().cpu() + 0).contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def encode(self, wav: Tensor) -> Tensor:
        """Component latents of mixtures at the training level."""
        return self.model.latents.of_mixture(wav[:, 0]).flatten(1, 2)

    def decode(self, latents: Tensor, length: int) -> Tensor:
        """Mixtures of rendered components."""
        z, every = latents.unflatten(1, (self.model.n_src, -1)), range(self.model.n_src)
        return self.model.latents.sound(z, every, length, 0, None, 0).sum(1, keepdim=True)


def mixtures_of(n_src: int, subsets: bool) -> list[tuple[int, ...]]:
    """Sets of components whose mixtures a prior learns: all; with `subsets`, any two or more."""
    sizes = range(2, n_src) if subsets else ()
    return [*(kind for k in sizes for kind in combinations(range(n_src), k)), tuple(range(n_src))]


def fill_components(
    config: RecipeConfig, model: UCRSeparator, split: str, folder: Path
) -> TrackCache:
    """The component latents of mixtures of a model's sources, in a cache that is filled if needed.

    Args:
        config: Configuration of the recipe.
        model: Model of all sources, or of some.
        split: Split whose mixtures to encode.
        folder: Folder of the prior's run.
    """
    data, versions = config.data, config.prior.versions if split == "train" else 1
    codec, sources = ComponentCodec(model), model.sources
    about = cache_metadata(data.root, split, sources, data.mix, codec)
    place = folder / "latents" / "-".join(sources) / f"{split}-{versions}"
    cache = TrackCache(place, about, write=True)
    fill(cache, data.root, codec, data.allow_shared_midi, data.workers, versions=versions)
    return cache


def statistics(
    caches: Sequence[TrackCache], kinds: Sequence[tuple[int, ...]], n_src: int
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the channels of each component, `(n_src, latent_dim)`.

    Each cache that has a component weighs the same.

    Args:
        caches: Component latents of mixtures.
        kinds: Which components are in the mixtures of each cache.
        n_src: Number of all components.
    """
    latent_dim = caches[0].metadata.channels // len(kinds[0])
    moments, counts = torch.zeros(2, n_src, latent_dim, dtype=torch.float64), torch.zeros(n_src, 1)
    for cache, kind in zip(caches, map(list, kinds), strict=True):
        mean, std = (torch.from_numpy(v).unflatten(0, (len(kind), -1)) for v in cache.statistics())
        moments[:, kind] += torch.stack([mean, mean.square() + std.square()])
        counts[kind] += 1
    mean, square = moments / counts
    return mean, (square - mean.square()).clamp(min=0).sqrt()


def loss_step(
    model: UCRSeparator,
    batches: Sequence[Tensor],
    generator: torch.Generator,
    kinds: Sequence[tuple[int, ...]],
    all_masked: float,
) -> Tensor:
    """The prior's loss on mixtures of some sets of components.

    Where a prior learns subsets, kept components are now and then left out, so that it knows what
    the others are like without them; see `guidance` of `MaskingPrior.sample`. α is the square of a
    uniform number: what all frames have in common is decided at small α.

    Args:
        model: Model with a prior in training.
        batches: For each set, stacked component latents, `(batch, len(set) · latent_dim, frames)`.
        generator: Source of noise, α and masks.
        kinds: The sets.
        all_masked: See `asteroid_ucr.prior.mask_law`.
    """

    def masks(size: tuple[int, int], generator: torch.Generator) -> Tensor:
        return draw_masks(*size, all_masked, generator)

    prior, items = model.prior, []
    for latents, kind in zip(batches, map(list, kinds), strict=True):
        size = len(latents), prior.n_src
        z = latents.new_zeros(*size, prior.latent_dim, latents.shape[-1])
        mask, present = torch.zeros(2, *size, dtype=torch.bool, device=z.device)
        z[:, kind] = latents.unflatten(1, (len(kind), -1))
        mask[:, kind] = draw_items(masks, (len(z), len(kind)), generator).to(z.device)
        present[:, kind] = True
        if prior.subsets:
            chance = draw_items(torch.rand, (len(z), 1), generator).to(z.device)
            present &= mask | (chance >= FORGOTTEN)
        items.append((z, mask, present))
    z, mask, present = map(torch.cat, zip(*items, strict=True))
    noise = draw_items(torch.randn, z.shape, generator).to(z)
    alpha = draw_items(torch.rand, z.shape[:1], generator).to(z).square()
    return prior.loss(z, noise, alpha, mask, present)


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
