"""Component latents of a latent cache, computed once by a trained encoder."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.separator import UCRSeparator


class ComponentCache:
    """Reads like a `LatentCache`, and gives component latents instead of the mixture's.

    They are encoded when it is made, track by track, and kept in memory: a component latent of the
    paper's kind takes 1 MB for an hour of music.

    Args:
        cache: of the mixtures.
        model: whose encoder is used.
        device: to encode on.
    """

    def __init__(self, cache: LatentCache, model: UCRSeparator, device: str = "cpu"):
        self.path, self.tracks = cache.path, cache.tracks
        self._cache = cache
        self._latents = {}
        encode = model.to(device).decomposition.encode
        with torch.no_grad():
            for track in self.tracks:
                latents = torch.from_numpy(cache.crop(track, 0, 2**31))[None].to(device)
                self._latents[track] = encode(latents)[0].cpu().numpy()
        model.to("cpu")

    def lengths(self) -> list[int]:
        """Frames of each track, in the order of `tracks`."""
        return [self._latents[track].shape[-1] for track in self.tracks]

    def crop(self, track: str, start: int, frames: int) -> np.ndarray:
        """A passage `(n_src, latent_dim, frames)`, float32; shorter where the track ends."""
        return self._latents[track][..., start : start + frames]

    def power(self, track: str) -> np.ndarray:
        """Mean square of each source's audio in each frame, `(n_src, frames)`, float32."""
        return self._cache.power(track)

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each component's channels, `(n_src, latent_dim)` each."""
        every = np.concatenate([self._latents[track] for track in self.tracks], axis=-1)
        every = every.astype(np.float64)
        return every.mean(-1), every.std(-1)


def encoder_digest(model: UCRSeparator) -> str:
    """Changes whenever the component latents of some mixture would: weights and statistics."""
    core = model.decomposition
    state = core.encoder.state_dict() | {"mean": core.latent_mean, "std": core.latent_std}
    digest = hashlib.sha256(model.codec.fingerprint.encode())
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
