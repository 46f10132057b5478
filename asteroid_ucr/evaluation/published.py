"""Scores by the protocols of other publications, in the files that their own tools write.

- `msdm.csv`: SI-SDRi of Multi-Source Diffusion Models (Mariani et al. 2024, arXiv 2302.02257).
- `museval/ROW/test/TRACK.json`: BSS-eval v4 in the form of MUSDB's results (Stöter et al. 2018).
- `asteroid.csv`: a line per clip as in the recipes of Asteroid (Pariente et al. 2020).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.evaluation.scores import museval_windows, silent
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.audio import resample

PROTOCOLS = ("msdm", "museval", "asteroid")
SEPARATORS = ("supervised", "unsupervised", "published", "ours")  # groups of rows to score
MSDM_RATE, MSDM_SECONDS, MSDM_HOP = 22_050, 4.0, 2.0
MSDM_SILENCE, MSDM_EPSILON = 1.5e-5, 1e-8
ASTEROID_METRICS = ("si_sdr", "sdr", "sir", "sar")


class PublishedScores:
    """Collects the estimates of tracks, clip by clip, and writes the files of the protocols.

    Windows of several seconds need tracks without gaps: the clips of a track have to follow each
    other. A clip that failed has NaN instead of scores, and so do the windows that it touches.

    Args:
        folder: Folder of the files.
        protocols: Some of `PROTOCOLS`.
    """

    def __init__(self, folder: Path, protocols: Sequence[str]):
        self.folder, self.protocols = folder, protocols
        self._clips: list[tuple[Clip, list[tuple[Row, Tensor]]]] = []
        self._lines: dict[str, list[dict[str, Any]]] = {name: [] for name in protocols}

    def add(self, clip: Clip, estimates: Iterable[tuple[Row, Tensor | None]]) -> None:
        """Takes the estimates `(n_src, time)` of a clip, or None for those that failed."""
        if not self.protocols:
            return
        failed = torch.full_like(clip.references, math.nan)
        found = [(r, failed if wavs is None else wavs) for r, wavs in estimates if _scored(r)]
        if self._clips and self._clips[0][0].track != clip.track:
            self._score_track()
        self._clips.append((clip, found))
        if "asteroid" in self.protocols:
            for row, wavs in found:
                line = {**_about(row), "clip": clip.name, **asteroid_metrics(clip, wavs)}
                self._lines["asteroid"].append(line)

    def close(self) -> dict[str, dict[str, Any]]:
        """Writes the tables.

        Returns:
            `windows`, and the mean SI-SDRi in dB by source, of each row by MSDM's protocol.
        """
        if self._clips:
            self._score_track()
        tables = {name: pd.DataFrame(lines) for name, lines in self._lines.items() if lines}
        for name, table in tables.items():
            with atomic_path(self.folder / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=False, float_format="%.6g")
        windows = tables.get("msdm", pd.DataFrame(columns=["label"]))
        fixed = ("row", "label", "model", "seed", "track", "start_sample", "end_sample")
        sources = [name for name in windows.columns if name not in fixed]
        return {
            label: {"windows": len(part), **part[sources].mean(skipna=False).to_dict()}
            for label, part in windows.groupby("label", sort=False)
        }

    def _score_track(self) -> None:
        """Scores the collected clips as one recording."""
        first = self._clips[0][0]
        mixture = torch.cat([clip.mixture for clip, _ in self._clips])
        references = torch.cat([clip.references for clip, _ in self._clips], -1)
        for number, (row, _) in enumerate(self._clips[0][1]):
            wavs = torch.cat([found[number][1] for _, found in self._clips], -1)
            if "msdm" in self.protocols:
                scores = msdm_scores(references, wavs, mixture, first.sample_rate)
                for start, end, values in scores:
                    by_source = dict(zip(first.sources, values.tolist(), strict=True))
                    line = {**_about(row), "label": row.label, "track": first.track}
                    line |= {"start_sample": start, "end_sample": end, **by_source}
                    self._lines["msdm"].append(line)
            if "museval" in self.protocols:
                name = "_".join(str(part) for part in _about(row).values() if part not in ("", 0))
                scores = museval_scores(references, wavs, first.sample_rate, first.sources)
                path = self.folder / "museval" / name / "test" / f"{first.track}.json"
                with atomic_path(path) as temporary:
                    temporary.write_text(json.dumps(scores, indent=2) + "\n")
        self._clips = []


def _scored(row: Row) -> bool:
    return row.group in SEPARATORS


def _about(row: Row) -> dict[str, Any]:
    return {"row": row.name, "model": row.model, "seed": row.seed}


def msdm_scores(
    references: Tensor, estimates: Tensor, mixture: Tensor, sample_rate: int
) -> list[tuple[int, int, Tensor]]:
    """SI-SDR improvement as Multi-Source Diffusion Models report it on Slakh2100.

    At 22.05 kHz, in windows of 4 s that start every 2 s; the last one may be shorter. Windows in
    which fewer than two sources sound are left out. A source is silent if its Euclidean norm,
    divided by the number of its samples, is below 1.5e-5: an RMS of −47 dBFS for 4 s. In the other
    windows silent sources count; ε = 1e-8 in numerators and denominators keeps them finite.

    Args:
        references: True sources `(n_src, time)`.
        estimates: Their estimates `(n_src, time)`.
        mixture: `(time,)`.
        sample_rate: Sample rate in Hz.

    Returns:
        First and last sample of each window, at 22.05 kHz, and the improvement `(n_src,)` in dB.
    """
    rates = (sample_rate, MSDM_RATE)
    truth, guess, mixed = (resample(w, *rates).double() for w in (references, estimates, mixture))
    length, step = round(MSDM_SECONDS * MSDM_RATE), round(MSDM_HOP * MSDM_RATE)
    found = []
    for start in range(0, truth.shape[-1] - (length - step), step):
        span = slice(start, start + length)
        size = truth[:, span].shape[-1]
        if (truth[:, span].norm(dim=-1) / size >= MSDM_SILENCE).sum() > 1:
            before = _si_sdr(mixed[span].expand_as(truth[:, span]), truth[:, span])
            gain = _si_sdr(guess[:, span], truth[:, span]) - before
            found.append((start, start + length, gain))
    return found


def _si_sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """SI-SDR in dB, regularised so that silent references have one."""
    inner = (estimates * references).sum(-1, keepdim=True)
    energy = references.square().sum(-1, keepdim=True)
    target = (inner + MSDM_EPSILON) / (energy + MSDM_EPSILON) * references
    error = (target - estimates).square().sum(-1) + MSDM_EPSILON
    return 10 * torch.log10((target.square().sum(-1) + MSDM_EPSILON) / error)


def museval_scores(
    references: Tensor, estimates: Tensor, sample_rate: int, sources: Sequence[str]
) -> dict[str, Any]:
    """BSS-eval v4 of a track in windows of 1 s, in the form of museval's result files.

    Frames that have no score, such as those in which a source is all zero, have NaN.

    Args:
        references: True sources `(n_src, time)`.
        estimates: Their estimates `(n_src, time)`.
        sample_rate: Sample rate in Hz.
        sources: Names of the sources.
    """
    frames = references.shape[-1] // sample_rate
    names = ("SDR", "ISR", "SIR", "SAR")
    try:
        scores = museval_windows(references, estimates, sample_rate, sample_rate)
    except ValueError:  # a signal is all zero, or not finite
        scores = [torch.full((len(sources), frames), math.nan)] * len(names)
    targets = []
    for number, source in enumerate(sources):
        values = dict(zip(names, (s[number].tolist() for s in scores), strict=True))
        cells = [{name: _finite(values[name][k]) for name in names} for k in range(frames)]
        timed = [{"time": k, "duration": 1, "metrics": cell} for k, cell in enumerate(cells)]
        targets.append({"name": source, "frames": timed})
    return {"targets": targets, "museval_version": version("museval")}


def _finite(value: float) -> float:
    """Museval's rounding; it writes infinity as NaN."""
    return round(value, 5) if math.isfinite(value) else math.nan


