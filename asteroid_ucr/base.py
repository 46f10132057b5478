"""What this package's separators share: Asteroid's contract, and reading and writing models."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from asteroid.models import BaseModel, get
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.errors import UserError

Model = TypeVar("Model", bound="SeparatorModel")
TOWERS = "decomposition.encoder.towers."


class SeparatorModel(BaseModel):
    """An `asteroid.models.BaseModel` from waveforms `(batch, 1, time)` to `(batch, n_src, time)`.

    Attributes:
        sources: Names of the outputs, in order.
        budget: What its training cost, as `asteroid_ucr.training.loop.fit` recorded it; None for
            a model that was not trained here. It is saved with the model.
    """

    sources: list[str]
    budget: dict[str, Any] | None = None

    @property
    def n_src(self) -> int:
        """Number of sources."""
        return len(self.sources)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(self.parameters()).dtype

    @staticmethod
    def _as_batch(wav: Tensor) -> Tensor:
        """`(time,)`, `(batch, time)` or `(batch, 1, time)` to `(batch, 1, time)`."""
        if wav.ndim == 1:
            wav = wav[None, None]
        elif wav.ndim == 2:
            wav = wav[:, None]
        if wav.ndim != 3 or wav.shape[1] != 1:
            raise UserError(
                f"The waveform has shape {tuple(wav.shape)}: give (batch, 1, time) or (batch, "
                "time); average the channels, or let the command `asteroid-ucr separate` keep them."
            )
        if wav.shape[-1] == 0:
            raise UserError("The waveform has zero length: it holds no samples.")
        return wav

    @torch.no_grad()
    def torch_separate(self, wav: Tensor, **options: Any) -> Tensor:
        """Separates on the model's device and returns on the input's.

        Unlike Asteroid's function of this name, the outputs are not rescaled by their L1 norm: they
        add up to the mixture as they are, and silence stays silence.
        """
        return self.forward_wav(wav.to(self.device), **options).to(wav.device)

    def separate(self, wav: Any, **options: Any) -> Any:
        """Separates a tensor, an array or, as Asteroid does, a file."""
        if isinstance(wav, str):
            return super().separate(wav, **options)
        if isinstance(wav, Tensor):
            return self.torch_separate(wav, **options)
        return self.numpy_separate(wav, **options)

    def numpy_separate(self, wav: Any, **options: Any) -> Any:
        """`torch_separate` for numpy arrays."""
        return self.torch_separate(torch.from_numpy(wav), **options).numpy()

    def serialize(self) -> dict[str, Any]:
        """The model as plain types, which `torch.load` reads with `weights_only`."""
        conf = super().serialize()
        conf["state_dict"] = {key: value.cpu() for key, value in conf["state_dict"].items()}
        versions = conf["infos"]["software_versions"]
        conf["infos"]["software_versions"] = {key: str(value) for key, value in versions.items()}
        if self.budget is not None:
            conf["infos"]["budget"] = dict(self.budget)
        return conf

    def save(self, path: str | Path) -> None:
        """Writes the model in Asteroid's form, completely or not at all.

        Args:
            path: Target, with the ending .pth.

        Raises:
            UserError: If the file cannot be written.
        """
        with atomic_path(path) as temporary:
            torch.save(self.serialize(), temporary)

    @classmethod
    def _upgrade(cls, conf: dict[str, Any]) -> dict[str, Any]:
        """Brings a checkpoint of an earlier version up to date, or refuses it."""
        return conf

    @classmethod
    def from_pretrained(cls: type[Model], name_or_conf: Any, *args: Any, **kwargs: Any) -> Model:
        """Loads a model.

        Args:
            name_or_conf: A bundled model's name, the path of a checkpoint or of an experiment
                folder, a Hugging Face id ("user/model"), or what `serialize` returns.
            *args: Passed to Asteroid's loader.
            **kwargs: Constructor arguments that overrule the stored ones.

        Raises:
            UserError: If there is no such model, or the file holds none of this class
                (`SeparatorModel` itself takes any of its subclasses).
        """
        conf = name_or_conf if isinstance(name_or_conf, dict) else load_checkpoint(name_or_conf)
        name = str(conf.get("model_name"))
        if name != cls.__name__ and not (cls is SeparatorModel and _is_separator(name)):
            raise UserError(f"{name_or_conf} holds a {name}, not a {cls.__name__}.")
        budget = conf.get("infos", {}).get("budget")
        conf = get(name)._upgrade({**conf, "model_args": {**conf["model_args"], **kwargs}})
        model = super().from_pretrained(conf, *args).eval()
        model.budget = budget
        return model


def describe_budget(budget: dict[str, Any] | None) -> str:
    """A training's budget in words, for the notes beside the scores; empty where none is known."""
    if budget is None:
        return ""
    hours = budget["steps"] * budget["batch_size"] * budget["crop_seconds"] / 3600
    return (
        f"{budget['parameters'] / 1e6:.2f} M parameters, trained in {budget['steps']} steps of "
        f"{budget['batch_size']} × {budget['crop_seconds']:g} s ({hours:.1f} h of audio) and "
        f"{budget['minutes']:.0f} min on {budget['device']}"
    )


