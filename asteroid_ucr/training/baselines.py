"""Trains what the decomposition is compared with, on crops of the same passages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from asteroid.losses import MixITLossWrapper, multisrc_neg_snr
from einops import rearrange
from jsonargparse import Namespace
from torch import Tensor

from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.baselines.config import ConvTasNetRecipe, HDemucsRecipe
from asteroid_ucr.baselines.neural import ConvTasNetSeparator, HDemucsSeparator
from asteroid_ucr.config import RecipeConfig, TrainingConfig, parse_recipe, recipe_parser
from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.data.encode import stem_metadata, stems_of
from asteroid_ucr.solos.loss import SoloSystem
from asteroid_ucr.training.system import StepwiseSystem
from asteroid_ucr.training.train import build_model, cache_folder, latent_caches, train_model
from asteroid_ucr.utils.errors import UserError


class SupervisedSystem(StepwiseSystem):
    """Stems as targets, in a known order: no permutation is looked for."""

    def common_step(self, batch: Tensor, batch_nb: int, train: bool = True) -> Tensor:
        """The loss on a batch of stems."""
        stems = stems_of(batch, self.model.n_src)
        return self.loss_func(self.model(stems.sum(1, keepdim=True)), stems).mean()


class MixITSystem(StepwiseSystem):
    """Mixtures of two mixtures, whose outputs must add up to each (Wisdom et al. 2020).

    The stems of a crop are used for nothing but to add them up.
    """

    def common_step(self, batch: Tensor, batch_nb: int, train: bool = True) -> Tensor:
        """The loss on a batch of at least two crops, each mixed with the next."""
        mixtures = stems_of(batch, self.model.n_src).sum(1)
        pairs = torch.stack([mixtures, mixtures.roll(1, dims=0)], dim=1)
        parts = self.model.components(pairs.sum(1, keepdim=True))
        return self.loss_func(parts, pairs)


class TwinSystem(SoloSystem):
    """Our own network with the stems' latents as targets: what labels alone would buy.

    It is shown what ours is shown, the mixture blended with noise, and is asked for the sources;
    the composition has no part in it.
    """

    def common_step(self, batch: Tensor, batch_nb: int, train: bool = True) -> Tensor:
        """The loss on a batch of stems."""
        stems = stems_of(batch, self.model.n_src)
        # Spectra need more digits than mixed precision has.
        with torch.no_grad(), torch.autocast(stems.device.type, enabled=False):
            waves = torch.cat([stems.sum(1, keepdim=True), stems], dim=1)
            latents = self.model.codec.encode(rearrange(waves, "b n t -> (b n) 1 t"))
        latents = rearrange(latents, "(b n) c t -> b n c t", b=len(stems))
        return self.solo_loss(latents, self.generator(batch_nb, train))


def _conv_tasnet(config: ConvTasNetRecipe) -> SeparatorModel:
    return ConvTasNetSeparator(config.data.sources, **asdict(config.model))


def _conv_tasnet_mixit(config: ConvTasNetRecipe) -> SeparatorModel:
    # Enough outputs for the sources of both mixtures.
    sources = config.data.sources
    options = asdict(config.model)
    return ConvTasNetSeparator(sources, outputs=2 * len(sources), consistent=True, **options)


def _hdemucs(config: HDemucsRecipe) -> SeparatorModel:
    return HDemucsSeparator(config.data.sources, **asdict(config.model))


def _twin(config: RecipeConfig) -> SeparatorModel:
    model = build_model(config)
    statistics = latent_caches(config)[0].statistics()
    model.decomposition.set_statistics(*map(torch.from_numpy, statistics))
    return model


@dataclass(frozen=True)
class Baseline:
    """A model to compare with, and how it is trained.

    Attributes:
        label: name for people.
        group: of its row, one of `asteroid_ucr.evaluation.rows.GROUPS`.
        note: what it is, in half a sentence.
        recipe: the class of its configuration.
        build: makes the untrained model.
        system: makes what makes the Lightning system, of the training's settings.
    """

    label: str
    group: str
    note: str
    recipe: type[RecipeConfig]
    build: Callable[..., SeparatorModel]
    system: Callable[[TrainingConfig], Callable[..., StepwiseSystem]]


BASELINES = {
    "convtasnet": Baseline(
        "Conv-TasNet",
        "supervised",
        "Asteroid's Conv-TasNet trained on stems, negative SNR",
        ConvTasNetRecipe,
        _conv_tasnet,
        lambda _: partial(SupervisedSystem, loss_func=multisrc_neg_snr),
    ),
    "hdemucs": Baseline(
        "HDemucs",
        "supervised",
        "torchaudio's Hybrid Demucs trained on stems, L1",
        HDemucsRecipe,
        _hdemucs,
        lambda _: partial(SupervisedSystem, loss_func=F.l1_loss),
    ),
    "twin": Baseline(
        "Supervised twin",
        "supervised",
        "this package's network with the stems' latents as targets",
        RecipeConfig,
        _twin,
        lambda training: partial(TwinSystem, mask_weight=training.mask_weight),
    ),
    "convtasnet_mixit": Baseline(
        "Conv-TasNet, MixIT",
        "unsupervised",
        "Asteroid's Conv-TasNet trained on mixtures of two mixtures; which outputs make up which "
        "source is fitted on validation clips, as ours is",
        ConvTasNetRecipe,
        _conv_tasnet_mixit,
        lambda _: partial(MixITSystem, loss_func=MixITLossWrapper(multisrc_neg_snr)),
    ),
}


def find_baseline(kind: str) -> Baseline:
    """Looks a baseline up by name.

    Raises:
        UserError: if there is none of that name.
    """
    if kind not in BASELINES:
        raise UserError(f"There is no baseline {kind!r}: choose one of {', '.join(BASELINES)}.")
    return BASELINES[kind]


def stem_folder(config: RecipeConfig, split: str) -> Path:
    """Where the cache of a split's stems lies, beside the latents of its mixtures."""
    stems = replace(config, codec=replace(config.codec, name="stems"))
    return cache_folder(stems, split)