def asteroid_metrics(clip: Clip, estimates: Tensor) -> Mapping[str, float]:
    """Scores of `asteroid.metrics.get_metrics`, averaged over the sources, and of the mixture.

    A clip with a silent source or estimate has NaN.
    """
    from asteroid.metrics import get_metrics

    names = [prefix + name for prefix in ("input_", "") for name in ASTEROID_METRICS]
    empty = dict.fromkeys(names, math.nan)
    if silent(clip.references).any() or not estimates.isfinite().all():
        return empty
    waves = [wav.double().numpy() for wav in (clip.mixture, clip.references, estimates)]
    try:
        found = get_metrics(*waves, sample_rate=clip.sample_rate, metrics_list=ASTEROID_METRICS)
    except RuntimeError:  # an estimate is all zero
        return empty
    return {name: float(found[name]) for name in names}


def msdm_text(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """The result of `PublishedScores.close`, a line per row."""
    lines = ["SI-SDRi by the protocol of Multi-Source Diffusion Models:"]
    for label, values in scores.items():
        found = {k: math.nan if v is None else v for k, v in values.items() if k != "windows"}
        found["mean"] = sum(found.values()) / len(found)
        listed = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        lines.append(f"{label}: {listed} dB in {values['windows']} windows")
    return "\n".join(lines)
