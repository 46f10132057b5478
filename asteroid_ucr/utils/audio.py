"""Reading and writing audio files, resampling, and the level of a mixture."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr
import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor

from asteroid_ucr.utils.atomic import atomic_path, refusal
from asteroid_ucr.utils.decoding import open_audio, read_frames
from asteroid_ucr.utils.errors import UserError

LEVEL_RATE = 24_000  # Hz, of the blocks of `level_gain`
BLOCK_SECONDS = 3
OFFSET = 0.03  # largest mean that is not removed, in mean deviations
_GATE = 1e-3  # −30 dB
_LARGEST_TERM = 2000  # of a ratio of rates

# Endings of the audio files in a folder: first those that soundfile reads, then ffmpeg's.
AUDIO_SUFFIXES = set(
    ".wav .flac .ogg .oga .opus .mp3 .mp2 .aif .aiff .aifc .au .snd .caf .rf64 .w64 .voc "
    ".m4a .m4b .aac .mp4 .mov .mkv .mka .webm .wma .wv .ape .tta .ac3 .dts .amr .3gp .spx".split()
)


def read_audio(
    path: str | Path, sample_rate: int | None = None, mono: bool = False, strict: bool = False
) -> tuple[Tensor, int]:
    """Reads an audio file into memory.

    Args:
        path: Any file that soundfile or ffmpeg reads.
        sample_rate: Sample rate of the result, in Hz; None keeps the file's own.
        mono: Whether to average the channels.
        strict: Whether a damaged file is an error.

    Returns:
        The waveform `(channels, time)`, float32 with full scale at ±1, and its sample rate in Hz.

    Raises:
        UserError: If the file is missing, is not audio, is empty or holds NaN.
    """
    with open_audio(path, lambda f: read_frames(f, 0, f.frames), strict) as (file, samples):
        rate = file.samplerate
    wav = torch.from_numpy(samples.T.copy())
    if mono:
        wav = wav.mean(0, keepdim=True)
    if sample_rate is not None:
        wav, rate = resample(wav, rate, sample_rate), sample_rate
    return wav, rate


def as_waveform(samples: Any) -> Tensor:
    """An array or a tensor of any number type as a tensor of floats with full scale at ±1.

    Raises:
        UserError: If it does not hold real numbers.
    """
    try:
        wav = torch.as_tensor(samples)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"The waveform is not an array of numbers: {error}") from error
    if wav.is_complex() or wav.dtype == torch.bool:
        raise UserError(f"The waveform has the type {wav.dtype}: give real numbers.")
    if wav.is_floating_point():
        return wav
    limits = torch.iinfo(wav.dtype)
    centre = 0 if limits.min else (limits.max + 1) // 2  # as 8-bit wav files have it
    return (wav.double() - centre).float() / float((limits.max + 1) / (1 if limits.min else 2))


def resample(wav: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Band-limited resampling of `(..., time)` to `ceil(time * to_rate / from_rate)` samples.

    Rates whose ratio has small terms, which are all usual ones, use the differentiable windowed
    sinc of `torchaudio`. It stores a filter for each phase of the ratio, which would take 16 GB for
    44,099 Hz, so `soxr` resamples all others, without gradients.
    """
    if from_rate == to_rate:
        return wav
    divisor = math.gcd(from_rate, to_rate)
    if max(from_rate, to_rate) // divisor <= _LARGEST_TERM:
        return AF.resample(wav, from_rate, to_rate)
    flat = wav.detach().reshape(-1, wav.shape[-1]).cpu().float().numpy()
    rows = [soxr.resample(row, from_rate, to_rate, quality="HQ") for row in flat]
    length = -(-wav.shape[-1] * to_rate // from_rate)
    fitted = [np.pad(row[:length], (0, max(0, length - len(row)))) for row in rows]
    return torch.tensor(np.array(fitted)).to(wav).reshape(*wav.shape[:-1], length)


def without_offset(wav: Tensor) -> Tensor:
    """A mixture `(…, time)` without the part of its mean that disturbs the analysis.

    A mean of less than 3 % of the mean deviation is kept: music has it by chance. Of a larger one,
    this much is left, so that the result is continuous.
    """
    mean = wav.mean(-1, keepdim=True)
    limit = OFFSET * (wav - mean).abs().mean(-1, keepdim=True)
    return wav - (mean - mean.clamp(-limit, limit))


def level_gain(wav: Tensor) -> Tensor:
    """Gain that brings a mixture `(…, time)` to the level at which models are trained and run.

    The level is the RMS without a constant offset and without long silence: of blocks of at least
    3 s (at 24 kHz), those 30 dB below the loudest do not count, much as in loudness meters.

    Returns:
        `(…, 1)`, such that `gain * wav` has a level of 0.1 (−20 dB of full scale). The gain is at
        most 60 dB, so that a noise floor is not amplified like music, and 1 for silence.
    """
    samples = wav.shape[-1]
    size = block_size(samples, LEVEL_RATE)
    blocks = F.pad(without_offset(wav), (0, -samples % size)).unflatten(-1, (-1, size))
    counts = torch.full((blocks.shape[-2],), float(size), device=wav.device, dtype=wav.dtype)
    counts[-1] -= -samples % size
    return power_gain(blocks.square().sum(-1), counts)


def block_size(samples: int, sample_rate: int) -> int:
    """Length in samples of the equal blocks, of 3 s or more, over which a level is measured."""
    return -(-samples // max(1, samples // (BLOCK_SECONDS * sample_rate)))


def power_gain(energy: Tensor, counts: Tensor) -> Tensor:
    """`level_gain` for the energies `(…, blocks)` of blocks with `counts` `(blocks,)` samples."""
    power = energy / counts
    loud = (power >= _GATE * power.amax(-1, keepdim=True)) * counts
    power = (power * loud).sum(-1, keepdim=True) / loud.sum(-1, keepdim=True)
    # The limit comes before the root, whose gradient is infinite at silence.
    return torch.where(power > 0, 0.1 / power.clamp(min=1e-8).sqrt(), torch.ones_like(power))


@contextmanager
def writing(temporary: Path) -> Iterator[None]:
    """Says why libsndfile failed to write a temporary file of `atomic_path` or `atomic_folder`.

    Raises:
        OSError: If the operating system refused, as it does when the disk is full.
        UserError: If libsndfile refused, such as a rate that the format does not have.
    """
    try:
        yield
    except (sf.SoundFileError, AssertionError) as error:  # soundfile asserts that all is written
        if reason := refusal(temporary):
            raise reason from error
        text = getattr(error, "error_string", "the file is not complete.")
        raise UserError(f"Cannot write to {temporary.parent}: {text}") from error


def close_written(file: sf.SoundFile) -> None:
    """Closes a temporary file that was written, and makes sure that it can be read to its end.

    Errors are those of `writing`: what an encoder keeps back is lost without a word if the disk is
    full when the file is closed.
    """
    frames, path = file.frames, file.name
    with writing(Path(os.fsdecode(path))):
        file.close()
        with sf.SoundFile(path) as written:
            written.seek(max(0, min(frames, written.frames) - 1))
            if written.frames != frames or len(written.read(1)) != min(1, frames):
                raise sf.SoundFileRuntimeError("the file is not complete.")


def write_audio(
    path: str | Path, wav: Tensor, sample_rate: int, subtype: str | None = None, comment: str = ""
) -> None:
    """Writes an audio file atomically.

    Args:
        path: Path of the file; its ending (.wav or .flac) determines the format.
        wav: `(channels, time)` or `(time,)`, full scale at ±1.
        sample_rate: Sample rate in Hz.
        subtype: Libsndfile's name of the sample format, such as "FLOAT"; None takes 16 bits, or
            32-bit float for a wav file with a sample beyond full scale.
        comment: Text that is noted in the file.

    Raises:
        UserError: If the file cannot be written.
    """
    samples = torch.atleast_2d(wav.detach().cpu().float()).numpy().T
    if subtype is None and Path(path).suffix == ".wav":
        subtype = "PCM_16" if np.abs(samples).max(initial=0.0) <= 1.0 else "FLOAT"
    with atomic_path(path) as temporary, writing(temporary):
        shape = sample_rate, samples.shape[1], subtype
        with sf.SoundFile(os.fsencode(temporary), "w", *shape) as file:
            if comment:
                file.comment = comment
            file.write(samples)
            close_written(file)
