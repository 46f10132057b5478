"""Accompaniments of test clips: how they fit what they accompany, and differ from the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.config import GenerationConfig
from asteroid_ucr.data.clips import Clip
from asteroid_ucr.evaluation.coherence import chroma_agreement, onset_correlation
from asteroid_ucr.evaluation.frechet import Sounds
from asteroid_ucr.evaluation.scores import silent
from asteroid_ucr.evaluation.statistics import summarise
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.audio import level_gain, write_audio

EXAMPLES = "generation_examples"
BATCH = 8  # generated together
KINDS = {"audio": "generated", "latents": "generated from z"}  # partners, by how a stem is kept
MEASURES = ("onset", "chroma", "component_mse", "codec_mse")


def parts(stems: Tensor, model: UCRSeparator) -> dict[str, Tensor]:
    """The mixture, each source, and all but each source, of stems `(n_src, time)`."""
    parts = {"mixture": stems.sum(0), **dict(zip(model.sources, stems, strict=True))}
    for kept in range(model.n_src):
        parts[others(model, kept)] = stems.sum(0) - stems[kept]
    return parts


def others(model: UCRSeparator, kept: int) -> str:
    """Names of all sources but one, which accompany it."""
    return "+".join(name for k, name in enumerate(model.sources) if k != kept)


@torch.no_grad()
def accompany(
    model: UCRSeparator,
    test: Sequence[Clip],
    sounds: Sounds,
    settings: GenerationConfig,
    folder: Path,
) -> Iterator[dict[str, Any]]:
    """Generates partners of every source of every test clip, and measures all kinds of them.

    Args:
        model: with a prior.
        test: clips of one length.
        sounds: receives the partners, and the mixtures that they make.
        settings: how to generate.
        folder: receives the examples.

    Yields:
        A line for each clip, kept source and kind of partner.
    """
    chosen = _examples(test, settings.examples)
    with tqdm(total=len(test) * model.n_src, desc="accompaniments", disable=None) as bar:
        for kept, name in enumerate(model.sources):
            for first in range(0, len(test), BATCH):
                clips = test[first : first + BATCH]
                made = {how: _generate(model, clips, kept, how, settings, first)
                        for how in settings.keep}  # fmt: skip
                for k, clip in enumerate(clips):
                    partners = {"true": (clip.references, encode_clip(model, clip), np.nan)}
                    for how, batch in made.items():
                        partners[KINDS[how]] = tuple(part[k] for part in batch)
                    other = _from_another_song(test, first + k)
                    if other is not None:
                        level = level_gain(other.mixture) / level_gain(clip.mixture)
                        mixed = other.references * level
                        mixed[kept] = clip.references[kept]
                        partners["shuffled"] = (mixed, encode_clip(model, other), np.nan)
                    example = clip.name if first + k in chosen else ""
                    for kind, (wavs, latents, change) in partners.items():
                        if kind != "true":
                            scaled = parts(wavs * level_gain(clip.mixture), model)
                            heard = {t: scaled[t] for t in ("mixture", others(model, kept))}
                            sounds.add(f"{kind}, given {name}", clip.track, heard)
                        if example and kind in ("true", KINDS[settings.keep[0]]):
                            rate, title = int(model.sample_rate), kind.split()[0]
                            _write(folder / EXAMPLES / clip.name / name, title, kept, wavs, rate)
                        line = {"kept": name, "partner": kind, "example": example}
                        line |= _measure(model, clip, kept, wavs, latents)
                        yield {**line, "kept_mse": float(change)}
                    bar.update()


def _generate(
    model: UCRSeparator,
    clips: Sequence[Clip],
    kept: int,
    how: str,
    settings: GenerationConfig,
    first: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Stems at the clips' levels, latents, and the change of what was kept, for each clip.

    Kept as "audio", a stem is encoded alone, as users give it. Kept as "latents", it is what the
    encoder says of it in the mixture, as in the paper's experiment 3.
    """
    stem = torch.stack([clip.references[kept] for clip in clips])
    given = stem
    if how == "latents":
        given = torch.stack([encode_clip(model, clip)[kept] for clip in clips])
    seed = settings.seed + first
    plan = model.generator.plan(clips[0].seconds, {model.sources[kept]: given})
    z = model.generator.sample(plan, settings.steps, seed)
    stems = model.generator.render(plan, z, seed=seed)
    if how == "latents":
        stems = stems / torch.stack([level_gain(clip.mixture) for clip in clips])[:, None]
        stems[:, kept] = stem
    return stems, z.cpu(), (z[:, kept] - plan.latents[:, kept]).square().mean((1, 2))


