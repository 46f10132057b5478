"""Finds passages in which one instrument plays alone, in mixtures whose instruments are named.

A corpus has several kinds of mixtures, such as drums with bass, drums with piano, and bass with
piano. The names of a mixture's instruments are known; its stems are not. Where the drums pause in a
mixture of drums and bass, the bass plays alone. Pauses are found in rounds:

1. For each instrument, a tagger learns to tell windows of mixtures that have it from windows of
   mixtures that lack it.
2. In mixtures of A and B, the windows in which A's tagger is most confident that A is absent are
   taken as solos of B.
3. The taggers are trained again, on windows of mixtures that lack an instrument, with and without
   one of its solos added. Steps 2 and 3 are repeated.

In the end, for each instrument, the kind of mixture with the most confident tagger is kept, and the
other kind if its tagger is nearly as confident.

A model that was trained on such solos hears more than a tagger does. If one is given, windows of
all kinds are ranked by the tagger's confidence and by the share of the energy that the model gives
to the instrument that should pause; windows with more than a few percent of it are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from asteroid_ucr.codecs import Codec
from asteroid_ucr.data.cache import TrackCache
from asteroid_ucr.utils.errors import UserError

if TYPE_CHECKING:
    from asteroid_ucr.separator import UCRSeparator

WINDOW, HOP = 96, 24  # frames: 1.3 s holds a beat, and pauses are rarely shorter
BANDS = 32
ROUNDS, DRAWS = 2, 1500  # rounds of training taggers; windows of each class
SHARE = 0.02  # share of a kind's windows that are taken as an instrument's solos
MODEL_SHARE = 0.05  # the largest such share if a model helps
MOST_ENERGY = 0.06  # largest share of energy of the instrument that should pause
AS_CONFIDENT = 1.5  # a kind is kept if its taggers are at most this much less sure than the best
MOST_OF_A_TRACK = (
    6  # windows of a track, so that few tracks with a confusing sound do not fill a kind
)
FEWEST_SOLOS = 20
_GAIN_DB = (-12.0, 8.0)  # level of an added solo relative to the window
_QUIET = 0.02  # windows with a lower mean latent count as silence

Kind = tuple[str, ...]


@dataclass(frozen=True)
class Window:
    """A passage of `WINDOW` latent frames."""

    kind: Kind  # instruments of the mixture
    track: str
    start: int  # first frame


def find_solos(
    caches: Mapping[Kind, TrackCache],
    codec: Codec,
    seed: int = 0,
    model: UCRSeparator | None = None,
) -> dict[str, list[Window]]:
    """Finds solos of all instruments.

    Each track is used in one kind of mixture only, so that none is heard in two versions.

    Args:
        caches: Latents of mixtures by instruments: all pairs of three or more instruments.
        codec: Codec of the latents; they must have power.
        seed: Seed of the draws.
        model: Separator of all the instruments, trained on solos that were found without it.

    Returns:
        Windows in which one instrument plays alone, by its name.

    Raises:
        UserError: If the codec's latents have no power, a pair is missing, the model lacks an
            instrument, or there is too little music.
    """
    if not codec.has_power:
        raise UserError(
            f"Solos are found by adding spectra, and the latents of {codec.name!r} are not: use "
            "the codec 'mel'."
        )
    instruments = list(dict.fromkeys(name for kind in caches for name in kind))
    pairs = set(map(frozenset, combinations(instruments, 2)))
    if len(instruments) < 3 or set(map(frozenset, caches)) != pairs:
        raise UserError(
            "Solos are found by comparing mixtures of two instruments each: name three or more "
            f"instruments, not {', '.join(instruments)}."
        )
    if model is not None and not set(instruments) <= set(model.sources):
        raise UserError(
            f"The model separates {', '.join(model.sources)}: give one of {', '.join(instruments)}."
        )
    table, rng = _Windows(caches, codec), np.random.default_rng(seed)
    solos: dict[str, np.ndarray] = {}
    for _ in range(ROUNDS):
        presence = {name: _presence(table, name, solos, rng) for name in instruments}
        found = {name: _candidates(table, name, presence) for name in instruments}
        solos = {name: np.concatenate([c for c, _ in kinds]) for name, kinds in found.items()}
    if model is None:
        solos = {name: _most_confident(kinds) for name, kinds in found.items()}
    else:
        energy = table.energy(model)
        solos = {name: _heard(table, name, presence, energy) for name in instruments}
    for name, windows in solos.items():
        if len(windows) < FEWEST_SOLOS:
            raise UserError(
                f"Only {len(windows)} windows of {name} alone were found among the "
                f"{len(table.windows)} of all mixtures, and {FEWEST_SOLOS} are needed: use more "
                "tracks."
            )
    return {name: [table.windows[i] for i in windows] for name, windows in solos.items()}


class _Windows:
    """All windows that are not silent, and their features."""

    def __init__(self, caches: Mapping[Kind, TrackCache], codec: Codec):
        self._caches, self._codec = caches, codec
        self.windows: list[Window] = []
        features, halves = [], []
        tracks = one_kind_each({kind: cache.tracks for kind, cache in caches.items()})
        for kind, cache in caches.items():
            for number, track in enumerate(tracks[kind]):
                latents = cache.whole(track)
                for start in range(0, latents.shape[1] - WINDOW + 1, HOP):
                    window = latents[:, start : start + WINDOW]
                    if window.mean() >= _QUIET:
                        self.windows.append(Window(kind, track, start))
                        features.append(describe(window))
                        halves.append(number % 2)
        self.features = np.array(features)
        self.tracks = np.array([window.track for window in self.windows])
        # A tagger is trained on the windows of one half and applied to those of the other.
        self.halves = np.array(halves)

    def have(self, instrument: str) -> np.ndarray:
        """Whether each window is of a mixture that has an instrument."""
        return np.array([instrument in window.kind for window in self.windows], dtype=bool)

    def kinds_with(self, instrument: str) -> Iterator[tuple[Kind, str, np.ndarray]]:
        """Kinds of mixtures that have an instrument: kind, partner, and the windows' numbers."""
        for kind in self._caches:
            if instrument in kind:
                (partner,) = set(kind) - {instrument}
                yield kind, partner, np.flatnonzero([w.kind == kind for w in self.windows])

    def place_in_track(self, order: np.ndarray) -> np.ndarray:
        """For each of a list of windows, how many windows of its track come before it."""
        return pd.Series(self.tracks[order]).groupby(self.tracks[order]).cumcount().to_numpy()

    def describe_sum(self, first: int, second: int, gain_db: float) -> np.ndarray:
        """Features of the sum of two windows, the second louder by `gain_db`."""
        a, b = self._power(first), self._power(second)
        total = a + b * (10 ** (gain_db / 10) * a.mean() / b.mean())
        return describe(self._codec.from_power(total).numpy())

    @torch.no_grad()
    def energy(self, model: UCRSeparator) -> np.ndarray:
        """Share of each window's energy that a model gives to each instrument of its kind."""
        shares = []
        for (kind, track), windows in groupby(self.windows, lambda w: (w.kind, w.track)):
            latents = torch.from_numpy(self._caches[kind].whole(track))[None]
            whole = model.select(kind).latent_energy(latents)[0]
            for window in windows:
                energy = whole[:, window.start : window.start + WINDOW].sum(-1)
                shares.append((energy / energy.sum().clamp(min=1e-9)).numpy())
        return np.array(shares)

    def _power(self, index: int) -> Tensor:
        """Power of a window, `(channels, frames)`."""
        window = self.windows[index]
        latents = self._caches[window.kind].crop(window.track, window.start, WINDOW)
        return self._codec.to_power(torch.from_numpy(latents))


