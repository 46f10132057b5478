"""Fréchet distance of two collections of sounds, from embeddings that need no download.

The distance of two normal distributions (Dowson & Landau, "The Fréchet distance between
multivariate normal distributions", 1982) that are fitted to embeddings of two collections, as in
Kilgour et al. ("Fréchet audio distance", Interspeech 2019). It is biased: fewer embeddings give
larger distances. `frechet_infinity` removes the bias (Chong & Forsyth, "Effectively unbiased FID
and Inception score", CVPR 2020), and a bootstrap over clips gives a confidence interval.

The embeddings are statistics of codec latents rather than outputs of a network trained on sounds,
so the distances can be compared with each other, but not with published ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asteroid_ucr.codecs import Codec
from asteroid_ucr.evaluation.scores import silent
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import generator_for

WINDOW_SECONDS = 1.0
# Latents of digital silence have no spread. The floor of its logarithm lies far below hiss.
SPREAD_FLOOR = 1e-3
POINTS = 15  # Number of sample sizes of the extrapolation.
RESAMPLE_POINTS = 5  # Number of sample sizes within the bootstrap, where time counts.
FEWEST = 10  # Number of embeddings that an extrapolation needs.

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """Mean `(dim,)` and covariance `(dim, dim)` of a normal distribution."""

    mean: Array
    covariance: Array

    @cached_property
    def root(self) -> Array:
        """Symmetric square root of the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T

    @classmethod
    def fit(cls, embeddings: Array) -> Gaussian:
        """Fits the distribution to embeddings `(n, dim)`.

        Raises:
            UserError: If there are fewer than two embeddings, or values that are not finite.
        """
        embeddings = np.asarray(embeddings, dtype=np.float64)
        if embeddings.ndim != 2 or len(embeddings) < 2:
            raise UserError(
                f"Embeddings have shape {embeddings.shape}: a Fréchet distance needs at least two, "
                "(n, dim) with n ≥ 2."
            )
        if not np.isfinite(embeddings).all():
            raise UserError("The embeddings contain NaN or infinity: check the audio for damage.")
        return cls(embeddings.mean(0), np.atleast_2d(np.cov(embeddings, rowvar=False)))


