"""Finding and reading model files."""

from __future__ import annotations

import pickle
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from asteroid_ucr.utils.errors import UserError


def bundled_models() -> list[str]:
    """Names of the separators that are installed with the package."""
    folder = resources.files("asteroid_ucr") / "models"
    if not folder.is_dir():
        return []
    names = (Path(str(f)).stem for f in folder.iterdir() if str(f).endswith(".pth"))
    return sorted(name for name in names if not name.startswith("codec_"))


def find_checkpoint(name: str | Path) -> Path:
    """The file that a model's name stands for.

    Args:
        name: path of a checkpoint, or of a folder that holds `best_model.pth`; a bundled model's
            name; or a Hugging Face id ("user/model"), which a `Path` is never taken for.

    Raises:
        UserError: if there is none.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "best_model.pth"
        if not path.is_file():
            raise UserError(f"The folder {name} holds no best_model.pth: name a trained model's.")
    if path.is_file():
        return path
    if str(name) in bundled_models():
        return Path(str(resources.files("asteroid_ucr") / "models" / f"{name}.pth"))
    if isinstance(name, str) and name.count("/") == 1 and not path.suffix:
        return _download(name)
    bundled = ", ".join(bundled_models()) or "none in this version"
    raise UserError(f"There is no model {name}: give a file, or a bundled name ({bundled}).")


def _download(name: str) -> Path:
    from asteroid.utils.hub_utils import cached_download

    try:
        return Path(cached_download(name))
    except (OSError, ValueError) as error:  # the hub's own errors derive from these
        raise UserError(
            f"There is no model {name}, neither as a file nor to be had from the Hugging Face hub "
            f"({type(error).__name__})."
        ) from error


def load_checkpoint(name: str | Path) -> dict[str, Any]:
    """Reads what `UCRSeparator.serialize` returned.

    Raises:
        UserError: if there is no such model, or the file is none.
    """
    path = find_checkpoint(name)
    try:
        conf = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError) as error:
        raise UserError(f"{path} is not a model file: give what training wrote.") from error
    if not isinstance(conf, dict) or not {"model_name", "state_dict", "model_args"} <= set(conf):
        raise UserError(f"{path} is not a serialized model: give a best_model.pth.")
    return conf
