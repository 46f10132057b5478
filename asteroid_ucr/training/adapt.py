"""Adapts a trained model to a folder of songs without stems, and says what has changed.

The model separates the songs, and learns from sums of the cleaner half of its own estimates
(`asteroid_ucr.solos.remix`). docs/results_adapt.md says what this is worth on sounds that a model
has never heard.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from asteroid_ucr.config import (
    CodecConfig,
    DataConfig,
    DecompositionTrainingConfig,
    ModelConfig,
    RecipeConfig,
    fill_cache,
    load_model,
)
from asteroid_ucr.data.datasets import is_slakh
from asteroid_ucr.data.folder import survey
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.solos.remix import write_estimates
from asteroid_ucr.training.decomposition import train
from asteroid_ucr.utils.atomic import atomic_path, refuse_inputs
from asteroid_ucr.utils.errors import UserError, check_positive

SONGS_CSV = "songs.csv"
# Chosen before any score was seen: a quarter of the learning rate of the bundled models' training,
# and half the length of its crops.
SETTINGS = {
    "batch_size": 8,
    "frames": 96,
    "solo_frames": 96,
    "min_rms": 0.0,
    "lr": 5e-4,
    "schedule": "cosine",
    "warmup_steps": 10,
    "solo_share": 0.875,
    "clip_norm": 3.0,
    "ema_decay": 0.98,
    "validation_items": 8,
}


def adapt(
    name: str,
    root: str | Path,
    out: str | Path,
    steps: int = 80,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Adapts a model to a folder of songs.

    The folder `out` gets `best_model.pth`, the files of a training, and the caches and estimates
    that it learnt from. Called again, it keeps what is done: estimates of whole songs, caches, and
    the training up to its last checkpoint, of which there are two.

    Args:
        name: Model to adapt: bundled name, file, folder or Hugging Face id.
        root: Data set with songs for training and validation; see `with_validation`.
        out: Folder of the new model.
        steps: Steps of training.
        seed: Seed of the training.
        device: Device on which the model separates the songs.

    Returns:
        Path of the new model.

    Raises:
        UserError: If an option is out of range, the model cannot learn from sums of its estimates
            or would be overwritten, or songs cannot be used.
    """
    check_positive(steps=steps)
    if seed < 0:
        raise UserError(f"seed must be 0 or more, got {seed}.")
    folder, model = Path(out), load_model(name, device)
    refuse_inputs([folder / "best_model.pth"], [name, Path(name) / "best_model.pth"])
    arguments = model.get_model_args()
    if arguments["composition"] != "power_sum":
        raise UserError(
            f"{name} cannot be adapted: it has the composition {arguments['composition']}, and "
            "sums of estimates need power_sum, as the bundled models have it."
        )
    data = DataConfig(
        root=str(root),
        cache=str(folder / "cache"),
        solos=str(folder / "estimates"),
        sources=model.sources,
    )
    named = {field.name for field in fields(ModelConfig)}
    config = RecipeConfig(
        data=data,
        codec=CodecConfig(name=model.codec.name),
        model=ModelConfig(**{k: v for k, v in arguments.items() if k in named}),
        training=DecompositionTrainingConfig(
            **SETTINGS, init=name, seed=seed, steps=steps, epoch_steps=max(1, steps // 2)
        ),
    )
    write_estimates(data.solos, model, name, data.root)
    for split in ("train", "validation"):
        fill_cache(config, split)
    path = train(config, folder)
    # The training leaves out the renderer and a prior of its latents, which stay as they were.
    trained = UCRSeparator.from_pretrained(path)
    if model.renderer is None:
        model.remove_prior()
    model.decomposition, model.budget = trained.decomposition, trained.budget
    model.cpu().save(path)
    return path


def with_validation(root: str | Path, sources: Sequence[str], folder: Path) -> str:
    """A data set with songs for validation: `root` itself, or a list of its songs in `folder`.

    Few songs may all fall into one split, by the hash of their content. Then one of them is for
    validation.

    Raises:
        UserError: If fewer than three songs can be used: sums are of different songs.
    """
    if is_slakh(root):
        return str(root)
    train, held_out = (
        [track for track in survey(root).tracks[split] if track.has(sources)]
        for split in ("train", "validation")
    )
    if len(train) > 1 and held_out:
        return str(root)
    tracks = sorted(train + held_out, key=lambda track: track.uuid)
    if len(tracks) < 3:
        raise UserError(
            f"{root} has {len(tracks)} songs outside of its test split that may hold "
            f"{', '.join(sources)}, and three are needed: add songs."
        )
    rows = [
        (
            (track.mixture or track.folder).resolve(),
            "train" if number else "validation",
            "+".join(track.instruments),
        )
        for number, track in enumerate(tracks)
    ]
    with atomic_path(folder / SONGS_CSV) as temporary, open(temporary, "w", newline="") as file:
        csv.writer(file).writerows([("path", "split", "instruments"), *rows])
    return str(folder / SONGS_CSV)
