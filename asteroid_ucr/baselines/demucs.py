"""Published Demucs weights, for users who have installed the package `demucs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asteroid_ucr.utils.audio import resample
from asteroid_ucr.utils.errors import UserError


def load_demucs(name: str) -> Any:
    """Loads published weights, such as "htdemucs", from the caches of demucs or by download.

    Raises:
        UserError: If the package or the weights are missing.
    """
    try:
        from demucs.pretrained import get_model
    except ImportError as error:
        raise UserError(
            f"--pretrained {name} needs the package demucs: pip install demucs, or omit the option."
        ) from error
    try:
        return get_model(name).eval()
    except Exception as error:  # demucs and the hubs raise their own errors.
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"The weights --pretrained {name} cannot be loaded ({type(error).__name__}: {reason}): "
            "check the name and the connection, or omit the option."
        ) from error


@torch.no_grad()
def separate_demucs(model: Any, wav: Tensor, sample_rate: int, sources: Sequence[str]) -> Tensor:
    """Separates a mixture `(time,)` as the command `demucs` does, but without random shifts.

    Returns:
        Estimates `(n_src, time)`; see `share_outputs`.
    """
    from demucs.apply import apply_model

    device = next(model.parameters()).device
    mixture = resample(wav, sample_rate, model.samplerate)
    mean, spread = mixture.mean(), mixture.std() + 1e-8  # As demucs normalises files.
    stereo = ((mixture - mean) / spread).expand(1, model.audio_channels, -1)
    outputs = apply_model(model, stereo.to(device), shifts=0)[0].mean(1).cpu()
    outputs = resample(outputs * spread + mean, model.samplerate, sample_rate)
    return share_outputs(outputs[..., : wav.shape[-1]], model.sources, sources)


def share_outputs(outputs: Tensor, names: Sequence[str], sources: Sequence[str]) -> Tensor:
    """Turns named outputs `(n_outputs, time)` into one estimate per source.

    A source gets the output of its name. Sources without an output, such as piano, share the
    outputs that do not match a source (other, vocals, …) equally.
    """
    left = [k for k, name in enumerate(names) if name not in sources]
    sharing = sum(source not in names for source in sources)
    rest = outputs[left].sum(0) / max(1, sharing)
    return torch.stack([outputs[list(names).index(s)] if s in names else rest for s in sources])
