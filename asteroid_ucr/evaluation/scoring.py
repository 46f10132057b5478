"""From rows and clips to lines of scores, with the scoring spread over processes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor
from torch import Tensor

from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.reference_rows import Codec, codec_roundtrip, masked
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.evaluation.scores import SCORES, score_clip, silent
from asteroid_ucr.evaluation.statistics import frequency_share
from asteroid_ucr.masking import stft

Line = dict[str, Any]
# One BLAS thread per process: museval's solves would otherwise fight over the cores.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Estimates:
    """What a row made of a clip: estimates, or the error that it raised."""

    row: Row
    clip: Clip
    wavs: Tensor | None
    share: Tensor | None
    seconds: float
    error: str = ""


def run_row(row: Row, clip: Clip) -> Estimates:
    """Separates a clip; an exception becomes part of the result, so that no clip is dropped."""
    start = time.perf_counter()
    share = None
    try:
        with torch.no_grad():
            if row.masks is not None:
                masks = row.masks(clip)
                power = stft(clip.mixture, clip.sample_rate).abs().square()
                share = frequency_share(masks, power)
                wavs = masked(clip, masks)
            else:
                wavs = row.separate(clip)
        if wavs.shape != clip.references.shape:
            raise ValueError(
                f"estimates are {tuple(wavs.shape)}, references {tuple(clip.references.shape)}"
            )
    except Exception as error:  # whatever a separator raises is this clip's result
        text = f"{type(error).__name__}: {error}"
        return Estimates(row, clip, None, None, time.perf_counter() - start, text)
    return Estimates(row, clip, wavs.float(), share, time.perf_counter() - start)


def score_lines(
    rows: Sequence[Row],
    clips: Iterable[Clip],
    codec: Codec | None = None,
    bss_eval: bool = True,
    workers: int | None = None,
    on_clip: Any = None,
) -> Iterator[Line]:
    """Separates every clip by every row and scores it.

    Separation runs here, so that models stay on their device; scoring, which takes most of the
    time, runs in `workers` processes beside it.

    Args:
        rows: what to compare.
        clips: read one at a time, so that a test set need not fit into memory.
        codec: scores against codec-decoded references too, where given.
        bss_eval: compute museval's scores.
        workers: number of processes; None takes one per core, 0 scores here.
        on_clip: called with each clip and its list of `Estimates`.

    Yields:
        One line per row, clip, source and kind of reference.
    """
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    pending: dict[Future, tuple[Estimates, str]] = {}
    pool = None
    if workers:
        environment = {name: "1" for name in _THREADS}
        pool = get_reusable_executor(max_workers=workers, timeout=600, env=environment)
    for clip in clips:
        references = {"true": clip.references}
        if codec is not None:
            with torch.no_grad():
                references["codec"] = codec_roundtrip(clip, codec)
        done = []
        for row in rows:
            estimates = run_row(row, clip)
            done.append(estimates)
            for kind, wavs in references.items():
                job = _job(estimates, wavs, bss_eval)
                if pool is None or estimates.wavs is None:
                    yield from _lines(estimates, kind, _score(*job))
                    continue
                pending[pool.submit(_score, *job)] = (estimates, kind)
                # Enough work ahead to keep the processes busy, not the whole test set's audio.
                if len(pending) > 8 * workers:
                    yield from _collect(pending)
        if on_clip is not None:
            on_clip(clip, done)
    while pending:
        yield from _collect(pending)


def _collect(pending: dict[Future, tuple[Estimates, str]]) -> Iterator[Line]:
    finished, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in finished:
        yield from _lines(*pending.pop(future), future.result())


def _job(estimates: Estimates, references: Tensor, bss_eval: bool) -> tuple[Any, ...]:
    """Arguments of `_score`, as arrays, which travel to processes without shared memory."""
    clip = estimates.clip
    wavs = None if estimates.wavs is None else estimates.wavs.numpy()
    # Whether a source is silent is a fact about the true one, whatever the codec makes of it.
    active = ~silent(clip.references).numpy()
    mixture = clip.mixture.numpy()
    return references.numpy(), wavs, mixture, clip.sample_rate, active, bss_eval


def _score(
    references: np.ndarray,
    wavs: np.ndarray | None,
    mixture: np.ndarray,
    sample_rate: int,
    active: np.ndarray,
    bss_eval: bool,
) -> tuple[dict[str, np.ndarray], str]:
    """`score_clip` for another process: scores, and the error text if it failed."""
    nothing = {name: np.full(len(references), np.nan) for name in SCORES}
    if wavs is None:
        return nothing, ""
    torch.set_num_threads(1)
    try:
        scores = score_clip(
            torch.from_numpy(references),
            torch.from_numpy(wavs),
            torch.from_numpy(mixture),
            sample_rate,
            torch.from_numpy(active),
            bss_eval,
        )
    except Exception as error:  # recorded with the clip, which still counts
        return nothing, f"{type(error).__name__}: {error}"
    return {name: values.numpy() for name, values in scores.items()}, ""


def _lines(
    estimates: Estimates, kind: str, result: tuple[dict[str, np.ndarray], str]
) -> Iterator[Line]:
    scores, error = result
    row, clip = estimates.row, estimates.clip
    quiet = silent(clip.references)
    for k, source in enumerate(clip.sources):
        share = math.nan if estimates.share is None else float(estimates.share[k])
        yield {
            "row": row.name,
            "model": row.model,
            "seed": row.seed,
            "clip": clip.name,
            "track": clip.track,
            "source": source,
            "reference": kind,
            **{name: float(values[k]) for name, values in scores.items()},
            "frequency_r2": share,
            "silent": bool(quiet[k]),
            "alone": bool(not quiet[k] and (~quiet).sum() == 1),
            "seconds": estimates.seconds,
            "error": estimates.error or error,
        }
