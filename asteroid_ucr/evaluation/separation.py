"""Scores models, baselines, floors and ceilings on the same clips, and writes the results."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.codecs import Codec
from asteroid_ucr.config import EvaluationConfig, GenerationConfig, RecipeConfig
from asteroid_ucr.data.clips import Clip, slakh_clips
from asteroid_ucr.evaluation.assignment import fit_owners
from asteroid_ucr.evaluation.model_rows import model_rows
from asteroid_ucr.evaluation.published import PublishedScores
from asteroid_ucr.evaluation.results import aggregate, describe
from asteroid_ucr.evaluation.rows import (
    Row,
    ceiling_rows,
    classical_rows,
    codec_roundtrip,
    floor_rows,
    masked,
)
from asteroid_ucr.evaluation.scores import SCORES, score_clip, silent
from asteroid_ucr.masking import MASK_RATE, frequency_share, stft
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import atomic_path, make_folder, write_json
from asteroid_ucr.utils.audio import write_audio
from asteroid_ucr.utils.errors import UserError

METRICS_CSV, METRICS_JSON, EXAMPLES = "all_metrics.csv", "final_metrics.json", "examples"


def open_clips(
    config: RecipeConfig,
    settings: EvaluationConfig | GenerationConfig,
    split: str,
    stems: bool = True,
) -> Iterator[Clip]:
    """The clips of a split to evaluate on; see `slakh_clips`."""
    return slakh_clips(
        config.data.root,
        split,
        config.data.sources,
        settings.segment_seconds,
        config.data.mix,
        settings.max_clips,
        config.data.allow_shared_midi,
        stems=stems,
    )


def assign_runs(
    exp_dir: str | Path, runs: Sequence[str], validation: Sequence[Clip], **options: Any
) -> dict[str, UCRSeparator]:
    """Fits the assignment of components to sources for training runs, and chooses the best run.

    Each run's `exp_dir/RUN/best_model.pth` is rewritten with the assignment in its weights. The run
    with the highest validation SI-SDR is copied to `exp_dir/best_model.pth`. The `options` are
    arguments for `UCRSeparator.from_pretrained`, such as `codec_dir`.

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
        _, scores[run] = assign_components(model, validation)
        model.save(path)
    best = max(scores, key=scores.__getitem__)
    with atomic_path(Path(exp_dir) / "best_model.pth") as temporary:
        shutil.copyfile(Path(exp_dir) / best / "best_model.pth", temporary)
    return models


def assign_components(model: UCRSeparator, validation: Iterable[Clip]) -> tuple[list[int], float]:
    """Fits a model's assignment of components to sources and stores it in the model's weights.

    Returns:
        The component of each source, and the mean SI-SDR on the validation clips in dB.
    """
    row = model_rows(model, steps=[1])[0]
    owner, score = fit_owners(validation, row.separate, permutations(range(model.n_src)))
    order = [owner.index(k) for k in range(model.n_src)]
    model.assign(order)
    return order, score


