"""Component latents of a latent cache, computed once by a trained encoder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from asteroid_ucr.data.cache import TrackCache


class ComponentCache:
    """Has the methods of a `TrackCache`, for component latents instead of latents of mixtures.

    They are encoded track by track when the object is made, and kept in memory: a component latent
    of the paper's size takes 1 MB per hour of music.

    Args:
        cache: Latents of the mixtures.
        encode: Maps latents `(1, channels, frames)` to component latents `(1, n_src, latent_dim,
            frames)`, on any device.
    """

    def __init__(self, cache: TrackCache, encode: Callable[[Tensor], Tensor]):
        self.path, self.tracks = cache.path, cache.tracks
        self._cache = cache
        with torch.no_grad():
            self._latents = {
                track: encode(torch.from_numpy(cache.whole(track))[None])[0].cpu().numpy()
                for track in self.tracks
            }

    def lengths(self) -> list[int]:
        """Frames of each track, in the order of `tracks`."""
        return [self._latents[track].shape[-1] for track in self.tracks]

    def crop(self, track: str, start: int, frames: int) -> np.ndarray:
        """A passage `(n_src, latent_dim, frames)`, float32; shorter where the track ends."""
        return self._latents[track][..., start : start + frames]

    def whole(self, track: str) -> np.ndarray:
        """All of a track, `(n_src, latent_dim, frames)`, float32."""
        return self._latents[track]

    def power(self, track: str, start: int = 0, frames: int | None = None) -> np.ndarray:
        """Mean square of each source's audio; see `TrackCache.power`."""
        return self._cache.power(track, start, frames)

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each component's channels, `(n_src, latent_dim)` each."""
        every = np.concatenate(list(self._latents.values()), axis=-1).astype(np.float64)
        return every.mean(-1), every.std(-1)