@torch.inference_mode()
def embed(wav: Tensor, codec: Codec) -> Array:
    """Computes embeddings `(seconds, 2 · channels)`, one for each full second of `(time,)`.

    An embedding holds the mean and the logarithm of the standard deviation of each latent channel.
    For codecs whose latents are coefficients of a transform, the latter is a spectrum. Embeddings
    depend on the level of the sound, which has the codec's sample rate.

    Raises:
        UserError: If the sound is shorter than one window.
    """
    size = round(WINDOW_SECONDS * codec.frame_rate)
    latents = codec.encode(wav[None, None])[0].double()
    if latents.shape[-1] < size:
        raise UserError(
            f"A sound of {wav.shape[-1] / codec.sample_rate:.2f} s has no window of "
            f"{WINDOW_SECONDS:g} s: give longer clips."
        )
    windows = latents.unfold(-1, size, size)  # (channels, n, size)
    spread = windows.std(-1, correction=0).clamp(min=SPREAD_FLOOR)
    return torch.cat([windows.mean(-1), spread.log()]).T.cpu().numpy()


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Computes the squared Fréchet distance of two normal distributions.

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) (Dowson & Landau 1982, equation 4). Σ_a Σ_b has the
    eigenvalues of the symmetric matrix Σ_a^½ Σ_b Σ_a^½: real and, apart from rounding, not
    negative, even where a covariance is singular.

    Raises:
        UserError: If the dimensions differ.
    """
    if a.mean.shape != b.mean.shape:
        raise UserError(
            f"Embeddings have {len(a.mean)} and {len(b.mean)} dimensions: use the same codec."
        )
    crossed = np.linalg.eigvalsh(a.root @ b.covariance @ a.root).clip(min=0)
    traces = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(crossed).sum()
    return max(0.0, float(np.square(a.mean - b.mean).sum() + traces))


def frechet_infinity(
    reference: Gaussian, embeddings: Array, seed: int = 0, points: int = POINTS
) -> float:
    """Extrapolates the distance of embeddings `(n, dim)` to infinitely many (Chong & Forsyth 2020).

    The bias falls as 1/n: distances of random subsets of n embeddings, for `points` values of n
    from a third to all of them, lie near a line over 1/n, whose value at 0 is returned. The bias of
    the reference stays, so fit it to all true sounds.

    Raises:
        UserError: If there are fewer than ten embeddings.
    """
    if len(embeddings) < FEWEST:
        raise UserError(f"{len(embeddings)} embeddings are too few to extrapolate: give {FEWEST}.")
    sizes = np.unique(np.linspace(max(5, len(embeddings) // 3), len(embeddings), points, dtype=int))
    distances = []
    for size in sizes:
        chosen = torch.randperm(len(embeddings), generator=generator_for(seed, int(size)))[:size]
        distances.append(frechet_distance(reference, Gaussian.fit(embeddings[chosen.numpy()])))
    return float(np.polyfit(1 / sizes, distances, 1)[1])


def compare(
    reference: Sequence[Array], estimate: Sequence[Array], seed: int = 0, resamples: int = 100
) -> dict[str, float]:
    """Computes the distance of two collections, with a bootstrap interval.

    A collection is a list of embeddings `(n, dim)`, one for each clip or song. Windows of one clip
    are not independent, so the bootstrap draws whole clips of the estimate, with replacement. The
    reference stays as it is.

    Returns:
        `value`, computed from all embeddings and biased upwards; `infinity`, extrapolated to
        infinitely many embeddings, which noise can make negative; `low` and `high`, the ends of the
        95 % interval of `infinity`.

    Raises:
        UserError: If a collection is empty or has too few embeddings.
    """
    if not reference or not estimate:
        raise UserError("A Fréchet distance compares two collections: one of them is empty.")
    true, whole = Gaussian.fit(np.concatenate(reference)), np.concatenate(estimate)
    infinity = frechet_infinity(true, whole, seed)
    drawn = np.zeros(resamples)
    for number in range(resamples):
        generator = generator_for(seed, 1, number)
        chosen = torch.randint(len(estimate), (len(estimate),), generator=generator)
        again = np.concatenate([estimate[i] for i in chosen.tolist()])
        drawn[number] = frechet_infinity(true, again, number, RESAMPLE_POINTS)
    # Repeated clips narrow the covariance of a resample, which shifts all resamples alike. The
    # interval therefore uses their spread around their own mean.
    low, high = infinity + np.quantile(drawn - drawn.mean(), [0.025, 0.975])
    value = frechet_distance(true, Gaussian.fit(whole))
    return {"value": value, "infinity": infinity, "low": float(low), "high": float(high)}


class Sounds:
    """Embeddings by collection ("test", "generated", …), target ("mixture", "bass", …) and track.

    The codec computes the latents of the embeddings.
    """

    def __init__(self, codec: Codec, resamples: int):
        self.codec, self.resamples = codec, resamples
        # By collection and target: the embeddings of the sounds of each track.
        self._found: dict[Any, dict[str, list[Array]]] = defaultdict(lambda: defaultdict(list))
        self._silent: Counter[tuple[str, str]] = Counter()

    def add(self, collection: str, track: str, sounds: Mapping[str, Tensor]) -> None:
        """Adds the sounds `(time,)` of an item, by target, at 24 kHz.

        Silent sounds are only counted: the logarithm of their spread would dominate the distances.
        """
        for target, wav in sounds.items():
            if silent(wav.cpu()):
                self._silent[collection, target] += 1
            else:
                self._found[collection, target][track].append(embed(wav.cpu(), self.codec))

    def distance(self, reference: str, collection: str, target: str) -> dict[str, Any] | None:
        """Computes one line of the table; None if a collection has no such target.

        Where a collection has too few embeddings, the line has their numbers and no distances.
        """
        sides = [
            [np.concatenate(parts) for parts in self._found[name, target].values()]
            for name in (reference, collection)
        ]
        if not all(sides):
            return None
        counts = [sum(map(len, side)) for side in sides]
        found = dict.fromkeys(("value", "infinity", "low", "high"))
        if min(counts) >= FEWEST:
            found = compare(*sides, resamples=self.resamples)
        return {
            "reference": reference,
            "sounds": collection,
            "target": target,
            "reference_embeddings": counts[0],
            "embeddings": counts[1],
            "silent": self._silent[collection, target],
            **found,
        }