def evaluate(
    models: Mapping[str, UCRSeparator],
    clips: Iterable[Clip],
    validation: Iterable[Clip],
    out_dir: str | Path,
    steps: Sequence[int] = (1, 25),
    seeds: Sequence[int] = (0,),
    bss_eval: bool = True,
    examples: int = 4,
    extra_rows: Sequence[Row] = (),
    protocols: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluates by the protocol of the documentation, and writes the results.

    Writes `all_metrics.csv` (one line per row, model, seed, clip, source and kind of reference),
    `final_metrics.json` (protocol and aggregated table) and `examples/CLIP/` (the mixture, the true
    sources, and a folder of estimates per row) into `out_dir`. Estimates are scored against the
    true sources and, unless the codec makes the phase up, against codec-decoded ones.

    Args:
        models: Models, or none, by the label of their training run. They share their rows.
        clips: Clips to score, at 24 kHz, read one at a time.
        validation: Clips on which the static equaliser is fitted; it is left out without any.
        out_dir: Folder of the results.
        steps: Numbers of sampler steps.
        seeds: Seeds of the sampler.
        bss_eval: Whether to compute museval's scores too, which take most of the time.
        examples: Number of clips to write as audio: of distinct tracks, the first clip of each in
            which all sources sound.
        extra_rows: Further rows, such as other separators.
        protocols: Published protocols to score the separators by as well, with files of their own;
            see `evaluation.published`. They need the clips of a track one after the other.

    Returns:
        The content of `final_metrics.json`.

    Raises:
        UserError: If there are no clips, they do not fit the models, or results cannot be written.
    """
    validation, folder = list(validation), make_folder(out_dir)
    codec = next((model.codec for model in models.values()), None)
    ours = [row for label, m in models.items() for row in model_rows(m, label, steps, seeds)]
    before = [*floor_rows(validation), *classical_rows()]
    rows = [*before, *extra_rows, *ours, *ceiling_rows(codec)]
    seen: list[dict[str, Any]] = []
    written: dict[str, dict[str, Any]] = {}  # Examples by track.
    published = PublishedScores(folder, protocols)

    def checked() -> Iterator[Clip]:
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

    def keep(clip: Clip, estimates: Sequence[Estimates]) -> None:
        published.add(clip, [(done.row, done.wavs) for done in estimates])
        new = len(written) < examples and clip.track not in written
        if new and not silent(clip.references).any():
            written[clip.track] = _write_example(folder / EXAMPLES / clip.name, clip, estimates)

    decoded = codec if codec is not None and not codec.has_power else None
    lines = score_rows(rows, checked(), decoded, bss_eval, keep)
    named = {row.name: row for row in reversed(rows)}  # The first row of each name.
    protocol = describe(
        lines,
        seen,
        permutation="fixed, as stored",
        validation_clips=len(validation),
        models=list(models),
        steps=list(steps),
        seeds=list(seeds),
        codec=None if codec is None else codec.name,
    )
    entries = aggregate(lines, [named[name].about() for name in lines["row"].unique()])
    with atomic_path(folder / METRICS_CSV) as temporary:
        lines.to_csv(temporary, index=False, float_format="%.6g")
    results = {"protocol": protocol, "rows": entries, "examples": list(written.values())}
    results |= {"msdm": published.close()} if protocols else {}
    return write_json(folder / METRICS_JSON, results)


def _check_sources(label: str, model: UCRSeparator, clip: Clip) -> None:
    if tuple(model.sources) != tuple(clip.sources):
        raise UserError(
            f"The model {label!r} separates {', '.join(model.sources)}, the clips hold "
            f"{', '.join(clip.sources)}: name the model's sources, in its order."
        )


class Estimates(NamedTuple):
    """The estimates of a row for a clip, or the error that it raised."""

    row: Row
    wavs: Tensor | None  # The estimates `(n_src, time)`; None after an error.
    share: Tensor  # R² of the masks, `(n_src,)`; NaN for rows without masks.
    seconds: float  # Duration of the separation.
    error: str


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
    return Estimates(row, wavs, share.double(), time.perf_counter() - start, error)


def score_rows(
    rows: Sequence[Row],
    clips: Iterable[Clip],
    codec: Codec | None = None,
    bss_eval: bool = True,
    on_clip: Callable[[Clip, Sequence[Estimates]], None] | None = None,
) -> pd.DataFrame:
    """Separates every clip with every row and scores the estimates.

    Separation runs in this process, so that models stay on their device. Scoring, which takes most
    of the time, runs in a process per core at the same time. Clips are read one at a time, so that
    a test set does not have to fit into memory.

    Args:
        rows: The rows to compare.
        clips: The clips.
        codec: Codec whose decoded true sources are a second kind of references.
        bss_eval: Whether to compute the scores of museval.
        on_clip: Function to call with each clip and its estimates.

    Returns:
        One line per row, clip, source and kind of reference, in the order of rows and clips.

    Raises:
        UserError: If there are no clips.
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
            for row, wavs, share, seconds, error in done:
                about = {"row": row.name, "model": row.model, "seed": row.seed}
                about |= {"clip": clip.name, "track": clip.track}
                for kind, truth in references.items():
                    shared = {**about, "reference": kind, "seconds": seconds, "error": error}
                    yield delayed(_score)(shared, clip, truth, wavs, share, bss_eval)

    # With more BLAS threads per process, the solvers of museval would compete for the cores.
    with parallel_config("loky", n_jobs=-1, inner_max_num_threads=1):
        scored = list(Parallel(return_as="generator")(jobs()))
    if not scored:
        raise UserError("There are no clips to evaluate: name a folder or split that has some.")
    lines = pd.concat(scored, ignore_index=True)
    names = [row.name for row in rows]
    keys = lines.assign(row=lines["row"].map(names.index), reference=lines["reference"] != "true")
    order = keys.sort_values(["row", "model", "seed", "reference"]).index
    return lines.loc[order].reset_index(drop=True)


def _score(
    shared: dict[str, Any],
    clip: Clip,
    references: Tensor,
    wavs: Tensor | None,
    share: Tensor,
    bss_eval: bool,
) -> pd.DataFrame:
    """Scores a clip in another process: one line per source, with the error if scoring failed."""
    # A decoded reference is silent where the true source is.
    active = ~silent(clip.references)
    scores = dict.fromkeys(SCORES, torch.full((len(active),), math.nan).double())
    if wavs is not None:
        try:
            scores = score_clip(
                references, wavs, clip.mixture, clip.sample_rate, active, bss_eval=bss_eval
            )
        except Exception as error:  # Recorded with the clip, which still counts.
            shared = {**shared, "error": f"{type(error).__name__}: {error}"}
    columns = {name: values.numpy() for name, values in scores.items()}
    columns |= {"frequency_r2": share.numpy(), "silent": ~active.numpy()}
    alone = (active & (active.sum() == 1)).numpy()
    return pd.DataFrame({**shared, "source": clip.sources, **columns, "alone": alone})


def _write_example(place: Path, clip: Clip, estimates: Sequence[Estimates]) -> dict[str, Any]:
    """Writes the mixture, the true sources and, in a folder per row, the estimates."""
    write_audio(place / "mixture.wav", clip.mixture, clip.sample_rate)
    rows, sounds = {}, {place: clip.references}
    for done in estimates:
        # The mixture is already written; of several runs, the first one is used.
        if done.wavs is not None and done.row.name not in {"mixture", *rows}:
            rows[done.row.name] = done.row.label
            sounds[place / done.row.name] = done.wavs
    for folder, wavs in sounds.items():
        for source, wav in zip(clip.sources, wavs, strict=True):
            write_audio(folder / f"{source}.wav", wav, clip.sample_rate)
    return {"name": clip.name, "sources": list(clip.sources), "rows": rows}
