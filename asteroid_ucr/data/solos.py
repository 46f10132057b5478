"""Finds passages in which one source plays alone, from the mixtures' latents and no labels.

Music pauses: the bass is silent in a drum break, the drums are silent in an introduction. Where a
corpus of mixtures has such passages they say what a source is, and they can be found without stems:

1. Short windows of all mixtures are clustered by their spectra and their change over time.
2. Sources add up. Of all sets of one cluster per source, the one is chosen whose mean spectra add
   up to the spectrum of the average mixture, while no smaller set of them does.
3. Classifiers sharpen the choice. They learn to tell the windows of each cluster from sums of
   windows of all of them, which are mixtures by construction, and choose the windows anew.

The idea is that of pure pixels in hyperspectral unmixing (Boardman et al. 1995), where materials
are known by the places that hold nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from asteroid_ucr.codecs import Codec
from asteroid_ucr.data.cache import LatentCache
from asteroid_ucr.errors import UserError

WINDOW, HOP = 96, 24  # frames: 1.3 s holds a beat, and pauses are rarely much shorter
BANDS = 32
CLUSTERS, DIMENSIONS, TRIALS = 16, 16, 5
ROUNDS, SUMS, CONFIDENCE = 4, 1000, 0.8
MOST_WINDOWS = 20_000  # used for fitting; all are classified
FEWEST_WINDOWS = 20
WORST_SCORE = -2.0  # pairs of instruments on mini-Slakh have -4 to -8, three instruments -0.5
_QUIET = 0.02  # mean latent below which a window is taken for silence


@dataclass(frozen=True)
class Window:
    """A passage of `WINDOW` latent frames."""

    track: str
    start: int


class Solos:
    """Windows of a cache in which one source plays alone, by component.

    Attributes:
        windows: a list for each component. Which instrument a component is remains unknown.
        score: how much better the chosen clusters' sum explains the average mixture than a smaller
            set does, in dB per band; near or above zero, no set of clusters looks like solos.
    """

    def __init__(self, windows: Sequence[Sequence[Window]], score: float):
        self.windows = [list(component) for component in windows]
        self.score = score

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        windows = [[[w.track, w.start] for w in component] for component in self.windows]
        return {"frames": WINDOW, "score": self.score, "windows": windows}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Solos:
        """Inverse of `to_dict`."""
        return cls(
            [[Window(*w) for w in component] for component in stored["windows"]], stored["score"]
        )


def find_solos(cache: LatentCache, codec: Codec, n_src: int, seed: int = 0) -> Solos:
    """Finds the solos of a cache.

    Args:
        cache: latents of mixtures.
        codec: that made them; its latents must have power.
        n_src: number of sources, at least 2.
        seed: of the clustering.

    Raises:
        UserError: if the codec's latents have no power, or there are too few windows or no solos.
    """
    if not codec.has_power:
        raise UserError(
            f"Solos are found by adding spectra, and the latents of {codec.name!r} are none: use "
            "the codec 'mel', or set training.solo_share to 0."
        )
    table = _Windows(cache, codec)
    score, chosen = _complementary_clusters(table, n_src, seed)
    if score > WORST_SCORE:
        raise UserError(
            f"The mixtures in {cache.path} do not look as if their sources ever played alone "
            f"(score {score:.1f}, {WORST_SCORE:.0f} or lower is needed): use more tracks, or set "
            "training.solo_share to 0."
        )
    chosen = _refine(table, chosen, seed)
    if min(map(len, chosen)) < FEWEST_WINDOWS:
        raise UserError(
            f"The mixtures in {cache.path} hold too few passages in which one source plays alone "
            f"({', '.join(str(len(c)) for c in chosen)} windows found): use more tracks, or set "
            "training.solo_share to 0."
        )
    return Solos([[table.windows[i] for i in component] for component in chosen], score)


class _Windows:
    """All windows that are not silent, and their features."""

    def __init__(self, cache: LatentCache, codec: Codec):
        self._cache, self._codec = cache, codec
        self.windows: list[Window] = []
        tracks, features = [], []
        for number, track in enumerate(cache.tracks):
            latents = cache.crop(track, 0, 2**31)
            for start in range(0, latents.shape[1] - WINDOW + 1, HOP):
                window = latents[:, start : start + WINDOW]
                if window.mean() >= _QUIET:
                    self.windows.append(Window(track, start))
                    tracks.append(number)
                    features.append(describe(window))
        if len(self.windows) < 10 * CLUSTERS:
            raise UserError(
                f"{cache.path} holds {len(self.windows)} windows of sound, too few to find solos "
                "in: use more tracks, or set training.solo_share to 0."
            )
        self.tracks = np.array(tracks)
        self.features = np.array(features)

    def power(self, index: int) -> np.ndarray:
        """Power of a window, `(channels, frames)`."""
        window = self.windows[index]
        latents = self._cache.crop(window.track, window.start, WINDOW)
        return self._codec.to_power(torch.from_numpy(latents)).numpy()

    def describe_sum(self, indices: Sequence[int], gains: np.ndarray) -> np.ndarray:
        """Features of a mixture of windows, whose powers have these gains."""
        total = sum(gain * self.power(i) for i, gain in zip(indices, gains, strict=True))
        latents = self._codec.from_power(torch.as_tensor(total, dtype=torch.float32))
        return describe(latents.numpy())

    def spectra(self) -> np.ndarray:
        """Mean spectra in dB, `(windows, bands)`."""
        latents = torch.from_numpy(self.features[:, :BANDS])
        return 10 * np.log10(self._codec.to_power(latents).numpy().clip(1e-9))


def describe(latents: np.ndarray) -> np.ndarray:
    """Features of a window `(channels, frames)`: mean, spread, change and quantiles by band."""
    bands = np.stack([part.mean(0) for part in np.array_split(latents, BANDS)])
    change = np.abs(np.diff(bands, axis=1)).mean(1)
    quantiles = np.quantile(bands, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], axis=1)
    return np.concatenate([bands.mean(1), bands.std(1), change, quantiles.ravel()])


def _complementary_clusters(
    table: _Windows, n_src: int, seed: int
) -> tuple[float, list[np.ndarray]]:
    """Clusters whose spectra add up to the average one, as indices of windows; and their score."""
    scaled = StandardScaler().fit_transform(table.features)
    points = PCA(DIMENSIONS, random_state=seed).fit_transform(scaled)
    rng = np.random.default_rng(seed)
    sample = rng.permutation(len(points))[:MOST_WINDOWS]
    spectra = table.spectra()
    whole = spectra.mean(0)
    best: tuple[float, list[np.ndarray]] | None = None
    for trial in range(TRIALS):  # the mixture's fit depends on its start
        model = GaussianMixture(CLUSTERS, random_state=seed + trial, reg_covar=1e-2)
        labels = model.fit(points[sample]).predict(points)
        members = [np.flatnonzero(labels == k) for k in range(CLUSTERS)]
        members = [m for m in members if len(m) >= FEWEST_WINDOWS]
        means = 10 ** (np.array([spectra[m].mean(0) for m in members]) / 10)
        for group in combinations(range(len(members)), n_src):
            score = _misfit(means, group, whole) - min(
                _misfit(means, part, whole) for part in combinations(group, n_src - 1)
            )
            if best is None or score < best[0]:
                best = score, [members[k] for k in group]
    assert best is not None  # there are always enough clusters
    return best


def _misfit(means: np.ndarray, group: tuple[int, ...], whole: np.ndarray) -> float:
    """Mean difference of a sum of spectra from the average mixture's, in dB."""
    return float(np.abs(10 * np.log10(means[list(group)].sum(0)) - whole).mean())


