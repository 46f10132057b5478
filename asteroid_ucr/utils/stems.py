"""Writing stems piece by piece, in any format, without silent clipping."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import soundfile as sf
from torch import Tensor

from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.audio import close_written, writing
from asteroid_ucr.utils.errors import AudioWarning, UserError

# Libsndfile's name of the samples for each format and number of bits; the first is the default.
FORMATS = {
    "wav": {32: "FLOAT", 24: "PCM_24", 16: "PCM_16"},
    "flac": {24: "PCM_24", 16: "PCM_16"},
    "ogg": {None: "VORBIS"},
    "mp3": {None: "MPEG_LAYER_III"},
}
# What happens to samples beyond full scale in formats other than 32-bit float.
MARK = "stem by asteroid-ucr, "  # starts the comment in the files of stems
CLIP_MODES = ("rescale", "clamp", "refuse")


def check_format(suffix: str, bits: int | None = None, clip: str = "rescale") -> str:
    """Libsndfile's name of the samples; `stem_writer` has the arguments.

    Raises:
        UserError: If the format, its bits or the clip mode does not exist.
    """
    if suffix not in FORMATS:
        raise UserError(f"format {suffix!r} is unknown: choose one of {', '.join(FORMATS)}.")
    known = FORMATS[suffix]
    bits = next(iter(known)) if bits is None else bits
    if bits not in known:
        choice = ", ".join(str(n) for n in known if n)
        remedy = f"choose {choice}" if choice else "leave the bits out"
        raise UserError(f"{suffix} files with {bits} bits cannot be written: {remedy}.")
    if clip not in CLIP_MODES:
        raise UserError(f"clip mode {clip!r} is unknown: choose one of {', '.join(CLIP_MODES)}.")
    return known[bits]


@contextmanager
def stem_writer(
    targets: Sequence[Path],
    sample_rate: int,
    shape: tuple[int, int],
    bits: int | None = None,
    clip: str = "rescale",
    comment: str = "",
) -> Iterator[Callable[[Tensor], None]]:
    """Opens files of one format, which appear together when all are complete.

    Args:
        targets: Paths with the same ending: .wav, .flac, .ogg or .mp3.
        sample_rate: Sample rate in Hz.
        shape: Number of channels and of frames.
        bits: Bits per sample: 32 (float), 24 or 16 for wav, 24 or 16 for flac; None takes the most.
        clip: What happens to stems beyond full scale, which only 32-bit float can hold: "rescale"
            scales all stems by the same factor, so that they still add up to the scaled mixture,
            "clamp" limits the samples, and "refuse" raises an error. The first two give an
            `AudioWarning` with the peak.
        comment: Text that is noted in the files.

    Yields:
        A function that writes the next samples `(len(targets), channels, time)`.

    Raises:
        UserError: If a file cannot be written, or the stems are beyond full scale.
    """
    suffix = targets[0].suffix[1:]
    subtype = check_format(suffix, bits, clip)
    peak = 0.0
    with ExitStack() as stack:
        final = [stack.enter_context(atomic_path(target)) for target in targets]
        pieces = final
        if subtype != "FLOAT":  # the factor is known at the end
            # On the disk of the stems: that of temporary files may be small, or memory.
            folder = tempfile.TemporaryDirectory(dir=targets[0].parent, prefix=".")
            scratch = stack.enter_context(folder)
            pieces = [Path(scratch) / f"{number}.wav" for number in range(len(targets))]
        floats = [_create(path, sample_rate, shape, "FLOAT", comment) for path in pieces]
        files = [stack.enter_context(file) for file in floats]

        def write(samples: Tensor) -> None:
            nonlocal peak
            peak = max(peak, float(samples.abs().max()) if samples.numel() else 0.0)
            for file, stem in zip(files, samples, strict=True):
                with writing(pieces[0]):
                    file.write(stem.numpy().T)

        yield write
        for file in files:
            close_written(file)
        if subtype != "FLOAT":
            gain = _gain(peak, clip, targets[0].parent)
            for source, target in zip(pieces, final, strict=True):
                _convert(source, target, subtype, gain)


def _create(
    path: Path, sample_rate: int, shape: tuple[int, int], subtype: str, comment: str
) -> sf.SoundFile:
    """Opens a file for writing."""
    suffix = path.suffix[1:]
    # A plain wav file holds 4 GiB; RF64 has the same ending and no such limit.
    large = shape[0] * shape[1] * 4 > 4e9
    container = "RF64" if large and suffix == "wav" else suffix.upper()
    with writing(path):
        file = sf.SoundFile(
            os.fsencode(path), "w", sample_rate, shape[0], subtype, format=container
        )
        if comment:
            file.comment = comment
        return file


def _gain(peak: float, clip: str, folder: Path) -> float:
    """The factor for all stems."""
    if peak <= 1:
        return 1.0
    if clip == "refuse":
        raise UserError(
            f"The stems in {folder} have a peak of {peak:.2f} of full scale: write 32-bit wav "
            "files, or choose the clip mode rescale or clamp."
        )
    what = f"scaled by {1 / peak:.3f}" if clip == "rescale" else "limited to full scale"
    text = f"The stems in {folder} have a peak of {peak:.2f} of full scale, so they were {what}."
    warnings.warn(text, AudioWarning, stacklevel=2)
    return 1 / peak if clip == "rescale" else 1.0


def _convert(source: Path, target: Path, subtype: str, gain: float) -> None:
    """Writes a file of floats in another format, multiplied by a factor."""
    with sf.SoundFile(source) as floats:
        shape = (floats.channels, floats.frames)
        with _create(target, floats.samplerate, shape, subtype, floats.comment) as file:
            for block in floats.blocks(2**18, dtype="float32", always_2d=True):
                with writing(target):
                    file.write((gain * block).clip(-1, 1))
            close_written(file)


def written_by(path: Path) -> str | None:
    """What made a stem of ours, such as a model; None for other files."""
    try:
        with sf.SoundFile(os.fsencode(path)) as file:
            comment = file.comment
    except (sf.LibsndfileError, OSError):
        return None
    return comment.removeprefix(MARK) if comment.startswith(MARK) else None
