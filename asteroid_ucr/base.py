"""The base class of the separators: Asteroid's contract, and the hub's."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from asteroid.models import BaseModel, get
from huggingface_hub import ModelCard, ModelHubMixin
from torch import Tensor

from asteroid_ucr.hub import model_card
from asteroid_ucr.store import HUB_OPTIONS, bundled_card, load_checkpoint, write_folder
from asteroid_ucr.streaming import write_stems
from asteroid_ucr.utils.atomic import atomic_path, is_file_name
from asteroid_ucr.utils.audio import as_waveform, resample
from asteroid_ucr.utils.decoding import check_samples
from asteroid_ucr.utils.errors import AudioWarning, UserError

Model = TypeVar("Model", bound="SeparatorModel")
# What building a model raises whose settings or weights were changed.
_UNFIT = (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError)
# Added by `DataParallel` and `torch.compile`.
_PREFIX = re.compile(r"^((module|_orig_mod)\.)+")


class SeparatorModel(BaseModel, ModelHubMixin):
    """An `asteroid.models.BaseModel` from waveforms `(batch, 1, time)` to `(batch, n_src, time)`.

    `save_pretrained(folder)` and `push_to_hub("user/model")` are those of `huggingface_hub`. They
    write `model.safetensors`, `config.json` and, unless there is one, the card `README.md`, whose
    options are `model_card_kwargs`, the arguments of `generate_model_card`.

    Its attribute `budget` is the cost of the training, from `asteroid_ucr.training.loop.fit`, or
    None if it is not known. It is saved with the model.

    Args:
        sources: Names of the outputs, in order.
        sample_rate: Sample rate in Hz.

    Raises:
        UserError: If there are no sources, two have the same name, or one cannot name a file.
    """

    budget: dict[str, Any] | None = None

    def __init__(self, sources: Sequence[str], sample_rate: int):
        if len(set(sources)) != len(sources) or not all(map(is_file_name, sources)) or not sources:
            raise UserError(
                f"sources {list(sources)} must be different names, at least one, that files can "
                "have: do without slashes."
            )
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
        if wav.ndim == 2 and batch.shape[-1] <= 8 < len(batch):
            raise UserError(
                f"The waveform has shape {tuple(wav.shape)}, which is (time, channels): give "
                "(batch, time), for example wav.T with the channels as items."
            )
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

    def _save_pretrained(self, save_directory: Path) -> None:
        """Writes the weights and the configuration, for `save_pretrained`."""
        write_folder(self.serialize(), save_directory)

    def generate_model_card(
        self,
        evaluations: Mapping[str, Mapping[str, Any]] | None = None,
        license: str | None = None,
    ) -> ModelCard:
        """The card of the model, which is that of the bundled model if this is one, unchanged.

        Args:
            evaluations: Contents of `final_metrics.json`, by the title of the data set.
            license: The hub's identifier of the licence; None takes that of the package.
        """
        conf = self.serialize()
        known = None if evaluations or license else bundled_card(conf)
        budget = describe_budget(self.budget)
        return ModelCard(known) if known else model_card(conf, budget, evaluations, license)

    @classmethod
    def from_pretrained(cls: type[Model], name_or_conf: Any, *args: Any, **kwargs: Any) -> Model:
        """Loads a model; `SeparatorModel` itself loads any of its subclasses.

        Args:
            name_or_conf: Name of a bundled model, path of a checkpoint, of an experiment folder or
                of what `save_pretrained` wrote, Hugging Face id ("user/model" or
                "user/model@revision"), or the result of `serialize`.
            *args: Arguments of Asteroid's loader.
            **kwargs: Constructor arguments that replace the stored ones, and options of the hub:
                `revision`, `cache_dir`, `token`, `local_files_only` and `force_download`.

        Raises:
            UserError: If the model does not exist or has another class.
        """
        hub = {name: kwargs.pop(name) for name in HUB_OPTIONS if name in kwargs}
        given = isinstance(name_or_conf, dict)
        conf = name_or_conf if given else load_checkpoint(name_or_conf, **hub)
        name = str(conf.get("model_name"))
        try:
            fits = issubclass(get(name), cls)
        except (ValueError, TypeError):  # not registered with Asteroid, or not a class
            fits = False
        if not fits:
            raise UserError(f"{name_or_conf} holds a {name}, not a {cls.__name__}.")
        label = name if given else str(name_or_conf)
        infos = conf.get("infos")
        budget = infos.get("budget") if isinstance(infos, dict) else None
        try:
            conf = _upgraded({**conf, "model_args": {**conf["model_args"], **kwargs}})
            conf["state_dict"] = _checked(conf["state_dict"], label)
            model = super().from_pretrained(conf, *args).eval()
        except _UNFIT as error:  # missing, unknown or unfitting weights and settings
            reason = " ".join(str(error).split("\n\t")[1:2]) or " ".join(str(error).split())
            raise UserError(
                f"The weights of {label} do not fit its settings ({reason[:200]}): use the file "
                "as the training wrote it."
            ) from error
        model.budget = budget if isinstance(budget, dict) else None
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
    earlier = budget.get("earlier_hours", 0.0)
    before = f", after earlier trainings with {earlier:.1f} h" if earlier else ""
    return (
        f"{budget['parameters'] / 1e6:.2f} M parameters, trained in {budget['steps']} steps of "
        f"{budget['batch_size']} × {budget['crop_seconds']:g} s ({_own_hours(budget):.1f} h of "
        f"audio) and {budget['minutes']:.0f} min on {budget['device']}{before}"
    )


def hours_of_audio(budget: dict[str, Any] | None) -> float:
    """Hours of audio in a training and all those that it started from; 0 if not known."""
    return _own_hours(budget) + budget.get("earlier_hours", 0.0) if budget else 0.0


def _own_hours(budget: dict[str, Any]) -> float:
    return budget["steps"] * budget["batch_size"] * budget["crop_seconds"] / 3600


def _upgraded(conf: dict[str, Any]) -> dict[str, Any]:
    """Converts a checkpoint of an earlier version.

    Their priors, which had another network, are left out. Version 0.1 stored the order of the
    outputs beside the weights.
    """
    state, args = dict(conf["state_dict"]), dict(conf["model_args"])
    if "prior.mean" in state:
        warnings.warn(
            "The model's prior is of an earlier version and was left out: train it again (stage 4 "
            "of the recipe) to generate.",
            stacklevel=2,
        )
        state = {key: value for key, value in state.items() if not key.startswith("prior.")}
        args.update(prior=None, render_gain=None)
    for option, supported in {"trunk": "separate", "variant": "c"}.items():
        if (value := args.pop(option, supported)) != supported:
            raise UserError(
                f"The model was trained with {option} {value!r}, which this version no longer "
                f"supports (only {supported!r}): train it again."
            )
    order = state.pop("order", None)
    if order is None:
        return {**conf, "model_args": args, "state_dict": state}
    model = get(conf["model_name"])(**args)
    model.load_state_dict(state)
    model.assign(order.tolist())
    return {**conf, "model_args": args, "state_dict": model.state_dict()}
