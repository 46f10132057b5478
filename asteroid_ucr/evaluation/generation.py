"""Evaluates generation: likeness, fit of accompaniments, copies of the training data."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.codecs import Codec, build_codec
from asteroid_ucr.config import GenerationConfig, RecipeConfig, open_cache
from asteroid_ucr.data.clips import Clip, slakh_clips
from asteroid_ucr.data.components import ComponentCache
from asteroid_ucr.evaluation.accompaniment import (
    BATCH,
    EXAMPLES,
    KINDS,
    accompany,
    encode_clip,
    others,
    parts,
    standardised,
    summarise_fit,
)
from asteroid_ucr.evaluation.frechet import Sounds
from asteroid_ucr.evaluation.statistics import summarise
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import atomic_path, make_folder
from asteroid_ucr.utils.audio import level_gain, write_audio
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import generator_for

LINES_CSV, RESULTS_JSON = "generation.csv", "generation.json"
RENDERED = "rendered from z"  # what the denoiser makes of the true component latents
RANDOM_EXAMPLES = 8  # generations from nothing that are written: the first ones


def evaluate_experiment(config: RecipeConfig, exp_dir: Path) -> dict[str, Any]:
    """Generates with `exp_dir/best_model.pth`, and evaluates what it generates.

    Args:
        config: Configuration of the recipe.
        exp_dir: Folder of the experiment, which receives the results.

    Returns:
        What `evaluate_generation` returns.

    Raises:
        UserError: If the folder has no model with a prior, or the data cannot be used.
    """
    data, settings = config.data, config.generation
    options = {"codec_dir": config.codec.dir} if config.codec.name == "encodec_24khz" else {}
    model = UCRSeparator.from_pretrained(Path(exp_dir), **options)
    if model.prior is None:
        raise UserError(f"The model in {exp_dir} has no prior: run stage 4 first.")
    cache = open_cache(config, "train", codec=model.codec)
    cache = ComponentCache(cache, model.decomposition.encode)
    latents = [torch.from_numpy(cache.whole(track)) for track in cache.tracks]
    train, test = (
        list(
            slakh_clips(
                data.root,
                split,
                model.sources,
                seconds=settings.segment_seconds,
                mix=data.mix,
                max_clips=settings.max_clips,
                allow_shared_midi=data.allow_shared_midi,
            )
        )
        for split in ("train", "test")
    )
    own = config.codec.options() if settings.embedding == config.codec.name else {}
    unquantised = {"bandwidth": 0.0} if settings.embedding == "encodec_24khz" else {}
    embedding = build_codec(settings.embedding, **{**own, **unquantised})
    model = model.to(pick_device())
    return evaluate_generation(model, train, test, latents, exp_dir, settings, embedding)


def evaluate_generation(
    model: UCRSeparator,
    train: Sequence[Clip],
    test: Sequence[Clip],
    train_latents: Sequence[Tensor],
    out_dir: str | Path,
    settings: GenerationConfig,
    embedding: Codec,
) -> dict[str, Any]:
    """Evaluates by the protocol of docs/generation.md, and writes the results.

    Writes `generation.csv` (a line per test clip, kept source and kind of partner),
    `generation.json` and `generation_examples/`.

    Args:
        model: with a prior, on the device to run on.
        train: clips of the training split, the reference of the Fréchet distances.
        test: clips of the test split, as long as those.
        train_latents: component latents of all training tracks, `(n_src, latent_dim, frames)`, in
            the order of sources, for the search of copies.
        out_dir: folder of the results.
        settings: how much to generate, and how.
        embedding: codec of the Fréchet distance's embeddings.

    Returns:
        What `generation.json` holds.

    Raises:
        UserError: if the model has no prior, clips are missing, or results cannot be written.
    """
    if not train or not test:
        raise UserError("Generation is evaluated on clips of the training and the test split.")
    folder = make_folder(out_dir)
    sounds = Sounds(embedding, settings.resamples)
    for clip in tqdm(train, "training clips", disable=None):
        sounds.add("train", clip.track, parts(clip.references * level_gain(clip.mixture), model))
    _add_floors_and_ceilings(model, test, sounds)
    lines = pd.DataFrame(accompany(model, test, sounds, settings, folder))
    generated, each = _from_nothing(model, sounds, settings, settings.steps, "generated", folder)
    encoded = torch.stack([encode_clip(model, clip) for clip in test])
    results = {
        "protocol": {
            "sources": model.sources,
            "segment_seconds": settings.segment_seconds,
            "steps": settings.steps,
            "seed": settings.seed,
            "mix": test[0].mix,
            "train_clips": len(train),
            "test_clips": len(test),
            "test_tracks": len({clip.track for clip in test}),
            "unconditional": settings.unconditional,
            "embedding": embedding.fingerprint,
            "codec": model.codec.name,
        },
        "frechet": _distances(sounds, model, settings),
        "fit": summarise_fit(lines),
        "kept_mse": float(lines["kept_mse"].max()),
        "memorisation": _memorisation(model, encoded, generated, train_latents, test),
        "seconds_each": each,
        "curve": _curve(model, sounds, settings),
        "examples": sorted({line for line in lines["example"] if line}),
        "random_examples": min(RANDOM_EXAMPLES, settings.unconditional),
    }
    with atomic_path(folder / LINES_CSV) as temporary:
        lines.drop(columns="example").to_csv(temporary, index=False, float_format="%.6g")
    with atomic_path(folder / RESULTS_JSON) as temporary:
        temporary.write_text(json.dumps(_plain(results), indent=2, allow_nan=False) + "\n")
    return results


@torch.no_grad()
def _add_floors_and_ceilings(model: UCRSeparator, test: Sequence[Clip], sounds: Sounds) -> None:
    for number, clip in enumerate(test):
        stems = clip.references * level_gain(clip.mixture)
        sounds.add("test", clip.track, parts(stems, model))
        batch = torch.cat([stems.sum(0, keepdim=True), stems])[:, None].to(model.device)
        decoded = model.codec.decode(model.codec.encode(batch), batch.shape[-1])[:, 0].cpu()
        trip = parts(decoded[1:], model) | {"mixture": decoded[0]}
        sounds.add("round trip", clip.track, trip)
        white = torch.randn(stems.shape, generator=generator_for(number))
        rms = stems.square().mean(-1, keepdim=True).sqrt()
        sounds.add("white noise", clip.track, parts(rms * white, model))
    for first in range(0, len(test), BATCH):
        clips = test[first : first + BATCH]
        plan = model.generator.plan(clips[0].seconds, batch=len(clips))
        z = torch.stack([encode_clip(model, clip) for clip in clips]).to(model.device)
        for clip, stems in zip(clips, model.generator.render(plan, z), strict=True):
            sounds.add(RENDERED, clip.track, parts(stems, model))


def _from_nothing(
    model: UCRSeparator,
    sounds: Sounds,
    settings: GenerationConfig,
    steps: int,
    collection: str,
    folder: Path | None,
) -> tuple[Tensor, float]:
    """Generates from nothing; returns all component latents, and the seconds that an item took."""
    latents, seconds = [], 0.0
    numbers = range(settings.unconditional)
    for first in tqdm(numbers[::BATCH], f"from nothing, {steps} steps", disable=None):
        items, began = numbers[first : first + BATCH], time.monotonic()
        plan = model.generator.plan(settings.segment_seconds, batch=len(items))
        z = model.generator.sample(plan, steps, settings.seed + first)
        wavs = model.generator.render(plan, z, seed=settings.seed + first)
        seconds += time.monotonic() - began
        latents.append(z.cpu())
        for number, stems in zip(items, wavs, strict=True):
            sounds.add(collection, f"seed {number}", parts(stems * level_gain(stems.sum(0)), model))
            if folder is not None and number < RANDOM_EXAMPLES:
                path = folder / EXAMPLES / "random" / f"{number}.wav"
                write_audio(path, stems.sum(0), int(model.sample_rate))
    return torch.cat(latents), seconds / len(numbers)


def _distances(
    sounds: Sounds, model: UCRSeparator, settings: GenerationConfig
) -> list[dict[str, Any]]:
    """The table of Fréchet distances: to the training split, and of partners to the true ones."""
    partners = list(dict.fromkeys(others(model, k) for k in range(model.n_src)))
    kinds = [*KINDS.values(), "shuffled"]
    given = [f"{kind}, given {s}" for s in model.sources for kind in kinds]
    rows = ["test", "round trip", RENDERED, "generated", *given, "white noise"]
    asked = [("train", row, t) for t in dict.fromkeys(["mixture", *model.sources]) for row in rows]
    asked += [("test", row, t) for t in partners for row in ("round trip", RENDERED, *given)]
    lines = [sounds.distance(*one) for one in asked]
    # By themselves, shuffled partners are the true partners of other clips.
    return [
        line
        for line in lines
        if line and not (line["sounds"].startswith("shuffled") and line["target"] != "mixture")
    ]


def _memorisation(
    model: UCRSeparator,
    test_latents: Tensor,
    generated: Tensor,
    tracks: Sequence[Tensor],
    test: Sequence[Clip],
) -> dict[str, Any]:
    """Distances to the nearest training passage: of generations, and of the test set."""
    frames = min(model.prior.frames, generated.shape[-1])
    known = [standardised(model, track).flatten(0, 1) for track in tracks]
    distances = {}
    for name, z in (("generated", generated), ("test", test_latents)):
        queries = standardised(model, z)[..., :frames].flatten(1, 2)
        distances[name] = nearest_distances(queries, known).numpy()
    labels = {
        "generated": [f"seed {k}" for k in range(len(generated))],
        "test": [clip.track for clip in test],
    }
    summaries = {}
    for name, values in distances.items():
        found = np.where(np.isfinite(values), values, np.nan)
        data = {"track": labels[name], "clip": range(len(values)), "run": 0, "distance": found}
        summaries[name] = summarise(pd.DataFrame(data), "distance").to_dict()
    closest = distances["test"].min()
    return {
        "seconds": frames / model.codec.frame_rate,
        **summaries,
        "nearer_than_any_test": int((distances["generated"] < closest).sum()),
    }


def _curve(model: UCRSeparator, sounds: Sounds, settings: GenerationConfig) -> list[dict[str, Any]]:
    """Fréchet distance of the mixture, and time, by number of steps."""
    points = []
    for steps in settings.curve:
        name = f"{steps} steps"
        _, seconds = _from_nothing(model, sounds, settings, steps, name, None)
        line = sounds.distance("train", name, "mixture") or {}
        points.append({"steps": steps, "seconds_each": seconds, **line})
    return points


def _plain(value: Any) -> Any:
    """The same with None for NaN, which JSON lacks."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def nearest_distances(queries: Tensor, tracks: Iterable[Tensor]) -> Tensor:
    """Distance of each passage to the passage of a training track that is most like it.

    Every place of every track is tried: the squared distances to all places at once are a
    cross-correlation.

    Args:
        queries: latents `(n, channels, frames)`, standardised so that channels compare.
        tracks: latents `(channels, any frames)`; those shorter than a query are passed over.

    Returns:
        Root mean square differences `(n,)`; infinite if no track is long enough.
    """
    queries = queries.double()
    size = queries[0].numel()
    energy = queries.square().sum((1, 2))[:, None]
    best = torch.full((len(queries),), torch.inf, dtype=torch.float64)
    ones = torch.ones(1, *queries.shape[1:], dtype=torch.float64)
    for track in tracks:
        if track.shape[-1] < queries.shape[-1]:
            continue
        track = track.double()[None]
        crossed = F.conv1d(track, queries)[0]
        squared = energy + F.conv1d(track.square(), ones)[0] - 2 * crossed
        best = torch.minimum(best, squared.min(1).values)
    return (best.clamp(min=0) / size).sqrt()
