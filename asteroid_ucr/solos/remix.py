"""Bootstrapped remixing: the next model learns from sums of a model's own estimates.

Solos are short, and of the few sounds that are ever heard alone. A model that learnt from them
separates all mixtures, if not well; sums of its estimates, of different songs and with new sounds
and levels, are mixtures whose components are known. The next model learns to undo them, and is
better than its teacher, since the teacher's errors do not agree from song to song (RemixIT, Tzinis
et al. 2022, here with a fixed teacher; Self-Remixing, Saijo & Ogawa 2023).
"""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import torch
from tqdm import tqdm

from asteroid_ucr.data.slakh import load_tracks, read_sources
from asteroid_ucr.masking import MASK_RATE
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.atomic import atomic_path, make_folder
from asteroid_ucr.utils.audio import level_gain, write_audio
from asteroid_ucr.utils.errors import UserError

RECORD = "estimates.json"


@torch.no_grad()
def write_estimates(
    path: str | Path,
    model: UCRSeparator,
    teacher: str,
    root: str | Path,
    mix: str = "sum",
    allow_shared_midi: bool = False,
    progress: bool = True,
) -> None:
    """Separates the training mixtures of two instruments each, and writes a folder of estimates.

    Each track is used as one kind of mixture alone, as in `find_solos`. The folder has the layout
    of a folder of solos, `DIR/<instrument>/<track>.flac`, and an interrupted call goes on where it
    stopped.

    Args:
        path: Folder to write.
        model: Model that separates the instruments, on any device.
        teacher: Name of the model, for the record.
        root: Root of the Slakh tree.
        mix: Policy by which the mixtures are mixed.
        allow_shared_midi: See `load_tracks`.
        progress: Whether to show a progress bar.

    Raises:
        UserError: If the folder holds another teacher's estimates, or a track cannot be read.
    """
    kinds = list(combinations(model.sources, 2))
    folder, facts = make_folder(path), {"teacher": teacher, "dataset": str(root), "mix": mix}
    record = folder / RECORD
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")) != facts:
        raise UserError(f"{folder} holds other estimates: remove it, or name another folder.")
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for name in model.sources:
        make_folder(folder / name)
    for place, kind in enumerate(kinds):
        separator = model.select(kind).eval()
        tracks = load_tracks(root, "train", allow_shared_midi, kind)[place :: len(kinds)]
        for track in tqdm(tracks, "-".join(kind), unit="song", disable=not progress):
            files = [folder / name / f"{track.name}.flac" for name in kind]
            if all(file.is_file() for file in files):
                continue
            mixture = read_sources(track, kind, MASK_RATE, mix).mixture
            mixture = (mixture * level_gain(mixture)).to(separator.device)
            for file, estimate in zip(files, separator(mixture), strict=True):
                # Flac holds no more than full scale.
                write_audio(file, estimate / estimate.abs().max().clamp(min=1.0), MASK_RATE)
