"""The base class of the separators, and reading and writing models."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from asteroid.models import BaseModel, get
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from asteroid_ucr.streaming import write_stems
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.audio import as_waveform, resample
from asteroid_ucr.utils.decoding import check_samples
from asteroid_ucr.utils.errors import UNREADABLE, AudioWarning, UserError, system_error

Model = TypeVar("Model", bound="SeparatorModel")
# Added by `DataParallel` and `torch.compile`.
_PREFIX = re.compile(r"^((module|_orig_mod)\.)+")
TOWERS = "decomposition.encoder.towers."


class SeparatorModel(BaseModel):
    """An `asteroid.models.BaseModel` from waveforms `(batch, 1, time)` to `(batch, n_src, time)`.

    Its attribute `budget` is the cost of the training, from `asteroid_ucr.training.loop.fit`, or
    None if it is not known. It is saved with the model.

    Args:
        sources: Names of the outputs, in order.
        sample_rate: Sample rate in Hz.

    Raises:
        UserError: If there are no sources, or two have the same name.
    """

    budget: dict[str, Any] | None = None

    def __init__(self, sources: Sequence[str], sample_rate: int):
        if len(set(sources)) != len(sources) or not sources:
            raise UserError(f"sources {list(sources)} must be different names, at least one.")
        super().__init__(sample_rate=sample_rate, in_channels=1)
        self.sources = list(sources)

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
        """`(time,)`, `(batch, time)` or `(batch, 1, time)` to floats `(batch, 1, time)`."""
        wav = as_waveform(wav)
        batch = torch.atleast_2d(wav)[:, None] if wav.ndim in (1, 2) else wav
        if batch.ndim != 3 or batch.shape[1] != 1:
            raise UserError(
                f"The waveform has shape {tuple(wav.shape)}: give (batch, 1, time) or (batch, "
                "time); average the channels, or let the command `asteroid-ucr separate` keep them."
            )
        if batch.shape[-1] == 0:
            raise UserError("The waveform has zero length: it holds no samples.")
        return batch

    @torch.no_grad()
    def torch_separate(self, wav: Tensor, **options: Any) -> Tensor:
        """Separates on the model's device and returns the result on the device of the input.

        Unlike Asteroid's function of this name, it does not rescale the outputs by their L1 norm:
        they add up to the mixture, and silence stays silence.
        """
        return self.forward_wav(wav.to(self.device), **options).to(wav.device)

    def separate(self, wav: Any, *arguments: Any, **options: Any) -> Any:
        """Separates a tensor, an array or, as in Asteroid, the file of a path; see `file_separate`.

        Raises:
            UserError: If the waveform or the file cannot be used, or the result is not finite.
        """
        if isinstance(wav, str | Path):
            return self.file_separate(wav, *arguments, **options)
        if isinstance(wav, Tensor):
            check_samples(wav.detach().cpu().double().numpy(), "The waveform")
            return self.torch_separate(wav, **options)
        return self.numpy_separate(wav, **options)

    def numpy_separate(self, wav: Any, **options: Any) -> Any:
        """`torch_separate` for numpy arrays; integers have their own full scale."""
        return self.separate(as_waveform(wav), **options).numpy()

    def file_separate(
        self,
        filename: str | Path,
        output_dir: str | Path | None = None,
        force_overwrite: bool = False,
        resample: bool = True,
        **options: Any,
    ) -> list[Path]:
        """Separates a file into `<name>_est1.wav` and so on, the file names of Asteroid.

        Unlike Asteroid's function of this name, it does not rescale the stems. They have the rate
        and the channels of the file and add up to it, and the memory does not grow with the file.

        Args:
            filename: Path of the mixture.
            output_dir: Folder of the stems, created if needed; None takes that of the mixture.
            force_overwrite: Whether to replace stems that exist; otherwise they are kept.
            resample: Accepted for compatibility; every rate is resampled for the analysis.
            **options: Options of `asteroid_ucr.streaming.write_stems`.

        Returns:
            Paths of the stems.

        Raises:
            UserError: If the file cannot be read or the stems cannot be written.
        """
        path = Path(filename)
        folder = path.parent if output_dir is None else Path(output_dir)
        targets = [folder / f"{path.stem}_est{number + 1}.wav" for number in range(self.n_src)]
        if targets[0].is_file() and not force_overwrite:
            text = f"{targets[0]} exists already: pass force_overwrite=True to replace it."
            warnings.warn(text, AudioWarning, stacklevel=2)
        else:
            write_stems(self, path, targets, **options)
        return targets

    def separate_part(
        self, wav: Tensor, sample_rate: int, second: int, gain: Tensor, **options: Any
    ) -> Tensor:
        """Separates a part of a recording, of any sample rate and number of channels.

        Args:
            wav: `(channels, time)`.
            sample_rate: Sample rate of `wav`, in Hz.
            second: Where the part starts in the recording, in whole seconds.
            gain: `level_gain` of the recording.
            **options: Options of `forward`; None stands for its default.

        Returns:
            `(n_src, channels, time)`, on the device of the model.
        """
        given = {name: value for name, value in options.items() if value is not None}
        rates = (sample_rate, int(self.sample_rate))
        stems = self(resample(wav.to(self.device)[:, None], *rates), **given)
        return resample(stems.transpose(0, 1), *rates[::-1])[..., : wav.shape[-1]]

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
        """Writes the model atomically in Asteroid's form.

        Args:
            path: Path of the file, with the ending .pth.

        Raises:
            UserError: If the file cannot be written.
        """
        with atomic_path(path) as temporary:
            torch.save(self.serialize(), temporary)

    @classmethod
    def from_pretrained(cls: type[Model], name_or_conf: Any, *args: Any, **kwargs: Any) -> Model:
        """Loads a model; `SeparatorModel` itself loads any of its subclasses.

        Args:
            name_or_conf: Name of a bundled model, path of a checkpoint or of an experiment folder,
                Hugging Face id ("user/model"), or the result of `serialize`.
            *args: Arguments of Asteroid's loader.
            **kwargs: Constructor arguments that replace the stored ones.

        Raises:
            UserError: If the model does not exist or has another class.
        """
        conf = name_or_conf if isinstance(name_or_conf, dict) else load_checkpoint(name_or_conf)
        name = str(conf.get("model_name"))
        try:
            fits = issubclass(get(name), cls)
        except (ValueError, TypeError):  # not registered with Asteroid, or not a class
            fits = False
        if not fits:
            raise UserError(f"{name_or_conf} holds a {name}, not a {cls.__name__}.")
        budget = conf.get("infos", {}).get("budget")
        conf = _upgraded({**conf, "model_args": {**conf["model_args"], **kwargs}})
        label = name if isinstance(name_or_conf, dict) else str(name_or_conf)
        conf["state_dict"] = _checked(conf["state_dict"], label)
        try:
            model = super().from_pretrained(conf, *args).eval()
        except RuntimeError as error:  # missing, unknown or unfitting weights
            reason = " ".join(str(error).split("\n\t")[1:2]) or str(error)
            raise UserError(
                f"The weights of {label} do not fit its settings ({reason[:200]}): use the file "
                "as the training wrote it."
            ) from error
        model.budget = budget
        return model


def _checked(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Weights without the prefixes of wrapped models.

    Raises:
        UserError: If a weight is NaN or infinite.
    """
    state = {_PREFIX.sub("", key): value for key, value in state.items()}
    for key, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UserError(
                f"The weights of {name} are NaN or infinite ({key}): its training diverged; use "
                "an earlier checkpoint."
            )
    return state


