"""The recipe's evaluation: several training runs on the test split of one tree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asteroid_ucr.baselines.demucs import demucs_row
from asteroid_ucr.config import RecipeConfig
from asteroid_ucr.data.clips import slakh_clips
from asteroid_ucr.evaluation.evaluate import assign_components, evaluate
from asteroid_ucr.evaluation.trained_rows import trained_rows
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.errors import UserError


def evaluate_runs(
    config: RecipeConfig,
    exp_dir: Path,
    runs: list[str],
    compare: Sequence[str] = (),
    pretrained: str | None = None,
) -> dict[str, Any]:
    """Assigns components to sources, evaluates all runs, and chooses the best.

    Each run's `best_model.pth` is rewritten with its assignment, fitted on the validation split.
    The run with the highest validation SI-SDR becomes `exp_dir/best_model.pth`.

    Args:
        config: the recipe's configuration.
        exp_dir: folder of the results, which holds the runs' folders.
        runs: names of their folders.
        compare: `best_model.pth` files of trained baselines, scored on the same clips.
        pretrained: name of published Demucs weights, scored on them too.

    Returns:
        What `evaluate` returns.

    Raises:
        UserError: if a run is not there, a baseline or the data cannot be used.
    """
    data, settings = config.data, config.evaluation
    options = {"codec_dir": config.codec.dir} if config.codec.name == "encodec_24khz" else {}
    models = {run: UCRSeparator.from_pretrained(str(exp_dir / run), **options) for run in runs}
    common = {
        "sources": data.sources,
        "seconds": settings.segment_seconds,
        "mix": data.mix,
        "allow_shared_midi": data.allow_shared_midi,
    }
    validation = list(slakh_clips(data.root, "validation", max_clips=settings.max_clips, **common))
    scores = {}
    for run, model in models.items():
        if model.sources != data.sources:
            raise UserError(
                f"The run {run} in {exp_dir} separates {', '.join(model.sources)}, but "
                f"data.sources is {', '.join(data.sources)}: choose another --tag."
            )
        scores[run] = assign_components(model, validation).score
        model.save(exp_dir / run / "best_model.pth")
    models[max(scores, key=scores.__getitem__)].save(exp_dir / "best_model.pth")
    extra = trained_rows(compare, data.sources, validation)
    if pretrained is not None:
        extra.append(demucs_row(pretrained, data.sources))
    return evaluate(
        models,
        slakh_clips(data.root, "test", max_clips=settings.max_clips, **common),
        validation,
        exp_dir,
        settings.steps,
        settings.seeds,
        bss_eval=settings.bss_eval,
        examples=settings.examples,
        workers=settings.workers,
        extra_rows=extra,
    )
