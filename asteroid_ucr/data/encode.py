"""Fills caches from a data set: latents of the mixtures, or the stems themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from asteroid_ucr.codecs import Codec
from asteroid_ucr.data.cache import LatentCache, LatentMetadata, StemCache, StemMetadata
from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import SourceAudio, Track, read_sources
from asteroid_ucr.masking import MASK_HOP, MASK_RATE
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.errors import UserError


def latent_metadata(
    root: str | Path, split: str, codec: Codec, sources: Sequence[str], mix: str
) -> LatentMetadata:
    """Metadata of the cache of a split's mixtures in a codec's latents."""
    return LatentMetadata(
        dataset=Path(root).resolve().name,
        split=split,
        sources=tuple(sources),
        mix=mix,
        codec=codec.fingerprint,
        frame_rate=codec.frame_rate,
        channels=codec.channels,
    )


def stem_metadata(root: str | Path, split: str, sources: Sequence[str], mix: str) -> StemMetadata:
    """Metadata of the cache of a split's stems, whose frames are as long as latent frames."""
    return StemMetadata(
        dataset=Path(root).resolve().name,
        split=split,
        sources=tuple(sources),
        mix=mix,
        sample_rate=MASK_RATE,
        hop=MASK_HOP,
    )


@torch.no_grad()
def encode_split(
    root: str | Path,
    split: str,
    path: str | Path,
    codec: Codec,
    sources: Sequence[str],
    mix: str = "sum",
    allow_shared_midi: bool = False,
    workers: int = 0,
    shard: tuple[int, int] = (1, 1),
) -> list[str]:
    """Encodes the mixtures of a split, each at the training level (`level_gain`).

    Tracks that are in the cache already are kept.

    Args:
        root: Data set; see `load_tracks`.
        split: "train", "validation" or "test".
        path: Folder of the cache.
        codec: Codec on the device to encode on.
        sources: Sources that make up the mixture; tracks that lack one are not used, and tracks
            of unknown instruments are.
        mix: Mixing policy; see `read_sources`.
        allow_shared_midi: See `load_tracks`.
        workers: Processes that read audio.
        shard: Which part of the tracks to encode, from 1, and of how many, for processes that fill
            a cache together. The last one to end marks it as complete, unless a track cannot be
            read.

    Returns:
        A sentence for each track that could not be read.

    Raises:
        UserError: If the data set or the cache cannot be used, or no track can be read.
    """
    device = next(codec.buffers(), torch.empty(0)).device

    def encode(item: SourceAudio) -> Tensor:
        mixture = item.mixture.to(device)
        return codec.encode((mixture * level_gain(mixture))[None, None])[0].cpu()

    cache = LatentCache(path, latent_metadata(root, split, codec, sources, mix), write=True)
    return _fill(
        cache, root, encode, codec.sample_rate, codec.hop, allow_shared_midi, workers, shard
    )


def store_stems(
    root: str | Path,
    split: str,
    path: str | Path,
    sources: Sequence[str],
    mix: str = "sum",
    allow_shared_midi: bool = False,
    workers: int = 0,
    shard: tuple[int, int] = (1, 1),
) -> list[str]:
    """Caches the stems of a split, for models that train on waveforms or with labels.

    The stems add up to the mixture, at the level of `encode_split`. Arguments, result and errors
    are those of `encode_split`.
    """

    def scaled(item: SourceAudio) -> Tensor:
        share = 1 if item.mix == "sum" else 1 / len(sources)
        stems = share * item.references * level_gain(item.mixture)
        return _framed(stems, MASK_HOP).flatten(1)

    cache = StemCache(path, stem_metadata(root, split, sources, mix), write=True)
    return _fill(cache, root, scaled, MASK_RATE, MASK_HOP, allow_shared_midi, workers, shard)


class _TrackAudio(Dataset):
    """Audio of tracks, read by workers while the codec encodes; errors are returned as values."""

    def __init__(self, tracks: list[Track], sources: Sequence[str], sample_rate: int, mix: str):
        self.tracks, self.sources = tracks, sources
        self.sample_rate, self.mix = sample_rate, mix

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: int) -> SourceAudio | UserError:
        try:
            return read_sources(self.tracks[index], self.sources, self.sample_rate, self.mix)
        except UserError as error:
            return error
        except (RuntimeError, OSError, ValueError) as error:  # what readers of damaged files raise
            return UserError(f"{self.tracks[index].folder} cannot be read: {error}")


def _framed(stems: Tensor, hop: int) -> Tensor:
    """`(n_src, time)` to `(n_src, frames, hop)`, the last frame padded with zeros."""
    return F.pad(stems, (0, -stems.shape[-1] % hop)).unfold(-1, hop, hop)


def _fill(
    cache: LatentCache | StemCache,
    root: str | Path,
    convert: Callable[[SourceAudio], Tensor],
    sample_rate: int,
    hop: int,
    allow_shared_midi: bool,
    workers: int,
    shard: tuple[int, int],
) -> list[str]:
    """Adds the missing tracks to a cache, and marks it as complete; see `encode_split`."""
    split, sources, mix = cache.metadata.split, cache.metadata.sources, cache.metadata.mix
    stems = isinstance(cache, StemCache)
    tracks = load_tracks(root, split, allow_shared_midi, sources, stems)
    part, parts = shard
    missing = [track for track in tracks[part - 1 :: parts] if track.name not in cache]
    items = _TrackAudio(missing, sources, sample_rate, mix)
    audio = DataLoader(items, batch_size=None, num_workers=workers)
    failures = []
    for track, item in tqdm(zip(missing, audio, strict=True), total=len(missing), desc=split):
        if isinstance(item, UserError):
            failures.append(str(item))
            continue
        # Where the sources are unknown, a silent mixture still tells silent passages.
        heard = item.references if len(item.references) else item.mixture[None]
        power = _framed(heard, hop).square().mean(-1).expand(len(sources), -1)
        cache.add(track.name, convert(item).numpy(), power.numpy())
    done = [track.name for track in tracks if track.name in cache]
    if failures and not done:
        raise UserError(f"No track of the split {split!r} of {root} could be read: {failures[0]}")
    if parts == 1 or len(done) == len(tracks):
        cache.finish(done)
    cache.close()
    return failures
