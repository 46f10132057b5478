"""Evaluates generation: realism, fit of accompaniments, and copies of the training data."""

from __future__ import annotations

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
from asteroid_ucr.config import GenerationConfig, RecipeConfig
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.accompaniment import (
    BATCH,
    EXAMPLES,
    KINDS,
    accompany,
    others,
    parts,
    standardised,
    summarise_fit,
)
from asteroid_ucr.evaluation.coherence import chroma_agreement, onsets_kept, pitch_kept
from asteroid_ucr.evaluation.frechet import Sounds
from asteroid_ucr.evaluation.scores import silent
from asteroid_ucr.evaluation.separation import open_clips
from asteroid_ucr.evaluation.statistics import summarise
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.training.prior import FOLDER, fill_components
from asteroid_ucr.utils.atomic import atomic_path, make_folder, write_json
from asteroid_ucr.utils.audio import level_gain, write_audio
from asteroid_ucr.utils.device import pick_device
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import generator_for

LINES_CSV, RESULTS_JSON = "generation.csv", "generation.json"
RENDERED = "rendered from z"  # What the denoiser makes of the true component latents.
RENDERING = {"pitch": pitch_kept, "onsets": onsets_kept, "chroma": chroma_agreement}
RANDOM_EXAMPLES = 8  # The first generations from nothing are written as audio.


def evaluate_experiment(config: RecipeConfig, exp_dir: Path) -> dict[str, Any]:
    """Evaluates what `exp_dir/best_model.pth` generates, and writes the results beside it.

    Returns:
        What `evaluate_generation` returns.

    Raises:
        UserError: If the folder has no model with a prior, or the data cannot be used.
    """
    settings = config.generation
    options = {"codec_dir": config.codec.dir} if config.codec.name == "encodec_24khz" else {}
    model = UCRSeparator.from_pretrained(exp_dir, **options).to(pick_device())
    if model.prior is None:
        raise UserError(f"The model in {exp_dir} has no prior: run stage 4 first.")
    cache = fill_components(config, model, "train", exp_dir / FOLDER)
    stacked = (torch.from_numpy(cache.whole(track)) for track in cache.tracks)
    latents = [track.unflatten(0, (model.n_src, -1)) for track in stacked]
    train, test = (list(open_clips(config, settings, split)) for split in ("train", "test"))
    own = config.codec.options() if settings.embedding == config.codec.name else {}
    unquantised = {"bandwidth": 0.0} if settings.embedding == "encodec_24khz" else {}
    embedding = build_codec(settings.embedding, **{**own, **unquantised})
    return evaluate_generation(model, train, test, latents, exp_dir, settings, embedding)


