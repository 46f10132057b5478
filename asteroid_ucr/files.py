"""Separates and generates files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.generator import STEPS, source_number
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.streaming import write_stems
from asteroid_ucr.utils.atomic import refuse_inputs
from asteroid_ucr.utils.audio import level_gain, read_audio, write_audio
from asteroid_ucr.utils.crossfade import CHUNK_SECONDS
from asteroid_ucr.utils.errors import UserError, check_positive
from asteroid_ucr.utils.stems import MARK, check_format

SECONDS = 10.0  # default length, if no input has a length
BATCH = 8  # number of items generated together


def separate_file(
    model: UCRSeparator,
    path: str | Path,
    folder: str | Path,
    suffix: str = "wav",
    steps: int | None = None,
    seed: int | None = None,
    chunk_seconds: int = CHUNK_SECONDS,
    progress: Callable[[float], None] | None = None,
    bits: int | None = None,
    clip: str = "rescale",
) -> list[Path]:
    """Separates an audio file into `folder/<source>.<suffix>`.

    The stems have the sample rate and the channels of the file, and add up to it. All channels
    share the masks, which are computed from the channels' mean power. The files appear only when
    all are complete.

    Args:
        model: Model on the device to use.
        path: Path of the mixture.
        folder: Folder for the stems; created if needed.
        suffix: "wav", "flac", "ogg" or "mp3".
        steps: Number of sampler steps; None takes the model's setting.
        seed: Seed of the sampler's noise; None takes the model's setting.
        chunk_seconds: Length of the chunks, at least 4 s.
        progress: Function that is called with the completed fraction.
        bits: Bits per sample; None takes 32-bit float for wav and 24 bits for flac.
        clip: What to do with stems beyond full scale, in formats other than 32-bit float:
            "rescale", "clamp" or "refuse"; see `asteroid_ucr.utils.stems.stem_writer`.

    Returns:
        Paths of the stems, in the order of `model.sources`.

    Raises:
        UserError: If an option is not valid, the file cannot be read, or the stems cannot be
            written.
    """
    check_format(suffix)  # before the folder is made
    targets = [Path(folder) / f"{source}.{suffix}" for source in model.sources]
    options = {"steps": steps, "seed": seed, "chunk_seconds": chunk_seconds, "progress": progress}
    write_stems(model, path, targets, bits, clip, **options)
    return targets


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
        model: Model with a prior, on the device to use.
        out: Folder; created if needed.
        seconds: Length in seconds; None takes that of the files, or 10 s.
        keep: "SOURCE=FILE" keeps a stem unchanged; "SOURCE" keeps this component of the mixture.
        mixture: File whose components are kept, or which is varied.
        strength: Strength of a variation of the mixture; see `UCRSeparator.generate`.
        count: Number of items.
        seed: Seed of the first item; the next items have the next seeds.
        steps: Steps of the prior's sampler.
        render_steps: Steps of the denoiser's sampler; None takes the model's setting.

    Returns:
        The folders, in the order of the seeds.

    Raises:
        UserError: If an option is not valid, or a file cannot be read or written.
    """
    check_positive(count=count)
    whole = None if mixture is None else _read_mono(model, mixture)
    kept: dict[str, Tensor] = {}
    for item in keep:
        name, given, file = item.partition("=")
        number = source_number(model.sources, name)
        if name in kept:
            raise UserError(f"{name} is kept twice: give one --keep for each source.")
        if given:
            kept[name] = _read_mono(model, file, stem=True)
        elif whole is None:
            raise UserError(f"--keep {name} needs a --mixture: give one, or {name}=FILE.")
        else:
            with torch.no_grad():
                kept[name] = model.encode(whole.to(model.device))[:, number]
    from_files = ["=" in item for item in keep]
    if whole is not None and strength is None and all(from_files):
        raise UserError("A mixture alone has no effect: give a strength, or a source to keep.")
    if seconds is None:
        audio = [whole] if whole is not None else list(kept.values())
        seconds = audio[0].shape[-1] / model.sample_rate if audio else SECONDS
    # If only latents are kept, which have no level, the result gets the level of their mixture.
    only_latents = whole is not None and strength is None and not any(from_files)
    level = 1 / float(level_gain(whole)) if only_latents else 1.0

    folders = [Path(out) / f"{number:05d}" for number in range(seed, seed + count)]
    names = [*model.sources, "mix"]
    refuse_inputs(
        [folder / f"{name}.wav" for folder in folders for name in names],
        [*filter(None, (item.partition("=")[2] for item in keep)), *([mixture] if mixture else [])],
    )
    left = iter(folders)
    with tqdm(total=count, unit="item", disable=None) as bar:
        for first in range(0, count, BATCH):
            stems = level * model.generate(
                seconds,
                kept,
                mixture=None if strength is None else whole,
                strength=strength,
                steps=steps,
                render_steps=render_steps,
                seed=seed + first,
                batch=min(BATCH, count - first),
            )
            for item in stems:
                folder = next(left)
                for name, wav in zip(names, [*item, item.sum(0)], strict=True):
                    # With floats, kept stems are unchanged and the mixture does not clip.
                    comment = "" if name == "mix" else f"{MARK}with a prior"
                    path = folder / f"{name}.wav"
                    write_audio(path, wav, int(model.sample_rate), "FLOAT", comment)
                bar.update()
    return folders


def _read_mono(model: UCRSeparator, path: str | Path, stem: bool = False) -> Tensor:
    """Reads a file at the model's rate as `(time,)`; stems must be mono, to be kept unchanged."""
    wav, rate = read_audio(path)
    if stem and len(wav) > 1:
        raise UserError(f"{path} has {len(wav)} channels: average them first; stems are mono.")
    if rate != model.sample_rate:
        raise UserError(
            f"{path} is at {rate} Hz, and the model at {model.sample_rate:g} Hz: resample it first."
        )
    return wav.mean(0)
