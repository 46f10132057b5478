"""Opening audio files so that all of their samples are read, whatever their headers say.

Libsndfile reads formats whose headers state their exact length. Ffmpeg decodes what libsndfile does
not read, what it would cut short (the length of an mp3 is a guess, and only the first part of a
chained Ogg file is read), and what is damaged.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile as sf

from asteroid_ucr.utils.errors import AudioWarning, UserError

Value = TypeVar("Value")

_GUESSED = ("MP3", "OGG")  # formats of libsndfile whose length may not be that of the file
_ENDLESS = 2**40  # frames: libsndfile states 2⁶³ − 1 for an unknown length
_TOLERANCE = 0.5  # seconds by which a stated duration may exceed that of the audio
# Sizes that a program writes into the header if it does not know the length, as into a pipe.
_UNKNOWN_SIZES = (2**31, 2**32)
_LOUDEST = 1e15  # beyond it, computing in single precision gives infinities


class _CutShortError(Exception):
    """Libsndfile does not read a file to its end."""


def read_frames(file: sf.SoundFile, start: int, count: int) -> np.ndarray:
    """Samples `(count, channels)` of an open file, float32, from a frame on.

    Raises:
        UserError: If a sample is NaN, infinite or beyond 10¹⁵.
    """
    if file.tell() != start:
        file.seek(start)
    samples = file.read(count, dtype="float32", always_2d=True)
    if len(samples) != count:
        raise _CutShortError
    check_samples(samples, os.fsdecode(file.name))
    return samples


def check_samples(samples: np.ndarray, name: str | Path) -> None:
    """Raises a `UserError` if there are samples that are NaN, infinite or beyond 10¹⁵."""
    if not np.abs(samples).max(initial=0.0) <= _LOUDEST:  # which is false for NaN as well
        raise UserError(f"{name} contains NaN or infinite samples: export it again.")


@contextmanager
def open_audio(
    path: str | Path, first: Callable[[sf.SoundFile], Value], strict: bool = False
) -> Iterator[tuple[sf.SoundFile, Value]]:
    """Opens an audio file that can be read to its end.

    Args:
        path: Any file that soundfile or ffmpeg reads.
        first: The first use of the file, which reads all of it by `read_frames`. If that fails,
            ffmpeg decodes what can be decoded, and `first` is called again.
        strict: Whether a damaged file is an error.

    Yields:
        The file, and the result of `first`. An `AudioWarning` says that the file is damaged and how
        much of it was kept.

    Raises:
        UserError: If the file is missing, is not audio, is empty or holds NaN.
    """
    path, report = Path(path), _refuse if strict else _warn
    if path.is_dir():
        raise UserError(f"{path} is a folder: name an audio file.")
    if not path.is_file():
        what = "is a link to nothing" if path.is_symlink() else "does not exist"
        raise UserError(f"{path} {what}: check the name.")
    with open(path, "rb"):
        pass  # raises what libsndfile does not tell: permission is denied
    if path.stat().st_size == 0:
        raise UserError(f"{path} is an empty file: it holds no audio.")
    with ExitStack() as stack:

        def scratch() -> Path:
            try:
                return Path(stack.enter_context(tempfile.TemporaryDirectory())) / "decoded.wav"
            except OSError as error:
                raise UserError(
                    f"{path} has to be decoded, and there is no folder for temporary files "
                    f"({error.strerror}): set TMPDIR to one."
                ) from error

        opened = False
        try:
            file = stack.enter_context(_open(path, scratch, report))
            opened = True
            value = first(file)
        except (sf.LibsndfileError, _CutShortError):
            decoded = scratch()
            _decode_with_ffmpeg(path, decoded, opened, report)
            file = stack.enter_context(sf.SoundFile(decoded))
            _check_length(file, path)
            value = _named(path, first, file)
        yield file, value


def _open(path: Path, scratch: Callable[[], Path], report: Callable[[str], None]) -> sf.SoundFile:
    """Opens a file by libsndfile if it reads all of it and can go to any frame, or its copy.

    Raises:
        _CutShortError: If libsndfile may not read all of it.
    """
    file = sf.SoundFile(os.fsencode(path))  # bytes, as names need not be Unicode
    guessed = file.format in _GUESSED
    if file.frames > _ENDLESS or (guessed and shutil.which("ffmpeg")):
        file.close()
        raise _CutShortError
    _check_length(file, path)
    if guessed:
        _warn(f"{path} is as long as its header says, which may be wrong: ffmpeg would check it.")
    if kept := _cut_short(file):
        report(f"{path} is damaged: it ends before its stated length; {kept} of it are used.")
    if file.seekable():
        return file
    place = scratch()
    with file, sf.SoundFile(place, "w", file.samplerate, file.channels, "FLOAT") as copy:
        for start in range(0, file.frames, 2**20):
            copy.write(file.read(min(2**20, file.frames - start), dtype="float32", always_2d=True))
    return sf.SoundFile(place)


def _cut_short(file: sf.SoundFile) -> str:
    """The length of a file that is shorter than its header says, as text, or nothing."""
    for stated, found in re.findall(r"(\d+) \(should be (\d+)\)", file.extra_info):
        missing = int(stated) - int(found)
        unknown = any(abs(int(stated) - size) < 2**16 for size in _UNKNOWN_SIZES)
        if missing > 1024 and not unknown:
            return _seconds(file)
    return ""


def _seconds(file: sf.SoundFile) -> str:
    return f"{file.frames / file.samplerate:.1f} s"


def _check_length(file: sf.SoundFile, path: Path) -> None:
    """Raises a `UserError` if a file holds no samples."""
    if file.frames == 0:
        file.close()
        raise UserError(f"{path} has zero length: it holds no samples.")


def _named(path: Path, first: Callable[[sf.SoundFile], Value], file: sf.SoundFile) -> Value:
    """Applies `first` to a decoded file, and names the original in its errors."""
    try:
        return first(file)
    except UserError as error:
        raise UserError(str(error).replace(os.fsdecode(file.name), str(path))) from error


def _decode_with_ffmpeg(
    path: Path, target: Path, damaged: bool, report: Callable[[str], None]
) -> None:
    """Converts any audio file to a wav file of 32-bit floats, as far as it can be decoded.

    Args:
        path: Path of the file.
        target: Path of the wav file.
        damaged: Whether the file is known to be damaged; ffmpeg leaves out parts without a word.
        report: What is done with a message about damage.
    """
    if shutil.which("ffmpeg") is None:
        raise UserError(
            f"{path} is not audio that libsndfile reads to its end (wav, flac, aiff): install "
            "ffmpeg, which reads other formats and damaged files, or convert it to wav."
        )
    # With "file:", a colon in the name is not a protocol; with "-rf64 auto", files beyond 4 GiB are
    # valid.
    options = "-loglevel level+info -nostats -nostdin -y -vn -c:a pcm_f32le -rf64 auto".split()
    command = ["ffmpeg", *options[:5], "-i", f"file:{path}", *options[5:], str(target)]
    done = subprocess.run(command, capture_output=True, check=False)
    log = done.stderr.decode(errors="replace")
    if "No space left" in log:
        raise UserError(
            f"{path} cannot be decoded: the disk of {target.parent.parent} is full; free some "
            "space, or set TMPDIR to another folder."
        )
    try:
        with sf.SoundFile(target) as file:
            found, kept = file.frames / file.samplerate, _seconds(file)
    except sf.LibsndfileError:
        raise UserError(
            f"{path} is not audio that soundfile or ffmpeg can read: check the file."
        ) from None
    damaged = damaged or "[error]" in log or found < _stated_seconds(log) - _TOLERANCE
    if damaged:
        report(f"{path} is damaged: {kept} of it could be decoded and are used.")


def _stated_seconds(log: str) -> float:
    """The duration that a container states, in ffmpeg's log; 0 if it is not exact."""
    found = re.search(r"Duration: (\d+):(\d+):([\d.]+)", log)
    if found is None or "Estimating duration from bitrate" in log:
        return 0.0
    hours, minutes, seconds = found.groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def _warn(text: str) -> None:
    warnings.warn(text, AudioWarning, stacklevel=2)


def _refuse(text: str) -> None:
    raise UserError(text)
