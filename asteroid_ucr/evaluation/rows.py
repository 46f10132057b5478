"""Rows of an evaluation: the interface, and all rows that do not need a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from asteroid_ucr.baselines import classical
from asteroid_ucr.baselines.nmf import nmf_masks
from asteroid_ucr.codecs import Codec
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.masking import apply_masks, stft, wiener_masks
from asteroid_ucr.utils.audio import level_gain

# Groups of rows and their titles, in the order of the tables.
GROUPS = {
    "floor": "Floors",
    "classical": "Without training",
    "supervised": "Trained on stems",
    "unsupervised": "Other methods trained on mixtures alone",
    "ours": "Trained on mixtures alone",
    "published": "Published outputs",
    "ceiling": "Ceilings (they use the true stems)",
}

_SHARED = "to drums (else to the first source), the rest shared by the others"


@dataclass(frozen=True)
class Row:
    """A row of the results: a named function from clips to estimates.

    Attributes:
        name: Identifier in files, such as "hpss".
        label: Name for people, such as "HPSS".
        group: A key of `GROUPS`.
        separate: Clip to estimates `(n_src, time)`; estimate k belongs to `clip.sources[k]`. An
            exception is recorded as this clip's failure.
        note: What the row is, in a sentence.
        model: Label of the trained model, empty for fixed methods. Rows of one name with different
            models (training seeds) are one line of the table.
        seed: Seed of the sampler.
        gflops: Counts the arithmetic of a neural row for a second of audio, in GFLOP.
        masks: Clip to soft masks `(n_src, freq, frames)` on the mask grid, for rows with masks.
    """

    name: str
    label: str
    group: str
    separate: Callable[[Clip], Tensor]
    note: str = ""
    model: str = ""
    seed: int = 0
    gflops: Callable[[], float] | None = None
    masks: Callable[[Clip], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"group {self.group!r} is not one of {', '.join(GROUPS)}")

    def about(self) -> dict[str, Any]:
        """The properties of the row that the results contain besides its scores."""
        about = {name: getattr(self, name) for name in ("name", "label", "group", "note")}
        return about | {"gflops": None if self.gflops is None else self.gflops()}


def masked(clip: Clip, masks: Tensor) -> Tensor:
    """Applies masks `(n_src, freq, frames)` to the clip's mixture: `(n_src, time)`."""
    return apply_masks(clip.mixture[None, None], masks[None], clip.sample_rate)[0, :, 0]


def mask_row(
    name: str, label: str, group: str, masks: Callable[[Clip], Tensor], note: str = ""
) -> Row:
    """A row whose estimates are soft masks applied to the mixture."""
    return Row(name, label, group, lambda clip: masked(clip, masks(clip)), note, masks=masks)


def floor_rows(validation: Iterable[Clip]) -> list[Row]:
    """The mixture and, where there are validation clips, the static equaliser.

    The mixture is divided by the number of sources, on which SDR and ISR of BSS-eval depend. The
    equaliser is fitted with labels: each source's share of the energy of the validation clips at
    each frequency. It is the best possible band split (the Wiener filter of stationary sources), so
    a separator that does not exceed it has learnt only a band split.
    """
    mixture = Row(
        "mixture",
        "Mixture",
        "floor",
        lambda clip: clip.mixture.expand_as(clip.references) / len(clip.sources),
        "the mixture itself as the estimate of every source",
    )
    spectra = [_power(clip).mean(-1) for clip in validation]
    if not spectra:
        return [mixture]
    gains = wiener_masks(torch.stack(spectra).sum(0)[..., None])
    equaliser = mask_row(
        "static_eq",
        "Static EQ",
        "floor",
        lambda clip: gains.expand(-1, -1, stft(clip.mixture, clip.sample_rate).shape[-1]),
        "one gain per frequency and source, fitted with labels on validation: a band split",
    )
    return [mixture, equaliser]


def classical_rows() -> list[Row]:
    """The methods without training of `asteroid_ucr.baselines`."""

    def on_clip(method: Callable[[Tensor, int, Sequence[str]], Tensor]) -> Callable[[Clip], Tensor]:
        return lambda clip: method(clip.mixture, clip.sample_rate, clip.sources)

    hpss = f"median filtering: the percussive part goes {_SHARED}"
    repet = f"median over similar frames: the difference from it goes {_SHARED}"
    ft2d = f"peaks of the 2-D Fourier transform of the spectrogram: the rest goes {_SHARED}"
    rpca = f"robust PCA of the spectrogram: the sparse part goes {_SHARED}"
    nmf = (
        "NMF components, clustered by the flatness of their spectra and the sustain of their "
        "gains: the flattest cluster goes to drums (else to the first source), the lowest one to "
        "bass, the rest shared by the others"
    )
    methods = (
        ("repet_sim", "REPET-SIM", classical.repet_sim_masks, repet),
        ("ft2d", "FT2D", classical.ft2d_masks, ft2d),
        ("rpca", "rPCA", classical.rpca_masks, rpca),
        ("nmf", "NMF, clustered", nmf_masks, nmf),
    )
    return [
        Row("hpss", "HPSS", "classical", on_clip(classical.separate_hpss), hpss),
        *(mask_row(name, label, "classical", on_clip(f), note) for name, label, f, note in methods),
    ]


def ceiling_rows(codec: Codec | None) -> list[Row]:
    """What the true sources allow: Wiener masks of them and, with a codec, of its latents.

    The round trip of the true sources through the codec is the ceiling of unrefined estimates.
    """
    oracle = mask_row(
        "oracle_wiener",
        "Oracle mask",
        "ceiling",
        lambda clip: wiener_masks(_power(clip)),
        "Wiener masks from the spectrograms of the true sources: the limit of such masks",
    )
    if codec is None:
        return [oracle]

    def masks(clip: Clip) -> Tensor:
        latents, _ = _encode(clip, codec)
        return wiener_masks(codec.spectrogram(latents, clip.mixture.shape[-1])).cpu()

    phase = "; the decoder estimates the phase, so only LSD is meaningful"
    return [
        oracle,
        mask_row(
            "oracle_codec_mask",
            f"Oracle mask through {codec.name}",
            "ceiling",
            masks,
            "masks from codec latents of the true sources: the limit of perfect latents, refined",
        ),
        Row(
            "codec_roundtrip",
            f"{codec.name} round trip",
            "ceiling",
            lambda clip: codec_roundtrip(clip, codec),
            "the true sources, encoded and decoded: the ceiling of perfect latents, unrefined"
            + phase * codec.has_power,
        ),
    ]


def codec_roundtrip(clip: Clip, codec: Codec) -> Tensor:
    """The true sources, encoded and decoded at the level a model would see: `(n_src, time)`."""
    latents, gain = _encode(clip, codec)
    return codec.decode(latents, clip.references.shape[-1])[:, 0].cpu() / gain


def _encode(clip: Clip, codec: Codec) -> tuple[Tensor, Tensor]:
    """Latents of the true sources, scaled to the level a model would see, and that gain `(1,)`."""
    gain = level_gain(clip.mixture)
    device = next(chain(codec.parameters(), codec.buffers()), torch.empty(0)).device
    return codec.encode((clip.references * gain)[:, None].to(device)), gain


def _power(clip: Clip) -> Tensor:
    return stft(clip.references, clip.sample_rate).abs().square()
