"""Configuration of the neural baselines: the recipe's, with another model section."""

from __future__ import annotations

from dataclasses import dataclass, field

from asteroid_ucr.config import RecipeConfig


@dataclass
class ConvTasNetConfig:
    """See `asteroid_ucr.baselines.neural.ConvTasNetSeparator`; the defaults are Asteroid's."""

    n_filters: int = 512
    bn_chan: int = 128
    hid_chan: int = 512
    skip_chan: int = 128
    n_blocks: int = 8
    n_repeats: int = 3


@dataclass
class HDemucsConfig:
    """See `asteroid_ucr.baselines.neural.HDemucsSeparator`; the defaults are torchaudio's."""

    channels: int = 48
    depth: int = 6
    nfft: int = 2048


@dataclass
class ConvTasNetRecipe(RecipeConfig):
    """Sections of convtasnet.yml and convtasnet_mixit.yml."""

    model: ConvTasNetConfig = field(default_factory=ConvTasNetConfig)


@dataclass
class HDemucsRecipe(RecipeConfig):
    """Sections of hdemucs.yml."""

    model: HDemucsConfig = field(default_factory=HDemucsConfig)
