"""Reads a folder of audio, or a list of files, as a data set of mixtures.

Folders may be nested. A file is a song; a folder such as `TRACK/{mix,drums,bass}.wav` is a song
with stems, as in MUSDB18. A folder named like `drums+bass` says which instruments all songs in it
have. The folders `train`, `validation` and `test` are splits. Without them, a song's split follows
from a hash of its content, so that adding songs moves none.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import pandas as pd

from asteroid_ucr.data.heard import hear_all, same_audio
from asteroid_ucr.data.tracks import SPLITS, Stem, Track
from asteroid_ucr.utils.audio import AUDIO_SUFFIXES
from asteroid_ucr.utils.errors import UserError

MIXTURES = ("mix", "mixture")
# One of these names beside a mixture makes a folder a song, as do files of these names alone.
STEMS = set("drums bass piano guitar vocals other strings organ synth brass reed pipe".split())
SHARES = {"validation": 0.15, "test": 0.15}  # of songs that are in no folder of a split
_SPLIT_NAMES = {**{name: name for name in SPLITS}, "valid": "validation", "val": "validation"}
_COLUMNS = ["path", "split", "instruments"]  # of a list; all but the first may be left out
_MOST_EXAMPLES = 5


@dataclass(frozen=True)
class Entry:
    """A song before its audio was read."""

    path: Path  # file of the mixture; of a song with stems, its mixture or one of the stems
    where: str  # relative to the data set
    split: str = ""  # "" if it follows from the content
    instruments: tuple[str, ...] = ()
    stems: tuple[Path, ...] = ()


@dataclass
class Survey:
    """What a folder holds."""

    root: Path
    tracks: dict[str, list[Track]] = field(default_factory=dict)  # by split
    left_out: list[tuple[str, str, str]] = field(default_factory=list)  # kind, song, detail
    seconds: float = 0.0  # of all tracks

    def lines(self) -> list[str]:
        """The survey as text: splits, instruments, and what is left out with its number."""
        tracks = [track for split in self.tracks.values() for track in split]
        splits = ", ".join(f"{name} {len(found)}" for name, found in self.tracks.items())
        report = [f"{self.root}: {len(tracks)} songs, {self.seconds / 60:.1f} min; {splits}"]
        named = Counter("+".join(t.instruments) for t in tracks if t.instruments)
        if stems := sum(track.mixture is None for track in tracks):
            report.append(f"{stems} songs with stems")
        report += [f"{count} songs of {name}" for name, count in named.most_common()]
        if named and (unknown := len(tracks) - stems - named.total()):
            report.append(
                f"{unknown} songs of unknown instruments, which are not used beside these"
            )
        for kind, count in Counter(kind for kind, *_ in self.left_out).items():
            report.append(f"left out: {count} x {kind}")
            found = [(song, text) for other, song, text in self.left_out if other == kind]
            report += [f"    {song}: {text}" for song, text in found[:_MOST_EXAMPLES]]
            if count > _MOST_EXAMPLES:
                report.append(f"    … and {count - _MOST_EXAMPLES} more")
        return report


def read_split(root: str | Path, split: str) -> tuple[list[Track], dict[str, list[str]]]:
    """The tracks of a split, sorted by name, and the training tracks by what they hold.

    Raises:
        UserError: If there is no usable audio.
    """
    tracks = survey(root).tracks
    trained: dict[str, list[str]] = {}
    for track in tracks["train"]:
        trained.setdefault(track.uuid, []).append(track.name)
    return tracks.get(split, []), trained


def survey(root: str | Path) -> Survey:
    """Listens to all songs, leaves out what cannot be used, and makes splits.

    Broken, silent and very short files are left out, as are further copies of a recording in the
    same split, in whatever format. Copies in different splits have equal `uuid`s.

    Args:
        root: Folder of audio; or a list of files, with the columns of CSV or the keys of JSON lines
            "path" (relative to the list), "split" and "instruments" (such as drums+bass).

    Raises:
        UserError: If there is no such folder or list, it holds no audio that can be used, or the
            list has other columns or names a file that is missing.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root} does not exist: give a folder of audio or of Slakh tracks.")
    songs = tuple(_listed(root) if root.is_file() else _found(root))
    if not songs:
        raise UserError(f"{root} holds no audio files: give another folder.")
    stats = tuple((song.path.stat().st_size, song.path.stat().st_mtime_ns) for song in songs)
    return _survey(root, songs, stats)


