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
from asteroid_ucr.utils.errors import UserError

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
# Name, label, function to masks and note of the classical methods that give masks.
_CLASSICAL = (
    (
        "repet_sim",
        "REPET-SIM",
        classical.repet_sim_masks,
        f"median over similar frames: the difference from it goes {_SHARED}",
    ),
    (
        "ft2d",
        "FT2D",
        classical.ft2d_masks,
        f"peaks of the 2-D Fourier transform of the spectrogram: the rest goes {_SHARED}",
    ),
    (
        "rpca",
        "rPCA",
        classical.rpca_masks,
        f"robust PCA of the spectrogram: the sparse part goes {_SHARED}",
    ),
    (
        "nmf",
        "NMF, clustered",
        nmf_masks,
        "NMF components, clustered by the flatness of their spectra and the sustain of their "
        "gains: the flattest cluster goes to drums (else to the first source), the lowest one to "
        "bass, the rest shared by the others",
    ),
)


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
        gflops: Counts the arithmetic of a neural row for a second of audio, in GFLOP
            (`asteroid_ucr.utils.flops`).
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
        names = ("name", "label", "group", "note")
        gflops = None if self.gflops is None else self.gflops()
        return {name: getattr(self, name) for name in names} | {"gflops": gflops}


def masked(clip: Clip, masks: Tensor) -> Tensor:
    """Applies masks `(n_src, freq, frames)` to the clip's mixture: `(n_src, time)`."""
    return apply_masks(clip.mixture[None, None], masks[None], clip.sample_rate)[0, :, 0]


def mask_row(
    name: str, label: str, group: str, masks: Callable[[Clip], Tensor], note: str = ""
) -> Row:
    """A row whose estimates are soft masks applied to the mixture."""
    return Row(name, label, group, lambda c: masked(c, masks(c)), note=note, masks=masks)


def fixed_rows(validation: Sequence[Clip], codec: Codec | None) -> tuple[list[Row], list[Row]]:
    """The rows of every evaluation that do not need a trained model.

    Args:
        validation: Clips that the static equaliser is fitted on; without clips it is left out.
        codec: Codec of the ceilings that use true latents; None leaves them out.

    Returns:
        Floors and classical methods, which come before the trained models in the tables, and
        ceilings, which come after them.
    """
    floors = [mixture_row(), *([static_eq_row(validation)] if validation else [])]
    ceilings = [oracle_wiener_row()]
    if codec is not None:
        ceilings += [oracle_codec_mask_row(codec), codec_roundtrip_row(codec)]
    return [*floors, *classical_rows()], ceilings


def mixture_row() -> Row:
    """The mixture, divided by the number of sources, as the estimate of each source.

    Scale-invariant scores do not depend on the division, but SDR and ISR of BSS-eval do.
    """
    return Row(
        "mixture",
        "Mixture",
        "floor",
        lambda clip: clip.mixture.expand_as(clip.references) / len(clip.sources),
        note="the mixture itself as the estimate of every source",
    )


def static_eq_row(validation: Iterable[Clip]) -> Row:
    """One fixed filter per source: its share of the energy of validation clips at each frequency.

    It is the best possible band split (the Wiener filter of stationary sources) and is fitted with
    labels. A separator that does not exceed it has learnt only a band split.

    Raises:
        UserError: If there are no validation clips.
    """
    spectra = [_power(clip).mean(-1) for clip in validation]
    if not spectra:
        raise UserError("The static equaliser needs validation clips: give some.")
    masks = wiener_masks(torch.stack(spectra).sum(0)[..., None])
    return mask_row(
        "static_eq",
        "Static EQ",
        "floor",
        lambda clip: masks.expand(-1, -1, stft(clip.mixture, clip.sample_rate).shape[-1]),
        note="one gain per frequency and source, fitted with labels on validation: a band split",
    )


def classical_rows() -> list[Row]:
    """HPSS, and the methods of `asteroid_ucr.baselines` that give masks."""
    note = f"median filtering: the percussive part goes {_SHARED}"
    hpss = Row("hpss", "HPSS", "classical", _on_clip(classical.separate_hpss), note)
    return [hpss, *(mask_row(n, t, "classical", _on_clip(m), note) for n, t, m, note in _CLASSICAL)]


def oracle_wiener_row() -> Row:
    """Wiener masks of the true sources on the mixture: the ceiling of soft masks."""
    return mask_row(
        "oracle_wiener",
        "Oracle mask",
        "ceiling",
        lambda clip: wiener_masks(_power(clip)),
        note="Wiener masks from the spectrograms of the true sources: the limit of such masks",
    )


def oracle_codec_mask_row(codec: Codec) -> Row:
    """Masks from the spectrograms of the true sources that the codec represents."""

    def masks(clip: Clip) -> Tensor:
        latents = _encode(codec, clip.references * level_gain(clip.mixture))
        return wiener_masks(codec.spectrogram(latents, clip.mixture.shape[-1])).cpu()

    return mask_row(
        "oracle_codec_mask",
        f"Oracle mask through {codec.name}",
        "ceiling",
        masks,
        note="masks from codec latents of the true sources: the limit of perfect latents, refined",
    )


def codec_roundtrip(clip: Clip, codec: Codec) -> Tensor:
    """The true sources, encoded and decoded at the level a model would see: `(n_src, time)`."""
    gain = level_gain(clip.mixture)
    latents = _encode(codec, clip.references * gain)
    return codec.decode(latents, clip.references.shape[-1])[:, 0].cpu() / gain


def codec_roundtrip_row(codec: Codec) -> Row:
    """The true sources through the codec: the ceiling of unrefined estimates."""
    return Row(
        "codec_roundtrip",
        f"{codec.name} round trip",
        "ceiling",
        lambda clip: codec_roundtrip(clip, codec),
        note="the true sources, encoded and decoded: the ceiling of perfect latents, unrefined"
        + ("; the decoder estimates the phase, so only LSD is meaningful" * codec.has_power),
    )


def _on_clip(method: Callable[[Tensor, int, Sequence[str]], Tensor]) -> Callable[[Clip], Tensor]:
    return lambda clip: method(clip.mixture, clip.sample_rate, clip.sources)


def _encode(codec: Codec, wavs: Tensor) -> Tensor:
    """Latents of `(n_src, time)`, on the codec's device."""
    device = next(chain(codec.parameters(), codec.buffers()), torch.empty(0)).device
    return codec.encode(wavs[:, None].to(device))


@torch.no_grad()
def _power(clip: Clip) -> Tensor:
    return stft(clip.references, clip.sample_rate).abs().square()
