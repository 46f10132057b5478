"""Songs: what every data set consists of, whether it is a Slakh tree or a folder of audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asteroid_ucr.utils.audio import read_audio, resample
from asteroid_ucr.utils.errors import UserError

SPLITS = ("train", "validation", "test")
MIX_POLICIES = ("sum", "paper_mean")


@dataclass(frozen=True)
class Stem:
    """One rendered instrument of a track."""

    id: str  # name in the metadata, such as "S03"
    inst_class: str  # family as Slakh names it, such as "Strings (continued)"
    is_drum: bool
    path: Path | None  # audio file; None if no file can be read
    declared: bool  # `audio_rendered` of the metadata; the file decides, not this flag

    @property
    def source(self) -> str:
        """The stem's source name: the instrument class in lower case."""
        return self.inst_class.lower()


@dataclass(frozen=True)
class Track:
    """One song: a mixture of unknown stems, or stems that are mixed when they are read."""

    name: str  # unique in its data set, and fit for a file's name
    folder: Path
    split: str
    uuid: str  # the MIDI file that it was made from, or its audio; "" if that is not known
    stems: tuple[Stem, ...] = ()
    mixture: Path | None = None  # audio file of a song without stems
    instruments: tuple[str, ...] = ()  # of such a song, where they are known

    def stem_paths(self, source: str) -> list[Path]:
        """Audio files of all stems of a source, in the order of their ids (empty if none)."""
        return [s.path for s in self.stems if s.path is not None and s.source == source.lower()]

    @property
    def sources(self) -> list[str]:
        """Names of the sources that have at least one audio file, sorted."""
        return sorted({s.source for s in self.stems if s.path is not None})

    def has(self, sources: Sequence[str]) -> bool:
        """Whether the song can be used as a mixture of these sources.

        Stems can be left out of a mixture, but what is mixed already must hold exactly these. A
        song of unknown instruments is taken as it is, and without sources, every song.
        """
        if self.mixture is None or not sources:
            return all(self.stem_paths(source) for source in sources)
        return not self.instruments or set(self.instruments) == {s.lower() for s in sources}


@dataclass(frozen=True)
class SourceAudio:
    """References, in the order of the sources asked for, and the mixture that they make up."""

    references: Tensor  # `(n_src, time)`, float32; `n_src` is 0 for a song without stems
    mixture: Tensor  # `(time,)`
    mix: str  # policy: "sum" or "paper_mean" (see `read_sources`), or "file" for such a song


def read_sources(
    track: Track, sources: Sequence[str], sample_rate: int, mix: str = "sum"
) -> SourceAudio:
    """Reads a whole track as one signal per source, and their mixture.

    A song without stems has no references, and its mixture is the file's. Stems are mixed down to
    mono, cropped to the shortest and combined; then each source is resampled once.

    Args:
        track: Track from `load_tracks`.
        sources: Source names; the order of the references.
        sample_rate: Samples per second.
        mix: "sum": a reference is the sum of the source's stems, and the mixture is the sum of the
            references. "paper_mean" (published code of Bindi & Esling 2024): a reference is
            the mean of the source's audible stems, and the mixture is the mean of the references.

    Raises:
        UserError: For an unknown policy, no sources, a source that the track lacks, or a stem that
            is damaged or cannot be read.
    """
    if mix not in MIX_POLICIES:
        raise UserError(f"mix is {mix!r}: choose from {', '.join(MIX_POLICIES)}.")
    if not sources:
        raise UserError("sources is empty: name at least one source.")
    if track.mixture is not None:
        wav = read_audio(track.mixture, sample_rate, mono=True, strict=True)[0][0]
        return SourceAudio(wav.new_empty(0, len(wav)), wav, "file")
    signals: list[Tensor] = []
    native = 0
    for source in sources:
        paths = track.stem_paths(source)
        if not paths:
            raise UserError(
                f"{track.folder} has no stem of {source!r}: it has {', '.join(track.sources)}."
            )
        stems = []
        for path in paths:
            wav, rate = read_audio(path, mono=True, strict=True)
            native = native or rate
            stems.append(resample(wav[0], rate, native))
        total = _stack(stems).sum(0)
        # A silent stem adds nothing to a sum but would lower a mean.
        audible = sum(bool(stem.any()) for stem in stems)
        signals.append(total if mix == "sum" else total / max(audible, 1))
    references = resample(_stack(signals), native, sample_rate)
    mixture = references.sum(0) if mix == "sum" else references.mean(0)
    return SourceAudio(references, mixture, mix)


def _stack(signals: list[Tensor]) -> Tensor:
    """Signals `(count, time)`, cropped to the shortest."""
    shortest = min(map(len, signals))
    return torch.stack([signal[:shortest] for signal in signals])
