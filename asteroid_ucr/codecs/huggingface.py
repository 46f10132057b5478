"""EnCodec checkpoints in the layout of Hugging Face's `transformers`, without that package.

`facebook/encodec_24khz` on the Hugging Face hub has the weights that Meta published, under the same
licence (CC BY-NC 4.0), but with other names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from asteroid_ucr.utils.errors import UserError

FILES = ("model.safetensors", "pytorch_model.bin")
# Required settings of config.json; a setting that is absent there has this value as its default.
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
# New and old names of the parts of weight normalisation.
_NORM = (
    (".parametrizations.weight.original0", ".weight_g"),
    (".parametrizations.weight.original1", ".weight_v"),
)


def huggingface_file(path: str | Path) -> Path | None:
    """The weights in a folder that `transformers` would load, or None for any other path."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        return None
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads weights with the names of `encodec` or of `transformers`, and returns the former.

    The names and shapes must be those of `expected`, a state dict of `encodec.EncodecModel`;
    otherwise a ValueError is raised. A config.json beside the file must describe the same model.
    """
    config = path.parent / "config.json"
    found = json.loads(config.read_text()) if config.is_file() else {}
    for key, value in _CONFIG.items():
        if found.get(key, value) != value:
            raise UserError(
                f"{config} says {key} {found[key]}, but the 24 kHz EnCodec has {value}: use "
                "facebook/encodec_24khz."
            )
    safe = path.suffix == ".safetensors"
    state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    if not any(key.startswith("encoder.layers.") for key in state):
        return state
    for new, old in _NORM:
        state = {key.replace(new, old): value for key, value in state.items()}
    converted = {}
    for key, like in expected.items():
        name = key
        for ours, theirs in _NAMES:
            name = name.replace(ours, theirs)
        if name not in state:
            raise ValueError(f"{name} is missing")
        converted[key] = state.pop(name)
        if converted[key].shape != like.shape:
            found, wanted = tuple(converted[key].shape), tuple(like.shape)
            raise ValueError(f"{name} has shape {found}, not {wanted}")
    if state:
        raise ValueError(f"{min(state)} is not a weight of EnCodec 24 kHz")
    return converted