@torch.no_grad()
def encode_clip(model: UCRSeparator, clip: Clip) -> Tensor:
    """Component latents of a clip's mixture, `(n_src, latent_dim, frames)`."""
    return model.encode(clip.mixture[None].to(model.device))[0].cpu()


def standardised(model: UCRSeparator, z: Tensor) -> Tensor:
    """Component latents in the order of sources to zero mean and unit variance."""
    return model.prior.standardise(z.to(model.device)).cpu()


def _measure(model: UCRSeparator, clip: Clip, kept: int, wavs: Tensor, z: Tensor) -> dict[str, Any]:
    """Fit of a partner to the kept stem, and distance to the true partner, of one clip."""
    stem, partner = clip.references[kept], wavs.sum(0) - wavs[kept]
    true = clip.references.sum(0) - stem
    line = {"track": clip.track, "clip": clip.name, **dict.fromkeys(MEASURES, np.nan)}
    line["silent"] = bool(silent(torch.stack([stem, true])).any())
    if line["silent"]:
        return line  # there is nothing to fit to, or nothing that a true partner would have played
    rate = int(model.sample_rate)
    line["onset"] = onset_correlation(stem, partner, rate)
    line["chroma"] = chroma_agreement(stem, partner, rate)
    rest = [k for k in range(model.n_src) if k != kept]
    latents = [standardised(model, x)[rest] for x in (z, encode_clip(model, clip))]
    line["component_mse"] = float((latents[0] - latents[1]).square().mean())
    pair = torch.stack([partner, true])[:, None] * level_gain(clip.mixture)
    coded = model.decomposition.standardise(model.codec.encode(pair.to(model.device)))
    line["codec_mse"] = float((coded[0] - coded[1]).square().mean())
    return line


def _from_another_song(test: Sequence[Clip], index: int) -> Clip | None:
    """The next clip of another track, if possible one in which all sources sound."""
    following = [*test[index + 1 :], *test[:index]]
    foreign = [clip for clip in following if clip.track != test[index].track]
    sounding = [clip for clip in foreign if not bool(silent(clip.references).any())]
    return next(iter(sounding or foreign), None)


def _examples(test: Sequence[Clip], count: int) -> set[int]:
    """The first clip of each of `count` tracks in which all sources sound."""
    chosen: dict[str, int] = {}
    for number, clip in enumerate(test):
        if clip.track not in chosen and not bool(silent(clip.references).any()):
            chosen[clip.track] = number
    return set(list(chosen.values())[:count])


def _write(place: Path, kind: str, kept: int, wavs: Tensor, rate: int) -> None:
    if kind == "true":
        write_audio(place / "kept.wav", wavs[kept], rate)
    write_audio(place / f"{kind}.wav", wavs.sum(0) - wavs[kept], rate)
    write_audio(place / f"mix_{kind}.wav", wavs.sum(0), rate)


def summarise_fit(lines: pd.DataFrame) -> list[dict[str, Any]]:
    """Means and intervals of the measures by kept source and kind, and paired differences."""
    lines = lines.assign(run=0)
    entries = []
    for (kept, kind), part in lines.groupby(["kept", "partner"], sort=False):
        figures = {name: summarise(part, name).to_dict() for name in MEASURES}
        entries.append({"kept": kept, "partner": kind, **figures})
    for kept, part in lines.groupby("kept", sort=False):
        kinds = {kind: own.set_index("clip") for kind, own in part.groupby("partner")}
        if "shuffled" not in kinds:
            continue
        for kind in [kind for kind in ("true", *KINDS.values()) if kind in kinds]:
            paired = kinds[kind].copy()
            names = list(MEASURES)
            paired[names] = kinds[kind][names] - kinds["shuffled"][names]
            paired = paired.reset_index()
            figures = {name: summarise(paired, name).to_dict() for name in MEASURES}
            entries.append({"kept": kept, "partner": f"{kind} − shuffled", **figures})
    return entries
