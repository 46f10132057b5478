"""Models as files: checkpoints, folders in the form of the Hugging Face hub, and the bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.errors import UNREADABLE, UserError, system_error

if TYPE_CHECKING:  # importing Asteroid registers our separator, which imports this file
    from asteroid.models import BaseModel

CHECKPOINT, WEIGHTS, CONFIG = "best_model.pth", "model.safetensors", "config.json"
HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only", "force_download")
TOWERS = {"encoder": "decomposition.encoder.towers.", "sound": "renderer.encoders."}
_ASTEROID = "pytorch_model.bin"  # a checkpoint, as Asteroid's models on the hub have it


def bundled_models() -> list[str]:
    """Names of the separators that are installed with the package."""
    index = _bundle().with_suffix(".json")
    return sorted(json.loads(index.read_text())) if index.is_file() else []


def _bundle() -> Path:
    """The file of the bundled models."""
    return Path(str(resources.files("asteroid_ucr") / "models" / "bundled.safetensors"))


def bundled_card(conf: Mapping[str, Any]) -> str | None:
    """The card of the bundled model that has these settings and weights, or None.

    Args:
        conf: Result of `SeparatorModel.serialize`.
    """
    for name in bundled_models():
        about = json.loads(_bundle().with_suffix(".json").read_text())[name]
        if about["model_args"] == conf["model_args"]:
            state = read_bundle(_bundle(), name)["state_dict"]
            state = {key: value.to(conf["state_dict"][key]) for key, value in state.items()}
            if _same(state, conf["state_dict"]):
                return _bundle().with_name(f"{name}.md").read_text()
    return None


def write_bundle(models: Mapping[str, BaseModel], path: str | Path) -> None:
    """Writes several models into one file, in half precision, storing shared weights only once.

    The encoders of each source, the renderer, the prior and all other weights are parts of the
    file. A second file, with the ending .json, lists the parts and the constructor arguments of
    each model.

    Args:
        models: Decomposition models by name.
        path: Path of the file, with the ending .safetensors.

    Raises:
        UserError: If a file cannot be written.
    """
    stored: dict[str, dict[str, Tensor]] = {}
    views = {}
    for name, model in models.items():
        conf, parts = model.serialize(), {}
        state = {key: _halved(key, value) for key, value in conf.pop("state_dict").items()}
        towers = {
            f"{place}{k}.": f"{label}.{source}"
            for label, place in TOWERS.items()
            for k, source in enumerate(model.sources)
        }
        shared = {"renderer.": "renderer", "prior.": "prior", "": "decomposition"}
        for prefix, label in {**towers, **shared}.items():
            chosen = [key for key in state if key.startswith(prefix)]
            part = {key.removeprefix(prefix): state.pop(key) for key in chosen}
            while part and not _same(stored.setdefault(label, part), part):
                label = f"{label}.{name}"
            if part:
                parts[prefix] = label
        views[name] = {**conf, "parts": parts}
    tensors = {f"{label}/{k}": v.contiguous() for label, p in stored.items() for k, v in p.items()}
    _write(Path(path), tensors, Path(path).with_suffix(".json"), views)


def _write(path: Path, tensors: dict[str, Tensor], index: Path, content: Any) -> None:
    """Writes tensors, and what belongs to them as JSON."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {"format": "pt"}))
    with atomic_path(index) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def _halved(key: str, value: Tensor) -> Tensor:
    """Converts weights to half precision, but not the statistics of the latents."""
    keep = not value.is_floating_point() or key.rsplit(".", 1)[-1].startswith("latent_")
    return value if keep else value.half()


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts are equal."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def read_bundle(path: str | Path, name: str) -> dict[str, Any]:
    """One model of a file from `write_bundle`, in the form of `SeparatorModel.serialize`."""
    conf = json.loads(Path(path).with_suffix(".json").read_text())[name]
    with safe_open(path, "pt") as file:
        state = {
            prefix + key.split("/", 1)[1]: file.get_tensor(key)
            for prefix, label in conf.pop("parts").items()
            for key in file.keys()
            if key.startswith(f"{label}/")
        }
    return {**conf, "state_dict": state}


