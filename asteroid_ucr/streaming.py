"""Separates recordings of any length in bounded memory.

A recording is separated in overlapping chunks, which are cross-faded. The level is measured over
the whole recording and the sampler's noise is a function of the absolute frame, so that
neighbouring chunks agree in their overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import soundfile as sf
import torch
from torch import Tensor

from asteroid_ucr.utils.audio import OFFSET, block_size, power_gain
from asteroid_ucr.utils.crossfade import CHUNK_SECONDS, OVERLAP_SECONDS, chunk_starts, crossfade
from asteroid_ucr.utils.decoding import open_audio, read_frames
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.stems import check_format, stem_writer


class Separates(Protocol):
    """What a model has to have."""

    sources: list[str]

    def separate_part(
        self, wav: Tensor, sample_rate: int, second: int, gain: Tensor, **options: Any
    ) -> Tensor:
        """Separates a part of a recording; see `asteroid_ucr.base.SeparatorModel`."""


@dataclass(frozen=True)
class AudioSource:
    """A sound that is read in pieces.

    Attributes:
        sample_rate: Sample rate in Hz.
        channels: Number of channels.
        frames: Number of samples per channel.
        read: Returns `(channels, count)`, float32, from a sample `start` on: `read(start, count)`.
    """

    sample_rate: int
    channels: int
    frames: int
    read: Callable[[int, int], Tensor]

    @classmethod
    def of_tensor(cls, wav: Tensor, sample_rate: int) -> AudioSource:
        """A waveform `(channels, time)` in memory."""
        return cls(sample_rate, *wav.shape, lambda start, count: wav[:, start : start + count])

    @classmethod
    def of_file(cls, file: sf.SoundFile) -> AudioSource:
        """An open file."""

        def read(start: int, count: int) -> Tensor:
            return torch.from_numpy(read_frames(file, start, count).T.copy())

        return cls(file.samplerate, file.channels, file.frames, read)

    def gain(self) -> Tensor:
        """`level_gain` of all samples, from the mean power of the channels; reads the recording."""
        size, sums = block_size(self.frames, self.sample_rate), []
        for start in range(0, self.frames, size):
            block = self.read(start, min(size, self.frames - start)).double()
            count = torch.full(block.shape[:1], block.shape[1], dtype=torch.float64)
            sums.append(torch.stack([count, block.sum(-1), block.square().sum(-1)]))
        count, total, energy = torch.stack(sums, -1)  # each (channels, blocks)
        everything = count.sum(-1, keepdim=True)
        offset = total.sum(-1, keepdim=True) / everything
        spread = (energy.sum(-1, keepdim=True) / everything - offset.square()).clamp(min=0).sqrt()
        offset = offset - offset.clamp(-OFFSET * spread, OFFSET * spread)
        centred = (energy - 2 * offset * total + offset.square() * count).mean(0).clamp(min=0)
        # What is left of a constant signal is its rounding.
        centred = torch.where(centred > 1e-12 * energy.mean(0), centred, torch.zeros_like(centred))
        return power_gain(centred, count[0]).float()


def stem_pieces(
    model: Separates,
    recording: AudioSource,
    gain: Tensor,
    chunk_seconds: int = CHUNK_SECONDS,
    progress: Callable[[float], None] | None = None,
    **options: Any,
) -> Iterator[Tensor]:
    """The stems of a recording in consecutive pieces `(n_src, channels, time)`.

    Args:
        model: Model on the device to use.
        recording: What to separate.
        gain: Its `gain()`.
        chunk_seconds: Length of the chunks, at least 4 s.
        progress: Function that is called with the completed fraction.
        **options: Options of the model's `forward`, such as `steps` and `seed`.

    Raises:
        UserError: If an option is not valid, or the model's output is NaN or infinite.
    """
    if chunk_seconds < 2 * OVERLAP_SECONDS:
        raise UserError(f"chunk {chunk_seconds} is too short: give {2 * OVERLAP_SECONDS} or more.")
    rate, done = recording.sample_rate, 0
    length, overlap = chunk_seconds * rate, OVERLAP_SECONDS * rate

    def chunks() -> Iterator[Tensor]:
        for start in chunk_starts(recording.frames, length, overlap):
            wav = recording.read(start, min(length, recording.frames - start))
            with torch.inference_mode():
                stems = model.separate_part(wav, rate, start // rate, gain, **options).cpu()
            if not stems.isfinite().all():
                raise UserError(
                    "The model's stems are NaN or infinite: its weights are damaged, or its "
                    "training diverged; use another checkpoint."
                )
            yield stems

    for piece in crossfade(chunks(), overlap):
        done += piece.shape[-1]
        yield piece
        if progress is not None:
            progress(done / recording.frames)


def write_stems(
    model: Separates,
    path: str | Path,
    targets: Sequence[Path],
    bits: int | None = None,
    clip: str = "rescale",
    groups: Sequence[Sequence[int]] | None = None,
    comment: str = "",
    **options: Any,
) -> None:
    """Separates an audio file into files that appear only when all are complete.

    Args:
        model: Model on the device to use.
        path: Path of the mixture.
        targets: Path of each stem.
        bits: Bits per sample; see `asteroid_ucr.utils.stems.stem_writer`.
        clip: What to do with stems beyond full scale; see there.
        groups: Numbers of the sources that are added up in each stem; None takes one after the
            other.
        comment: Text that is noted in the files.
        **options: Options of `stem_pieces`.

    Raises:
        UserError: If an option is not valid, the file cannot be read, or the stems cannot be
            written.
    """
    check_format(targets[0].suffix[1:], bits, clip)
    for target in targets:
        if target.exists() and Path(path).exists() and target.samefile(path):
            raise UserError(f"The stem {target} would replace its mixture: choose another folder.")
    with open_audio(path, lambda file: AudioSource.of_file(file).gain()) as (file, gain):
        recording = AudioSource.of_file(file)
        shape = (recording.channels, recording.frames)
        with stem_writer(targets, recording.sample_rate, shape, bits, clip, comment) as write:
            for piece in stem_pieces(model, recording, gain, **options):
                write(piece if groups is None else torch.stack([piece[g].sum(0) for g in groups]))
