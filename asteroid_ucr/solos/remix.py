"""Bootstrapped remixing: the next model learns from sums of a model's own estimates.

Solos are short, and few sounds are ever heard alone. A model that was trained on them separates all
mixtures, though not well. Sums of its estimates from different songs, with changed sounds and
levels, are mixtures whose components are known. The next model learns to separate these sums and
becomes better than its teacher, because the teacher's errors differ from song to song (RemixIT,
Tzinis et al. 2022, here with a fixed teacher; Self-Remixing, Saijo & Ogawa 2023).

Where a teacher is wrong, its estimates resemble each other. Half of the passages of each instrument
are left out: those that overlap most with the other estimates of their mixture.
"""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import torch
from tqdm import tqdm

from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.tracks import Track, read_sources
from asteroid_ucr.masking import MASK_HOP, MASK_RATE, stft
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.solos.find import Kind, one_kind_each
from asteroid_ucr.solos.library import Passage, write_passage
from asteroid_ucr.utils.atomic import make_folder, write_json
from asteroid_ucr.utils.audio import level_gain, read_audio
from asteroid_ucr.utils.errors import UserError

RECORD = "estimates.json"
PASSAGE = 300  # frames, 4 s


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
    """Separates training mixtures, and writes a folder of estimates.

    Songs with stems or known instruments give mixtures of two instruments each. Each is used in one
    kind of mixture only, as in `find_solos`. Songs that are mixed already and may hold all of the
    model's instruments are used as they are. The folder has the layout of a folder of solos,
    `DIR/<instrument>/<track>_<first frame>.flac`, with passages of 4 s. An interrupted call
    continues where it stopped.

    Args:
        path: Folder to write.
        model: Model that separates the instruments, on any device.
        teacher: Name of the model, for the record.
        root: Data set; see `load_tracks`.
        mix: Policy by which the mixtures are mixed.
        allow_shared_midi: See `load_tracks`.
        progress: Whether to show a progress bar.

    Raises:
        UserError: If the folder holds another teacher's estimates, no song has the instruments, a
            track cannot be read, or no song is as long as a passage.
    """
    folder, facts = make_folder(path), {"teacher": teacher, "dataset": str(root), "mix": mix}
    record = folder / RECORD
    if record.is_file() and json.loads(record.read_text(encoding="utf-8")) != facts:
        raise UserError(f"{folder} holds other estimates: remove it, or name another folder.")
    write_json(record, facts)
    whole = folder / "whole"
    if not whole.is_dir() and any(folder.glob("*/*.flac")):
        return
    songs = load_tracks(root, "train", allow_shared_midi)
    whole_songs = {t.name: t for t in songs if t.mixture is not None and t.has(model.sources)}
    tracks: dict[Kind, dict[str, Track]] = {
        kind: {t.name: t for t in songs if t.has(kind) and t.name not in whole_songs}
        for kind in combinations(model.sources, 2)
    }
    tracks[tuple(model.sources)] = tracks.get(tuple(model.sources), {}) | whole_songs
    if not any(tracks.values()):
        raise UserError(
            f"No training song of {root} is known to hold two of {', '.join(model.sources)}: run "
            f"asteroid-ucr doctor {root} to see why."
        )
    for kind, names in one_kind_each(tracks).items():
        separator = model.select(kind).eval()
        for name in tqdm(names, "-".join(kind), unit="song", disable=not progress):
            track = tracks[kind][name]
            files = [whole / source / f"{name}.flac" for source in kind]
            if all(file.is_file() for file in files):
                continue
            mixture = read_sources(track, kind, MASK_RATE, mix).mixture
            mixture = (mixture * level_gain(mixture)).to(separator.device)
            for file, estimate in zip(files, separator(mixture), strict=True):
                write_passage(file, estimate)
    _keep_clean_passages(whole, folder, progress)
    shutil.rmtree(whole)


def _keep_clean_passages(whole: Path, folder: Path, progress: bool) -> None:
    """Cuts estimates of whole songs into passages, and writes the cleaner half of them."""
    length = PASSAGE * MASK_HOP
    songs: dict[str, list[Path]] = {}
    for file in sorted(whole.glob("*/*.flac")):
        songs.setdefault(file.name, []).append(file)
    overlaps: dict[str, list[tuple[float, Path, int]]] = {}
    for files in tqdm(songs.values(), "passages", unit="song", disable=not progress):
        estimates = torch.stack([read_audio(file)[0][0] for file in files])
        for number in range(estimates.shape[1] // length):
            levels = stft(estimates[:, number * length : (number + 1) * length]).abs()
            total = levels.sum(0)
            for file, level in zip(files, levels, strict=True):
                shared = (level * (total - level)).sum()
                overlap = float(shared / level.square().sum().clamp(min=1e-9))
                overlaps.setdefault(file.parent.name, []).append((overlap, file, number * PASSAGE))
    if not overlaps:
        raise UserError("All songs are shorter than 4 s: estimates need longer ones.")
    for source, passages in overlaps.items():
        for _, file, start in sorted(passages)[: -(-len(passages) // 2)]:
            samples = Passage(file, length).read(start * MASK_HOP, length)
            write_passage(folder / source / f"{file.stem}_{start}.flac", torch.from_numpy(samples))