def _refine(table: _Windows, chosen: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """Chooses windows anew by classifiers that know the sums of those chosen before."""
    rng = np.random.default_rng([seed, 1])
    n_src, features = len(chosen), table.features
    for _ in range(ROUNDS):
        if min(map(len, chosen)) < FEWEST_WINDOWS:
            break
        drawn = np.stack([rng.choice(c, SUMS) for c in chosen], axis=1)
        gains = 10 ** (rng.uniform(-6, 6, drawn.shape) / 10)
        sums = np.array([table.describe_sum(d, g) for d, g in zip(drawn, gains, strict=True)])
        others = np.setdiff1d(np.arange(len(features)), np.concatenate(chosen))
        others = rng.choice(others, min(SUMS, len(others)), replace=False)
        inputs = np.concatenate([*(features[c] for c in chosen), sums, features[others]])
        labels = np.repeat([*range(n_src), n_src], [*map(len, chosen), len(sums) + len(others)])
        # Two halves by track, so that no window is judged by a classifier that has learnt it.
        halves = np.concatenate(
            [*(table.tracks[c] % 2 for c in chosen), rng.integers(2, size=len(sums)),
             table.tracks[others] % 2]
        )  # fmt: skip
        probability = np.zeros((len(features), n_src + 1))
        for half in (0, 1):
            classifier = make_pipeline(
                StandardScaler(),
                LogisticRegression(C=0.02, max_iter=1000, class_weight="balanced"),
            )
            classifier.fit(inputs[halves == half], labels[halves == half])
            judged = table.tracks % 2 != half
            columns = classifier.predict_proba(features[judged])
            probability[np.ix_(judged, classifier.classes_)] = columns
        chosen = [np.flatnonzero(probability[:, k] > CONFIDENCE) for k in range(n_src)]
    return chosen
