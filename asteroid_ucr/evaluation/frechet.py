"""Fréchet distance of two collections of sounds, from embeddings that need no download.

The distance of two normal distributions (Dowson & Landau, "The Fréchet distance between
multivariate normal distributions", 1982), fitted to embeddings of two collections, as Kilgour et
al. ("Fréchet audio distance", Interspeech 2019) use it. It is biased: fewer embeddings give greater
distances. `frechet_infinity` takes the bias away (Chong & Forsyth, "Effectively unbiased FID and
Inception score", CVPR 2020), and a bootstrap over clips says how well the distance is known.

The embeddings are levels and means of codec latents, not those of a network that was trained on
sounds: distances compare with each other, not with published ones.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asteroid_ucr.codecs import Codec, build_codec
from asteroid_ucr.evaluation.scores import silent
from asteroid_ucr.utils.audio import resample
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import generator_for

WINDOW_SECONDS = 1.0
# Latents of digital silence have no spread: their logarithm is bounded here, far below hiss.
SPREAD_FLOOR = 1e-3
POINTS = 15  # sample sizes of the extrapolation
RESAMPLE_POINTS = 5  # sample sizes within the bootstrap, where time counts
FEWEST = 10  # embeddings from which a distance is extrapolated

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """Mean `(dim,)` and covariance `(dim, dim)` of embeddings, and how many there were."""

    mean: Array
    covariance: Array
    count: int

    @cached_property
    def root(self) -> Array:
        """Symmetric square root of the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


@dataclass(frozen=True)
class Distance:
    """A Fréchet distance and how well it is known.

    Attributes:
        value: from all embeddings; biased upwards.
        infinity: extrapolated to infinitely many embeddings; noise can bring it below zero.
        low: lower end of the 95 % bootstrap interval of `infinity`, over clips.
        high: its upper end.
        clips: how many clips the estimate has in each collection.
    """

    value: float
    infinity: float
    low: float
    high: float
    clips: tuple[int, int]


@cache
def _default_codec() -> Codec:
    return build_codec("mdct")


@torch.inference_mode()
def embed(wav: Tensor, sample_rate: int = 24_000, codec: Codec | None = None) -> Array:
    """Embeddings of a sound: one for each full second.

    A window's embedding holds the mean and the logarithm of the standard deviation of each of the
    codec's un-quantised latents in it. Where latents are coefficients of a transform, the latter
    are a spectrum. The level matters: bring sounds to one level first if it should not.

    Args:
        wav: `(time,)` or `(1, time)`.
        sample_rate: of `wav`; other rates than the codec's are resampled.
        codec: whose latents to take; None takes `mdct`.

    Returns:
        `(seconds, 2 · channels)`; what is left of the last second is not used.

    Raises:
        UserError: if the sound is shorter than a window, or not mono.
    """
    codec = _default_codec() if codec is None else codec
    wav = torch.as_tensor(wav).reshape(-1) if wav.ndim == 1 or wav.shape[0] == 1 else wav
    if wav.ndim != 1:
        raise UserError(f"The waveform has shape {tuple(wav.shape)}: give one channel, (time,).")
    wav = resample(wav[None, None], sample_rate, codec.sample_rate)
    size = round(WINDOW_SECONDS * codec.frame_rate)
    latents = codec.encode(wav)[0].double()
    if latents.shape[-1] < size:
        raise UserError(
            f"A sound of {wav.shape[-1] / codec.sample_rate:.2f} s has no window of "
            f"{WINDOW_SECONDS:g} s: give longer clips."
        )
    windows = latents.unfold(-1, size, size)  # (channels, n, size)
    spread = windows.std(-1, correction=0).clamp(min=SPREAD_FLOOR)
    return torch.cat([windows.mean(-1), spread.log()]).T.cpu().numpy()


def gaussian(embeddings: Array) -> Gaussian:
    """Fits a normal distribution to embeddings `(n, dim)`.

    Raises:
        UserError: with fewer than two embeddings, or values that are not finite.
    """
    embeddings = np.asarray(embeddings, dtype=np.float64)
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise UserError(
            f"Embeddings have shape {embeddings.shape}: a Fréchet distance needs (n, dim), n ≥ 2."
        )
    if not np.isfinite(embeddings).all():
        raise UserError("Embeddings hold NaN or infinities: look for damaged audio.")
    covariance = np.atleast_2d(np.cov(embeddings, rowvar=False))
    return Gaussian(embeddings.mean(0), covariance, len(embeddings))


def frechet_distance(a: Array | Gaussian, b: Array | Gaussian) -> float:
    """Squared Fréchet distance of two normal distributions (Dowson & Landau 1982, equation 4).

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½). The last trace is the sum of the square roots of
    the eigenvalues of Σ_a^½ Σ_b Σ_a^½: that matrix is symmetric, so that they are real and, but
    for rounding, not negative, even where a covariance is singular.

    Args:
        a: embeddings `(n, dim)`, or what `gaussian` made of them.
        b: likewise.

    Returns:
        The distance, zero or more.

    Raises:
        UserError: if the embeddings cannot be used or their dimensions differ.
    """
    a, b = (x if isinstance(x, Gaussian) else gaussian(x) for x in (a, b))
    if a.mean.shape != b.mean.shape:
        raise UserError(
            f"Embeddings have {len(a.mean)} and {len(b.mean)} dimensions: use the same codec."
        )
    crossed = np.linalg.eigvalsh(a.root @ b.covariance @ a.root).clip(min=0)
    traces = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(crossed).sum()
    return max(0.0, float(np.square(a.mean - b.mean).sum() + traces))


