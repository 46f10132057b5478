"""Separates and generates files."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.generator import STEPS, source_number
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.streaming import write_stems
from asteroid_ucr.utils.audio import AUDIO_SUFFIXES, level_gain, read_audio, write_audio
from asteroid_ucr.utils.crossfade import CHUNK_SECONDS
from asteroid_ucr.utils.errors import UserError, check_positive
from asteroid_ucr.utils.stems import check_format

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


def expand(names: Sequence[str]) -> list[Path]:
    """Sound files that names, folders and globs stand for, sorted within each.

    Raises:
        UserError: If a folder or a glob stands for no file.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(f for f in path.rglob("*") if f.suffix.lower() in AUDIO_SUFFIXES)
            if not found:
                raise UserError(f"The folder {name} holds no sound files: name another.")
        elif path.exists() or not glob.has_magic(name):
            found = [path]
        else:
            found = sorted(Path(f) for f in glob.glob(name, recursive=True))
            if not found:
                raise UserError(f"No file matches {name}: check the pattern.")
        files += [file for file in found if file not in files]
    return files


def output_folders(files: Sequence[Path], out: Path) -> dict[Path, Path]:
    """The folder for each file's stems, named like the file without its ending.

    Raises:
        UserError: If two files would have the same folder.
    """
    owners: dict[Path, Path] = {}
    for file in files:
        folder = out / file.stem
        if folder in owners:
            raise UserError(
                f"{owners[folder]} and {file} would both be written to {folder}: separate them "
                "into different folders."
            )
        owners[folder] = file
    return {file: folder for folder, file in owners.items()}


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

    folders = []
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
                folders.append(Path(out) / f"{seed + len(folders):05d}")
                for name, wav in [*zip(model.sources, item, strict=True), ("mix", item.sum(0))]:
                    # With floats, kept stems are unchanged and the mixture does not clip.
                    path = folders[-1] / f"{name}.wav"
                    write_audio(path, wav, int(model.sample_rate), subtype="FLOAT")
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