def describe_budget(budget: dict[str, Any] | None) -> str:
    """The cost of a training as text, for the notes beside scores; empty if it is not known."""
    if budget is None:
        return ""
    hours = budget["steps"] * budget["batch_size"] * budget["crop_seconds"] / 3600
    return (
        f"{budget['parameters'] / 1e6:.2f} M parameters, trained in {budget['steps']} steps of "
        f"{budget['batch_size']} × {budget['crop_seconds']:g} s ({hours:.1f} h of audio) and "
        f"{budget['minutes']:.0f} min on {budget['device']}"
    )


def _upgraded(conf: dict[str, Any]) -> dict[str, Any]:
    """Converts a checkpoint of version 0.1, which stored the order of the outputs separately."""
    state = dict(conf["state_dict"])
    order = state.pop("order", None)
    if order is None:
        return conf
    args = dict(conf["model_args"])
    if args.get("prior"):
        args["prior"] = dict(args["prior"])
    for options in (args, args.get("prior") or {}):
        for option, supported in {"trunk": "separate", "variant": "c"}.items():
            if (value := options.pop(option, supported)) != supported:
                raise UserError(
                    f"The model was trained with {option} {value!r}, which this version no longer "
                    f"supports (only {supported!r}): train it again."
                )
    model = get(conf["model_name"])(**args)
    model.load_state_dict(state)
    model.assign(order.tolist())
    return {**conf, "model_args": args, "state_dict": model.state_dict()}


