"""What can be said about a separation without stems: how much each component does, and how."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.model_rows import model_rows
from asteroid_ucr.evaluation.rows import masked
from asteroid_ucr.masking import energy_share, frequency_share, stft
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import atomic_path
from asteroid_ucr.utils.audio import write_audio
from asteroid_ucr.utils.errors import UserError

DIAGNOSTICS_CSV = "diagnostics.csv"
EXPLANATION = (
    "There are no stems to score with. share: the component's part of the energy; a component "
    "near 0 does nothing. R²: the part of its mask that frequency alone explains; near 0.9 it has "
    "learnt a band split, while the true mask of drums has about 0.35."
)


@torch.no_grad()
def diagnose(models: Mapping[str, UCRSeparator], clips: Iterable[Clip]) -> pd.DataFrame:
    """Separates clips and describes the masks, by means that need no stems.

    Args:
        models: Models by name.
        clips: Mixtures.

    Returns:
        A line for each clip, model and component, with "share" in [0, 1] and "frequency_r2".
    """
    lines = []
    for clip in clips:
        power = stft(clip.mixture, clip.sample_rate).abs().square()
        for name, model in models.items():
            masks = model_rows(model, steps=[1])[0].masks(clip)
            measures = energy_share(masks, power), frequency_share(masks, power)
            for source, share, r2 in zip(model.sources, *measures, strict=True):
                line = {"model": name, "clip": clip.name, "component": source}
                lines.append({**line, "share": float(share), "frequency_r2": float(r2)})
    return pd.DataFrame(lines)


def diagnose_runs(
    exp_dir: str | Path, runs: Sequence[str], clips: Iterable[Clip], examples: int, **options: Any
) -> str:
    """Describes the runs of an experiment on clips without stems, and chooses one of them.

    The run whose masks depend least on frequency alone is copied to `exp_dir/best_model.pth`.
    Writes `diagnostics.csv` and `examples/CLIP/COMPONENT.wav`.

    Args:
        exp_dir: Folder of the experiment, which holds the runs' folders.
        runs: Names of their folders.
        clips: Mixtures.
        examples: Number of clips to write as audio, of distinct tracks.
        **options: Arguments for `UCRSeparator.from_pretrained`, such as `codec_dir`.

    Returns:
        A table of means, with an explanation.

    Raises:
        UserError: If there are no clips.
    """
    folder, clips = Path(exp_dir), list(clips)
    if not clips:
        raise UserError("There are no clips to describe: use more or longer songs.")
    models = {run: UCRSeparator.from_pretrained(folder / run, **options) for run in runs}
    lines = diagnose(models, clips)
    best = lines.groupby("model")["frequency_r2"].mean().fillna(1.0).idxmin()
    with atomic_path(folder / "best_model.pth") as temporary:
        shutil.copyfile(folder / best / "best_model.pth", temporary)
    with atomic_path(folder / DIAGNOSTICS_CSV) as temporary:
        lines.to_csv(temporary, index=False, float_format="%.4g")
    write_examples({best: models[best]}, clips, folder / "examples", examples)
    return f"{describe_masks(lines)}\n{EXPLANATION}\nchose {best}"


def describe_masks(lines: pd.DataFrame) -> str:
    """A table of the means of what `diagnose` returns."""
    means = lines.groupby(["model", "component"], sort=False)[["share", "frequency_r2"]].mean()
    return means.rename(columns={"frequency_r2": "R²"}).round(2).to_string()


def write_examples(
    models: Mapping[str, UCRSeparator], clips: Iterable[Clip], folder: Path, count: int
) -> None:
    """Writes `CLIP/mixture.wav` and what models make of it, `CLIP/[MODEL/]COMPONENT.wav`.

    Args:
        models: Models by name. The name of a single one is no folder.
        clips: Mixtures, of which the first ones of distinct tracks are written.
        folder: Folder to write to.
        count: Number of clips to write.
    """
    first = {clip.track: clip for clip in reversed(list(clips))}
    for clip in list(first.values())[::-1][:count]:
        place = folder / clip.name
        write_audio(place / "mixture.wav", clip.mixture, clip.sample_rate)
        for name, model in models.items():
            masks = model_rows(model, steps=[1])[0].masks(clip)
            target = place / name if len(models) > 1 else place
            for source, wav in zip(model.sources, masked(clip, masks), strict=True):
                write_audio(target / f"{source}.wav", wav, clip.sample_rate)