@lru_cache(maxsize=2)
def _survey(root: Path, songs: tuple[Entry, ...], _: tuple[tuple[int, int], ...]) -> Survey:
    """See `survey`; a second call for files that have not changed returns the same."""
    result, heard = Survey(root), hear_all([song.path for song in songs])
    for song, about in zip(songs, heard, strict=True):
        if about.fault:
            kind, _, detail = about.fault.partition(": ")
            result.left_out.append((kind, song.where, detail))
    usable = [(s, h) for s, h in zip(songs, heard, strict=True) if not h.fault]
    if not usable:
        raise UserError(f"{root} holds no audio that can be used: {'; '.join(result.lines()[1:])}.")
    by_folder = any(song.split for song, _ in usable)
    validated = any(song.split == "validation" for song, _ in usable)
    kept: dict[tuple[str, str], str] = {}
    result.tracks = {split: [] for split in SPLITS}
    same = same_audio([about for _, about in usable])
    for (song, about), first in zip(usable, same, strict=True):
        digest = usable[first][1].digest
        split = song.split or ("" if by_folder else hashed_split(digest))
        if split == "train" and by_folder and not validated:
            # MUSDB has no folder of validation.
            split = hashed_split(digest, only=("validation",))
        if not split:
            result.left_out.append(("in no folder of a split", song.where, "the others are"))
        elif (split, digest) in kept:
            result.left_out.append(("copy", song.where, f"same as {kept[split, digest]}"))
        else:
            kept[split, digest] = song.where
            result.seconds += about.seconds
            result.tracks[split].append(_track(song, split, about.digest, digest))
    for tracks in result.tracks.values():
        tracks.sort(key=lambda track: track.name)
    return result


def hashed_split(digest: str, only: tuple[str, ...] = tuple(SHARES)) -> str:
    """The split of a song that no folder assigns, by the digest of its content."""
    place = int(hashlib.sha256(digest.encode()).hexdigest()[:8], 16) / 16**8
    for split in only:
        if place < SHARES[split]:
            return split
        place -= SHARES[split]
    return "train"


def _track(song: Entry, split: str, digest: str, uuid: str) -> Track:
    """The track of a song; its name tells songs of the same file name apart."""
    title = song.path.parent.name if song.stems else song.path.stem
    name = f"{re.sub(r'[^0-9A-Za-z_-]+', '_', title)[:60]}-{digest[:8]}"
    if not song.stems:
        track = Track(name, song.path.parent, split, uuid, mixture=song.path)
        return replace(track, instruments=song.instruments)
    stems = [Stem(p.stem, p.stem.lower(), p.stem.lower() == "drums", p, True) for p in song.stems]
    return Track(name, song.path.parent, split, uuid, tuple(stems))


def _found(root: Path) -> Iterator[Entry]:
    """Songs of a folder, sorted by path; hidden files and folders are not looked at."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        folder = Path(place)
        if "metadata.yaml" in names and folder.name.startswith("Track"):
            raise UserError(f"{root} holds a Slakh tree: give the folder above {folder.parent}.")
        parts = folder.relative_to(root).parts
        split = _SPLIT_NAMES.get(parts[0].lower(), "") if parts else ""
        named = [part for part in parts if "+" in part.strip("+")]
        for song in _songs_of(folder, names):
            where = str(song.path.relative_to(root))
            kind = _instruments(named[-1]) if named else ()
            yield replace(song, where=where, split=split, instruments=kind)


def _songs_of(folder: Path, names: list[str]) -> list[Entry]:
    """The songs of one folder: one with stems, or one for each file."""
    paths = [folder / name for name in sorted(names) if not name.startswith(".")]
    files = [p for p in paths if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file()]
    mixed = [path for path in files if path.stem.lower() in MIXTURES]
    stems = [path for path in files if path not in mixed and "_" not in path.stem]
    named = {path.stem.lower() for path in stems}
    if (len(mixed) == 1 and named & STEMS) or (len(stems) > 1 and not mixed and named <= STEMS):
        heard = mixed[0] if mixed else max(stems, key=lambda path: path.stat().st_size)
        return [Entry(heard, "", stems=tuple(stems))]
    return [Entry(path, "") for path in files]


def _instruments(text: str) -> tuple[str, ...]:
    """Names of instruments that are joined by plus signs."""
    return tuple(name.strip().lower() for name in text.split("+") if name.strip())


def _listed(path: Path) -> Iterator[Entry]:
    """Songs of a list of files."""
    if path.suffix.lower() in AUDIO_SUFFIXES:
        raise UserError(f"{path} is one song: give a folder of songs, or a list of them.")
    lines = path.suffix.lower() in (".jsonl", ".json")
    try:
        table = pd.read_json(path, lines=True, dtype=False) if lines else pd.read_csv(path)
    except (ValueError, OSError, TypeError, LookupError, AttributeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"{path} is neither a folder nor a list of files: {reason}.") from error
    unknown = [str(column) for column in table.columns if column not in _COLUMNS]
    if unknown or "path" not in table:
        wrong = f"the unknown columns {', '.join(unknown)}" if unknown else "no column path"
        raise UserError(f"{path} has {wrong}: its columns are {', '.join(_COLUMNS)}.")
    missing = [name for name in table["path"] if not (path.parent / str(name)).exists()]
    if missing:
        raise UserError(
            f"{path} names {len(missing)} files that do not exist, such as {missing[0]}: "
            "correct it."
        )
    for row in table.reindex(columns=_COLUMNS).fillna("").astype(str).itertuples():
        split = _SPLIT_NAMES.get(row.split.lower(), "")
        if row.split and not split:
            raise UserError(f"{path} names the split {row.split!r}: use {', '.join(SPLITS)}.")
        place = path.parent / row.path
        songs = _songs_of(place, os.listdir(place)) if place.is_dir() else [Entry(place, "")]
        for song in songs:
            kind = _instruments(row.instruments)
            yield replace(song, where=row.path, split=split, instruments=kind)
