"""Fills caches from a data set: latents of the mixtures, or the stems themselves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from asteroid_ucr.codecs import Codec
from asteroid_ucr.data.cache import LatentMetadata, StemMetadata, TrackCache
from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import SourceAudio, Track, read_sources
from asteroid_ucr.masking import MASK_HOP, MASK_RATE
from asteroid_ucr.utils.audio import level_gain, resample
from asteroid_ucr.utils.errors import UserError

_log = logging.getLogger(__name__)
SEMITONES = 5.0  # largest change of pitch of a version, a fourth


def cache_metadata(
    root: str | Path, split: str, sources: Sequence[str], mix: str, codec: Codec | None = None
) -> LatentMetadata | StemMetadata:
    """Metadata of the cache of a split: of its mixtures in a codec's latents, or of its stems.

    The frames of stems are as long as latent frames.
    """
    common = {"dataset": Path(root).resolve().name, "split": split}
    common |= {"sources": tuple(sources), "mix": mix}
    if codec is None:
        return StemMetadata(**common, sample_rate=MASK_RATE, hop=MASK_HOP)
    rate, channels = codec.frame_rate, codec.channels
    return LatentMetadata(**common, codec=codec.fingerprint, frame_rate=rate, channels=channels)


@torch.no_grad()
def fill(
    cache: TrackCache,
    root: str | Path,
    codec: Codec | None = None,
    allow_shared_midi: bool = False,
    workers: int = 0,
    shard: tuple[int, int] = (1, 1),
    versions: int = 1,
) -> list[str]:
    """Adds the missing tracks of a split to a cache, each at the training level (`level_gain`).

    Latents are those of the mixtures. Stems add up to them, for models that train on waveforms or
    with labels. Tracks that lack a source are not used, and tracks of unknown instruments are.

    Args:
        cache: Cache, opened for writing; its metadata name the split, the sources and the mix.
        root: Data set; see `load_tracks`.
        codec: Codec of the latents, on the device to encode on; None for stems.
        allow_shared_midi: See `load_tracks`.
        workers: Processes that read audio.
        shard: Which part of the tracks to add, from 1, and of how many, for processes that fill a
            cache together. The last one to end marks it as complete, unless a track cannot be read.
        versions: How often to add each track: as it is, then named "TRACK-1" and so on, at speeds
            that move its pitch by up to `SEMITONES`. They depend on the names alone.

    Returns:
        A sentence for each track that could not be read, which was logged as a warning.

    Raises:
        UserError: If the data set or the cache cannot be used, or no track can be read.
    """
    split, sources, mix = cache.metadata.split, cache.metadata.sources, cache.metadata.mix
    rate, hop = (MASK_RATE, MASK_HOP) if codec is None else (codec.sample_rate, codec.hop)
    tracks = load_tracks(root, split, allow_shared_midi, sources, stems=codec is None)
    part, parts = shard
    wanted = [(track, number) for track in tracks[part - 1 :: parts] for number in range(versions)]
    missing = [(track, number) for track, number in wanted if version(track, number) not in cache]
    items = _TrackAudio(missing, sources, rate, mix)
    audio = DataLoader(items, batch_size=None, num_workers=workers)
    failures = []
    named = zip((version(*one) for one in missing), audio, strict=True)
    for name, item in tqdm(named, total=len(missing), desc=split):
        if isinstance(item, UserError):
            failures.append(str(item))
            _log.warning("left out: %s", item)
            continue
        # Where the sources are unknown, a silent mixture still tells silent passages.
        heard = item.references if len(item.references) else item.mixture[None]
        power = _framed(heard, hop).square().mean(-1).expand(len(sources), -1)
        signal = _scaled_stems(item) if codec is None else _latents(item, codec)
        cache.add(name, signal.numpy(), power.numpy())
    names = [version(track, number) for track in tracks for number in range(versions)]
    done = [name for name in names if name in cache]
    if failures and not done:
        raise UserError(f"No track of the split {split!r} of {root} could be read: {failures[0]}")
    if parts == 1 or len(done) == len(names):
        cache.finish(done)
    return failures


def version(track: Track, number: int) -> str:
    """Name of a version of a track; the one with the number 0 is the track itself."""
    return f"{track.name}-{number}" if number else track.name


def at_speed(item: SourceAudio, name: str, sample_rate: int) -> SourceAudio:
    """Audio at another speed, which is a function of the name, and thus at another pitch."""
    semitones = np.random.default_rng([*name.encode()]).uniform(-SEMITONES, SEMITONES)
    slower = round(sample_rate * 2 ** (-semitones / 12))
    mixture, references = (
        resample(wav, sample_rate, slower) for wav in (item.mixture, item.references)
    )
    return replace(item, mixture=mixture, references=references)


def _latents(item: SourceAudio, codec: Codec) -> Tensor:
    """Latents `(channels, frames)` of a mixture."""
    mixture = item.mixture.to(next(codec.buffers(), item.mixture).device)
    return codec.encode((mixture * level_gain(mixture))[None, None])[0].cpu()


def _scaled_stems(item: SourceAudio) -> Tensor:
    """Stems that add up to the mixture, `(n_src, frames * hop)`."""
    share = 1 if item.mix == "sum" else 1 / len(item.references)
    return _framed(share * item.references * level_gain(item.mixture), MASK_HOP).flatten(1)


class _TrackAudio(Dataset):
    """Audio of versions of tracks, read while the codec encodes; errors are returned as values."""

    def __init__(
        self,
        tracks: list[tuple[Track, int]],
        sources: Sequence[str],
        sample_rate: int,
        mix: str,
    ):
        self.tracks, self.sources = tracks, sources
        self.sample_rate, self.mix = sample_rate, mix

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: int) -> SourceAudio | UserError:
        track, number = self.tracks[index]
        try:
            item = read_sources(track, self.sources, self.sample_rate, self.mix)
        except UserError as error:
            return error
        except (RuntimeError, OSError, ValueError) as error:  # what readers of damaged files raise
            return UserError(f"{track.folder} cannot be read: {error}")
        return at_speed(item, version(track, number), self.sample_rate) if number else item


def _framed(stems: Tensor, hop: int) -> Tensor:
    """`(n_src, time)` to `(n_src, frames, hop)`, the last frame padded with zeros."""
    return F.pad(stems, (0, -stems.shape[-1] % hop)).unfold(-1, hop, hop)
