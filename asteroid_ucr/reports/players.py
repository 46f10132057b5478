"""Audio players of the report page, with spectrograms and scores."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from torch import Tensor

from asteroid_ucr.reports import figures
from asteroid_ucr.reports.tables import Cell
from asteroid_ucr.utils.audio import read_audio


def players(
    folder: Path,
    names: Mapping[str, str],
    top_db: float | None = None,
    scores: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Makes players of the sounds in a folder, from their titles by file name without ".wav".

    Args:
        folder: Folder of the sounds.
        names: Title of each sound.
        top_db: Level of the brightest colour; None takes the loudest of these sounds.
        scores: SI-SDR in dB of the sounds that have a score.

    Returns:
        For each sound `name`, `audio` and `image` as data URIs, and `score` as text.
    """
    sounds = {name: read_audio(folder / f"{name}.wav", mono=True) for name in names}
    if top_db is None:
        top_db = max(loudest(wav[0], rate) for wav, rate in sounds.values())
    found = []
    for name, (wav, rate) in sounds.items():
        score = (scores or {}).get(name, np.nan)
        found.append(
            {
                "name": names[name],
                "audio": audio_uri(wav[0], rate),
                "image": figures.spectrogram_image(wav[0], rate, top_db),
                "score": f"{Cell(score)} dB" if np.isfinite(score) else "",
            }
        )
    return found


def loudest(wav: Tensor, sample_rate: int) -> float:
    """Highest level of the spectrogram of a waveform `(time,)`, in dB."""
    return float(figures.log_spectrogram(wav, sample_rate).max())


def audio_uri(wav: Tensor, sample_rate: int) -> str:
    """A waveform `(time,)` as a data URI: MP3, or FLAC where libsndfile cannot write MP3."""
    kind, how = "flac", {}
    if "MP3" in soundfile.available_formats():
        # About 90 kbit/s for mono at 24 kHz, so that the coding adds no audible artefacts.
        kind, how = "mp3", {"bitrate_mode": "CONSTANT", "compression_level": 0.45}
    buffer = io.BytesIO()
    soundfile.write(buffer, wav.clamp(-1, 1).numpy(), sample_rate, format=kind, **how)
    return figures.data_uri("audio/mpeg" if kind == "mp3" else "audio/flac", buffer)