def write_folder(conf: Mapping[str, Any], folder: str | Path) -> None:
    """Writes a model as the Hugging Face hub has it: `model.safetensors` and `config.json`.

    Args:
        conf: Result of `SeparatorModel.serialize`; all of it but the weights is the configuration.
        folder: Folder; created if needed.

    Raises:
        UserError: If a file cannot be written.
    """
    about = {key: value for key, value in conf.items() if key != "state_dict"}
    state = {key: value.clone().contiguous() for key, value in conf["state_dict"].items()}
    _write(Path(folder) / WEIGHTS, state, Path(folder) / CONFIG, about)


def find_model_file(name: str | Path, **hub: Any) -> Path:
    """The file of a model.

    Args:
        name: Path of a checkpoint, of a `model.safetensors` or of a folder with one of these, or,
            only as a string, a Hugging Face id ("user/model" or "user/model@revision").
        **hub: Values of `HUB_OPTIONS`, arguments of `huggingface_hub.snapshot_download`.

    Raises:
        UserError: If the file does not exist.
    """
    path, online = Path(name), False
    if isinstance(name, str) and name.count("/") == 1 and not path.exists():
        if path.suffix not in (".pth", ".ckpt", ".safetensors"):
            path, online = _download(name, **hub), True
    if hub.get("revision") and not online:
        raise UserError(f"revision is for models of the Hugging Face hub, which {name} is not.")
    if path.is_dir():
        found = [n for n in (CHECKPOINT, WEIGHTS, _ASTEROID) if (path / n).is_file()]
        if not found:
            raise UserError(
                f"The folder {name} has no {CHECKPOINT} and no {WEIGHTS}: give the folder of a "
                "trained model."
            )
        if found[:2] == [CHECKPOINT, WEIGHTS]:
            raise UserError(
                f"The folder {name} has both {CHECKPOINT} and {WEIGHTS}: name one of them."
            )
        return path / found[0]
    if path.is_file():
        return path
    bundled = ", ".join(bundled_models()) or "none in this version"
    raise UserError(f"There is no model {name}: give a file, or a bundled name ({bundled}).")


def _download(name: str, revision: str | None = None, **options: Any) -> Path:
    """The folder of a model of the Hugging Face hub in its cache, where it is put if needed."""
    repository, _, tag = name.partition("@")
    try:
        folder = snapshot_download(
            repository,
            revision=revision or tag or None,
            allow_patterns=[WEIGHTS, CONFIG, _ASTEROID],
            **options,
        )
    except (OSError, ValueError) as error:  # base classes of the hub's own errors
        where = f" in revision {revision}" if revision else ""
        raise UserError(
            f"There is no model {name}{where}, neither as a file nor on the Hugging Face hub "
            f"({type(error).__name__}): check the name and the network."
        ) from error
    return Path(folder)


def load_checkpoint(name: str | Path, **hub: Any) -> dict[str, Any]:
    """Reads a model in the form of `SeparatorModel.serialize`, executing no code of the file.

    Args:
        name: Name of a bundled model, or any argument of `find_model_file`. A file or folder of a
            bundled model's name is meant by "./NAME" or a `Path`.
        **hub: Options of `find_model_file`.

    Raises:
        UserError: If the model does not exist or is not a checkpoint.
    """
    if isinstance(name, str) and name in bundled_models() and not hub.get("revision"):
        return read_bundle(_bundle(), name)
    path = find_model_file(name, **hub)
    try:
        if path.suffix == ".safetensors":
            conf = json.loads(path.with_name(CONFIG).read_text())
            conf["state_dict"] = load_file(path)
        else:
            conf = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise system_error(error) from error
    except (*UNREADABLE, SafetensorError) as error:
        raise UserError(
            f"{path} is not a model file: give a {CHECKPOINT} or a {WEIGHTS}."
        ) from error
    if not isinstance(conf, dict) or not {"model_name", "state_dict", "model_args"} <= set(conf):
        raise UserError(
            f"{path} is not a serialized model: give a {CHECKPOINT}, or load a state dict by "
            "load_state_dict of a UCRSeparator with the same settings."
        )
    return conf
