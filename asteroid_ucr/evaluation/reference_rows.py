"""Floors and ceilings: the mixture, a static equaliser, and masks made from the true sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor, nn

from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.masking import apply_masks, stft, wiener_masks
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.errors import UserError


class Codec(Protocol):
    """What the rows need of a codec; see `asteroid_ucr.codecs`."""

    name: str
    has_power: bool

    def encode(self, wav: Tensor) -> Tensor:
        """`(batch, 1, time)` to latents `(batch, channels, frames)`."""
        ...

    def decode(self, latents: Tensor, length: int) -> Tensor:
        """Latents to `(batch, 1, length)`."""
        ...

    def spectrogram(self, latents: Tensor, length: int) -> Tensor:
        """Latents to a power spectrogram `(batch, freq, frames)` on the mask grid."""
        ...


def masked(clip: Clip, masks: Tensor) -> Tensor:
    """The clip's mixture through masks `(n_src, freq, frames)`: `(n_src, time)`."""
    return apply_masks(clip.mixture[None, None], masks[None], clip.sample_rate)[0, :, 0]


def mask_row(
    name: str, label: str, group: str, masks: Callable[[Clip], Tensor], note: str = ""
) -> Row:
    """A row whose estimates are the mixture through soft masks."""
    return Row(name, label, group, lambda c: masked(c, masks(c)), note=note, masks=masks)


def mixture_row() -> Row:
    """The mixture, divided by the number of sources, as the estimate of each.

    Scale-invariant scores do not depend on the division; it makes the estimates add up to the
    mixture, which BSS-eval's SDR and ISR do depend on.
    """
    return Row(
        "mixture",
        "Mixture",
        "floor",
        lambda clip: clip.mixture.expand_as(clip.references) / len(clip.sources),
        note="the mixture itself as the estimate of every source: doing nothing",
    )


def static_eq_row(validation: Iterable[Clip]) -> Row:
    """One fixed filter per source: at each frequency, its share of the energy on validation.

    This is the best that a band split can do (the Wiener filter of stationary sources), and it is
    fitted with labels. A separator that does not beat it has learnt no more than a band split.

    Raises:
        UserError: if there are no validation clips.
    """
    power: Tensor | None = None
    for clip in validation:
        spectrum = _power(clip).mean(-1)
        power = spectrum if power is None else power + spectrum
    if power is None:
        raise UserError("The static equaliser needs validation clips: give some.")
    masks = wiener_masks(power[..., None])
    return mask_row(
        "static_eq",
        "Static EQ",
        "floor",
        lambda clip: masks.expand(-1, -1, stft(clip.mixture, clip.sample_rate).shape[-1]),
        note="one gain per frequency and source, fitted with labels on validation: a band split",
    )


def oracle_wiener_row() -> Row:
    """The mixture through the Wiener masks of the true sources: the ceiling of soft masks."""
    return mask_row(
        "oracle_wiener",
        "Oracle mask",
        "ceiling",
        lambda clip: wiener_masks(_power(clip)),
        note="Wiener masks from the true sources' spectrograms: the most that such masks can do",
    )


def oracle_codec_mask_row(codec: Codec) -> Row:
    """Masks from the true sources' spectrograms as seen through the codec."""

    def masks(clip: Clip) -> Tensor:
        scaled = (clip.references * level_gain(clip.mixture)).to(_device(codec))
        latents = codec.encode(scaled[:, None])
        return wiener_masks(codec.spectrogram(latents, clip.mixture.shape[-1])).cpu()

    return mask_row(
        "oracle_codec_mask",
        f"Oracle mask through {codec.name}",
        "ceiling",
        masks,
        note="masks from the true sources' codec latents: the ceiling of perfect latents, refined",
    )


def codec_roundtrip(clip: Clip, codec: Codec) -> Tensor:
    """The true sources encoded and decoded: `(n_src, time)`.

    They pass the codec at the level at which a model would see their mixture.
    """
    gain = level_gain(clip.mixture)
    latents = codec.encode((clip.references * gain).to(_device(codec))[:, None])
    return codec.decode(latents, clip.references.shape[-1])[:, 0].cpu() / gain


def codec_roundtrip_row(codec: Codec) -> Row:
    """The true sources through the codec: the ceiling of unrefined estimates."""
    return Row(
        "codec_roundtrip",
        f"{codec.name} round trip",
        "ceiling",
        lambda clip: codec_roundtrip(clip, codec),
        note="the true sources, encoded and decoded: the ceiling of perfect latents, unrefined"
        + ("; the decoder makes the phase up, so only LSD means something" * codec.has_power),
    )


def _device(codec: Codec) -> torch.device:
    """Where the codec's weights are; some codecs have none."""
    if isinstance(codec, nn.Module):
        for weight in chain(codec.parameters(), codec.buffers()):
            return weight.device
    return torch.device("cpu")


def _power(clip: Clip) -> Tensor:
    with torch.no_grad():
        return stft(clip.references, clip.sample_rate).abs().square()
