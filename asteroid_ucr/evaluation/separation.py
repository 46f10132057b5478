"""Scores models, baselines, floors and ceilings on the same clips, and writes the results."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.codecs import Codec
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.assignment import Assignment, fit_assignment
from asteroid_ucr.evaluation.model_rows import model_rows
from asteroid_ucr.evaluation.results import aggregate, describe
from asteroid_ucr.evaluation.rows import Row, codec_roundtrip, fixed_rows, masked
from asteroid_ucr.evaluation.scores import SCORES, score_clip, silent
from asteroid_ucr.masking import MASK_RATE, frequency_share, stft
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import atomic_path, make_folder, write_json
from asteroid_ucr.utils.audio import write_audio
from asteroid_ucr.utils.errors import UserError

METRICS_CSV, METRICS_JSON, EXAMPLES = "all_metrics.csv", "final_metrics.json", "examples"


def assign_runs(
    exp_dir: str | Path, runs: Sequence[str], validation: Sequence[Clip], **options: Any
) -> dict[str, UCRSeparator]:
    """Fits the assignment of components to sources for training runs, and chooses the best run.

    Each run's `best_model.pth` is rewritten with the assignment in its weights. The run with the
    highest validation SI-SDR is copied to `exp_dir/best_model.pth`.

    Args:
        exp_dir: Folder of the experiment, which holds the runs' folders.
        runs: Names of their folders.
        validation: Validation clips with the sources of the models.
        **options: Arguments for `UCRSeparator.from_pretrained`, such as `codec_dir`.

    Returns:
        The models, by run.

    Raises:
        UserError: If a run is missing, separates other sources, or no clip can be scored.
    """
    models, scores = {}, {}
    for run in runs:
        path = Path(exp_dir) / run / "best_model.pth"
        model = models[run] = UCRSeparator.from_pretrained(path.parent, **options)
        _check_sources(run, model, validation[0])
        scores[run] = assign_components(model, validation).score
        model.save(path)
    best = max(scores, key=scores.__getitem__)
    with atomic_path(Path(exp_dir) / "best_model.pth") as temporary:
        shutil.copyfile(Path(exp_dir) / best / "best_model.pth", temporary)
    return models


def assign_components(model: UCRSeparator, validation: Iterable[Clip]) -> Assignment:
    """Fits a model's assignment of components to sources and stores it in the model's weights.

    Args:
        model: The model, which is changed.
        validation: Clips with the sources of the model.
    """
    assignment = fit_assignment(validation, model_rows(model, steps=[1])[0].separate)
    model.assign(assignment.order)
    return assignment


def evaluate(
    models: Mapping[str, UCRSeparator],
    clips: Iterable[Clip],
    validation: Iterable[Clip],
    out_dir: str | Path,
    steps: Sequence[int] = (1, 25),
    seeds: Sequence[int] = (0,),
    bss_eval: bool = True,
    examples: int = 4,
    workers: int = -1,
    extra_rows: Sequence[Row] = (),
) -> dict[str, Any]:
    """Evaluates by the protocol of the documentation, and writes the results.

    Writes `all_metrics.csv` (one line per row, model, seed, clip, source and kind of reference),
    `final_metrics.json` (protocol and aggregated table) and `examples/CLIP/` (the mixture, the true
    sources, and a folder of estimates per row) into `out_dir`. Estimates are scored against the
    true sources and, unless the codec makes the phase up, against codec-decoded ones.

    Args:
        models: Models by the label of their training run. All are rows of one name, with the
            spread over runs. May be empty.
        clips: Clips to score, at 24 kHz, read one at a time.
        validation: Clips on which the static equaliser is fitted.
        out_dir: Folder of the results.
        steps: Numbers of sampler steps.
        seeds: Seeds of the sampler.
        bss_eval: Whether to compute museval's scores too, which take most of the time.
        examples: Number of clips to write as audio: of distinct tracks, the first clip of each in
            which all sources sound.
        workers: Number of scoring processes; −1 takes one per core, 1 scores in this process.
        extra_rows: Further rows, such as other separators.

    Returns:
        The content of `final_metrics.json`.

    Raises:
        UserError: If there are no clips, they do not fit the models, or results cannot be written.
    """
    validation = list(validation)
    codec = next((model.codec for model in models.values()), None)
    before, after = fixed_rows(validation, codec)
    ours = [row for label, m in models.items() for row in model_rows(m, label, steps, seeds)]
    rows = [*before, *extra_rows, *ours, *after]
    folder = make_folder(out_dir)
    writer = _ExampleWriter(folder / EXAMPLES, examples)
    seen: list[dict[str, Any]] = []

    def noted() -> Iterator[Clip]:
        for clip in tqdm(clips, "clips", disable=None):
            if clip.sample_rate != MASK_RATE:
                raise UserError(
                    f"{clip.name} is at {clip.sample_rate} Hz: resample it to {MASK_RATE}."
                )
            for label, model in models.items():
                _check_sources(label, model, clip)
            fields = ("name", "track", "seconds", "mix", "sample_rate", "sources")
            seen.append({field: getattr(clip, field) for field in fields})
            yield clip

    decoded = codec if codec is not None and not codec.has_power else None
    lines = score_rows(rows, noted(), decoded, bss_eval, workers, writer)
    if lines.empty:
        raise UserError("There are no clips to evaluate: name a folder or split that has some.")
    named = {row.name: row for row in reversed(rows)}  # the first row of each name
    results = {
        "protocol": describe(
            lines,
            seen,
            permutation="fixed, as stored",
            validation_clips=len(validation),
            models=list(models),
            steps=list(steps),
            seeds=list(seeds),
            codec=None if codec is None else codec.name,
        ),
        "rows": aggregate(lines, [named[name].about() for name in lines["row"].unique()]),
        "examples": writer.written,
    }
    with atomic_path(folder / METRICS_CSV) as temporary:
        lines.to_csv(temporary, index=False, float_format="%.6g")
    write_json(folder / METRICS_JSON, results)
    return results


def _check_sources(label: str, model: UCRSeparator, clip: Clip) -> None:
    if tuple(model.sources) != tuple(clip.sources):
        raise UserError(
            f"The model {label!r} separates {', '.join(model.sources)}, the clips hold "
            f"{', '.join(clip.sources)}: name the model's sources, in its order."
        )


@dataclass
class Estimates:
    """The estimates of a row for a clip, or the error that it raised."""

    row: Row
    wavs: Tensor | None  # The estimates `(n_src, time)`; None after an error.
    share: Tensor  # R² of the masks, `(n_src,)`; NaN for rows without masks.
    seconds: float  # Duration of the separation.
    error: str = ""


@torch.no_grad()
def run_row(row: Row, clip: Clip) -> Estimates:
    """Separates a clip; an exception is recorded as the result, so that no clip is dropped."""
    start, error = time.perf_counter(), ""
    share, wavs = torch.full((len(clip.sources),), math.nan), None
    try:
        if row.masks is not None:
            masks = row.masks(clip)
            share = frequency_share(masks, stft(clip.mixture, clip.sample_rate).abs().square())
            wavs = masked(clip, masks).float()
        else:
            wavs = row.separate(clip).float()
        if wavs.shape != clip.references.shape:
            found, wavs = tuple(wavs.shape), None
            raise ValueError(f"estimates are {found}, references {tuple(clip.references.shape)}")
    except Exception as raised:  # Any exception of a separator is the result of this clip.
        error = f"{type(raised).__name__}: {raised}"
    return Estimates(row, wavs, share, time.perf_counter() - start, error)


def score_rows(
    rows: Sequence[Row],
    clips: Iterable[Clip],
    codec: Codec | None = None,
    bss_eval: bool = True,
    workers: int = -1,
    on_clip: Any = None,
) -> pd.DataFrame:
    """Separates every clip with every row and scores the estimates.

    Separation runs in this process, so that models stay on their device. Scoring, which takes most
    of the time, runs in `workers` processes at the same time.

    Args:
        rows: The rows to compare.
        clips: Clips, read one at a time, so that a test set does not have to fit into memory.
        codec: Codec whose decoded true sources are a second kind of references.
        bss_eval: Whether to compute the scores of museval.
        workers: Number of processes; −1 takes one per core, 1 scores in this process.
        on_clip: Function to call with each clip and the list of its `Estimates`.

    Returns:
        One line per row, clip, source and kind of reference, in the order of rows and clips.
    """

    def jobs() -> Iterator[Any]:
        for clip in clips:
            references = {"true": clip.references}
            if codec is not None:
                with torch.no_grad():
                    references["codec"] = codec_roundtrip(clip, codec)
            done = [run_row(row, clip) for row in rows]
            if on_clip is not None:
                on_clip(clip, done)
            for estimates in done:
                for kind, wavs in references.items():
                    yield delayed(_score)(*_job(estimates, clip, kind, wavs), bss_eval)

    # With more BLAS threads per process, the solvers of museval would compete for the cores. Memory
    # maps are off, because torch warns about arrays that are not writable.
    with parallel_config("loky", n_jobs=workers, max_nbytes=None, inner_max_num_threads=1):
        scored = Parallel(return_as="generator")(jobs())
        lines = pd.DataFrame([line for part in scored for line in part])
    if lines.empty:
        return lines
    rank = {name: k for k, name in enumerate(dict.fromkeys(row.name for row in rows))}
    keys = [lines["row"].map(rank), lines["model"], lines["seed"], lines["reference"] != "true"]
    order = pd.concat(keys, axis=1).sort_values(["row", "model", "seed", "reference"]).index
    return lines.loc[order].reset_index(drop=True)


def _job(estimates: Estimates, clip: Clip, kind: str, references: Tensor) -> tuple[Any, ...]:
    """Arguments of `_score`: arrays, and the columns that its lines share."""
    row = estimates.row
    shared = {
        "row": row.name,
        "model": row.model,
        "seed": row.seed,
        "clip": clip.name,
        "track": clip.track,
        "reference": kind,
        "seconds": estimates.seconds,
        "error": estimates.error,
    }
    wavs = None if estimates.wavs is None else estimates.wavs.numpy()
    # A decoded reference is silent where the true source is.
    active, share = ~silent(clip.references).numpy(), estimates.share.numpy()
    arrays = (references.numpy(), wavs, clip.mixture.numpy(), active, share)
    return shared, clip.sources, clip.sample_rate, *arrays


def _score(
    shared: dict[str, Any],
    sources: Sequence[str],
    sample_rate: int,
    references: np.ndarray,
    wavs: np.ndarray | None,
    mixture: np.ndarray,
    active: np.ndarray,
    share: np.ndarray,
    bss_eval: bool,
) -> list[dict[str, Any]]:
    """Scores a clip in another process: one line per source, with the error if scoring failed."""
    scores = {name: torch.full((len(sources),), math.nan) for name in SCORES}
    if wavs is not None:
        arrays = map(torch.from_numpy, (references, wavs, mixture))
        try:
            scores = score_clip(*arrays, sample_rate, torch.from_numpy(active), bss_eval)
        except Exception as error:  # Recorded with the clip, which still counts.
            shared = {**shared, "error": f"{type(error).__name__}: {error}"}
    return [
        {
            **shared,
            "source": source,
            **{name: float(values[k]) for name, values in scores.items()},
            "frequency_r2": float(share[k]),
            "silent": not active[k],
            "alone": bool(active[k] and active.sum() == 1),
        }
        for k, source in enumerate(sources)
    ]


class _ExampleWriter:
    """Writes the first clip in which every source sounds, for each of `count` tracks."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count
        self.written: list[dict[str, Any]] = []
        self._tracks: set[str] = set()

    def __call__(self, clip: Clip, estimates: list[Estimates]) -> None:
        full = len(self.written) >= self.count
        if full or clip.track in self._tracks or bool(silent(clip.references).any()):
            return
        self._tracks.add(clip.track)
        place = self.folder / clip.name
        write_audio(place / "mixture.wav", clip.mixture, clip.sample_rate)
        self._write(place, clip, clip.references)
        rows: dict[str, str] = {}
        for done in estimates:
            # The mixture is already written; of several runs, the first one is used.
            if done.wavs is not None and done.row.name not in {"mixture", *rows}:
                rows[done.row.name] = done.row.label
                self._write(place / done.row.name, clip, done.wavs)
        self.written.append({"name": clip.name, "sources": list(clip.sources), "rows": rows})

    def _write(self, folder: Path, clip: Clip, wavs: Tensor) -> None:
        for source, wav in zip(clip.sources, wavs, strict=True):
            write_audio(folder / f"{source}.wav", wav, clip.sample_rate)
