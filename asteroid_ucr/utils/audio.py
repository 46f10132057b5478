"""Audio files: soundfile reads and writes them, ffmpeg decodes what soundfile cannot."""

from __future__ import annotations

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

from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.errors import UserError

# Endings looked for in folders. soundfile reads the first group, ffmpeg adds the second.
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus"} | {
    ".m4a",
    ".aac",
    ".mp4",
    ".wma",
    ".webm",
}


@contextmanager
def open_audio(path: str | Path) -> Iterator[sf.SoundFile]:
    """Opens a sound file for reading in pieces, decoding it through ffmpeg where needed.

    Args:
        path: Any file that soundfile or ffmpeg reads.

    Yields:
        An open `soundfile.SoundFile` that holds at least one sample per channel.

    Raises:
        UserError: If the file is missing, is not audio, or is empty.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name an audio file.")
    if not path.is_file():
        raise UserError(f"{path} does not exist: check the name.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file: it holds no audio.")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            file = sf.SoundFile(path)
        except sf.LibsndfileError:
            file = sf.SoundFile(_decode_with_ffmpeg(path, Path(scratch) / "decoded.wav"))
        with file:
            if file.frames == 0:
                raise UserError(f"{path} has zero length: it holds no samples.")
            yield file


def _decode_with_ffmpeg(path: Path, target: Path) -> Path:
    if shutil.which("ffmpeg") is None:
        raise UserError(
            f"{path} is not audio that libsndfile reads (wav, flac, ogg, mp3): install ffmpeg for "
            "other formats, or convert it to wav."
        )
    # rf64 "auto" keeps files beyond 4 GiB valid; floats keep what the decoder gives.
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-vn", "-c:a", "pcm_f32le"]
    done = subprocess.run(
        [*command, "-rf64", "auto", str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not target.is_file():
        raise UserError(f"{path} is not audio that soundfile or ffmpeg can read: check the file.")
    return target


def check_samples(samples: np.ndarray, path: str | Path) -> None:
    """Refuses samples that are not finite.

    Raises:
        UserError: If there are NaN or infinite samples.
    """
    if not np.isfinite(samples).all():
        raise UserError(f"{path} contains NaN or infinite samples: export it again.")


def read_audio(
    path: str | Path,
    sample_rate: int | None = None,
    mono: bool = False,
    start: int = 0,
    frames: int = -1,
) -> tuple[Tensor, int]:
    """Reads an audio file, or a part of it, into memory.

    Args:
        path: Any file that soundfile or ffmpeg reads.
        sample_rate: Rate to resample to, in Hz; None keeps the file's own.
        mono: Average the channels.
        start: First sample frame to read, at the file's own rate.
        frames: Number of sample frames to read, at the file's own rate; −1 reads to the end.

    Returns:
        The waveform `(channels, time)`, float32 with full scale at ±1, and its sample rate in Hz.

    Raises:
        UserError: If the file is missing, is not audio, is empty or holds NaN.
    """
    with open_audio(path) as file:
        file.seek(min(start, file.frames))
        samples = file.read(frames, dtype="float32", always_2d=True)
        rate = file.samplerate
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
    """Gain that brings a mixture to the level at which models are trained and run.

    Args:
        wav: `(…, time)`.

    Returns:
        `(…, 1)`, such that `gain * wav` has an RMS of 0.1 (−20 dB of full scale); 1 for silence,
        and at most 60 dB, so that a noise floor is not taken for music.
    """
    return rms_gain(wav.square().mean(-1, keepdim=True).sqrt())


def rms_gain(rms: Tensor) -> Tensor:
    """`level_gain` for a signal whose RMS is known."""
    return torch.where(rms > 0, 0.1 / rms.clamp(min=1e-4), torch.ones_like(rms))


def wav_subtype(peak: float) -> str:
    """16-bit PCM, unless samples beyond full scale would clip: then 32-bit float."""
    return "PCM_16" if peak <= 1.0 else "FLOAT"


def write_audio(
    path: str | Path, wav: Tensor, sample_rate: int, subtype: str | None = None
) -> None:
    """Writes a wav or flac file, whole or not at all.

    Wav files are 16-bit PCM; 32-bit float where a sample exceeds full scale. Flac files are 16-bit.

    Args:
        path: Target; its ending (.wav or .flac) chooses the format.
        wav: `(channels, time)` or `(time,)`, full scale at ±1.
        sample_rate: Sample rate in Hz.
        subtype: Libsndfile's name of another sample format, such as "FLOAT".

    Raises:
        UserError: If the file cannot be written.
    """
    samples = torch.atleast_2d(wav.detach().cpu().float()).numpy().T
    peak = float(np.abs(samples).max(initial=0.0))
    if subtype is None and Path(path).suffix == ".wav":
        subtype = wav_subtype(peak)
    with atomic_path(path) as temporary:
        try:
            sf.write(temporary, samples, sample_rate, subtype=subtype)
        except sf.LibsndfileError as error:
            raise UserError(f"Cannot write {path}: {error.error_string}") from error
