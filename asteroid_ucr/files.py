"""Separates files of any length in bounded memory, and generates files.

A file is separated in overlapping chunks, which are cross-faded. The level is measured over the
whole file and the sampler's noise is a function of the absolute frame, so that neighbouring chunks
agree in their overlap.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.generator import STEPS, source_number
from asteroid_ucr.masking import apply_masks
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.audio import (
    check_samples,
    close_written,
    level_gain,
    open_audio,
    read_audio,
    resample,
    rms_gain,
    write_audio,
    writing,
)
from asteroid_ucr.utils.crossfade import CHUNK_SECONDS, OVERLAP_SECONDS, chunk_starts, crossfade
from asteroid_ucr.utils.errors import UserError, check_positive

SECONDS = 10.0  # default length, if no input has a length
BATCH = 8  # number of items generated together
SUBTYPES = {"wav": "FLOAT", "flac": "PCM_24"}  # precise enough that the stems add up


def separate_file(
    model: UCRSeparator,
    path: str | Path,
    folder: str | Path,
    suffix: str = "wav",
    steps: int | None = None,
    seed: int | None = None,
    chunk_seconds: int = CHUNK_SECONDS,
    progress: Callable[[float], None] | None = None,
) -> list[Path]:
    """Separates an audio file into `folder/<source>.<suffix>`.

    The stems have the sample rate and the channels of the file, and add up to it. All channels
    share the masks, which are computed from the mean of the channels. The files appear only when
    all are complete.

    Args:
        model: Model on the device to use.
        path: Path of the mixture.
        folder: Folder for the stems; created if needed.
        suffix: "wav" (32-bit float) or "flac" (24-bit).
        steps: Number of sampler steps; None takes the model's setting.
        seed: Seed of the sampler's noise; None takes the model's setting.
        chunk_seconds: Length of the chunks, at least 4 s.
        progress: Function that is called with the completed fraction.

    Returns:
        Paths of the stems, in the order of `model.sources`.

    Raises:
        UserError: If an option is not valid, the file cannot be read, or the stems cannot be
            written.
    """
    if suffix not in SUBTYPES:
        raise UserError(f"format {suffix!r} is unknown: choose one of {', '.join(SUBTYPES)}.")
    if chunk_seconds < 2 * OVERLAP_SECONDS:
        raise UserError(f"chunk {chunk_seconds} is too short: give {2 * OVERLAP_SECONDS} or more.")
    targets = [Path(folder) / f"{source}.{suffix}" for source in model.sources]
    with open_audio(path) as file, ExitStack() as stack:
        rate = file.samplerate
        gain = rms_gain(torch.tensor(_rms(file, path))).reshape(1, 1, 1)

        @torch.inference_mode()
        def separate(wav: Tensor, second: int) -> Tensor:
            wav = wav.to(model.device)
            mono = resample(wav.mean(1, keepdim=True), rate, int(model.sample_rate))
            frame = second * model.codec.sample_rate // model.codec.hop
            masks = model.masks(mono, steps=steps, seed=seed, first_frame=frame, gain=gain.to(mono))
            return apply_masks(wav, masks, rate)[0].cpu()

        temporary = [stack.enter_context(atomic_path(target)) for target in targets]
        writers = [stack.enter_context(_writer(t, file, suffix)) for t in temporary]
        stems = (separate(*chunk) for chunk in _chunks(file, chunk_seconds * rate))
        done = 0
        for piece in crossfade(stems, OVERLAP_SECONDS * rate):
            done += piece.shape[-1]
            for writer, stem in zip(writers, piece, strict=True):
                with writing(temporary[0]):
                    writer.write(stem.numpy().T)
            if progress is not None:
                progress(done / file.frames)
        for writer in writers:
            close_written(writer)
    return targets


def _rms(file: sf.SoundFile, path: str | Path) -> float:
    """RMS of the mean of the channels; samples that are not finite are refused."""
    energy = 0.0
    for block in file.blocks(blocksize=60 * file.samplerate, dtype="float32", always_2d=True):
        check_samples(block, path)
        energy += float(np.square(block.mean(1), dtype=np.float64).sum())
    file.seek(0)
    return (energy / file.frames) ** 0.5


def _chunks(file: sf.SoundFile, length: int) -> Iterator[tuple[Tensor, int]]:
    """Overlapping chunks `(1, channels, time)`, and the second at which each starts."""
    for start in chunk_starts(file.frames, length, OVERLAP_SECONDS * file.samplerate):
        file.seek(start)
        samples = file.read(length, dtype="float32", always_2d=True)
        yield torch.from_numpy(samples.T.copy())[None], start // file.samplerate


def _writer(path: Path, like: sf.SoundFile, suffix: str) -> sf.SoundFile:
    """Opens a file with the rate and channels of another one for writing."""
    # A plain wav file holds 4 GiB; RF64 has the same ending and no such limit.
    large = like.frames * like.channels * 4 > 4e9
    container = "RF64" if large and suffix == "wav" else suffix.upper()
    with writing(path):
        return sf.SoundFile(
            os.fsencode(path),
            "w",
            like.samplerate,
            like.channels,
            SUBTYPES[suffix],
            format=container,
        )


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