def frechet_infinity(
    reference: Array | Gaussian, embeddings: Array, seed: int = 0, points: int = POINTS
) -> float:
    """Fréchet distance extrapolated to infinitely many embeddings (Chong & Forsyth 2020).

    The bias falls as 1/n: distances of random subsets of n embeddings, for n from a third to all of
    them, lie near a line over 1/n, whose value at 0 is returned.

    Args:
        reference: of the true sounds; its own bias stays, so give as many as there are.
        embeddings: `(n, dim)` of the sounds to judge.
        seed: of the subsets.
        points: number of subset sizes.

    Raises:
        UserError: with fewer than ten embeddings.
    """
    embeddings = np.asarray(embeddings, dtype=np.float64)
    if len(embeddings) < FEWEST:
        raise UserError(f"{len(embeddings)} embeddings are too few to extrapolate: give {FEWEST}.")
    reference = reference if isinstance(reference, Gaussian) else gaussian(reference)
    sizes = np.unique(np.linspace(max(5, len(embeddings) // 3), len(embeddings), points, dtype=int))
    distances = []
    for size in sizes:
        chosen = torch.randperm(len(embeddings), generator=generator_for(seed, int(size)))[:size]
        distances.append(frechet_distance(reference, embeddings[chosen.numpy()]))
    slope_and_value = np.polyfit(1 / sizes, distances, 1)
    return float(slope_and_value[1])


def compare(
    reference: Sequence[Array],
    estimate: Sequence[Array],
    seed: int = 0,
    resamples: int = 100,
    paired: bool = False,
) -> Distance:
    """Distance of two collections, with a bootstrap interval.

    Windows of one clip are not independent, so whole clips are drawn, with replacement; those of
    the reference stay as they are, unless they belong to the estimate's.

    Args:
        reference: embeddings of the true sounds, one array for each clip (or song).
        estimate: embeddings of the sounds to judge, likewise.
        seed: of subsets and resamples.
        resamples: of the bootstrap.
        paired: whether estimate k was made from reference k, as by a codec: both are drawn.

    Raises:
        UserError: if there are too few embeddings, or pairs of unequal number.
    """
    if not reference or not estimate:
        raise UserError("A Fréchet distance compares two collections: one of them is empty.")
    if paired and len(reference) != len(estimate):
        raise UserError(f"{len(reference)} clips and {len(estimate)} are not pairs.")
    true = gaussian(np.concatenate(reference))
    whole = np.concatenate(estimate)
    infinity = frechet_infinity(true, whole, seed)
    drawn = []
    for number in range(resamples):
        generator = generator_for(seed, 1, number)
        chosen = torch.randint(len(estimate), (len(estimate),), generator=generator).tolist()
        again = np.concatenate([estimate[i] for i in chosen])
        other = gaussian(np.concatenate([reference[i] for i in chosen])) if paired else true
        drawn.append(frechet_infinity(other, again, number, RESAMPLE_POINTS))
    # Repeated clips narrow a resample's covariance, which shifts it as a whole: the interval takes
    # the resamples' spread around their own mean, not their place.
    shifts = np.asarray(drawn) - np.mean(drawn) if drawn else np.full(1, math.nan)
    low, high = infinity + np.quantile(shifts, [0.025, 0.975])
    return Distance(
        value=frechet_distance(true, whole),
        infinity=infinity,
        low=float(low),
        high=float(high),
        clips=(len(reference), len(estimate)),
    )


class Sounds:
    """Embeddings by collection ("test", "generated", …), target ("mixture", "bass", …) and track.

    Args:
        codec: Codec whose latents the embeddings are made of.
        resamples: Number of bootstrap resamples.
    """

    def __init__(self, codec: Codec, resamples: int):
        self.codec, self.resamples = codec, resamples
        self._found: dict[tuple[str, str], dict[str, list[Array]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._silences: Counter[tuple[str, str]] = Counter()

    def add(self, collection: str, track: str, sounds: dict[str, Tensor]) -> None:
        """Adds the sounds `(time,)` of an item, by target, at 24 kHz.

        Silence is counted, not embedded: a logarithm of nothing would decide every distance.
        """
        for target, wav in sounds.items():
            if bool(silent(wav.cpu()[None])[0]):
                self._silences[collection, target] += 1
            else:
                self._found[collection, target][track].append(embed(wav.cpu(), codec=self.codec))

    def distance(self, reference: str, collection: str, target: str) -> dict[str, Any] | None:
        """One line of the table; None if there is no such collection of this target.

        Where either has too few embeddings, the line has their numbers, and None as distances.
        """
        sides = []
        for name in (reference, collection):
            if (name, target) not in self._found:
                return None
            tracks = self._found[name, target].values()
            sides.append([np.concatenate(parts) for parts in tracks])
        counts = [sum(map(len, side)) for side in sides]
        line = {"reference": reference, "sounds": collection, "target": target}
        line |= {"reference_embeddings": counts[0], "embeddings": counts[1]}
        line["silent"] = self._silences[collection, target]
        figures = ("value", "infinity", "low", "high")
        if min(counts) < FEWEST:
            return line | dict.fromkeys(figures)
        found = compare(*sides, resamples=self.resamples)
        return line | {name: getattr(found, name) for name in figures}
