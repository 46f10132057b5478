"""What an adaptation has changed, on songs that it did not learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asteroid_ucr.data.clips import Clip, slakh_clips
from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.evaluation.diagnostics import (
    EXPLANATION,
    describe_masks,
    diagnose,
    write_examples,
)
from asteroid_ucr.evaluation.model_rows import model_rows
from asteroid_ucr.evaluation.separation import EXAMPLES, score_rows
from asteroid_ucr.evaluation.statistics import summarise
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import atomic_path

SECONDS = 2.0  # of a clip; shorter songs are left out of a folder
MOST_CLIPS, HEARD = 64, 4  # to measure, and to write as audio
LINES_CSV = "adaptation.csv"


def held_out_clips(root: str | Path, sources: Sequence[str]) -> list[Clip]:
    """Clips of the validation songs of a data set, with their stems if any song has stems."""
    tracks = load_tracks(root, "validation", sources=sources)
    stems = any(track.stems for track in tracks)
    found = slakh_clips(root, "validation", sources, SECONDS, max_clips=MOST_CLIPS, stems=stems)
    return list(found)


def compare(models: Mapping[str, UCRSeparator], clips: Sequence[Clip], folder: Path) -> str:
    """Compares a model before and after its adaptation.

    With stems, they are scored; without, their masks are described, which does not tell whether
    they are better. Writes `adaptation.csv` and `examples/CLIP/{before,after}/SOURCE.wav`.

    Args:
        models: The models "before" and "after".
        clips: Result of `held_out_clips`.
        folder: Folder to write to.

    Returns:
        A text for the user.
    """
    before, after = models
    write_examples(models, clips, folder / EXAMPLES, HEARD)
    examples = f"Listen to {folder / EXAMPLES}/*/{{{before},{after}}}."
    if not len(clips[0].references):
        lines = diagnose(models, clips)
        text = (
            f"{describe_masks(lines)}\n{EXPLANATION} Neither tells whether the separation is "
            f"better. {examples}"
        )
    else:
        rows = [
            replace(model_rows(model, steps=[1])[0], name=name) for name, model in models.items()
        ]
        lines = score_rows(rows, clips, bss_eval=False).assign(run=0)
        scores = {name: found.reset_index(drop=True) for name, found in lines.groupby("row")}
        change = scores[after].assign(si_sdr=scores[after]["si_sdr"] - scores[before]["si_sdr"])
        old, new, gain = (summarise(s, "si_sdr") for s in (scores[before], scores[after], change))
        verdict = "One song is too few to tell more"
        if gain.tracks > 1:
            way = "better" if gain.mean > 0 else "worse"
            verdict = way if abs(gain.mean) > gain.half_width else "not clearly different"
            verdict = f"With ±{gain.half_width:.2f} dB (95 % over songs), this is {verdict}"
        text = (
            f"SI-SDR on {gain.clips} clips of {gain.tracks} held-out songs: {old.mean:.1f} dB "
            f"before, {new.mean:.1f} dB after, a change of {gain.mean:+.2f} dB. {verdict}. "
            f"{examples}"
        )
    with atomic_path(folder / LINES_CSV) as temporary:
        lines.to_csv(temporary, index=False, float_format="%.4g")
    return text
