"""Generates files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from asteroid_ucr.generator import STEPS, put_into, source_number
from asteroid_ucr.masking import downmix
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import refuse_inputs
from asteroid_ucr.utils.audio import (
    level_gain,
    read_audio,
    resample,
    without_offset,
    write_audio,
)
from asteroid_ucr.utils.errors import UserError, check_positive
from asteroid_ucr.utils.stems import MARK

SECONDS = 10.0  # default length, if no input has a length
BATCH = 8  # number of items generated together


def generate_files(
    model: UCRSeparator,
    out: str | Path,
    seconds: float | None = None,
    keep: Sequence[str] = (),
    mixture: str | Path | None = None,
    strength: float | None = None,
    count: int = 1,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = 1.0,
    render_steps: int | None = None,
    inpaint: Sequence[str] = (),
) -> list[Path]:
    """Writes `out/SEED/<source>.wav` and `out/SEED/mix.wav` for each of `count` seeds.

    The files have the sample rate and the channels of the stems to keep, of which the largest
    counts. Generated sources are mono, and the same in all channels.

    Args:
        model: Model with a prior, on the device to use.
        out: Folder; created if needed.
        seconds: Length in seconds; None takes that of the files, or 10 s.
        keep: "SOURCE=FILE" keeps a stem unchanged; "SOURCE" keeps this component of the mixture.
        mixture: File whose components are kept, or which is varied.
        strength: Strength of a variation of the mixture; see `UCRSeparator.generate`.
        count: Number of items.
        seed: Seed of the first item; the next items have the next seeds.
        steps: Steps of the prior's sampler.
        guidance: Weight of what is kept; see `UCRSeparator.generate`.
        render_steps: Steps of the denoiser's sampler; None takes the model's setting.
        inpaint: "SOURCE=FROM-TO" makes this part, in seconds, of a stem that is kept anew.

    Returns:
        The folders, in the order of the seeds.

    Raises:
        UserError: If an option is not valid, or a file cannot be read or written.
    """
    check_positive(count=count)
    home = int(model.sample_rate)
    whole = None if mixture is None else read_audio(mixture, home, mono=True)[0][0]
    kept: dict[str, Tensor] = {}
    components = None  # of the mixture
    given_stems: dict[str, tuple[Tensor, int]] = {}
    for item in keep:
        name, given, file = item.partition("=")
        number = source_number(model.sources, name)
        if name in kept:
            raise UserError(f"{name} is kept twice: give one --keep for each source.")
        if given:
            given_stems[name] = read_audio(file)
            wav, own = given_stems[name]
            kept[name] = resample(downmix(wav[None], own)[0, 0], own, home)
        elif whole is None:
            raise UserError(f"--keep {name} needs a --mixture: give one, or {name}=FILE.")
        else:
            if components is None:
                levelled = level_gain(whole) * without_offset(whole)
                with torch.no_grad():
                    components = model.latents.of_mixture(levelled[None].to(model.device))
            kept[name] = components[:, number]
    from_files = ["=" in item for item in keep]
    if whole is not None and strength is None and all(from_files):
        raise UserError("A mixture alone has no effect: give a strength, or a source to keep.")
    if seconds is None:
        audio = [whole] if whole is not None else list(kept.values())
        seconds = audio[0].shape[-1] / model.sample_rate if audio else SECONDS
    # If only latents are kept, which have no level, the result gets the level of their mixture.
    only_latents = whole is not None and strength is None and not any(from_files)
    level = 1 / float(level_gain(whole)) if only_latents else 1.0

    spans = dict(_span(item) for item in inpaint)
    rate = max((r for _, r in given_stems.values()), default=home)
    channels = max((len(wav) for wav, _ in given_stems.values()), default=1)

    folders = [Path(out) / f"{number:05d}" for number in range(seed, seed + count)]
    names = [*model.sources, "mix"]
    refuse_inputs(
        [folder / f"{name}.wav" for folder in folders for name in names],
        [*filter(None, (item.partition("=")[2] for item in keep)), *([mixture] if mixture else [])],
    )
    left = iter(folders)
    with tqdm(total=count, unit="item", disable=None) as bar:
        for first in range(0, count, BATCH):
            stems = level * model.generate(
                seconds,
                kept,
                mixture=None if strength is None else whole,
                strength=strength,
                steps=steps,
                guidance=guidance,
                render_steps=render_steps,
                seed=seed + first,
                batch=min(BATCH, count - first),
                inpaint=spans,
            )
            for item in stems:
                folder = next(left)
                wide = dict(zip(model.sources, resample(item, home, rate), strict=True))
                for name, (wav, own) in given_stems.items():
                    wav, span = resample(wav, own, rate), spans.get(name, (0.0, 0.0))
                    wide[name] = put_into(wav, wide[name][: wav.shape[-1]], span, rate)
                length = min(wav.shape[-1] for wav in wide.values())
                cut = [wav.expand(channels, -1)[:, :length] for wav in wide.values()]
                for name, wav in zip(names, [*cut, sum(cut)], strict=True):
                    # With floats, kept stems are unchanged and the mixture does not clip.
                    comment = "" if name == "mix" else f"{MARK}with a prior"
                    write_audio(folder / f"{name}.wav", wav, rate, "FLOAT", comment)
                bar.update()
    return folders


def _span(item: str) -> tuple[str, tuple[float, float]]:
    """A source's name, and the first and last second of "SOURCE=FROM-TO"."""
    name, _, span = item.partition("=")
    first, _, last = span.partition("-")
    try:
        return name, (float(first), float(last))
    except ValueError:
        raise UserError(f"--inpaint {item} is not SOURCE=FROM-TO, such as bass=4-8.") from None
