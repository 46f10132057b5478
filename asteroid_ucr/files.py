"""Separates files of any length in bounded memory.

A file is cut into chunks that overlap. The noise of the sampler is a function of the absolute
frame, the level is measured over the whole file, and the order of the sources is the model's, so
that neighbouring chunks agree where they overlap and are cross-faded there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from asteroid_ucr.masking import apply_masks
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.audio import check_samples, open_audio, resample, rms_gain
from asteroid_ucr.utils.errors import UserError

if TYPE_CHECKING:
    from asteroid_ucr.separator import UCRSeparator

CHUNK_SECONDS = 30  # whole seconds are whole numbers of latent frames and of samples at any rate
OVERLAP_SECONDS = 2
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
        model: on the device to run on.
        path: of the mixture.
        folder: for the stems; created if needed.
        suffix: "wav" (32-bit float) or "flac" (24-bit).
        steps: of the sampler; None takes the model's setting.
        seed: of the sampler's noise; None takes the model's setting.
        chunk_seconds: length of what is in memory at a time, at least 4.
        progress: called with the fraction done.

    Returns:
        Paths of the stems, in the order of `model.sources`.

    Raises:
        UserError: if the file cannot be read or the stems cannot be written.
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
        for done, piece in crossfade(stems, OVERLAP_SECONDS * file.samplerate):
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


def crossfade(pieces: Iterator[Tensor], overlap: int) -> Iterator[tuple[int, Tensor]]:
    """Joins overlapping pieces `(…, time)` linearly; yields the running length and what is done."""
    fade_in = torch.linspace(0, 1, overlap)
    done, tail = 0, None
    for piece in pieces:
        if tail is not None:
            # All but the last piece are longer than the overlap, and the last at least as long.
            head = torch.lerp(tail, piece[..., :overlap], fade_in)
            piece = torch.cat([head, piece[..., overlap:]], dim=-1)
        keep = piece.shape[-1] - overlap
        ready, tail = (piece[..., :keep], piece[..., keep:]) if keep > 0 else (None, piece)
        if ready is not None:
            done += ready.shape[-1]
            yield done, ready
    if tail is not None:
        yield done + tail.shape[-1], tail


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
        UserError: if two files would get the same folder.
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
