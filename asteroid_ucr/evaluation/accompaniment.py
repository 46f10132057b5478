"""Accompaniments of test clips: their fit to the kept stem, and their distance to the truth."""

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
from asteroid_ucr.masking import energy_share, stft
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.audio import level_gain, write_audio

EXAMPLES = "generation_examples"
BATCH = 8  # Number of items that are generated together.
KINDS = {"audio": "generated", "latents": "generated from z"}  # By what is kept.
MEASURES = ["onset", "chroma", "level", "leakage", "component_mse", "codec_mse"]


def parts(stems: Tensor, model: UCRSeparator) -> dict[str, Tensor]:
    """The mixture, each source, and all sources but one, of stems `(n_src, time)`."""
    mixture = stems.sum(0)
    rest = {others(model, kept): mixture - stems[kept] for kept in range(model.n_src)}
    return {"mixture": mixture, **dict(zip(model.sources, stems, strict=True)), **rest}


def others(model: UCRSeparator, kept: int) -> str:
    """Names of all sources but one, which accompany it."""
    return "+".join(name for k, name in enumerate(model.sources) if k != kept)


def standardised(model: UCRSeparator, z: Tensor) -> Tensor:
    """Component latents, scaled to zero mean and unit variance."""
    return model.prior.standardise(z.to(model.device)).cpu()


@torch.no_grad()
def accompany(
    model: UCRSeparator,
    test: Sequence[Clip],
    encoded: Tensor,
    sounds: Sounds,
    settings: GenerationConfig,
    folder: Path,
) -> Iterator[dict[str, Any]]:
    """Generates partners of every source of every test clip, and measures all kinds of them.

    The test clips have one length, and `encoded` are the component latents of their mixtures,
    `(clips, n_src, latent_dim, frames)`. The partners and the mixtures that they make are added to
    `sounds`, and written as audio into `folder` for the first clips.

    Yields:
        A line for each clip, kept source and kind of partner.
    """
    firsts: dict[str, str] = {}  # The first clip of each track in which all sources sound.
    for clip in test:
        if not silent(clip.references).any():
            firsts.setdefault(clip.track, clip.name)
    examples = list(firsts.values())[: settings.examples]
    turns = [(kept, start) for kept in range(model.n_src) for start in range(0, len(test), BATCH)]
    for kept, start in tqdm(turns, "accompaniments", disable=None):
        name, batch = model.sources[kept], slice(start, start + BATCH)
        made = {
            KINDS[how]: _generate(model, test[batch], encoded[batch], kept, how, settings, start)
            for how in settings.keep
        }
        for k, clip in enumerate(test[batch]):
            partners = {"true": (clip.references, encoded[start + k], np.nan)}
            partners |= {kind: tuple(part[k] for part in found) for kind, found in made.items()}
            partners |= _shuffled(test, encoded, start + k, kept)
            example = clip.name if clip.name in examples else ""
            for kind, (wavs, latents, change) in partners.items():
                if kind != "true":
                    scaled = parts(wavs * level_gain(clip.mixture), model)
                    heard = {target: scaled[target] for target in ("mixture", others(model, kept))}
                    sounds.add(f"{kind}, given {name}", clip.track, heard)
                if example and kind in ("true", KINDS[settings.keep[0]]):
                    place = folder / EXAMPLES / clip.name / name
                    _write(place, kind.split()[0], kept, wavs, int(model.sample_rate))
                line = {"kept": name, "partner": kind, "example": example}
                line |= _measure(model, clip, kept, wavs, latents, encoded[start + k])
                yield {**line, "kept_mse": float(change)}


