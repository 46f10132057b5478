"""A folder of solos: the passages that `find_solos` found, cut from the mixtures as audio.

Layout: `DIR/<instrument>/<track>_<first frame>.flac`, 24 kHz mono, at the training level, and
`DIR/solos.json`, which says where they come from. Files can be added or removed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from torch import Tensor

from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import read_sources
from asteroid_ucr.masking import MASK_HOP, MASK_RATE
from asteroid_ucr.solos.find import WINDOW, Window
from asteroid_ucr.utils.atomic import atomic_folder, make_folder, write_json
from asteroid_ucr.utils.audio import level_gain, write_audio
from asteroid_ucr.utils.errors import UserError

RECORD = "solos.json"
_SILENCE = 1e-4  # largest mean square of a passage in which a stem pauses


def write_solos(
    path: str | Path,
    solos: Mapping[str, Sequence[Window]],
    root: str | Path,
    mix: str = "sum",
    allow_shared_midi: bool = False,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Writes a folder of solos; windows that touch become one passage.

    Args:
        path: Folder that does not exist yet.
        solos: Result of `find_solos` on caches of the training split.
        root: Data set; see `load_tracks`.
        mix: Mixing policy of the caches.
        allow_shared_midi: See `load_tracks`.
        record: Further facts for `solos.json`.

    Raises:
        UserError: If the folder exists, or a track cannot be read.
    """
    kinds = {window.kind for windows in solos.values() for window in windows}
    tracks = {
        kind: {track.name: track for track in load_tracks(root, "train", allow_shared_midi, kind)}
        for kind in kinds
    }
    counts = {}
    with _new_folder(path) as scratch:
        for instrument, windows in solos.items():
            ordered = sorted(windows, key=lambda w: (w.kind, w.track, w.start))
            songs = [(k, list(found)) for k, found in groupby(ordered, lambda w: (w.kind, w.track))]
            counts[instrument] = {"windows": len(windows), "tracks": len(songs)}
            for (kind, name), found in songs:
                mixture = read_sources(tracks[kind][name], kind, MASK_RATE, mix).mixture
                mixture = mixture * level_gain(mixture)
                for start, end in _passages([w.start for w in found]):
                    passage = mixture[start * MASK_HOP : end * MASK_HOP]
                    write_passage(scratch / instrument / f"{name}_{start}.flac", passage)
        write_json(scratch / RECORD, {**(record or {}), "found": counts})


def write_stems(
    path: str | Path,
    instruments: Sequence[str],
    root: str | Path,
    mix: str = "sum",
    allow_shared_midi: bool = False,
    every_seconds: float = 5.0,
) -> None:
    """Writes passages of true stems as if they were solos: what perfect solos would be worth.

    Args:
        path: Folder that does not exist yet.
        instruments: Names of the stems; tracks that lack one are not used.
        root: Data set; see `load_tracks`.
        mix: Mixing policy.
        allow_shared_midi: See `load_tracks`.
        every_seconds: Distance between the starts of passages, which are a window long.

    Raises:
        UserError: If the folder exists, or a track cannot be read.
    """
    passages, length = 0, WINDOW * MASK_HOP
    with _new_folder(path) as scratch:
        for track in load_tracks(root, "train", allow_shared_midi, instruments, stems=True):
            audio = read_sources(track, instruments, MASK_RATE, mix)
            stems = audio.references * level_gain(audio.mixture)
            for start in range(0, stems.shape[-1] - length, int(every_seconds * MASK_RATE)):
                name = f"{track.name}_{start // MASK_HOP}.flac"
                for instrument, stem in zip(instruments, stems, strict=True):
                    passage = stem[start : start + length]
                    if passage.square().mean() > _SILENCE:
                        write_passage(scratch / instrument / name, passage)
                        passages += 1
        write_json(scratch / RECORD, {"stems": list(instruments), "passages": passages})


@dataclass(frozen=True)
class Passage:
    """A mono file at 24 kHz, read as needed: estimates of whole songs would not fit into memory."""

    path: Path
    samples: int

    def read(self, start: int, count: int) -> np.ndarray:
        """A part of it, `(count,)`, float32."""
        return sf.read(self.path, count, start, dtype="float32")[0]


def read_solos(path: str | Path, instruments: Sequence[str]) -> list[list[Passage]]:
    """Passages of each instrument.

    Raises:
        UserError: If the folder or an instrument's is missing, or holds a file that is too short.
    """
    passages = []
    for instrument in instruments:
        files = sorted((Path(path) / instrument).glob("*.flac"))
        if not files:
            raise UserError(
                f"{Path(path) / instrument} holds no solos: run `asteroid-ucr solos` with "
                f"{instrument} among its instruments, or set training.solo_share to 0."
            )
        found = []
        for file in files:
            try:
                about = sf.info(file)
            except sf.LibsndfileError as error:
                raise UserError(f"{file} cannot be read: remove it.") from error
            mono = (about.samplerate, about.channels) == (MASK_RATE, 1)
            if not mono or about.frames < WINDOW * MASK_HOP:
                raise UserError(
                    f"{file} is not {WINDOW * MASK_HOP} mono samples or more at {MASK_RATE} Hz: "
                    "remove it."
                )
            found.append(Passage(file, about.frames))
        passages.append(found)
    return passages


def write_passage(path: Path, passage: Tensor) -> None:
    """Writes a mono passage at 24 kHz, scaled down if it exceeds full scale, the limit of FLAC."""
    make_folder(path.parent)
    write_audio(path, passage / passage.abs().max().clamp(min=1.0), MASK_RATE)


def _new_folder(path: str | Path) -> AbstractContextManager[Path]:
    """A folder to fill, which becomes `path` when it is complete; `path` must not exist yet."""
    if Path(path).exists():
        raise UserError(f"{path} exists: remove it, or name another folder for the solos.")
    return atomic_folder(path)


def _passages(starts: Sequence[int]) -> list[tuple[int, int]]:
    """First and last frame of each group of windows that overlap or touch."""
    joined: list[tuple[int, int]] = []
    for start in sorted(starts):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], start + WINDOW)
        else:
            joined.append((start, start + WINDOW))
    return joined
