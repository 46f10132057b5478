"""Separates files of any length in bounded memory.

A file is cut into chunks that overlap. The noise of the sampler is a function of the absolute
frame, the level is measured over the whole file, and the order of the sources is the model's, so
that neighbouring chunks agree where they overlap and are cross-faded there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.generator import STEPS
from asteroid_ucr.masking import apply_masks
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.audio import (
    check_samples,
    level_gain,
    open_audio,
    read_audio,
    resample,
    rms_gain,
    write_audio,
)
from asteroid_ucr.utils.crossfade import CHUNK_SECONDS, OVERLAP_SECONDS, crossfade
from asteroid_ucr.utils.errors import UserError

SECONDS = 10.0  # where nothing that is given has a length
BATCH = 8  # generated together
# Stems keep all of the mixture's precision, so that they add up to it.
SUBTYPES = {"wav": "FLOAT", "flac": "PCM_24"}


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
    """Separates a sound file into `folder/<source>.<suffix>`.

    Stems have the file's sample rate and channels. All channels share the masks, which are computed
    from their mean. Masks sum to one everywhere, so the stems add up to the mixture; nothing is
    left over. Files appear when all are complete.

    Args:
        model: On the device to run on.
        path: Path of the mixture.
        folder: Folder for the stems; created if needed.
        suffix: "wav" (32-bit float) or "flac" (24-bit).
        steps: Number of sampler steps; None takes the model's setting.
        seed: Seed of the sampler's noise; None takes the model's setting.
        chunk_seconds: Length of what is in memory at a time, at least 4.
        progress: Called with the fraction done.

    Returns:
        Paths of the stems, in the order of `model.sources`.

    Raises:
        UserError: If the file cannot be read or the stems cannot be written.
    """
    if suffix not in SUBTYPES:
        raise UserError(f"format {suffix!r} is unknown: choose one of {', '.join(SUBTYPES)}.")
    if chunk_seconds < 2 * OVERLAP_SECONDS:
        raise UserError(f"chunk {chunk_seconds} is too short: give {2 * OVERLAP_SECONDS} or more.")
    targets = [Path(folder) / f"{source}.{suffix}" for source in model.sources]
    with open_audio(path) as file, ExitStack() as stack:
        gain = rms_gain(torch.tensor(_rms(file, path))).reshape(1, 1, 1)
        temporary = [stack.enter_context(atomic_path(target)) for target in targets]
        writers = [stack.enter_context(_writer(t, file, suffix)) for t in temporary]
        chunks = _chunks(file, chunk_seconds * file.samplerate)
        stems = (
            _separate_chunk(model, *chunk, file.samplerate, gain, steps, seed) for chunk in chunks
        )
        done = 0
        for piece in crossfade(stems, OVERLAP_SECONDS * file.samplerate):
            done += piece.shape[-1]
            for writer, stem in zip(writers, piece, strict=True):
                _write(writer, stem, folder)
            if progress is not None:
                progress(done / file.frames)
    return targets


def _rms(file: sf.SoundFile, path: str | Path) -> float:
    """RMS of the mean of the channels; refuses samples that are not finite."""
    energy = 0.0
    for block in file.blocks(blocksize=60 * file.samplerate, dtype="float32", always_2d=True):
        check_samples(block, path)
        energy += float(np.square(block.mean(1), dtype=np.float64).sum())
    file.seek(0)
    return (energy / file.frames) ** 0.5


def _chunks(file: sf.SoundFile, length: int) -> Iterator[tuple[Tensor, int]]:
    """Overlapping chunks `(1, channels, time)` and the second at which each starts."""
    rate = file.samplerate
    step = length - OVERLAP_SECONDS * rate
    start = 0
    while True:
        file.seek(start)
        samples = file.read(length, dtype="float32", always_2d=True)
        yield torch.from_numpy(samples.T.copy())[None], start // rate
        if start + length >= file.frames:
            return
        start += step


@torch.inference_mode()
def _separate_chunk(
    model: UCRSeparator,
    wav: Tensor,
    second: int,
    rate: int,
    gain: Tensor,
    steps: int | None,
    seed: int | None,
) -> Tensor:
    """Stems `(n_src, channels, time)` of one chunk, on the CPU."""
    wav = wav.to(model.device)
    mono = resample(wav.mean(1, keepdim=True), rate, int(model.sample_rate))
    first_frame = second * model.codec.sample_rate // model.codec.hop
    masks = model.masks(mono, steps, seed, first_frame, gain.to(mono))
    return apply_masks(wav, masks, rate)[0].cpu()


def _writer(path: Path, like: sf.SoundFile, suffix: str) -> sf.SoundFile:
    # A plain wav file holds 4 GiB; RF64 has the same ending and no such limit.
    large = like.frames * like.channels * 4 > 4e9
    container = "RF64" if large and suffix == "wav" else suffix.upper()
    try:
        return sf.SoundFile(
            path, "w", like.samplerate, like.channels, SUBTYPES[suffix], format=container
        )
    except sf.LibsndfileError as error:
        raise UserError(f"Cannot write to {path.parent}: {error.error_string}") from error


def _write(writer: sf.SoundFile, stem: Tensor, folder: str | Path) -> None:
    try:
        writer.write(stem.numpy().T)
    except sf.LibsndfileError as error:
        raise UserError(f"Cannot write to {folder}: {error.error_string}") from error


def output_folders(files: Sequence[Path], out: Path) -> dict[Path, Path]:
    """A folder for each file's stems, named like the file without its ending.

    Raises:
        UserError: If two files would get the same folder.
    """
    folders: dict[Path, Path] = {}
    for file in files:
        folder = out / file.stem
        if folder in folders.values():
            twin = next(f for f, taken in folders.items() if taken == folder)
            raise UserError(
                f"{twin} and {file} would both be written to {folder}: separate them into "
                "different folders."
            )
        folders[file] = folder
    return folders


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
        model: With a prior, on the device to run on.
        out: Folder, created if needed.
        seconds: Length; None takes that of the files, or 10.
        keep: "SOURCE=FILE" keeps a stem as it is; "SOURCE" the component of the mixture.
        mixture: File to take components from, or to vary.
        strength: Strength of a variation of the mixture; see `UCRSeparator.generate`.
        count: Number of items.
        seed: Seed of the first; the others have the next ones.
        steps: Steps of the prior's sampler.
        render_steps: Steps of the denoiser's sampler.

    Returns:
        The folders, in the order of the seeds.

    Raises:
        UserError: If an option is not valid, or a file cannot be read or written.
    """
    if count < 1:
        raise UserError(f"count must be at least 1, got {count}.")
    whole = None if mixture is None else _read_mono(model, mixture)
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
            kept[name] = _read_mono(model, file, mono=True)
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


def _read_mono(model: UCRSeparator, path: str | Path, mono: bool = False) -> Tensor:
    """A file as `(time,)`, its channels averaged.

    Args:
        model: Whose rate the file must have.
        path: Path of the file.
        mono: Refuse more than one channel.

    Raises:
        UserError: If it is not at the model's rate, or not mono where that is asked for: resampled
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
