"""Published Demucs weights, where the package `demucs` is installed and they can be had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.utils.audio import resample
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError


def demucs_row(name: str, sources: Sequence[str]) -> Row:
    """A row for published weights, run as the command `demucs` does, but without random shifts.

    A source gets the output of its name. All further ones, such as the piano of a model without
    one, share what no source is named after (other, vocals, …) equally.

    Args:
        name: of the weights, such as "htdemucs".
        sources: names of the sources.

    Raises:
        UserError: if the package or the weights are not there.
    """
    model = load_demucs(name).to(pick_device())
    rest = [source for source in sources if source not in model.sources]
    mapped = f"{', '.join(rest)} from all outputs of other names" if rest else "sources by name"
    return Row(
        name,
        name.capitalize().replace("demucs", "Demucs"),
        "supervised",
        lambda clip: separate_demucs(model, clip),
        note=f"published Demucs weights {name}, trained on stems of other music; {mapped}",
        model="published",
    )


def load_demucs(name: str) -> Any:
    """The published model, from demucs' own caches or by download.

    Raises:
        UserError: if the package or the weights are not there.
    """
    try:
        from demucs.pretrained import get_model
    except ImportError as error:
        raise UserError(
            f"--pretrained {name} needs the package demucs: pip install demucs, or leave it out."
        ) from error
    try:
        return get_model(name).eval()
    except Exception as error:  # demucs, torch hub and the Hugging Face hub each raise their own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"The weights --pretrained {name} cannot be had ({type(error).__name__}: {reason}): "
            "check the name and the connection, or leave the option out."
        ) from error


@torch.no_grad()
def separate_demucs(model: Any, clip: Clip) -> Tensor:
    """Estimates `(n_src, time)` at the clip's rate."""
    from demucs.apply import apply_model

    device = next(model.parameters()).device
    wav = resample(clip.mixture, clip.sample_rate, model.samplerate)
    mean, spread = wav.mean(), wav.std() + 1e-8  # demucs normalises whole files like this
    stereo = ((wav - mean) / spread).expand(1, model.audio_channels, -1)
    outputs = apply_model(model, stereo.to(device), shifts=0)[0].mean(1).cpu()
    outputs = resample(outputs * spread + mean, model.samplerate, clip.sample_rate)
    return share_outputs(outputs[..., : clip.mixture.shape[-1]], model.sources, clip.sources)


def share_outputs(outputs: Tensor, names: Sequence[str], sources: Sequence[str]) -> Tensor:
    """Outputs `(n_outputs, time)` of these names, as one estimate for each source."""
    left = [k for k, name in enumerate(names) if name not in sources]
    sharing = sum(source not in names for source in sources)
    rest = outputs[left].sum(0) / max(1, sharing)
    return torch.stack([outputs[list(names).index(s)] if s in names else rest for s in sources])
