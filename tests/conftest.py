"""Shared fixtures: a small Slakh tree of real audio, and a small model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

from asteroid_ucr import UCRSeparator
from asteroid_ucr.data.clips import Clip

# Scoring in further processes costs more than it saves in tests.
os.environ["LOKY_MAX_CPU_COUNT"] = "1"

SMALL = {"encoder_widths": (16, 32), "denoiser_widths": (32, 64), "denoiser_kernels": (5, 3)}
SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture
def small_model() -> UCRSeparator:
    torch.manual_seed(0)
    return UCRSeparator(sources=("drums", "bass"), **SMALL).eval()


def make_clip(seed=0, pitch=110.0, sources=("drums", "bass"), seconds=3.0):
    """Clicks against tones that share their low frequencies with the clicks."""
    time = torch.arange(int(seconds * 24_000)) / 24_000
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(seed))
    waves = [noise * torch.exp(-25 * (time % 0.5)) * 0.3]
    for k in range(1, len(sources)):
        waves.append(sum(torch.sin(2 * torch.pi * pitch * k * h * time) / h for h in (1, 2, 3)) / 9)
    references = torch.stack(waves)
    return Clip(f"c{seed}", f"c{seed}", references.sum(0), references, tuple(sources))


def write_track(folder: Path, seconds: float, seed: int, rate: int = 44_100) -> None:
    """A Slakh track with drums (decaying noise bursts) and bass (a gliding sawtooth)."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    beat = generator.uniform(0.3, 0.6)
    drums = 0.3 * generator.standard_normal(len(time)) * np.exp(-12 * (time % beat))
    pitch = generator.uniform(45, 90) * (1 + 0.3 * np.sin(2 * np.pi * 0.2 * time))
    bass = 0.2 * (2 * (np.cumsum(pitch) / rate % 1) - 1)
    (folder / "stems").mkdir(parents=True)
    stems = {}
    for number, (name, wav, program) in enumerate([("Drums", drums, 128), ("Bass", bass, 33)]):
        sf.write(folder / "stems" / f"S{number:02d}.flac", wav, rate)
        stems[f"S{number:02d}"] = {
            "inst_class": name,
            "audio_rendered": True,
            "is_drum": name == "Drums",
            "program_num": program,
        }
    sf.write(folder / "mix.flac", drums + bass, rate)
    metadata = {"UUID": f"{seed:032x}", "stems": stems}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))


@pytest.fixture(scope="session")
def slakh_tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tree") / "tiny_slakh"
    splits = {"train": 3, "validation": 2, "test": 2}
    number = 0
    for split, tracks in splits.items():
        for _ in range(tracks):
            number += 1
            write_track(root / split / f"Track{number:05d}", seconds=6.0, seed=number)
    return root