@torch.no_grad()
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
        model: Model with a prior, on the device to run on.
        train: Clips of the training split, the reference of the Fréchet distances.
        test: Clips of the test split, of the same length.
        train_latents: Component latents of all training tracks, `(n_src, latent_dim, frames)`, for
            the search of copies.
        out_dir: Folder of the results.
        settings: Settings of the generation.
        embedding: Codec of the embeddings of the Fréchet distance.

    Returns:
        The content of `generation.json`.

    Raises:
        UserError: If clips are missing, or results cannot be written.
    """
    if not train or not test:
        raise UserError("Generation is evaluated on clips of the training and the test split.")
    folder = make_folder(out_dir)
    sounds = Sounds(embedding, settings.resamples)
    for clip in tqdm(train, "training clips", disable=None):
        sounds.add("train", clip.track, parts(clip.references * level_gain(clip.mixture), model))
    wavs = (clip.mixture * level_gain(clip.mixture) for clip in test)
    of_mixture = model.latents.of_mixture
    encoded = torch.cat([of_mixture(wav[None].to(model.device)).cpu() for wav in wavs])
    _add_floors_and_ceilings(model, test, encoded, sounds)
    lines = pd.DataFrame(accompany(model, test, encoded, sounds, settings, folder))
    generated, each = _from_nothing(model, sounds, settings, settings.steps, "generated", folder)
    with atomic_path(folder / LINES_CSV) as temporary:
        lines.drop(columns="example").to_csv(temporary, index=False, float_format="%.6g")
    results = {
        "protocol": {
            "sources": model.sources,
            "segment_seconds": settings.segment_seconds,
            "steps": settings.steps,
            "guidance": settings.guidance,
            "seed": settings.seed,
            "mix": test[0].mix,
            "train_clips": len(train),
            "test_clips": len(test),
            "test_tracks": len({clip.track for clip in test}),
            "unconditional": settings.unconditional,
            "embedding": embedding.fingerprint,
            "codec": model.latents.codec.fingerprint,
        },
        "frechet": _distances(sounds, model),
        "rendering": _rendering(model, test, encoded),
        "fit": summarise_fit(lines),
        "kept_mse": float(lines["kept_mse"].max()),
        "memorisation": _memorisation(model, test, encoded, generated, train_latents),
        "seconds_each": each,
        "curve": [_curve_point(model, sounds, settings, steps) for steps in settings.curve],
        "examples": sorted(set(lines["example"]) - {""}),
        "random_examples": min(RANDOM_EXAMPLES, settings.unconditional),
    }
    return write_json(folder / RESULTS_JSON, results)


def _add_floors_and_ceilings(
    model: UCRSeparator, test: Sequence[Clip], encoded: Tensor, sounds: Sounds
) -> None:
    """Adds the test clips, what codec and denoiser make of them, and white noise."""
    for number, clip in enumerate(test):
        stems = clip.references * level_gain(clip.mixture)
        sounds.add("test", clip.track, parts(stems, model))
        batch = torch.cat([stems.sum(0, keepdim=True), stems])[:, None].to(model.device)
        decoded = round_trip(model, batch)
        sounds.add("round trip", clip.track, parts(decoded[1:], model) | {"mixture": decoded[0]})
        noise = torch.randn(stems.shape, generator=generator_for(number))
        rms = stems.square().mean(-1, keepdim=True).sqrt()
        sounds.add("white noise", clip.track, parts(rms * noise, model))
    for first in range(0, len(test), BATCH):
        clips, z = test[first : first + BATCH], encoded[first : first + BATCH]
        plan = model.generator.plan(clips[0].seconds, batch=len(clips))
        rendered = model.generator.render(plan, z.to(model.device))
        for clip, stems in zip(clips, rendered, strict=True):
            sounds.add(RENDERED, clip.track, parts(stems, model))


def round_trip(model: UCRSeparator, wavs: Tensor) -> Tensor:
    """What the codec of the component latents makes of waveforms `(batch, 1, time)`."""
    codec = model.latents.codec
    return codec.decode(codec.encode(wavs), wavs.shape[-1])[:, 0].cpu()


def _rendering(model: UCRSeparator, test: Sequence[Clip], encoded: Tensor) -> list[dict[str, Any]]:
    """How much of a stem is heard in what is rendered from its own component latent.

    The latent is that of the stem alone, or that in its mixture; the round trip through the codec
    is the ceiling.
    """
    lines = []
    for clip, in_mixture in zip(tqdm(test, "rendering", disable=None), encoded, strict=True):
        stems = clip.references * level_gain(clip.mixture)
        batch = stems[:, None].to(model.device)
        alone = torch.cat([model.latents.of_stem(wav, k) for k, wav in enumerate(batch)])
        plan = model.generator.plan(clip.seconds, batch=2)
        both = torch.stack([alone.to(model.device), in_mixture.to(model.device)])
        of_stem, of_mixture = model.generator.render(plan, both)
        heard = {
            "round trip": round_trip(model, batch),
            "z of the stem": of_stem,
            "z in the mixture": of_mixture,
        }
        for k in np.flatnonzero(~silent(clip.references)):
            for kind, wavs in heard.items():
                line = {name: measure(stems[k], wavs[k]) for name, measure in RENDERING.items()}
                names = {"source": model.sources[k], "from": kind}
                lines.append({**names, "track": clip.track, "clip": clip.name, "run": 0, **line})
    return [
        {"source": source, "from": kind}
        | {name: summarise(part, name)._asdict() for name in RENDERING}
        for (source, kind), part in pd.DataFrame(lines).groupby(["source", "from"], sort=False)
    ]


def _from_nothing(
    model: UCRSeparator,
    sounds: Sounds,
    settings: GenerationConfig,
    steps: int,
    collection: str,
    folder: Path | None = None,
) -> tuple[Tensor, float]:
    """Generates from nothing; returns all component latents, and the seconds per item."""
    latents, seconds = [], 0.0
    numbers = range(settings.unconditional)
    for first in tqdm(numbers[::BATCH], f"from nothing, {steps} steps", disable=None):
        items, seed, began = numbers[first : first + BATCH], settings.seed + first, time.monotonic()
        plan = model.generator.plan(settings.segment_seconds, batch=len(items))
        z = model.generator.sample(plan, steps, seed)
        wavs = model.generator.render(plan, z, seed=seed)
        seconds += time.monotonic() - began
        latents.append(z.cpu())
        for number, stems in zip(items, wavs, strict=True):
            sounds.add(collection, f"seed {number}", parts(stems * level_gain(stems.sum(0)), model))
            if folder is not None and number < RANDOM_EXAMPLES:
                path = folder / EXAMPLES / "random" / f"{number}.wav"
                write_audio(path, stems.sum(0), int(model.sample_rate))
    return torch.cat(latents), seconds / len(numbers)


def _curve_point(
    model: UCRSeparator, sounds: Sounds, settings: GenerationConfig, steps: int
) -> dict[str, Any]:
    """Fréchet distance of the mixture, and time, for a number of sampler steps."""
    _, seconds = _from_nothing(model, sounds, settings, steps, f"{steps} steps")
    line = sounds.distance("train", f"{steps} steps", "mixture") or {}
    return {"steps": steps, "seconds_each": seconds, **line}


def _distances(sounds: Sounds, model: UCRSeparator) -> list[dict[str, Any]]:
    """The table of Fréchet distances: to the training split, and of partners to the true ones."""
    partners = dict.fromkeys(others(model, k) for k in range(model.n_src))
    given = [f"{kind}, given {s}" for s in model.sources for kind in KINDS.values()]
    shuffled = [f"shuffled, given {s}" for s in model.sources]
    rows = ["test", "round trip", RENDERED, "generated", *given, "white noise"]
    # Shuffled partners by themselves are the true partners of other clips.
    asked = [("train", row, "mixture") for row in [*rows[:-1], *shuffled, rows[-1]]]
    asked += [("train", row, source) for source in model.sources for row in rows]
    asked += [("test", row, p) for p in partners for row in ("round trip", RENDERED, *given)]
    lines = [sounds.distance(*line) for line in asked]
    return [line for line in lines if line is not None]


def _memorisation(
    model: UCRSeparator,
    test: Sequence[Clip],
    encoded: Tensor,
    generated: Tensor,
    tracks: Sequence[Tensor],
) -> dict[str, Any]:
    """Distances to the nearest training passage: of generations, and of the test set."""
    frames = min(model.prior.frames, generated.shape[-1])
    known = [standardised(model, track).flatten(0, 1) for track in tracks]
    seeds = [f"seed {number}" for number in range(len(generated))]
    distances, summaries = {}, {}
    for name, z, labels in (
        ("generated", generated, seeds),
        ("test", encoded, [clip.track for clip in test]),
    ):
        queries = standardised(model, z)[..., :frames].flatten(1, 2)
        distances[name] = nearest_distances(queries, known).numpy()
        found = pd.Series(distances[name]).replace(np.inf, np.nan)
        lines = pd.DataFrame({"track": labels, "clip": found.index, "run": 0, "distance": found})
        summaries[name] = summarise(lines, "distance")._asdict()
    return {
        "seconds": frames * model.latents.hop / int(model.sample_rate),
        **summaries,
        "nearer_than_any_test": int((distances["generated"] < distances["test"].min()).sum()),
    }


def nearest_distances(queries: Tensor, tracks: Iterable[Tensor]) -> Tensor:
    """Computes the distance of each passage to the most similar passage of a training track.

    Every position in every track is tried: the squared distances to all positions at once are a
    cross-correlation. The latents are standardised, so that channels are comparable: passages
    `(n, channels, frames)`, and tracks `(channels, any frames)`.

    Returns:
        Root mean square differences `(n,)`; infinite if no track is as long as a passage.
    """
    queries = queries.double()
    energy = queries.square().sum((1, 2))[:, None]
    best = torch.full((len(queries),), torch.inf, dtype=torch.float64)
    ones = torch.ones(1, *queries.shape[1:], dtype=torch.float64)
    for track in tracks:
        if track.shape[-1] >= queries.shape[-1]:
            track = track.double()[None]
            crossed = F.conv1d(track, queries)[0]
            squared = energy + F.conv1d(track.square(), ones)[0] - 2 * crossed
            best = torch.minimum(best, squared.min(1).values)
    return (best.clamp(min=0) / queries[0].numel()).sqrt()
