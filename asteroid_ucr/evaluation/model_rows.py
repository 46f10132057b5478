"""Rows of trained models: ours, trained baselines, published weights and published audio files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from operator import attrgetter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from asteroid_ucr.base import SeparatorModel, describe_budget
from asteroid_ucr.baselines.demucs import load_demucs, separate_demucs
from asteroid_ucr.baselines.neural import WaveSeparator
from asteroid_ucr.data.clips import Clip, read_source
from asteroid_ucr.evaluation.assignment import fit_owners
from asteroid_ucr.evaluation.rows import Row, mask_row
from asteroid_ucr.masking import stft, wiener_masks
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.store import bundled_models
from asteroid_ucr.training.baselines import BASELINES
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.flops import gflop_per_second

# Label, group and note of the rows of our other models, by the kind of their training.
OURS = {
    "ucr": ("Ours, plain", "ours", "this package's model, trained on mixtures alone"),
    "solos": (
        "Ours, solos",
        "ours",
        "this package's model, trained on mixtures and solos found in them",
    ),
    "bundled": ("Ours, bundled", "ours", "the model that comes with this package"),
}


def model_rows(
    model: UCRSeparator,
    label: str = "",
    steps: Sequence[int] = (1, 25),
    seeds: Sequence[int] = (0,),
) -> list[Row]:
    """Rows of one of our models, for each number of sampler steps and each seed of its noise.

    The estimates are used as masks and, unless the codec estimates the phase, also as they are. The
    label is the name of the training run, such as "seed0".
    """
    return [row for n in steps for seed in seeds for row in _sampled_rows(model, label, n, seed)]


def _sampled_rows(model: UCRSeparator, label: str, steps: int, seed: int) -> list[Row]:
    counted = "1 step" if steps == 1 else f"{steps} steps"
    budget = f"; {describe_budget(model.budget)}" if model.budget else ""
    note = f"this package's model, {counted}, its estimates"
    latest: dict[str, Tensor] = {}

    def raw(clip: Clip) -> Tensor:
        # Sampling is slow and both rows need it, so the estimates of the latest clip are kept.
        if clip.name not in latest:
            latest.clear()
            latest[clip.name] = model.separate(clip.mixture, steps=steps, seed=seed, refine="none")
        return latest[clip.name]

    def masks(clip: Clip) -> Tensor:
        if model.codec.has_power:
            wav = clip.mixture[None, None].to(model.device)
            return model.masks(wav, steps=steps, seed=seed)[0].cpu()
        # For other codecs, the spectrogram is that of the decoded waveform.
        scaled = raw(clip) * level_gain(clip.mixture)
        return wiener_masks(stft(scaled, clip.sample_rate).abs().square())

    as_masks = f"{note} used as masks on the mixture{budget}"
    rows = [mask_row(f"ours_{steps}", f"Ours, {counted}", "ours", masks, as_masks)]
    if not model.codec.has_power:
        decoded = f"{note} decoded by the codec{budget}"
        rows.append(Row(f"ours_{steps}_raw", f"Ours, {counted}, raw", "ours", raw, decoded))
    cost = partial(_cost, model, steps)
    return [replace(row, model=label, seed=seed, gflops=cost) for row in rows]


def _cost(model: UCRSeparator, steps: int) -> float:
    """GFLOP per second of audio: one full step, and the denoiser for each further step."""
    one, two = (
        gflop_per_second(model, int(model.sample_rate), lambda m, wav, n=n: m(wav, steps=n))
        for n in (1, 2)
    )
    return one + (steps - 1) * (two - one)


def trained_rows(
    paths: Sequence[str | Path], sources: Sequence[str], validation: Sequence[Clip] = ()
) -> list[Row]:
    """A row for each of some trained models: files, or names of bundled ones; seeds share a name.

    The outputs of models with more outputs than sources (MixIT) are assigned on the validation
    clips, and checkpoints are rewritten. Without clips, the stored assignment is used.

    Raises:
        UserError: If one is not a trained model, or separates other sources.
    """
    rows = []
    for path in paths:
        model = SeparatorModel.from_pretrained(str(path))
        kind = "bundled" if path in bundled_models() else (model.budget or {}).get("kind")
        if kind not in {**BASELINES, **OURS}:
            raise UserError(f"{path} is not a trained model: name a best_model.pth.")
        if model.sources != list(sources):
            raise UserError(
                f"{path} separates {', '.join(model.sources)}, not {', '.join(sources)}: "
                "train it for these sources."
            )
        if validation and isinstance(model, WaveSeparator) and len(model.owner) > model.n_src:
            assign_outputs(model, validation)
            if Path(path).suffix == ".pth":
                model.save(path)
        rows.append(_baseline_row(model.to(pick_device()), kind))
    return rows


def assign_outputs(model: WaveSeparator, validation: Iterable[Clip]) -> None:
    """Assigns each output of a network to the source that it fits best on validation clips."""

    def outputs(clip: Clip) -> Tensor:
        return model.components(clip.mixture[None, None].to(model.device))[0]

    candidates = product(range(model.n_src), repeat=len(model.owner))
    model.assign(fit_owners(validation, outputs, candidates)[0])


def _baseline_row(model: SeparatorModel, kind: str) -> Row:
    seed = f"seed{model.budget['seed']}"
    label, group, note = OURS.get(kind) or attrgetter("label", "group", "note")(BASELINES[kind])
    note = f"{note}; {describe_budget(model.budget)}"
    named = {"name": kind, "label": label, "group": group, "note": note}
    if isinstance(model, UCRSeparator):
        return replace(model_rows(model, seed, steps=[1])[0], **named)
    cost = partial(gflop_per_second, model, int(model.sample_rate))
    return Row(**named, separate=lambda c: model.separate(c.mixture), model=seed, gflops=cost)


def demucs_row(name: str, sources: Sequence[str]) -> Row:
    """A row of published Demucs weights; see `asteroid_ucr.baselines.demucs`.

    Raises:
        UserError: If the package demucs or the weights are missing.
    """
    model = load_demucs(name).to(pick_device())
    rest = [source for source in sources if source not in model.sources]
    mapped = f"{', '.join(rest)} from all outputs of other names" if rest else "sources by name"
    return Row(
        name,
        name.capitalize().replace("demucs", "Demucs"),
        "supervised",
        lambda clip: separate_demucs(model, clip.mixture, clip.sample_rate, clip.sources),
        note=f"published Demucs weights {name}, trained on stems of other music; {mapped}",
        model="published",
    )


def file_rows(suffix: str) -> list[Row]:
    """Rows of another system's estimates, stored beside the clips as `CLIP/SOURCE{suffix}.wav`.

    One row is the files as they are, the other their spectrograms as Wiener masks on the mixture.
    """
    name = suffix.strip("_-. ") or "files"
    label = name.capitalize()

    def read(clip: Clip) -> Tensor:
        length = clip.mixture.shape[-1]
        wavs = (read_source(clip.folder, s + suffix, clip.sample_rate) for s in clip.sources)
        return torch.stack([F.pad(w[:length], (0, max(0, length - len(w)))) for w in wavs])

    def masks(clip: Clip) -> Tensor:
        return wiener_masks(stft(read(clip), clip.sample_rate).abs().square())

    note = f"the mixture through Wiener masks of the files SOURCE{suffix}"
    return [
        Row(name, label, "published", read, note=f"the files SOURCE{suffix}, as they are"),
        mask_row(f"{name}_wiener", f"{label}, as masks", "published", masks, note),
    ]
