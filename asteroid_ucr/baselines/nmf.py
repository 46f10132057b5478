"""Non-negative matrix factorisation with components clustered by noisiness and sustain."""

from __future__ import annotations

from collections.abc import Sequence, Set

import librosa
import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF
from torch import Tensor

from asteroid_ucr.baselines.classical import first_source
from asteroid_ucr.masking import stft, stft_settings, wiener_masks

COMPONENTS, STEPS = 24, 60
MELS = 40
SUSTAIN_SECONDS = 0.16  # Longer than a hit, shorter than a note.


def nmf_masks(wav: Tensor, sample_rate: int, sources: Sequence[str]) -> Tensor:
    """Wiener masks `(n_src, freq, frames)` of clustered NMF components of a mixture `(time,)`.

    Rules that need no labels assign the clusters: the drums (without drums, the first source) get
    the cluster with the flattest spectra, the bass gets the lowest of the others, and the remaining
    sources share the rest.
    """
    spectra, gains = factorise(stft(wav, sample_rate).abs())
    roles = ["low" if source == "bass" else "rest" for source in sources]
    roles[first_source(sources)] = "flat"
    members = cluster(spectra, gains, set(roles), sample_rate)
    power = [
        np.square(spectra[:, members[role]] @ gains[members[role]]) / roles.count(role)
        for role in roles
    ]
    return wiener_masks(torch.from_numpy(np.stack(power)).float())


def factorise(magnitudes: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Factorises magnitudes into spectra `(freq, components)` and gains `(components, frames)`.

    Multiplicative updates (Lee & Seung 2001) reduce the Kullback-Leibler divergence, from a
    deterministic start.
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
    gains = solver.fit_transform(magnitudes.numpy().T + 1e-8).T
    return solver.components_.T, gains


def cluster(
    spectra: np.ndarray, gains: np.ndarray, roles: Set[str], sample_rate: int
) -> dict[str, np.ndarray]:
    """Clusters components by k-means, in two steps, and assigns a role to each cluster.

    The first step separates "flat" from the rest by the flatness of the mel spectra (Wiener
    entropy), which is high for noise, and by the autocorrelation of the gains after 0.16 s, which
    is high for sustained sounds. The second step separates "low" from "rest" by the centroid. There
    is no standard choice of features; these were chosen on training songs of mini-Slakh.

    Args:
        spectra: Spectra `(freq, components)`.
        gains: Gains `(components, frames)`.
        roles: The roles to assign, of "flat", "low" and "rest".
        sample_rate: Sample rate of the factorised waveform in Hz.

    Returns:
        For each role, whether each component has it, `(components,)` booleans.
    """
    bins = len(spectra)
    mels = librosa.filters.mel(sr=sample_rate, n_fft=2 * (bins - 1), n_mels=MELS) @ spectra
    mels = mels + 1e-5 * mels.max(0) + 1e-12
    flatness = np.exp(np.log(mels).mean(0)) / mels.mean(0)
    lag = round(SUSTAIN_SECONDS * sample_rate / stft_settings(sample_rate)[1])
    sustain = _autocorrelation(gains, lag)
    centroid = np.log(1 + (np.arange(bins) @ spectra) / (spectra.sum(0) + 1e-12))
    energy = np.square(spectra).sum(0) * np.square(gains).sum(1) + 1e-12
    # Features that tell a role's cluster from the other one, and the value that is higher in it.
    measures = {
        "flat": (np.stack([np.log(flatness), sustain], axis=1), flatness),
        "low": (centroid[:, None], -centroid),
    }
    ordered = [role for role in ("flat", "low", "rest") if role in roles]
    chosen, left = {}, np.ones(len(flatness), bool)
    for role in ordered[:-1]:
        chosen[role] = _highest(*measures[role], energy, left)
        left = left & ~chosen[role]
    return {**chosen, ordered[-1]: left}


def _highest(
    features: np.ndarray, values: np.ndarray, energy: np.ndarray, among: np.ndarray
) -> np.ndarray:
    """The one of two clusters of the components `among` that has the higher mean value."""
    points = features[among]
    points = (points - points.mean(0)) / (points.std(0) + 1e-9)
    if len(np.unique(points, axis=0)) < 2:
        return among
    labels = np.full(len(among), -1)
    labels[among] = KMeans(2, n_init=10, random_state=0).fit_predict(points)
    means = [np.average(values[labels == k], weights=energy[labels == k]) for k in range(2)]
    return labels == int(np.argmax(means))


def _autocorrelation(gains: np.ndarray, lag: int) -> np.ndarray:
    """Correlation of each gain with itself `lag` frames later; zero for clips shorter than that."""
    first, second = gains[:, : -lag or None], gains[:, lag:]
    if first.shape[1] < 2:
        return np.zeros(len(gains))
    first = first - first.mean(1, keepdims=True)
    second = second - second.mean(1, keepdims=True)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / (norms + 1e-12)
