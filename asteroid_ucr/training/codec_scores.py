"""Scores of a codec's round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from asteroid_ucr.audio import level_gain, read_audio
from asteroid_ucr.codecs import MelCodec
from asteroid_ucr.data.slakh import load_tracks, read_sources
from asteroid_ucr.errors import UserError
from asteroid_ucr.evaluation.scores import (
    LSD_RANGE_DB,
    log_spectral_distance,
    si_sdr_matrix,
    silent,
)
from asteroid_ucr.masking import stft

RATE = 24_000
RoundTrip = Callable[[Tensor], Tensor]


class Clip(NamedTuple):
    """A sound to score: its track, "mixture" or the source's name, and `(time,)`.

    Mixtures are at the level at which models hear them, and sources keep theirs beside it.
    """

    track: str
    source: str
    wav: Tensor


def track_clips(root: str | Path, sources: tuple[str, ...], seconds: float = 7.0) -> list[Clip]:
    """One clip from the middle of each test track: the mixture and its sources.

    Args:
        root: of a Slakh tree.
        sources: that make up the mixtures.
        seconds: length of a clip.
    """
    clips: list[Clip] = []
    for track in load_tracks(root, "test", sources=sources):
        audio = read_sources(track, sources, RATE)
        length = min(round(seconds * RATE), len(audio.mixture))
        start = (len(audio.mixture) - length) // 2
        gain = level_gain(audio.mixture[start : start + length])
        clips.append(Clip(track.name, "mixture", gain * audio.mixture[start : start + length]))
        for name, wav in zip(sources, audio.references, strict=True):
            clips.append(Clip(track.name, name, gain * wav[start : start + length]))
    return clips


def folder_clips(folder: str | Path) -> list[Clip]:
    """Clips of a folder: `*/mix.wav` with the stems beside it, and lone mixtures `mixtures/*.wav`.

    Files whose name has an underscore, such as `drums_paper.wav`, are estimates and left out.

    Raises:
        UserError: if there are none.
    """
    clips: list[Clip] = []
    for path in sorted(Path(folder).glob("*/mix.wav")):
        track, mixture = path.parent.name, read_audio(path, RATE, mono=True)[0][0]
        gain = level_gain(mixture)
        clips.append(Clip(track, "mixture", gain * mixture))
        for stem in sorted(path.parent.glob("*.wav")):
            if stem != path and "_" not in stem.name:
                wav = read_audio(stem, RATE, mono=True)[0][0]
                clips.append(Clip(track, stem.stem, gain * wav))
    for path in sorted(Path(folder).glob("mixtures/*.wav")):
        mixture = read_audio(path, RATE, mono=True)[0][0]
        clips.append(Clip(f"mixtures/{path.stem}", "mixture", level_gain(mixture) * mixture))
    if not clips:
        raise UserError(f"{folder} has no */mix.wav: give a folder of clips with their stems.")
    return clips


def mel_distance(reference: Tensor, estimate: Tensor) -> float:
    """Mean absolute difference of two mel spectrograms, in dB.

    128 bands from 0 to 12 kHz on the grid of `asteroid_ucr.masking`; the floor lies 80 dB below the
    reference's loudest band.

    Args:
        reference: `(time,)` at 24 kHz, not silent.
        estimate: `(time,)`.
    """
    power = [MelCodec().analysis @ stft(w[None]).abs().square()[0] for w in (reference, estimate)]
    floor = power[0].max() * 10 ** (-LSD_RANGE_DB / 10)
    return (10 * torch.log10((power[0] + floor) / (power[1] + floor))).abs().mean().item()


def score(clips: list[Clip], round_trip: RoundTrip) -> Iterator[dict[str, float | str]]:
    """SI-SDR, mel distance and log-spectral distance, in dB, of each clip that is not silent.

    Args:
        clips: from `track_clips` or `folder_clips`.
        round_trip: `(1, 1, time)` to the same.

    Yields:
        `track`, `source`, `si_sdr`, `mel` and `lsd`.
    """
    for track, source, wav in clips:
        if silent(wav):
            continue
        decoded = round_trip(wav[None, None])[0]
        yield {
            "track": track,
            "source": source,
            "si_sdr": si_sdr_matrix(wav[None], decoded).item(),
            "mel": mel_distance(wav, decoded[0]),
            "lsd": log_spectral_distance(wav[None], decoded).item(),
        }