def bundled_models() -> list[str]:
    """Names of the separators that are installed with the package."""
    index = _bundle().with_suffix(".json")
    return sorted(json.loads(index.read_text())) if index.is_file() else []


def _bundle() -> Path:
    """The file of the bundled models."""
    return Path(str(resources.files("asteroid_ucr") / "models" / "bundled.safetensors"))


def write_bundle(models: Mapping[str, SeparatorModel], path: str | Path) -> None:
    """Writes several models into one file, in half precision, storing shared weights only once.

    The encoder of each source, each prior, and all other weights are parts of the file. A second
    file, with the ending .json, lists the parts and the constructor arguments of each model.

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


def find_model_file(name: str | Path) -> Path:
    """The checkpoint file of a model.

    Args:
        name: Path of a checkpoint or of a folder with `best_model.pth`, or, only as a string, a
            Hugging Face id ("user/model").

    Raises:
        UserError: If the file does not exist.
    """
    path = Path(name)
    if path.is_dir():
        path = path / "best_model.pth"
        if not path.is_file():
            raise UserError(
                f"The folder {name} has no best_model.pth: give the folder of a trained model."
            )
    if path.is_file():
        return path
    if isinstance(name, str) and name.count("/") == 1 and not path.suffix:
        from asteroid.utils.hub_utils import cached_download

        try:
            return Path(cached_download(name))
        except (OSError, ValueError) as error:  # base classes of the hub's own errors
            raise UserError(
                f"There is no model {name}, neither as a file nor on the Hugging Face hub "
                f"({type(error).__name__}): check the name and the network."
            ) from error
    bundled = ", ".join(bundled_models()) or "none in this version"
    raise UserError(f"There is no model {name}: give a file, or a bundled name ({bundled}).")


def load_checkpoint(name: str | Path) -> dict[str, Any]:
    """Reads a model in the form of `SeparatorModel.serialize`.

    Args:
        name: Name of a bundled model, or any argument of `find_model_file`. A file or folder of a
            bundled model's name is meant by "./NAME" or a `Path`.

    Raises:
        UserError: If the model does not exist or is not a checkpoint.
    """
    if isinstance(name, str) and name in bundled_models():
        return read_bundle(_bundle(), name)
    path = find_model_file(name)
    try:
        conf = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise system_error(error) from error
    except UNREADABLE as error:
        raise UserError(f"{path} is not a model file: give a best_model.pth.") from error
    if not isinstance(conf, dict) or not {"model_name", "state_dict", "model_args"} <= set(conf):
        raise UserError(f"{path} is not a serialized model: give a best_model.pth.")
    return conf