def _generate(
    model: UCRSeparator,
    clips: Sequence[Clip],
    encoded: Tensor,
    kept: int,
    how: str,
    settings: GenerationConfig,
    start: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Stems at the clips' levels, latents, and the change of what was kept, for each clip.

    Kept as "audio", a stem is encoded alone, as users give it. Kept as "latents", it has the
    component latents that the encoder finds in the mixture, as in the paper's experiment 3.
    """
    stem, seed = torch.stack([clip.references[kept] for clip in clips]), settings.seed + start
    given = encoded[:, kept] if how == "latents" else stem
    plan = model.generator.plan(clips[0].seconds, {model.sources[kept]: given})
    z = model.generator.sample(plan, settings.steps, seed, settings.guidance)
    stems = model.generator.render(plan, z, seed=seed)
    if how == "latents":
        stems = stems / torch.stack([level_gain(clip.mixture) for clip in clips])[:, None]
        stems[:, kept] = stem
    return stems, z.cpu(), (z[:, kept] - plan.latents[:, kept]).square().mean((1, 2))


def _shuffled(
    test: Sequence[Clip], encoded: Tensor, index: int, kept: int
) -> dict[str, tuple[Tensor, Tensor, float]]:
    """The partner in the next clip of another track, if possible one with all sources sounding."""
    clip = test[index]
    following = [k % len(test) for k in range(index + 1, index + len(test))]
    foreign = [k for k in following if test[k].track != clip.track]
    if not foreign:
        return {}
    chosen = next((k for k in foreign if not silent(test[k].references).any()), foreign[0])
    gain = level_gain(test[chosen].mixture) / level_gain(clip.mixture)
    wavs = test[chosen].references * gain
    wavs[kept] = clip.references[kept]
    return {"shuffled": (wavs, encoded[chosen], np.nan)}


def _measure(
    model: UCRSeparator, clip: Clip, kept: int, wavs: Tensor, z: Tensor, expected: Tensor
) -> dict[str, Any]:
    """Fit of a partner to the kept stem, and its distance to the true partner, for one clip."""
    stem, partner = clip.references[kept], wavs.sum(0) - wavs[kept]
    true = clip.references.sum(0) - stem
    line = {"track": clip.track, "clip": clip.name, **dict.fromkeys(MEASURES, np.nan)}
    line["silent"] = bool(silent(torch.stack([stem, true])).any())
    if line["silent"]:
        return line  # Without the kept stem or the true partner, there is nothing to compare with.
    rate = int(model.sample_rate)
    line["onset"] = onset_correlation(stem, partner, rate)
    line["chroma"] = chroma_agreement(stem, partner, rate)
    energy = partner.square().sum().clamp(min=1e-6 * true.square().sum())  # -60 dB or more
    line["level"] = 10 * float((energy / true.square().sum()).log10())
    power = stft(partner, rate).abs().square()
    masks = model.masks(partner[None, None].to(model.device))[0].cpu()
    line["leakage"] = float(energy_share(masks, power)[kept])
    rest = [k for k in range(model.n_src) if k != kept]
    difference = standardised(model, z)[rest] - standardised(model, expected)[rest]
    line["component_mse"] = float(difference.square().mean())
    pair = torch.stack([partner, true])[:, None] * level_gain(clip.mixture)
    coded = model.decomposition.standardise(model.codec.encode(pair.to(model.device)))
    line["codec_mse"] = float((coded[0] - coded[1]).square().mean())
    return line


def _write(place: Path, kind: str, kept: int, wavs: Tensor, rate: int) -> None:
    """Writes the partner, the mixture that it makes and, with the true one, the kept stem."""
    if kind == "true":
        write_audio(place / "kept.wav", wavs[kept], rate)
    write_audio(place / f"{kind}.wav", wavs.sum(0) - wavs[kept], rate)
    write_audio(place / f"mix_{kind}.wav", wavs.sum(0), rate)


def summarise_fit(lines: pd.DataFrame) -> list[dict[str, Any]]:
    """Means and intervals of the measures by kept source and kind, and paired differences."""
    lines = lines.assign(run=0).set_index(["kept", "clip"], drop=False).rename_axis([None, None])
    shuffled = lines.loc[lines["partner"] == "shuffled", MEASURES]
    groups = list(lines.groupby(["kept", "partner"], sort=False))
    for (kept, kind), part in list(groups):
        if kind != "shuffled" and not shuffled.empty:
            paired = part.copy()
            paired[MEASURES] -= shuffled.reindex(part.index)
            groups.append(((kept, f"{kind} − shuffled"), paired))
    return [
        {"kept": kept, "partner": kind}
        | {name: summarise(part, name)._asdict() for name in MEASURES}
        for (kept, kind), part in groups
    ]
