"""Examines a Slakh tree and reports everything in it that would spoil training or scores."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile as sf
from tqdm import tqdm

from asteroid_ucr.data import slakh
from asteroid_ucr.data.listen import MOST_SEMITONES, Sound, hear
from asteroid_ucr.data.tracks import SPLITS, Stem, Track
from asteroid_ucr.utils.errors import UserError

# Kind of fault -> what it means and what happens to it. The order is the report's order.
KINDS = {
    "not_slakh": "the folder is not a Slakh tree",
    "split_missing": "splits that are missing",
    "split_empty": "splits without tracks",
    "split_count": "splits with more or fewer tracks than the published ones",
    "metadata_missing": "tracks without metadata.yaml: skipped",
    "metadata_invalid": "tracks whose metadata.yaml cannot be used: skipped",
    "stem_missing": "stems declared as rendered whose file is missing: skipped",
    "stem_undeclared": "stems that exist although the metadata say they do not: used",
    "stem_unlisted": "audio files in stems/ that the metadata do not list: not used",
    "stem_unreadable": "stems that are not readable audio: skipped",
    "stem_empty": "stems with a length of zero: skipped",
    "stem_silent": "stems that are silent throughout",
    "stem_clipped": "stems that clip (four or more neighbouring samples at full scale)",
    "stem_out_of_tune": "stems more than half a semitone away from their MIDI notes",
    "length_differs": "tracks whose stems or mix differ in length: cropped to the shortest",
    "rate_differs": "files whose sample rate differs from most others: resampled",
    "no_stems": "tracks without any usable stem: skipped",
    "mix_missing": "tracks without mix.flac or mix.wav (the stems' sum is used anyway)",
    "mix_unreadable": "tracks whose mix is not readable audio (the stems' sum is used anyway)",
    "shared_midi": "tracks made from the same MIDI file as a track of another split",
}
KNOWN_COUNTS = {
    "redux": {"train": 1289, "validation": 270, "test": 151},
    "original": {"train": 1500, "validation": 375, "test": 225},
}


@dataclass(frozen=True)
class Fault:
    """One finding."""

    track: str  # "split/TrackNNNNN", the name of a split, or "" for the whole tree
    stem: str  # id of the stem or "mix", or "" where the finding concerns the track
    kind: str  # a key of `KINDS`
    detail: str


@dataclass
class Diagnosis:
    """All findings about a tree."""

    root: Path
    faults: list[Fault] = field(default_factory=list)  # in the order of `KINDS`, then by track
    tracks_per_split: dict[str, int] = field(default_factory=dict)
    tracks: list[Track] = field(default_factory=list)  # those with readable metadata
    edition: str = "none"  # "redux", "original", "BabySlakh or other flat tree" or "unknown"
    listened: bool = False  # whether the audio was read
    # By track and stem, which is "mix" for the mix; headers are those of soundfile.
    sounds: dict[tuple[str, str], Sound] = field(default_factory=dict)
    headers: dict[tuple[str, str], Any] = field(default_factory=dict)

    def add(self, kind: str, track: str, stem: str, detail: str) -> None:
        """Adds a fault."""
        self.faults.append(Fault(track, stem, kind, detail))

    def counts(self) -> dict[str, int]:
        """Number of faults by kind, in the order of the report, without empty kinds."""
        found = Counter(fault.kind for fault in self.faults)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def lines(self, examples: int = 5) -> list[str]:
        """The report as text: the tree, then each kind of fault with its count and examples."""
        splits = ", ".join(f"{name} {count}" for name, count in self.tracks_per_split.items())
        report = [f"{self.root}: edition {self.edition}; tracks: {splits or 'none'}"]
        stems = Counter(s for track in self.tracks for s in track.sources)
        if stems:
            report.append("tracks with: " + ", ".join(f"{s} {n}" for s, n in stems.most_common()))
        for kind, count in self.counts().items():
            report.append(f"{count} x {kind}: {KINDS[kind]}")
            found = [fault for fault in self.faults if fault.kind == kind]
            for fault in found[:examples]:
                where = " ".join(part for part in (fault.track, fault.stem) if part)
                report.append(f"    {where + ': ' if where else ''}{fault.detail}")
            if count > examples:
                report.append(f"    … and {count - examples} more")
        if not self.faults:
            report.append("no faults found")
        if self.listened:
            report += self._levels()
        else:
            report.append("stems were not listened to: silence, clipping and tuning are unknown")
        return report

    def _levels(self) -> list[str]:
        """One line per source: number of stems, level and tuning."""
        rows = [
            (stem.source, sound.rms, sound.offset)
            for track in self.tracks
            for stem in track.stems
            if (sound := self.sounds.get((f"{track.split}/{track.name}", stem.id)))
            and np.isfinite(sound.rms)
        ]
        lines = []
        for source, group in pd.DataFrame(rows, columns=["source", "rms", "off"]).groupby("source"):
            level = f"{group.rms.mean():.1f} ± {group.rms.std(ddof=0):.1f} dBFS"
            span = f"{group.rms.min():.1f} to {group.rms.max():.1f}"
            tuned = group.off.dropna()
            within = int((tuned.abs() <= MOST_SEMITONES).sum())
            tuning = f"; in tune {within} of {len(tuned)} measured" if len(tuned) else ""
            count = f"{len(group)} stem{'s' * (len(group) > 1)}"
            lines.append(f"{source}: {count}, level {level} ({span}){tuning}")
        return lines


def examine(
    root: str | Path, listen: bool = True, workers: int = 8, progress: bool = False
) -> Diagnosis:
    """Finds the faults of a Slakh tree; a folder that is not one has the fault "not_slakh".

    Args:
        root: Folder of the tree.
        listen: Also read every stem, to find damage, silence, clipping and stems that are out of
            tune with their MIDI, and to measure levels; otherwise only headers are read.
        workers: Threads that read files.
        progress: Whether to show a progress bar.

    Raises:
        UserError: If `root` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder of a Slakh2100 tree.")
    result = Diagnosis(root, listened=listen)
    try:
        splits = slakh.find_splits(root)
    except UserError as error:
        result.add("not_slakh", "", "", str(error))
        return result
    result.tracks_per_split = {name: len(folders) for name, folders in splits.items()}
    result.edition = _edition(root, result.tracks_per_split)
    if any((root / name).is_dir() for name in slakh.SPLIT_FOLDERS):
        _examine_splits(result)
    jobs = [(folder, split) for split, folders in splits.items() for folder in folders]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        done = pool.map(lambda job: _examine_track(*job, listen), jobs)
        for found in tqdm(done, "examining", len(jobs), unit="track", disable=not progress):
            result.faults += found.faults
            result.tracks += found.tracks
            result.sounds |= found.sounds
            result.headers |= found.headers
    _examine_rates(result)
    _examine_sharing(splits, result)
    order = list(KINDS)
    result.faults.sort(key=lambda fault: (order.index(fault.kind), fault.track, fault.stem))
    return result


