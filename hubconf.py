"""Entries for `torch.hub`, such as `torch.hub.load(<repository>, "separator", "drums-bass")`."""

from typing import Any

dependencies = ["torch", "torchaudio", "asteroid", "einops", "soundfile", "soxr", "safetensors"]


def separator(model: str = "drums-bass", **options: Any) -> Any:
    """An `asteroid_ucr.Separator`, for files, tensors and arrays, with its options."""
    from asteroid_ucr import Separator

    return Separator(model, **options)


def ucr(model: str = "drums-bass", **options: Any) -> Any:
    """An `asteroid_ucr.UCRSeparator`, the model itself, with its constructor's options."""
    from asteroid_ucr import UCRSeparator

    return UCRSeparator.from_pretrained(model, **options)
