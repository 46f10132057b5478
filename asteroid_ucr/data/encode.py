"""Fills a latent cache from a Slakh tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from asteroid_ucr.audio import level_gain
from asteroid_ucr.codecs import Codec
from asteroid_ucr.data.cache import CacheMetadata, LatentCache
from asteroid_ucr.data.slakh import SourceAudio, Track, load_tracks, read_sources
from asteroid_ucr.errors import UserError


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

    Each track's mixture is brought to the training level (`asteroid_ucr.audio.level_gain`) first.

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
    tracks = load_tracks(root, split, allow_shared_midi, sources)
    cache = LatentCache(path, cache_metadata(root, split, codec, sources, mix), write=True)
    missing = [track for track in tracks if track.name not in cache]
    audio = DataLoader(
        _TrackAudio(missing, sources, codec.sample_rate, mix), batch_size=None, num_workers=workers
    )
    device = next(codec.buffers()).device
    failures = []
    for track, item in tqdm(zip(missing, audio, strict=True), total=len(missing), desc=split):
        if isinstance(item, UserError):
            failures.append(str(item))
            continue
        mixture = item.mixture.to(device)
        latents = codec.encode((mixture * level_gain(mixture))[None, None])[0]
        pad = latents.shape[-1] * codec.hop - item.references.shape[-1]
        framed = F.pad(item.references, (0, pad)).unfold(-1, codec.hop, codec.hop)
        cache.add(track.name, latents.cpu().numpy(), framed.square().mean(-1).numpy())
    done = [track.name for track in tracks if track.name in cache]
    if not done:
        raise UserError(f"No track of the split {split!r} of {root} could be read: {failures[0]}")
    cache.finish(done)
    cache.close()
    return failures
