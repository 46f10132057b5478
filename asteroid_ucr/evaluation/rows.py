"""The interface of everything that can be scored: a named function from clip to estimates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from asteroid_ucr.data.clips import Clip

# In the order of the tables: what anyone can reach, then what no mask or codec can exceed.
GROUPS = ("floor", "classical", "supervised", "unsupervised", "ours", "published", "ceiling")


@dataclass(frozen=True)
class Row:
    """A line of the results.

    Attributes:
        name: identifier in files, such as "hpss".
        label: name for people, such as "HPSS".
        group: one of `GROUPS`.
        separate: clip to estimates `(n_src, time)`, estimate k being that of `clip.sources[k]`.
            Any exception that it raises is recorded as this clip's failure.
        note: a sentence that says what the row is.
        model: label of the trained model behind it, empty for fixed methods. Rows of the same name
            with different models (training seeds) are one line of the table.
        seed: seed of its sampler.
        gflops: gives the arithmetic of a neural row for a second of audio, in GFLOP
            (`asteroid_ucr.utils.flops`); counting takes a moment, and is done once for a row's name.
        masks: clip to soft masks `(n_src, freq, frames)` on the mask grid, where it has masks.
    """

    name: str
    label: str
    group: str
    separate: Callable[[Clip], Tensor]
    note: str = ""
    model: str = ""
    seed: int = 0
    gflops: Callable[[], float] | None = None
    masks: Callable[[Clip], Tensor] | None = None

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"group {self.group!r} is none of {', '.join(GROUPS)}")