def train_baseline(
    kind: str, config: RecipeConfig, exp_dir: str | Path, resume: str = "auto"
) -> Path:
    """Trains a baseline on cached stems; see `asteroid_ucr.training.train.train_model`.

    Crops of a seed are the passages that the decomposition of that seed is trained on.

    Args:
        kind: a name of `BASELINES`.
        config: of the class that the baseline asks for.
        exp_dir: the experiment folder.
        resume: see `train_model`.

    Returns:
        The path of `best_model.pth`.

    Raises:
        UserError: if there is no such baseline, the caches are missing or foreign, or the folder
            has another run's files.
    """
    baseline = find_baseline(kind)
    data = config.data
    if kind == "convtasnet_mixit" and config.training.batch_size < 2:
        raise UserError("MixIT mixes the crops of a batch: set training.batch_size to 2 or more.")

    def build() -> tuple[SeparatorModel, list[LatentCache]]:
        caches = [
            LatentCache(
                stem_folder(config, split), stem_metadata(data.root, split, data.sources, data.mix)
            )
            for split in ("train", "validation")
        ]
        pl.seed_everything(config.training.seed, verbose=False)
        return baseline.build(config), caches

    return train_model(kind, config, exp_dir, resume, build, baseline.system(config.training))


def parse_baseline(
    description: str, arguments: Sequence[str] | None = None
) -> tuple[str, RecipeConfig, Namespace]:
    """Parses the command line of a script that takes a baseline's name and its configuration.

    Args:
        description: of the script.
        arguments: None takes those of the process; the first is the name.

    Returns:
        The name, the configuration and everything that was parsed.

    Raises:
        UserError: for an unknown name or option, or a value of the wrong type.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    named = bool(given) and not given[0].startswith("-")
    recipe = find_baseline(given[0]).recipe if named else RecipeConfig
    parser = recipe_parser(description, recipe)
    parser.add_argument("kind", choices=list(BASELINES), help="what to train")
    parser.add_argument("--exp_dir", help="folder for weights and logs")
    parser.add_argument("--resume", default="auto", help="auto, none, or a checkpoint")
    config, options = parse_recipe(parser, given, recipe)
    return options.kind, config, options
