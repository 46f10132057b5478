"""Fills caches from a Slakh tree: latents of the mixtures, or the stems themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from asteroid_ucr.codecs import Codec
from asteroid_ucr.data.cache import CacheMetadata, LatentCache
from asteroid_ucr.data.slakh import SourceAudio, Track, load_tracks, read_sources
from asteroid_ucr.masking import MASK_HOP, MASK_RATE
from asteroid_ucr.utils.audio import level_gain
from asteroid_ucr.utils.errors import UserError


def cache_metadata(
    root: str | Path, split: str, codec: Codec, sources: Sequence[str], mix: str
) -> CacheMetadata:
    """What the cache of this split, codec and mixture must say of itself."""
    return CacheMetadata(
        dataset=Path(root).resolve().name,
        split=split,
        codec=codec.fingerprint,
        frame_rate=codec.frame_rate,
        channels=codec.channels,
        sources=tuple(sources),
        mix=mix,
    )


class _TrackAudio(Dataset):
    """Audio of tracks, read by workers while the codec encodes; errors travel as values."""

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


def stem_metadata(root: str | Path, split: str, sources: Sequence[str], mix: str) -> CacheMetadata:
    """What a cache of stems must say of itself: a frame holds 320 samples of each source."""
    return CacheMetadata(
        dataset=Path(root).resolve().name,
        split=split,
        codec="stems",
        frame_rate=MASK_RATE / MASK_HOP,
        channels=MASK_HOP * len(sources),
        sources=tuple(sources),
        mix=mix,
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
) -> list[str]:
    """Encodes the mixtures of a split; tracks that are in the cache already are kept.

    Each track's mixture is brought to the training level (`asteroid_ucr.utils.audio.level_gain`) first.

    Args:
        root: of the Slakh tree.
        split: "train", "validation" or "test".
        path: folder of the cache.
        codec: on the device to encode on.
        sources: that make up the mixture; tracks that lack one are not used.
        mix: mixing policy; see `read_sources`.
        allow_shared_midi: see `load_tracks`.
        workers: processes that read audio.

    Returns:
        A sentence for each track that could not be read.

    Raises:
        UserError: if the tree or the cache cannot be used, or no track can be read.
    """
    device = next(codec.buffers()).device

    def encode(item: SourceAudio) -> Tensor:
        mixture = item.mixture.to(device)
        return codec.encode((mixture * level_gain(mixture))[None, None])[0].cpu()

    metadata = cache_metadata(root, split, codec, sources, mix)
    return _fill(root, path, metadata, encode, codec.hop, allow_shared_midi, workers)


def store_stems(
    root: str | Path,
    split: str,
    path: str | Path,
    sources: Sequence[str],
    mix: str = "sum",
    allow_shared_midi: bool = False,
    workers: int = 0,
) -> list[str]:
    """Caches the sources themselves, for models that train on waveforms or with labels.

    A frame holds the 320 samples of each source that a latent frame spans, so that crops of a seed
    are the same passages as those of a cache of latents. The stems add up to the mixture, at the
    level of `encode_split`.

    Args:
        root: as for `encode_split`, like all others.
        split: "train", "validation" or "test".
        path: folder of the cache.
        sources: to store.
        mix: mixing policy.
        allow_shared_midi: see `load_tracks`.
        workers: processes that read audio.

    Returns:
        A sentence for each track that could not be read.

    Raises:
        UserError: as `encode_split` does.
    """

    def frames(item: SourceAudio) -> Tensor:
        share = 1 if item.mix == "sum" else 1 / len(sources)
        stems = share * item.references * level_gain(item.mixture)
        return rearrange(_framed(stems), "n t h -> (n h) t")

    metadata = stem_metadata(root, split, sources, mix)
    return _fill(root, path, metadata, frames, MASK_HOP, allow_shared_midi, workers)


def stems_of(batch: Tensor, sources: int) -> Tensor:
    """Crops of a cache of stems as waveforms: `(batch, n_src, time)`."""
    return rearrange(batch, "b (n h) t -> b n (t h)", n=sources)


def _framed(stems: Tensor, hop: int = MASK_HOP) -> Tensor:
    """`(n_src, time)` to `(n_src, frames, hop)`, the last frame padded with zeros."""
    return F.pad(stems, (0, -stems.shape[-1] % hop)).unfold(-1, hop, hop)


def _fill(
    root: str | Path,
    path: str | Path,
    metadata: CacheMetadata,
    encode: Callable[[SourceAudio], Tensor],
    hop: int,
    allow_shared_midi: bool,
    workers: int,
) -> list[str]:
    """Adds what is missing to a cache and marks it as complete; see `encode_split`."""
    split, sources = metadata.split, metadata.sources
    tracks = load_tracks(root, split, allow_shared_midi, sources)
    cache = LatentCache(path, metadata, write=True)
    missing = [track for track in tracks if track.name not in cache]
    rate = round(metadata.frame_rate * hop)
    audio = DataLoader(
        _TrackAudio(missing, sources, rate, metadata.mix), batch_size=None, num_workers=workers
    )
    failures = []
    for track, item in tqdm(zip(missing, audio, strict=True), total=len(missing), desc=split):
        if isinstance(item, UserError):
            failures.append(str(item))
            continue
        power = _framed(item.references, hop).square().mean(-1)
        cache.add(track.name, encode(item).numpy(), power.numpy())
    done = [track.name for track in tracks if track.name in cache]
    if not done:
        raise UserError(f"No track of the split {split!r} of {root} could be read: {failures[0]}")
    cache.finish(done)
    cache.close()
    return failures
