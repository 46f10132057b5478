"""Clips to score: mixtures with their true sources, from data sets or plain folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import Track, read_sources
from asteroid_ucr.masking import MASK_RATE
from asteroid_ucr.utils.audio import read_audio
from asteroid_ucr.utils.decoding import open_audio
from asteroid_ucr.utils.errors import UserError

CLIP_SUFFIXES = (".wav", ".flac")


@dataclass
class Clip:
    """A mixture and its true sources.

    Attributes:
        name: Unique name, such as "Track01876_003".
        track: Song that the clip was cut from. Clips of one track are not independent, so
            statistics first average over them.
        mixture: `(time,)`, full scale at ±1.
        references: True sources `(n_src, time)`, in the order of `sources`.
        sources: Names of the sources.
        sample_rate: Samples per second.
        mix: How the mixture was made: "sum", "paper_mean" or "file" (read from its own file).
        folder: Folder of the clip's files; None for clips of a Slakh tree.
    """

    name: str
    track: str
    mixture: Tensor
    references: Tensor
    sources: tuple[str, ...]
    sample_rate: int = MASK_RATE
    mix: str = "sum"
    folder: Path | None = None

    @property
    def seconds(self) -> float:
        """Length of the mixture in seconds."""
        return self.mixture.shape[-1] / self.sample_rate


def slakh_clips(
    root: str | Path,
    split: str,
    sources: Sequence[str],
    seconds: float = 7.0,
    mix: str = "sum",
    max_clips: int | None = None,
    allow_shared_midi: bool = False,
    sample_rate: int = MASK_RATE,
    stems: bool = True,
) -> Iterator[Clip]:
    """Cuts the tracks of a data set into consecutive segments that do not overlap.

    Segments in which a source is silent are kept, because a good separator handles them too. Tracks
    without one of the sources are left out, and so is a rest that is shorter than a segment. With
    `max_clips`, the segments are taken in turns (the first of every track, then the second of every
    track, …), so that a few clips come from many tracks.

    Args:
        root: Data set; see `load_tracks`.
        split: "train", "validation" or "test".
        sources: Instrument classes in lower case.
        seconds: Length of a segment.
        mix: Policy that makes the mixture, "sum" or "paper_mean" (see `data.slakh`).
        max_clips: Largest number of segments; None takes all.
        allow_shared_midi: Whether to keep tracks whose MIDI is also in the training split.
        sample_rate: Samples per second.
        stems: Only tracks with stems; others give clips without references, `(0, time)`.

    Yields:
        Clips of `round(seconds * sample_rate)` samples.

    Raises:
        UserError: If there is no such data set, or no track of the sources.
    """
    length = round(seconds * sample_rate)
    found = False
    tracks = load_tracks(root, split, allow_shared_midi, sources, stems)
    for track, index in _turns(tracks, length, sources, sample_rate, max_clips):
        audio = read_sources(track, sources, sample_rate, mix=mix)
        for start in index:
            span = slice(start * length, (start + 1) * length)
            found = True
            yield Clip(
                name=f"{track.name}_{start:03d}",
                track=track.name,
                mixture=audio.mixture[span].clone(),
                references=audio.references[:, span].clone(),
                sources=tuple(sources),
                sample_rate=sample_rate,
                mix=audio.mix,
            )
    if not found:
        raise UserError(
            f"{root} ({split}) has no track of at least {seconds:g} s with {', '.join(sources)}: "
            "choose other sources, or a shorter segment."
        )


def _turns(
    tracks: Sequence[Track],
    length: int,
    sources: Sequence[str],
    sample_rate: int,
    max_clips: int | None,
) -> list[tuple[Track, list[int]]]:
    """The tracks to cut, each with the numbers of its chosen segments."""
    counts = []
    for track in tracks:
        # Headers alone tell the length: reading all audio to choose a few clips would be slow.
        stems = [path for source in sources for path in track.stem_paths(source)]
        files = stems if track.mixture is None else [track.mixture]
        counts.append(int(min(map(_seconds, files)) * sample_rate) // length)
    total = sum(counts) if max_clips is None else max_clips
    chosen: list[list[int]] = [[] for _ in tracks]
    turns = [(n, t) for n in range(max(counts, default=0)) for t in range(len(tracks))]
    for number, t in [turn for turn in turns if turn[0] < counts[turn[1]]][:total]:
        chosen[t].append(number)
    return [(track, numbers) for track, numbers in zip(tracks, chosen, strict=True) if numbers]


def _seconds(path: Path) -> float:
    with open_audio(path, lambda file: file.frames / file.samplerate) as (_, seconds):
        return seconds


def folder_clips(
    folder: str | Path, sources: Sequence[str], sample_rate: int = MASK_RATE
) -> Iterator[Clip]:
    """Reads clips stored as `CLIP/{mix.wav, drums.wav, …}`.

    The mixture is the file `mix.wav` or `mixture.wav` if there is one, and otherwise the sum of the
    sources. Folders that lack a source or hold further sources are skipped; files with an
    underscore in their names, such as `drums_paper.wav`, are not taken as sources.

    Args:
        folder: One clip's folder, or a folder of them.
        sources: Names of the sources, as in the file names.
        sample_rate: Sample rate of the clips in Hz; files of other rates are resampled.

    Yields:
        Clips, sorted by name; multi-channel files are averaged to mono.

    Raises:
        UserError: If no clip has exactly these sources, or a file cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name a folder of clips.")
    found = False
    for path in [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]:
        names = {file.stem for file in _audio_files(path)}
        stems = {name for name in names if "_" not in name} - {"mix", "mixture"}
        if stems != set(sources):
            continue
        found = True
        wavs = [read_source(path, source, sample_rate) for source in sources]
        mixed = [
            read_source(path, name, sample_rate) for name in ("mix", "mixture") if name in names
        ]
        length = min(wav.shape[-1] for wav in [*wavs, *mixed])
        references = torch.stack([wav[:length] for wav in wavs])
        mixture = mixed[0][:length] if mixed else references.sum(0)
        yield Clip(
            name=path.name,
            track=path.name,
            mixture=mixture,
            references=references,
            sources=tuple(sources),
            sample_rate=sample_rate,
            mix="file" if mixed else "sum",
            folder=path,
        )
    if not found:
        raise UserError(
            f"{folder} holds no clip with exactly the sources {', '.join(sources)} "
            "(files such as CLIP/drums.wav): name another folder or other sources."
        )


def read_source(folder: Path, name: str, sample_rate: int) -> Tensor:
    """Reads the audio file `name` of a clip's folder, averaged to mono: `(time,)`.

    Raises:
        UserError: If the folder has no such file, or it cannot be read.
    """
    path = next((path for path in _audio_files(folder) if path.stem == name), None)
    if path is None:
        raise UserError(f"{folder} has no {name}.wav: add the file, or choose other names.")
    return read_audio(path, sample_rate=sample_rate, mono=True)[0][0]


def _audio_files(folder: Path) -> list[Path]:
    """The audio files of a clip's folder; hidden ones are another system's notes on files."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in CLIP_SUFFIXES and p.is_file()]
    return sorted(path for path in files if not path.name.startswith("."))
