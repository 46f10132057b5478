"""Audio files: soundfile reads and writes them, and ffmpeg decodes all other formats."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
import torchaudio.functional as AF
from torch import Tensor

from asteroid_ucr.utils.atomic import atomic_path, refusal
from asteroid_ucr.utils.errors import UserError

# Endings of the audio files in a folder: first those that soundfile reads, then ffmpeg's.
AUDIO_SUFFIXES = set(
    ".wav .flac .ogg .oga .opus .mp3 .mp2 .aif .aiff .aifc .au .snd .caf .rf64 .w64 .voc "
    ".m4a .m4b .aac .mp4 .mov .mkv .mka .webm .wma .wv .ape .tta .ac3 .dts .amr .3gp .spx".split()
)


@contextmanager
def open_audio(path: str | Path) -> Iterator[sf.SoundFile]:
    """Opens an audio file for reading in pieces; ffmpeg decodes what soundfile cannot read.

    Raises:
        UserError: If the file is missing, is not audio, or is empty.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name an audio file.")
    if not path.is_file():
        what = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise UserError(f"{path} {what}: check the name.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file: it holds no audio.")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            file = sf.SoundFile(os.fsencode(path))  # bytes, as names need not be Unicode
        except sf.LibsndfileError:
            file = sf.SoundFile(_decode_with_ffmpeg(path, Path(scratch) / "decoded.wav"))
        with file:
            if file.frames == 0:
                raise UserError(f"{path} has zero length: it holds no samples.")
            yield file


def _decode_with_ffmpeg(path: Path, target: Path) -> Path:
    """Converts any audio file to a wav file of 32-bit floats."""
    if shutil.which("ffmpeg") is None:
        raise UserError(
            f"{path} is not audio that libsndfile reads (wav, flac, ogg, mp3): install ffmpeg for "
            "other formats, or convert it to wav."
        )
    # With "file:", a colon in the name is not a protocol; with "-rf64 auto", files beyond 4 GiB are
    # valid.
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-nostdin",
        "-i",
        f"file:{path}",
        "-vn",
        "-c:a",
        "pcm_f32le",
    ]
    done = subprocess.run(
        [*command, "-rf64", "auto", str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not target.is_file():
        raise UserError(f"{path} is not audio that soundfile or ffmpeg can read: check the file.")
    return target


def check_samples(samples: np.ndarray, path: str | Path) -> None:
    """Raises a `UserError` if there are NaN or infinite samples."""
    if not np.isfinite(samples).all():
        raise UserError(f"{path} contains NaN or infinite samples: export it again.")


def read_audio(
    path: str | Path, sample_rate: int | None = None, mono: bool = False
) -> tuple[Tensor, int]:
    """Reads an audio file into memory.

    Args:
        path: Any file that soundfile or ffmpeg reads.
        sample_rate: Sample rate of the result, in Hz; None keeps the file's own.
        mono: Whether to average the channels.

    Returns:
        The waveform `(channels, time)`, float32 with full scale at ±1, and its sample rate in Hz.

    Raises:
        UserError: If the file is missing, is not audio, is empty or holds NaN.
    """
    with open_audio(path) as file:
        samples, rate = file.read(dtype="float32", always_2d=True), file.samplerate
    check_samples(samples, path)
    wav = torch.from_numpy(samples.T.copy())
    if mono:
        wav = wav.mean(0, keepdim=True)
    if sample_rate is not None:
        wav, rate = resample(wav, rate, sample_rate), sample_rate
    return wav, rate


def resample(wav: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Band-limited resampling of `(..., time)` (windowed sinc, `torchaudio`), differentiable."""
    return wav if from_rate == to_rate else AF.resample(wav, from_rate, to_rate)


def level_gain(wav: Tensor) -> Tensor:
    """Gain that brings a mixture `(…, time)` to the level at which models are trained and run.

    Returns:
        `(…, 1)`, such that `gain * wav` has an RMS of 0.1 (−20 dB of full scale). The gain is at
        most 60 dB, so that a noise floor is not amplified like music, and 1 for silence.
    """
    return rms_gain(wav.square().mean(-1, keepdim=True).sqrt())


def rms_gain(rms: Tensor) -> Tensor:
    """`level_gain` for a signal whose RMS is known."""
    return torch.where(rms > 0, 0.1 / rms.clamp(min=1e-4), torch.ones_like(rms))


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
    path: str | Path, wav: Tensor, sample_rate: int, subtype: str | None = None
) -> None:
    """Writes an audio file atomically.

    Args:
        path: Path of the file; its ending (.wav or .flac) determines the format.
        wav: `(channels, time)` or `(time,)`, full scale at ±1.
        sample_rate: Sample rate in Hz.
        subtype: Libsndfile's name of the sample format, such as "FLOAT"; None takes 16 bits, or
            32-bit float for a wav file with a sample beyond full scale.

    Raises:
        UserError: If the file cannot be written.
    """
    samples = torch.atleast_2d(wav.detach().cpu().float()).numpy().T
    if subtype is None and Path(path).suffix == ".wav":
        subtype = "PCM_16" if np.abs(samples).max(initial=0.0) <= 1.0 else "FLOAT"
    with atomic_path(path) as temporary, writing(temporary):
        sf.write(os.fsencode(temporary), samples, sample_rate, subtype=subtype)
