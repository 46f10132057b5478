"""The level that rendering from noise lacks, measured on mixtures."""

from __future__ import annotations

import torch

from asteroid_ucr import iadb
from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.data.crops import RandomCrops
from asteroid_ucr.separator import UCRSeparator

CROPS = 64
LARGEST = 100.0  # 20 dB; more would be a band in which nothing is rendered


@torch.no_grad()
def measure_render_gain(
    model: UCRSeparator, cache: LatentCache, frames: int, seed: int = 0
) -> list[float] | None:
    """What the power of rendered mixtures has to be multiplied by, for each channel of the codec.

    One step from noise renders the mean of what a component may sound like. Latents are compressed
    spectra, and a mean of compressed power has less power than what it is the mean of: components
    come out several decibels too quiet, some bands more than others. Mixtures show by how much, for
    what is rendered of their component latents should compose to them. No stem is needed.

    Args:
        model: with a trained decomposition, on the CPU.
        cache: latents of the training mixtures.
        frames: length of the crops to measure on.
        seed: of the choice of crops.

    Returns:
        Gains of the power, `channels` of them, in [1, 100]; None for codecs without power.
    """
    codec, core = model.codec, model.decomposition
    if not codec.has_power:
        return None
    noise = iadb.frame_noise(codec.channels, 0, frames, seed)
    true = rendered = torch.zeros(codec.channels)
    crops = RandomCrops(cache, frames, CROPS, seed)
    for number in range(CROPS):
        latents = torch.as_tensor(crops[number])[None]
        composed = core.compose(core.render(core.encode(latents), noise, model.steps))
        true = true + codec.to_power(latents)[0].mean(-1)
        rendered = rendered + codec.to_power(composed)[0].mean(-1)
    return (true / rendered.clamp(min=1e-20)).clamp(1.0, LARGEST).tolist()