def _edition(root: Path, counts: dict[str, int]) -> str:
    """Which edition of Slakh a tree is, by its folders, its name and its number of tracks."""
    name = root.resolve().name.lower()
    known = {split: counts.get(split, 0) for split in SPLITS}
    if not any((root / split).is_dir() for split in slakh.SPLIT_FOLDERS):
        return "BabySlakh or other flat tree"
    if "redux" in name or "omitted" in counts or known == KNOWN_COUNTS["redux"]:
        return "redux"
    return "original" if "orig" in name or known == KNOWN_COUNTS["original"] else "unknown"


def _examine_splits(result: Diagnosis) -> None:
    """Adds the splits that are missing, empty, or not of the published size."""
    for split in SPLITS:
        count = result.tracks_per_split.get(split)
        if count is None:
            result.add("split_missing", split, "", f"no folder {split}")
            continue
        if count == 0:
            result.add("split_empty", split, "", f"no TrackNNNNN folder in {split}")
        known = KNOWN_COUNTS.get(result.edition, {}).get(split, count)
        if count != known:
            detail = f"{count} tracks where the {result.edition} edition has {known}"
            result.add("split_count", split, "", detail)


def _examine_track(folder: Path, split: str, listen: bool) -> Diagnosis:
    """Examines the metadata and the files of one track."""
    found, name = Diagnosis(folder), f"{split}/{folder.name}"
    try:
        track = slakh.read_track(folder, split)
    except UserError as error:
        missing = not (folder / "metadata.yaml").exists()
        found.add("metadata_missing" if missing else "metadata_invalid", name, "", str(error))
        return found
    found.tracks.append(track)
    for stem in track.stems:
        path = slakh.stem_file(folder, stem.id)
        if path is not None:
            _examine_stem(found, name, stem, path, listen)
        elif stem.declared:
            detail = f"{stem.inst_class}: no stems/{stem.id}.flac or .wav"
            found.add("stem_missing", name, stem.id, detail)
    listed = {stem.id for stem in track.stems}
    for path in sorted((folder / "stems").glob("*")):
        if path.suffix in (".flac", ".wav") and path.stem not in listed:
            found.add("stem_unlisted", name, path.stem, f"stems/{path.name} has no metadata")
    if not found.headers:
        found.add("no_stems", name, "", "no stem that can be read")
    mix = next((p for p in (folder / "mix.flac", folder / "mix.wav") if p.is_file()), None)
    if mix is None:
        found.add("mix_missing", name, "mix", "no mix.flac or mix.wav")
    else:
        _read_header(found, name, "mix", mix)
    if len({round(header.duration, 4) for header in found.headers.values()}) > 1:
        lengths = [f"{stem} {info.duration:.3f} s" for (_, stem), info in found.headers.items()]
        found.add("length_differs", name, "", ", ".join(lengths))
    return found


