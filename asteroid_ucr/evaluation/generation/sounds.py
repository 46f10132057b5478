"""Collections of sounds, as embeddings, and the Fréchet distances between them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from torch import Tensor

from asteroid_ucr.codecs import Codec
from asteroid_ucr.evaluation.frechet import Array, compare, embed
from asteroid_ucr.evaluation.scores import silent

FEWEST = 10  # embeddings from which a distance is extrapolated


class Sounds:
    """Embeddings by collection ("test", "generated", …), target ("mixture", "bass", …) and track.

    Args:
        codec: whose latents the embeddings are made of.
        resamples: of the bootstrap.
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
