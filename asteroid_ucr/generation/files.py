"""Generates sound files, from sound files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.generation.sampling import STEPS
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.audio import level_gain, read_audio, write_audio
from asteroid_ucr.utils.errors import UserError

SECONDS = 10.0  # where nothing that is given has a length
BATCH = 8  # generated together


def generate_files(
    model: UCRSeparator,
    out: str | Path,
    seconds: float | None = None,
    keep: Sequence[str] = (),
    mixture: str | Path | None = None,
    strength: float | None = None,
    count: int = 1,
    seed: int = 0,
    steps: int = STEPS,
    render_steps: int | None = None,
) -> list[Path]:
    """Writes `out/SEED/<source>.wav` and `out/SEED/mix.wav` for each of `count` seeds.

    Args:
        model: with a prior, on the device to run on.
        out: folder, created if needed.
        seconds: length; None takes that of the files, or 10.
        keep: "SOURCE=FILE" keeps a stem as it is; "SOURCE" the component of the mixture.
        mixture: file to take components from, or to vary.
        strength: of a variation of the mixture; see `UCRSeparator.generate`.
        count: how many.
        seed: of the first; the others have the next ones.
        steps: of the prior's sampler.
        render_steps: of the denoiser's sampler.

    Returns:
        The folders, in the order of the seeds.

    Raises:
        UserError: if an option is not valid, or a file cannot be read or written.
    """
    if count < 1:
        raise UserError(f"count must be at least 1, got {count}.")
    whole = None if mixture is None else _read(model, mixture)
    kept: dict[str, Tensor] = {}
    for item in keep:
        name, given, file = item.partition("=")
        if name not in model.sources:
            raise UserError(
                f"{name!r} cannot be kept: the model's sources are {', '.join(model.sources)}."
            )
        if name in kept:
            raise UserError(f"{name} is kept twice: give one --keep for each source.")
        if given:
            kept[name] = _read(model, file, mono=True)
        elif whole is None:
            raise UserError(f"--keep {name} keeps that of a mixture: name it, or {name}=FILE.")
        else:
            with torch.no_grad():
                z = model.encode(whole.to(model.device))
            kept[name] = z[:, model.sources.index(name)]
    if whole is not None and strength is None and all("=" in item for item in keep):
        raise UserError("A mixture alone does nothing: give a strength, or a source to keep of it.")
    if seconds is None:
        audio = [whole] if whole is not None else list(kept.values())
        seconds = audio[0].shape[-1] / model.sample_rate if audio else SECONDS

    # Latents alone have no level: where they are all that is kept, it is their mixture's.
    level = 1.0
    if whole is not None and strength is None and not any("=" in item for item in keep):
        level = 1 / float(level_gain(whole))
    folders = []
    seeds = range(seed, seed + count)
    with tqdm(total=count, unit="item", disable=None) as bar:
        for first in range(0, count, BATCH):
            part = seeds[first : first + BATCH]
            stems = model.generate(
                seconds,
                kept,
                mixture=None if strength is None else whole,
                strength=strength,
                steps=steps,
                render_steps=render_steps,
                seed=part[0],
                batch=len(part),
            )
            for number, item in zip(part, level * stems, strict=True):
                folders.append(Path(out) / f"{number:05d}")
                for name, wav in [*zip(model.sources, item, strict=True), ("mix", item.sum(0))]:
                    # Floats, so that kept stems stay what they are and the mixture does not clip.
                    path = folders[-1] / f"{name}.wav"
                    write_audio(path, wav, int(model.sample_rate), subtype="FLOAT")
                bar.update()
    return folders


def _read(model: UCRSeparator, path: str | Path, mono: bool = False) -> Tensor:
    """A file as `(time,)`, its channels averaged.

    Args:
        model: whose rate the file must have.
        path: of the file.
        mono: refuse more than one channel.

    Raises:
        UserError: if it is not at the model's rate, or not mono where that is asked for: resampled
            or averaged, a stem would not be kept as it is.
    """
    wav, rate = read_audio(path)
    if mono and len(wav) > 1:
        raise UserError(f"{path} has {len(wav)} channels: average them first; stems are mono.")
    if rate != model.sample_rate:
        raise UserError(
            f"{path} is at {rate} Hz, and the model at {model.sample_rate:g} Hz: resample it first."
        )
    return wav.mean(0)