def _read_header(found: Diagnosis, track: str, stem: str, path: Path) -> None:
    """Reads the header of a stem or of the mix, or adds the fault that it has."""
    prefix, empty = ("mix", "mix_unreadable") if stem == "mix" else ("stem", "stem_empty")
    try:
        header = sf.info(path)
    except sf.LibsndfileError as error:
        found.add(f"{prefix}_unreadable", track, stem, f"{path.name}: {error.error_string}")
        return
    if header.frames:
        found.headers[track, stem] = header
    else:
        found.add(empty, track, stem, f"{path.name} holds no samples")


def _examine_stem(found: Diagnosis, track: str, stem: Stem, path: Path, listen: bool) -> None:
    """Examines one stem: its declaration, its header and, when listening, its sound."""
    about = f"{stem.inst_class}: {path.name}"
    if not stem.declared:
        detail = f"{stem.inst_class}: audio_rendered is false, {path.name} is there"
        found.add("stem_undeclared", track, stem.id, detail)
    _read_header(found, track, stem.id, path)
    if not listen or (track, stem.id) not in found.headers:
        return
    midi = None if stem.is_drum else path.parents[1] / "MIDI" / f"{stem.id}.mid"
    sound = found.sounds[track, stem.id] = hear(path, midi)
    if sound.damage:
        found.add("stem_unreadable", track, stem.id, f"{about} {sound.damage}")
    elif not np.isfinite(sound.rms):
        found.add("stem_silent", track, stem.id, f"{about} is silent")
    if sound.clipped:
        detail = f"{about} reaches full scale {sound.clipped} times"
        found.add("stem_clipped", track, stem.id, detail)
    if abs(sound.offset) > MOST_SEMITONES:
        detail = f"{about} is {sound.offset:+.1f} semitones off its MIDI"
        found.add("stem_out_of_tune", track, stem.id, detail)


def _examine_rates(result: Diagnosis) -> None:
    """Adds the files whose sample rate is not the most common one."""
    rates = Counter(header.samplerate for header in result.headers.values())
    usual = rates.most_common(1)[0][0] if rates else 0
    for (track, stem), header in result.headers.items():
        if header.samplerate != usual:
            detail = f"{header.samplerate} Hz where most have {usual} Hz"
            result.add("rate_differs", track, stem, detail)


def _examine_sharing(splits: dict[str, list[Path]], result: Diagnosis) -> None:
    """Adds the tracks that share their MIDI file with a track of an earlier split."""
    uuids = {s: slakh.read_uuids(splits[s]) for s in SPLITS if s in splits}
    for first, second in combinations(uuids, 2):
        shared = [u for u in uuids[second] if u in uuids[first]]
        pairs = [(uuid, name) for uuid in shared for name in uuids[second][uuid]]
        for uuid, name in pairs:
            detail = f"the same MIDI file ({uuid}) as {first}/{uuids[first][uuid][0]}"
            result.add("shared_midi", f"{second}/{name}", "", detail)
