"""Non-negative matrix factorisation, its components grouped by their noisiness and sustain."""

from __future__ import annotations

from collections.abc import Sequence, Set

import librosa
import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF
from torch import Tensor

from asteroid_ucr.baselines.parts import first_source
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.reference_rows import mask_row
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.masking import stft, wiener_masks

COMPONENTS, STEPS = 24, 60
MELS = 40
SUSTAIN_SECONDS = 0.16  # longer than a hit, shorter than a note


def nmf_row() -> Row:
    """NMF of the magnitudes with clustered components.

    The clusters are given to sources by rules that need no labels: the drums (where there are
    none, the first source) get the one with the flattest spectra, the bass gets the one that lies
    lowest of the others, and all further sources share what is left.
    """
    return mask_row(
        "nmf",
        "NMF, clustered",
        "classical",
        separate_masks,
        note=f"{COMPONENTS} NMF components, clustered by the flatness of their spectra and the "
        "sustain of their gains: the flattest cluster to drums (else to the first source), the "
        "lowest one to bass, the rest shared by the others",
    )


def separate_masks(clip: Clip) -> Tensor:
    """Wiener masks `(n_src, freq, frames)` of the clusters of components."""
    magnitudes = stft(clip.mixture, clip.sample_rate).abs()
    spectra, gains = factorise(magnitudes)
    roles = [_role(k, clip.sources) for k in range(len(clip.sources))]
    members = cluster(spectra, gains, set(roles), clip)
    power = [
        np.square(spectra[:, members[role]] @ gains[members[role]]) / roles.count(role)
        for role in roles
    ]
    return wiener_masks(torch.from_numpy(np.stack(power)).float())


def _role(source: int, sources: Sequence[str]) -> str:
    if source == first_source(sources):
        return "flat"
    return "low" if sources[source] == "bass" else "rest"


def factorise(magnitudes: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative spectra `(freq, components)` and gains `(components, frames)`.

    Multiplicative updates (Lee & Seung 2001) that lower the Kullback-Leibler divergence between
    their product and the magnitudes, from a start that is not random.
    """
    solver = NMF(
        min(COMPONENTS, *magnitudes.shape),
        init="nndsvda",
        solver="mu",
        beta_loss="kullback-leibler",
        max_iter=STEPS,
        tol=0,
        random_state=0,
    )
    return librosa.decompose.decompose(magnitudes.numpy() + 1e-8, transformer=solver)


def cluster(
    spectra: np.ndarray, gains: np.ndarray, roles: Set[str], clip: Clip
) -> dict[str, np.ndarray]:
    """Groups components by k-means, in two steps, and gives each group a role.

    First "flat" is told from the others, by the flatness of a component's mel spectrum (Wiener
    entropy), high for noise, and the autocorrelation of its gain after 0.16 s, high for what is
    sustained; then "low" from "rest", by their centroids. The features are this package's choice,
    made on mini-Slakh's training songs, for want of a standard one.

    Args:
        spectra: `(freq, components)`.
        gains: `(components, frames)`.
        roles: those that are wanted, of "flat", "low" and "rest".
        clip: that was factorised.

    Returns:
        For each role, which components have it, `(components,)` booleans.
    """
    bins = len(spectra)
    mels = librosa.filters.mel(sr=clip.sample_rate, n_fft=2 * (bins - 1), n_mels=MELS) @ spectra
    mels = mels + 1e-5 * mels.max(0) + 1e-12
    flatness = np.exp(np.log(mels).mean(0)) / mels.mean(0)
    sustain = _autocorrelation(gains, round(SUSTAIN_SECONDS * gains.shape[1] / clip.seconds))
    centroid = np.log(1 + (np.arange(bins) @ spectra) / (spectra.sum(0) + 1e-12))
    energy = np.square(spectra).sum(0) * np.square(gains).sum(1) + 1e-12
    chosen = {}
    left = np.ones(len(flatness), bool)
    for role, highest, features in (
        ("flat", flatness, [np.log(flatness), sustain]),
        ("low", -centroid, [centroid]),
        ("rest", energy, []),
    ):
        if role not in roles:
            continue
        last = len(chosen) == len(roles) - 1
        chosen[role] = left if last else left & _highest(features, highest, energy, left)
        left = left & ~chosen[role]
    return chosen


def _highest(
    features: list[np.ndarray], values: np.ndarray, energy: np.ndarray, among: np.ndarray
) -> np.ndarray:
    """Of two clusters of the components `among`, the one with the higher mean value."""
    points = np.stack([_standard(feature[among]) for feature in features], axis=1)
    if len(np.unique(points, axis=0)) < 2:
        return among
    labels = np.full(len(among), -1)
    labels[among] = KMeans(2, n_init=10, random_state=0).fit_predict(points)
    means = [
        np.average(values[labels == k], weights=energy[labels == k]) if (labels == k).any() else -9
        for k in range(2)
    ]
    return labels == int(np.argmax(means))


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std() + 1e-9)


def _autocorrelation(gains: np.ndarray, lag: int) -> np.ndarray:
    """Correlation of each gain with itself `lag` frames later; zero for clips shorter than that."""
    first, second = gains[:, : -lag or None], gains[:, lag:]
    if first.shape[1] < 2:
        return np.zeros(len(gains))
    first = first - first.mean(1, keepdims=True)
    second = second - second.mean(1, keepdims=True)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / (norms + 1e-12)
