"""`Separator`: separates files, tensors and arrays in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asteroid_ucr.config import load_model
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.streaming import AudioSource, stem_pieces, write_stems
from asteroid_ucr.utils.audio import as_waveform
from asteroid_ucr.utils.crossfade import CHUNK_SECONDS
from asteroid_ucr.utils.decoding import check_samples, open_audio
from asteroid_ucr.utils.errors import UserError, check_positive
from asteroid_ucr.utils.stems import check_format, stem_writer

MOST_CHANNELS = 64  # an array with more is probably (time, channels)
Progress = Callable[[float], None]


class Stems(dict[str, Tensor]):
    """Stems by name, each with the shape of the mixture.

    Attributes:
        sample_rate: Sample rate in Hz.
    """

    def __init__(self, stems: Mapping[str, Tensor], sample_rate: int):
        super().__init__(stems)
        self.sample_rate = sample_rate


class Separator:
    """Separates recordings of any sample rate, number of channels and length.

    ```python
    separator = Separator("drums-bass")
    stems = separator.separate("song.mp3")  # {"drums": (channels, time), "bass": …}
    separator.save(stems, "stems")
    ```

    Long recordings are separated in chunks: beyond the recording and its stems, the memory does not
    depend on their length. `separate_file` writes the stems of a file without keeping them.

    Args:
        model: Bundled name, file, experiment folder, Hugging Face id, or a model.
        device: Name of the device; "auto" takes a GPU if there is one. A model keeps its own.
        steps: Number of sampler steps; None takes the model's setting.
        seed: Seed of the sampler's noise; None takes the model's setting.
        chunk_seconds: Length of the chunks, at least 4 s.
        progress: Function that is called with the completed fraction.
        codec_dir: Folder of the codec's weights, for models whose codec has weights.

    Raises:
        UserError: If the model or the device does not exist.
    """

    def __init__(
        self,
        model: str | Path | UCRSeparator = "drums-bass",
        device: str = "auto",
        *,
        steps: int | None = None,
        seed: int | None = None,
        chunk_seconds: int = CHUNK_SECONDS,
        progress: Progress | None = None,
        codec_dir: str | None = None,
    ):
        check_positive(steps=1 if steps is None else steps)
        named = isinstance(model, str | Path)
        self.model = load_model(model, device, codec_dir) if named else model
        self.progress = progress
        self._options = {"steps": steps, "seed": seed, "chunk_seconds": chunk_seconds}

    @property
    def sources(self) -> list[str]:
        """Names of the stems, in the order of the model's outputs."""
        return self.model.sources

    def separate(self, audio: Any, sample_rate: int | None = None) -> Stems:
        """Separates a file, or a waveform with its sample rate.

        Args:
            audio: Path of a file, or a tensor or array `(time,)`, `(channels, time)` or `(batch,
                channels, time)`. Floats have their full scale at ±1, integers at their limits.
            sample_rate: Sample rate of a waveform, in Hz.

        Returns:
            The stems by name, at the rate and with the shape of the input, on the CPU. They add up
            to the input. Integers and half precision become float32.

        Raises:
            UserError: If the file or the waveform cannot be used, or the stems are not finite.
        """
        if isinstance(audio, str | Path):
            with open_audio(audio, lambda file: AudioSource.of_file(file).gain()) as (file, gain):
                recording = AudioSource.of_file(file)
                stems = self._separate(recording, gain, self.progress)
            return Stems(dict(zip(self.sources, stems, strict=True)), recording.sample_rate)
        wav = as_waveform(audio).detach().cpu()
        if sample_rate is None or int(sample_rate) != sample_rate or sample_rate < 1:
            raise UserError(f"sample_rate {sample_rate} is not valid: give that of the waveform.")
        if not 1 <= wav.ndim <= 3 or (wav.ndim > 1 and not 1 <= wav.shape[-2] <= MOST_CHANNELS):
            raise UserError(
                f"The waveform has shape {tuple(wav.shape)}: give (time,), (channels, time) or "
                "(batch, channels, time)."
            )
        if wav.shape[-1] == 0:
            raise UserError("The waveform has zero length: it holds no samples.")
        check_samples(wav.double().numpy(), "The waveform")
        batch = wav.float().reshape(-1, wav.shape[-2] if wav.ndim > 1 else 1, wav.shape[-1])
        stems = batch.new_empty(len(self.sources), *batch.shape)
        for number, item in enumerate(batch):
            recording = AudioSource.of_tensor(item, int(sample_rate))
            share = _share(self.progress, number, len(batch))
            stems[:, number] = self._separate(recording, recording.gain(), share)
        kind = wav.dtype if wav.dtype == torch.float64 else torch.float32
        shaped = stems.reshape(len(stems), *wav.shape).to(kind)
        return Stems(dict(zip(self.sources, shaped, strict=True)), int(sample_rate))

    def separate_file(
        self,
        path: str | Path,
        folder: str | Path,
        suffix: str = "wav",
        bits: int | None = None,
        clip: str = "rescale",
    ) -> list[Path]:
        """Separates a file into `folder/<source>.<suffix>`, in bounded memory.

        The stems have the sample rate and the channels of the file, and add up to it. All channels
        share the masks, which are computed from the channels' mean power. The files appear only
        when all are complete.

        Args:
            path: Path of the mixture.
            folder: Folder of the stems; created if needed.
            suffix: See `save`, as for `bits` and `clip`.
            bits: Bits per sample.
            clip: What to do with stems beyond full scale.

        Returns:
            Paths of the stems, in the order of `sources`.

        Raises:
            UserError: If an option is not valid, the file cannot be read, or the stems cannot be
                written.
        """
        check_format(suffix)  # before the folder is made
        targets = [Path(folder) / f"{source}.{suffix}" for source in self.sources]
        options = {"progress": self.progress, **self._options}
        write_stems(self.model, path, targets, bits, clip, **options)
        return targets

    def save(
        self,
        stems: Mapping[str, Tensor],
        folder: str | Path,
        sample_rate: int | None = None,
        suffix: str = "wav",
        bits: int | None = None,
        clip: str = "rescale",
    ) -> list[Path]:
        """Writes stems to `folder/<name>.<suffix>`.

        Args:
            stems: Result of `separate` for one recording, or other waveforms of one shape.
            folder: Folder; created if needed.
            sample_rate: Sample rate in Hz; None takes that of the result of `separate`.
            suffix: "wav", "flac", "ogg" or "mp3".
            bits: Bits per sample; None takes 32-bit float for wav and 24 bits for flac.
            clip: What to do with stems beyond full scale; see `utils.stems.stem_writer`.

        Returns:
            Paths of the files.

        Raises:
            UserError: If an option is not valid, or a file cannot be written.
        """
        check_format(suffix, bits, clip)
        rate = getattr(stems, "sample_rate", None) if sample_rate is None else sample_rate
        if rate is None or not stems or {s.ndim for s in stems.values()} - {1, 2}:
            raise UserError(
                "Stems are saved one recording at a time, (time,) or (channels, time), with their "
                "sample rate: give one item of the batch, or sample_rate=…"
            )
        samples = torch.stack([torch.atleast_2d(s).detach().cpu().float() for s in stems.values()])
        targets = [Path(folder) / f"{name}.{suffix}" for name in stems]
        with stem_writer(targets, rate, tuple(samples.shape[1:]), bits, clip) as write:
            write(samples)
        return targets

    def _separate(self, recording: AudioSource, gain: Tensor, progress: Progress | None) -> Tensor:
        """All stems `(n_src, channels, time)`."""
        stems = torch.empty(len(self.sources), recording.channels, recording.frames)
        start = 0
        for piece in stem_pieces(self.model, recording, gain, progress=progress, **self._options):
            stems[..., start : start + piece.shape[-1]] = piece
            start += piece.shape[-1]
        return stems


def _share(progress: Progress | None, number: int, items: int) -> Progress | None:
    """A progress function for one of several items."""
    return progress and (lambda done: progress((number + done) / items))
