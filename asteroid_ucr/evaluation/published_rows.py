"""Estimates that lie as files beside the clips, such as another system's published outputs."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from asteroid_ucr.data.clips import Clip, file_for
from asteroid_ucr.evaluation.reference_rows import masked
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.masking import stft, wiener_masks
from asteroid_ucr.utils.audio import read_audio
from asteroid_ucr.utils.errors import UserError


def file_estimates(
    folder: str | Path | None = None, suffix: str = "_paper", label: str = "Paper"
) -> list[Row]:
    """Rows for estimates stored as `CLIP/SOURCE{suffix}.wav`.

    Args:
        folder: folder of the clips' folders, for estimates kept apart from the clips; None looks
            in the folder that each clip was read from.
        suffix: what follows the source's name.
        label: name of the system, for the tables.

    Returns:
        Two rows: the files as they are, and their spectrograms as Wiener masks on the mixture.
    """
    name = suffix.strip("_-. ") or "files"

    def read(clip: Clip) -> Tensor:
        place = clip.folder if folder is None else Path(folder) / clip.name
        if place is None:
            raise UserError(
                f"{clip.name} was not read from a folder: name the folder of the estimates."
            )
        return torch.stack([_read(place, source + suffix, clip) for source in clip.sources])

    def masks(clip: Clip) -> Tensor:
        return wiener_masks(stft(read(clip), clip.sample_rate).abs().square())

    return [
        Row(name, label, "published", read, note=f"the files SOURCE{suffix}, as they are"),
        Row(
            f"{name}_wiener",
            f"{label}, as masks",
            "published",
            lambda clip: masked(clip, masks(clip)),
            note=f"the mixture through Wiener masks of the files SOURCE{suffix}",
            masks=masks,
        ),
    ]


def _read(folder: Path, name: str, clip: Clip) -> Tensor:
    path = file_for(folder, name)
    if path is None:
        raise UserError(f"{folder} has no {name}.wav: add it, or choose another suffix.")
    wav = read_audio(path, sample_rate=clip.sample_rate, mono=True)[0][0]
    length = clip.mixture.shape[-1]
    return F.pad(wav[:length], (0, max(0, length - len(wav))))