def _is_separator(name: str) -> bool:
    try:
        return issubclass(get(name), SeparatorModel)
    except (ValueError, TypeError):  # not registered with Asteroid, or not a class
        return False


def bundled_models() -> list[str]:
    """Names of the separators that are installed with the package."""
    return sorted(_views())


def _bundle() -> Path:
    return Path(str(resources.files("asteroid_ucr") / "models" / "bundled.safetensors"))


def _views() -> dict[str, Any]:
    index = _bundle().with_suffix(".json")
    return json.loads(index.read_text()) if index.is_file() else {}


def write_bundle(models: Mapping[str, SeparatorModel], path: str | Path) -> None:
    """Writes several models into one file, in half precision, and what they share only once.

    The tensors go to `path`, and beside it, in a file of the same name that ends in .json, what
    each model is made of: which parts of the file, and which constructor arguments. Encoders of
    single sources, the prior and everything else are parts; statistics keep their precision.

    Args:
        models: Decomposition models by name.
        path: Target, with the ending .safetensors.

    Raises:
        UserError: If a file cannot be written.
    """
    stored: dict[str, dict[str, Tensor]] = {}
    views = {}
    for name, model in models.items():
        conf, parts = model.serialize(), {}
        state = {key: _halved(key, value) for key, value in conf.pop("state_dict").items()}
        towers = {f"{TOWERS}{k}.": f"encoder.{source}" for k, source in enumerate(model.sources)}
        for prefix, label in {**towers, "prior.": f"prior.{name}", "": "decomposition"}.items():
            chosen = [key for key in state if key.startswith(prefix)]
            part = {key.removeprefix(prefix): state.pop(key) for key in chosen}
            while part and not _same(stored.setdefault(label, part), part):
                label = f"{label}.{name}"
            if part:
                parts[prefix] = label
        views[name] = {**conf, "parts": parts}
    tensors = {f"{label}/{k}": v.contiguous() for label, p in stored.items() for k, v in p.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors))
    with atomic_path(Path(path).with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(views, indent=1) + "\n")


def read_bundle(path: str | Path, name: str) -> dict[str, Any]:
    """One model of a file that `write_bundle` wrote, as `SeparatorModel.serialize` returns it."""
    conf = json.loads(Path(path).with_suffix(".json").read_text())[name]
    with safe_open(path, "pt") as file:
        state = {
            prefix + key.split("/", 1)[1]: file.get_tensor(key)
            for prefix, label in conf.pop("parts").items()
            for key in file.keys()
            if key.startswith(f"{label}/")
        }
    return {**conf, "state_dict": state}


def _halved(key: str, value: Tensor) -> Tensor:
    """Weights in half precision, statistics as they are."""
    keep = not value.is_floating_point() or key.rsplit(".", 1)[-1].startswith("latent_")
    return value if keep else value.half()


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def find_model_file(name: str | Path) -> Path:
    """The checkpoint that a model's name stands for.

    Args:
        name: Path of a checkpoint, or of a folder that holds `best_model.pth`; or a Hugging Face id
            ("user/model"), which a `Path` is never taken for.

    Raises:
        UserError: If there is no such file.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "best_model.pth"
        if not path.is_file():
            raise UserError(
                f"The folder {name} holds no best_model.pth: name the folder of a trained model."
            )
    if path.is_file():
        return path
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
    """Reads what `SeparatorModel.serialize` returned.

    Args:
        name: Name of a bundled model, or what `find_model_file` takes.

    Raises:
        UserError: If the model does not exist or is not a checkpoint.
    """
    if str(name) in bundled_models() and not Path(name).exists():
        return read_bundle(_bundle(), str(name))
    path = find_model_file(name)
    try:
        conf = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError) as error:
        raise UserError(f"{path} is not a model file: give what training wrote.") from error
    if not isinstance(conf, dict) or not {"model_name", "state_dict", "model_args"} <= set(conf):
        raise UserError(f"{path} is not a serialized model: give a best_model.pth.")
    return conf
