"""Scores models, baselines, floors and ceilings on the same clips, and writes down how."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from asteroid_ucr.baselines.classical import classical_rows
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.assignment import Assignment, fit_assignment
from asteroid_ucr.evaluation.model_rows import model_rows
from asteroid_ucr.evaluation.reference_rows import (
    Codec,
    codec_roundtrip_row,
    mixture_row,
    oracle_codec_mask_row,
    oracle_wiener_row,
    static_eq_row,
)
from asteroid_ucr.evaluation.results import aggregate, describe
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.evaluation.scores import silent
from asteroid_ucr.evaluation.scoring import Estimates, score_lines
from asteroid_ucr.masking import MASK_RATE
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import atomic_path, make_folder
from asteroid_ucr.utils.audio import write_audio
from asteroid_ucr.utils.errors import UserError

METRICS_CSV, METRICS_JSON, EXAMPLES = "all_metrics.csv", "final_metrics.json", "examples"


def evaluate(
    models: Mapping[str, UCRSeparator],
    clips: Iterable[Clip],
    validation_clips: Iterable[Clip],
    out_dir: str | Path,
    steps: Sequence[int] = (1, 25),
    seeds: Sequence[int] = (0,),
    bss_eval: bool = True,
    examples: int = 4,
    workers: int | None = None,
    extra_rows: Sequence[Row] = (),
    codec: Codec | None = None,
    assign: bool = False,
    unrefined: bool | None = None,
    codec_references: bool | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluates by the protocol of the documentation, and writes the results.

    Writes `all_metrics.csv` (one line per row, model, seed, clip, source and kind of reference),
    `final_metrics.json` (protocol and aggregated table) and `examples/CLIP/` (the mixture, the true
    sources, and a folder of estimates per chosen row) into `out_dir`.

    Args:
        models: training run's label to model; several are rows of one name, with the spread over
            runs. May be empty.
        clips: what to score, at 24 kHz.
        validation_clips: for what is fitted with labels: the static equaliser and, with `assign`,
            the assignment of components to sources.
        out_dir: folder of the results.
        steps: numbers of sampler steps.
        seeds: of the sampler.
        bss_eval: compute museval's scores too, which take most of the time.
        examples: how many clips to write as audio: of distinct tracks, the first one of each in
            which all sources sound.
        workers: scoring processes; None takes one per core, 0 uses none.
        extra_rows: further rows, such as other separators.
        codec: for the codec's rows and references; by default that of the first model.
        assign: fit each model's assignment on the validation clips and store it in the model;
            otherwise the stored one is used.
        unrefined: add the models' decoded estimates as rows.
        codec_references: score against codec-decoded references too. Like `unrefined`, it is on by
            default where the codec's latents hold the phase: against a phase that a decoder made
            up, as the mel codec's does, waveform scores mean nothing.
        quiet: Show no progress.

    Returns:
        What `final_metrics.json` holds.

    Raises:
        UserError: if there are no clips, they do not fit the models, or results cannot be written.
    """
    validation = list(validation_clips)
    if assign:
        for model in models.values():
            assign_components(model, validation)
    codec = next((m.codec for m in models.values()), None) if codec is None else codec
    rows = standard_rows(models, validation, steps, seeds, extra_rows, codec, unrefined)
    if codec_references is None:
        codec_references = codec is not None and not codec.has_power
    folder = make_folder(out_dir)
    writer = _ExampleWriter(folder / EXAMPLES, examples)
    seen: list[dict[str, Any]] = []
    console = Console(quiet=quiet)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("scoring", total=None)

        def on_clip(clip: Clip, estimates: list[Estimates]) -> None:
            writer(clip, estimates)
            progress.update(task, description=f"scored {len(seen)} clips", advance=1)

        lines = pd.DataFrame(
            score_lines(
                rows,
                _checked(clips, models, seen),
                codec if codec_references else None,
                bss_eval,
                workers,
                on_clip=on_clip,
            )
        )
    if lines.empty:
        raise UserError("There are no clips to evaluate: name a folder or split that has some.")
    results = {
        "protocol": describe(
            lines,
            seen,
            permutation="fixed, fitted on validation clips" if assign else "fixed, as stored",
            validation_clips=len(validation),
            models=list(models),
            steps=list(steps),
            seeds=list(seeds),
            codec=None if codec is None else codec.name,
        ),
        "rows": aggregate(lines, rows),
        "examples": writer.written,
    }
    lines = _in_order(lines, rows, seen)
    with atomic_path(folder / METRICS_CSV) as temporary:
        lines.to_csv(temporary, index=False, float_format="%.6g")
    with atomic_path(folder / METRICS_JSON) as temporary:
        temporary.write_text(json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results


def standard_rows(
    models: Mapping[str, UCRSeparator],
    validation: Sequence[Clip],
    steps: Sequence[int] = (1, 25),
    seeds: Sequence[int] = (0,),
    extra_rows: Sequence[Row] = (),
    codec: Codec | None = None,
    unrefined: bool | None = None,
) -> list[Row]:
    """The rows of an evaluation, floors first and ceilings last."""
    rows = [mixture_row()]
    if validation:
        rows.append(static_eq_row(validation))
    rows += [*classical_rows(), *extra_rows]
    for label, model in models.items():
        rows += model_rows(model, label, steps, seeds, unrefined)
    rows.append(oracle_wiener_row())
    if codec is not None:
        rows += [oracle_codec_mask_row(codec), codec_roundtrip_row(codec)]
    return rows


def assign_components(
    model: UCRSeparator, validation: Iterable[Clip], steps: int = 1
) -> Assignment:
    """Fits a model's assignment of components to sources and stores it in the model.

    Args:
        model: reordered in place.
        validation: clips whose sources are the model's.
        steps: sampler steps used for it.

    Returns:
        The assignment, with its score and its margin over the next best one.
    """
    refined = model_rows(model, steps=[steps])[0]
    assignment = fit_assignment(validation, refined.separate)
    model.assign(assignment.order)
    return assignment


def _checked(
    clips: Iterable[Clip], models: Mapping[str, UCRSeparator], seen: list[dict[str, Any]]
) -> Iterator[Clip]:
    """Passes the clips through, refusing those that do not fit, and notes them in `seen`."""
    for clip in clips:
        if clip.sample_rate != MASK_RATE:
            raise UserError(f"{clip.name} is at {clip.sample_rate} Hz: resample it to {MASK_RATE}.")
        for label, model in models.items():
            if tuple(model.sources) != tuple(clip.sources):
                raise UserError(
                    f"The model {label!r} separates {', '.join(model.sources)}, the clips hold "
                    f"{', '.join(clip.sources)}: name the model's sources, in its order."
                )
        fields = ("name", "track", "seconds", "mix", "sample_rate", "sources")
        seen.append({field: getattr(clip, field) for field in fields})
        yield clip


def _in_order(
    lines: pd.DataFrame, rows: Sequence[Row], clips: Sequence[dict[str, Any]]
) -> pd.DataFrame:
    """Lines sorted as rows and clips came, whatever the order in which processes finished."""
    row_rank = {name: k for k, name in enumerate(dict.fromkeys(row.name for row in rows))}
    clip_rank = {clip["name"]: k for k, clip in enumerate(clips)}
    key = pd.DataFrame(
        {
            "row": lines["row"].map(row_rank),
            "model": lines["model"],
            "seed": lines["seed"],
            "reference": lines["reference"] != "true",
            "clip": lines["clip"].map(clip_rank),
        }
    )
    return lines.loc[key.sort_values(list(key), kind="stable").index].reset_index(drop=True)


class _ExampleWriter:
    """Writes the first clip of each of some tracks in which every source sounds."""

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
        self._write(place, "mixture", clip.mixture, clip)
        for source, wav in zip(clip.sources, clip.references, strict=True):
            self._write(place, source, wav, clip)
        rows: dict[str, str] = {}
        for done in estimates:
            # The mixture is there already; of several runs, the first is heard.
            if done.wavs is None or done.row.name in {"mixture", *rows}:
                continue
            rows[done.row.name] = done.row.label
            for source, wav in zip(clip.sources, done.wavs, strict=True):
                self._write(place / done.row.name, source, wav, clip)
        self.written.append({"name": clip.name, "sources": list(clip.sources), "rows": rows})

    def _write(self, folder: Path, name: str, wav: Tensor, clip: Clip) -> None:
        write_audio(folder / f"{name}.wav", wav, clip.sample_rate)
