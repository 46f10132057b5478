"""EnCodec checkpoints in the layout of Hugging Face's `transformers`, without that package.

`facebook/encodec_24khz` on the Hugging Face hub holds the weights that Meta published, under the
same licence (CC BY-NC 4.0), but other names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from asteroid_ucr.utils.errors import UserError

FILES = ("model.safetensors", "pytorch_model.bin")
# What config.json must say; a setting that it leaves out has this value there.
_CONFIG = {
    "model_type": "encodec",
    "sampling_rate": 24_000,
    "audio_channels": 1,
    "hidden_size": 128,
    "num_filters": 32,
    "num_residual_layers": 1,
    "num_lstm_layers": 2,
    "upsampling_ratios": [8, 5, 4, 2],
    "norm_type": "weight_norm",
    "normalize": False,
    "use_causal_conv": True,
}
# Names in `encodec`, and in `transformers`.
_NAMES = (
    ("encoder.model.", "encoder.layers."),
    ("decoder.model.", "decoder.layers."),
    ("quantizer.vq.layers.", "quantizer.layers."),
    ("._codebook.", ".codebook."),
    (".convtr.convtr.", ".conv."),
    (".conv.conv.", ".conv."),
)
# Weight normalisation has had two ways to name its parts.
_NORM = (
    (".parametrizations.weight.original0", ".weight_g"),
    (".parametrizations.weight.original1", ".weight_v"),
)


def huggingface_file(path: str | Path) -> Path | None:
    """The weights of a folder that `transformers` would load, or None for another folder."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        return None
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def huggingface_name(key: str) -> str:
    """What `transformers` calls a weight of `encodec`'s model."""
    for ours, theirs in _NAMES:
        key = key.replace(ours, theirs)
    return key


def is_huggingface(keys: Iterable[str]) -> bool:
    """Whether a state dict has `transformers`' names."""
    return any(key.startswith("encoder.layers.") for key in keys)


def read_huggingface(path: str | Path) -> dict[str, Tensor]:
    """Reads a checkpoint's weights, and checks the config.json beside it, if there is one.

    Args:
        path: Path of `model.safetensors` or `pytorch_model.bin`.

    Raises:
        UserError: If config.json describes another model.
        OSError, RuntimeError, ValueError: If the file cannot be read.
    """
    path = Path(path)
    config = path.parent / "config.json"
    if config.is_file():
        found = json.loads(config.read_text())
        for key, value in _CONFIG.items():
            if found.get(key, value) != value:
                raise UserError(
                    f"{config} says {key} {found[key]}: give the 24 kHz EnCodec, "
                    f"facebook/encodec_24khz, which has {value}."
                )
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def from_huggingface(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Renames the weights of a `transformers` checkpoint to those of `encodec`.

    Args:
        state: Of `transformers.EncodecModel`.
        expected: State dict of `encodec.EncodecModel`, for its names and shapes.

    Raises:
        ValueError: If a weight is missing, left over, or of another shape.
    """
    named = {}
    for key, value in state.items():
        for theirs, ours in _NORM:
            key = key.replace(theirs, ours)
        named[key] = value
    converted = {}
    for key, like in expected.items():
        name = huggingface_name(key)
        if name not in named:
            raise ValueError(f"{name} is missing")
        if named[name].shape != like.shape:
            raise ValueError(
                f"{name} has shape {tuple(named[name].shape)}, not {tuple(like.shape)}"
            )
        converted[key] = named.pop(name)
    if named:
        raise ValueError(f"{min(named)} is not a weight of EnCodec 24 kHz")
    return converted