def one_kind_each(tracks: Mapping[Kind, Iterable[str]]) -> dict[Kind, list[str]]:
    """Names of tracks by kind of mixture, where each track is used in one of its kinds only."""
    chosen: dict[Kind, list[str]] = {kind: [] for kind in tracks}
    members = {kind: set(names) for kind, names in tracks.items()}
    for number, name in enumerate(sorted(set().union(*members.values()))):
        kinds = [kind for kind in tracks if name in members[kind]]
        chosen[kinds[number % len(kinds)]].append(name)
    return chosen


def describe(latents: np.ndarray) -> np.ndarray:
    """Features of a window `(channels, frames)`: mean, spread, change and quantiles by band."""
    bands = np.stack([part.mean(0) for part in np.array_split(latents, BANDS)])
    change = np.abs(np.diff(bands, axis=1)).mean(1)
    quantiles = np.quantile(bands, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], axis=1)
    return np.concatenate([bands.mean(1), bands.std(1), change, quantiles.ravel()])


def _presence(
    table: _Windows, instrument: str, solos: Mapping[str, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Probability that an instrument sounds in each window, by a tagger not trained on it."""
    probability, has = np.empty(len(table.windows)), table.have(instrument)
    for half in (0, 1):
        learnt = table.halves == half
        if learnt.all() or not learnt.any() or has[learnt].all():
            raise UserError("There are too few tracks to find solos in: use six or more.")
        examples = table.features[learnt], has[learnt]
        if solos:
            examples = _examples(table, instrument, solos, learnt, rng)
        regression = LogisticRegression(C=0.02, max_iter=500, class_weight="balanced")
        tagger = make_pipeline(StandardScaler(), regression).fit(*examples)
        probability[~learnt] = tagger.predict_proba(table.features[~learnt])[:, 1]
    return probability


def _examples(
    table: _Windows,
    instrument: str,
    solos: Mapping[str, np.ndarray],
    learnt: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of windows without an instrument, and with its solos added to them."""

    def drawn(name: str, draws: int) -> np.ndarray:
        found = solos[name][learnt[solos[name]]]
        if not len(found):
            raise UserError(f"Too few passages of {name} alone were found: use more tracks.")
        return rng.choice(found, draws)

    has = table.have(instrument)
    lacking, having = np.flatnonzero(learnt & ~has), np.flatnonzero(learnt & has)
    without = rng.choice(lacking, DRAWS)
    gains = rng.uniform(*_GAIN_DB, DRAWS)
    sums = [
        table.describe_sum(i, j, g)
        for i, j, g in zip(without, drawn(instrument, DRAWS), gains, strict=True)
    ]
    others = [drawn(name, DRAWS // 3) for name in solos if name != instrument]
    absent = np.concatenate([rng.choice(lacking, DRAWS), *others])
    present = rng.choice(having, DRAWS // 2)
    features = np.concatenate([table.features[absent], np.array(sums), table.features[present]])
    return features, np.repeat([False, True], [len(absent), len(sums) + len(present)])


def _candidates(
    table: _Windows, instrument: str, presence: Mapping[str, np.ndarray]
) -> list[tuple[np.ndarray, float]]:
    """Windows of an instrument alone, and how unsure the tagger is, for each of its kinds."""
    candidates = []
    for _, partner, rows in table.kinds_with(instrument):
        order = rows[np.argsort(presence[partner][rows], kind="stable")]
        order = order[table.place_in_track(order) < MOST_OF_A_TRACK]
        found = order[: round(SHARE * len(rows))]
        candidates.append((found, float(presence[partner][found].mean()) if len(found) else 1.0))
    return candidates


def _most_confident(kinds: list[tuple[np.ndarray, float]]) -> np.ndarray:
    """Windows of the kinds of mixtures whose taggers are about as sure as the surest."""
    limit = AS_CONFIDENT * min(unsure for _, unsure in kinds)
    return np.concatenate([windows for windows, unsure in kinds if unsure <= limit])


def _heard(
    table: _Windows, instrument: str, presence: Mapping[str, np.ndarray], energy: np.ndarray
) -> np.ndarray:
    """Windows of all kinds in which taggers and a model hear an instrument alone."""
    chosen = []
    for kind, partner, rows in table.kinds_with(instrument):
        share = energy[rows, kind.index(partner)]
        rank = presence[partner][rows].argsort().argsort() + share.argsort().argsort()
        order = rank.argsort(kind="stable")[: round(MODEL_SHARE * len(rows))]
        chosen.append(rows[order[share[order] < MOST_ENERGY]])
    return np.concatenate(chosen)
