"""Rows of trained models: ours, trained baselines, published weights and published audio files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from asteroid_ucr.base import SeparatorModel, describe_budget
from asteroid_ucr.baselines.demucs import load_demucs, separate_demucs
from asteroid_ucr.baselines.neural import WaveSeparator
from asteroid_ucr.data.clips import Clip, file_for
from asteroid_ucr.evaluation.assignment import fit_owners
from asteroid_ucr.evaluation.rows import Row, mask_row
from asteroid_ucr.masking import stft, wiener_masks
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.baselines import BASELINES
from asteroid_ucr.utils.audio import level_gain, read_audio
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.flops import gflop_per_second


def model_rows(
    model: UCRSeparator,
    label: str = "",
    steps: Sequence[int] = (1, 25),
    seeds: Sequence[int] = (0,),
) -> list[Row]:
    """Rows of one of our models, for each number of sampler steps and each seed.

    Args:
        model: The model, on any device.
        label: Name of the training run, such as "seed0".
        steps: Numbers of sampler steps.
        seeds: Seeds of the sampler's noise; a single step uses noise too.

    Returns:
        For each number of steps and seed, the estimates used as masks and, unless the codec
        estimates the phase, the decoded estimates.
    """
    rows = []
    for count in steps:
        for seed in seeds:
            refined, decoded = _refined_and_decoded(model, label, count, seed)
            rows += [refined] if model.codec.has_power else [refined, decoded]
    return rows


def _refined_and_decoded(model: UCRSeparator, label: str, steps: int, seed: int) -> list[Row]:
    counted = "1 step" if steps == 1 else f"{steps} steps"
    budget = f"; {describe_budget(model.budget)}" if model.budget else ""
    note = f"this package's model, {counted}, its estimates"
    latest: dict[str, Tensor] = {}

    @torch.no_grad()
    def raw(clip: Clip) -> Tensor:
        # Sampling is slow and both rows need it, so the estimates of the latest clip are kept.
        if clip.name not in latest:
            wav = clip.mixture[None, None].to(model.device)
            latest.clear()
            latest[clip.name] = model(wav, steps=steps, seed=seed, refine="none")[0].cpu()
        return latest[clip.name]

    @torch.no_grad()
    def masks(clip: Clip) -> Tensor:
        if model.codec.has_power:
            wav = clip.mixture[None, None].to(model.device)
            return model.masks(wav, steps=steps, seed=seed)[0].cpu()
        # For other codecs, the spectrogram is that of the decoded waveform.
        scaled = raw(clip) * level_gain(clip.mixture)
        return wiener_masks(stft(scaled, clip.sample_rate).abs().square())

    shared = {"model": label, "seed": seed, "gflops": partial(_cost, model, steps)}
    refined = mask_row(
        f"ours_{steps}",
        f"Ours, {counted}",
        "ours",
        masks,
        f"{note} used as masks on the mixture{budget}",
    )
    decoded = Row(
        f"ours_{steps}_raw",
        f"Ours, {counted}, raw",
        "ours",
        raw,
        f"{note} decoded by the codec{budget}",
    )
    return [replace(row, **shared) for row in (refined, decoded)]


def _cost(model: UCRSeparator, steps: int) -> float:
    """GFLOP per second of audio: one full step, and the denoiser for each further step."""
    one, two = (
        gflop_per_second(model, int(model.sample_rate), lambda m, wav, n=n: m(wav, steps=n))
        for n in (1, 2)
    )
    return one + (steps - 1) * (two - one)


def trained_rows(
    paths: Sequence[str | Path], sources: Sequence[str], validation: Iterable[Clip] = ()
) -> list[Row]:
    """A row for each trained baseline; training seeds share a row's name.

    Args:
        paths: `best_model.pth` files that `asteroid_ucr.training.baselines` wrote.
        sources: Sources that the models have to separate, in this order.
        validation: Clips on which models with more outputs than sources (MixIT) get their outputs
            assigned; the files are rewritten. Without clips, the stored assignment is used.

    Raises:
        UserError: If a file is not a trained baseline, or separates other sources.
    """
    rows = []
    clips = list(validation)
    for path in paths:
        model = SeparatorModel.from_pretrained(str(path))
        kind = (model.budget or {}).get("kind")
        if kind not in BASELINES:
            raise UserError(f"{path} is not a trained baseline: name a best_model.pth of one.")
        if model.sources != list(sources):
            raise UserError(
                f"{path} separates {', '.join(model.sources)}, not {', '.join(sources)}: "
                "train it for these sources."
            )
        if clips and isinstance(model, WaveSeparator) and len(model.owner) > model.n_src:
            model.assign(fit_owners(model, clips))
            model.save(path)
        rows.append(_baseline_row(model.to(pick_device()), kind))
    return rows


def _baseline_row(model: SeparatorModel, kind: str) -> Row:
    baseline = BASELINES[kind]
    seed = f"seed{model.budget['seed']}"
    note = f"{baseline.note}; {describe_budget(model.budget)}"
    named = {"name": kind, "label": baseline.label, "group": baseline.group, "note": note}
    if isinstance(model, UCRSeparator):
        return replace(model_rows(model, seed, steps=[1])[0], **named)

    def separate(clip: Clip) -> Tensor:
        return model(clip.mixture[None, None].to(model.device))[0].cpu()

    cost = partial(gflop_per_second, model, int(model.sample_rate))
    return Row(**named, separate=separate, model=seed, gflops=cost)


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


def file_rows(suffix: str = "_paper", label: str = "Paper") -> list[Row]:
    """Rows of another system's estimates, stored beside the clips as `CLIP/SOURCE{suffix}.wav`.

    Args:
        suffix: Text that follows the source's name.
        label: Name of the system, for the tables.

    Returns:
        Two rows: the files as they are, and their spectrograms as Wiener masks on the mixture.
    """
    name = suffix.strip("_-. ") or "files"

    def read(clip: Clip) -> Tensor:
        return torch.stack([_read(source + suffix, clip) for source in clip.sources])

    def masks(clip: Clip) -> Tensor:
        return wiener_masks(stft(read(clip), clip.sample_rate).abs().square())

    note = f"the mixture through Wiener masks of the files SOURCE{suffix}"
    return [
        Row(name, label, "published", read, note=f"the files SOURCE{suffix}, as they are"),
        mask_row(f"{name}_wiener", f"{label}, as masks", "published", masks, note),
    ]


def _read(name: str, clip: Clip) -> Tensor:
    path = None if clip.folder is None else file_for(clip.folder, name)
    if path is None:
        raise UserError(f"{clip.name} has no {name}.wav: add it, or choose another suffix.")
    wav = read_audio(path, sample_rate=clip.sample_rate, mono=True)[0][0]
    length = clip.mixture.shape[-1]
    return F.pad(wav[:length], (0, max(0, length - len(wav))))
