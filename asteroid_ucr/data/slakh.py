"""Reads Slakh2100 trees (redux, original, split2), BabySlakh and mini-Slakh.

Source of the format: Manilow et al., "Cutting Music Source Separation Some Slakh", WASPAA 2019.
A track is a folder `TrackNNNNN` with `metadata.yaml`, `stems/SNN.flac` (or `.wav`), `MIDI/SNN.mid`
and `mix.flac` (or `.wav`). The stems already carry the track's `overall_gain`, so that their plain
sum is the mixture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import soundfile as sf
import yaml

from asteroid_ucr.data.tracks import SPLITS, Stem, Track
from asteroid_ucr.utils.atomic import is_file_name
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.yaml_files import YAML_LOADER, read_yaml

SPLIT_FOLDERS = (*SPLITS, "omitted")
_TRACK_NAME = re.compile(r"Track\d+")
_UUID_LINE = re.compile(r"^UUID:\s*['\"]?([^\s'\"#]+)", re.MULTILINE)


class _Loader(YAML_LOADER):
    """Reads the keys of mappings as text: the stem 01 has the file 01.flac."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def track_folders(folder: Path) -> list[Path]:
    """Folders named `TrackNNNNN` directly inside `folder`, sorted by name."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if _TRACK_NAME.fullmatch(p.name) and p.is_dir())


def find_splits(root: str | Path) -> dict[str, list[Path]]:
    """Track folders of each split of a tree.

    A tree with the folders `train`, `validation`, `test` (and `omitted`, in redux) is taken as is.
    A flat tree such as BabySlakh has its tracks directly at the root. It is cut by track name: the
    first 60 % for training, the next 20 % for validation, the last 20 % for test, each with at
    least one track. Two tracks give training and test, one gives training.

    Args:
        root: Folder of the tree.

    Returns:
        The folders by split name, "omitted" included where it exists.

    Raises:
        UserError: If the folder does not exist or is not such a tree.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder of a Slakh2100 tree.")
    splits = {name: track_folders(root / name) for name in SPLIT_FOLDERS if (root / name).is_dir()}
    if any(splits.values()):
        return splits
    if not (flat := track_folders(root)):
        raise UserError(
            f"{root} is not a Slakh tree: it holds neither train/validation/test folders with "
            f"TrackNNNNN folders inside nor TrackNNNNN folders{_suggestion(root)}."
        )
    if root.name in SPLIT_FOLDERS:
        raise UserError(
            f"{root} is one split of a Slakh tree: give the folder above it, {root.parent}."
        )
    held = max(1, round(0.2 * len(flat))) if len(flat) >= 3 else 0
    train = len(flat) - 2 * held if held else 1
    parts = flat[:train], flat[train : train + held], flat[train + held :]
    return dict(zip(SPLITS, parts, strict=True))


def _suggestion(root: Path) -> str:
    """Names a tree one level down, since archives unpack into a folder of their own."""
    for child in sorted(root.iterdir()):
        if any(track_folders(folder) for folder in (child, *(child / s for s in SPLIT_FOLDERS))):
            return f"; did you mean {child}?"
    return ""


def read_metadata(folder: Path) -> dict[str, Any]:
    """The parsed `metadata.yaml` of a track, checked for the fields that are used here.

    Raises:
        UserError: If the file is missing, is not YAML or has no `stems` mapping.
    """
    path = folder / "metadata.yaml"
    data = read_yaml(path, _Loader)
    stems = data.get("stems")
    if not isinstance(stems, dict) or not all(isinstance(s, dict) for s in stems.values()):
        raise UserError(f"{path} has no mapping named stems: restore the file.")
    if not all(isinstance(name, str) and is_file_name(name) for name in stems):
        raise UserError(f"{path} has a stem whose name is not a file's: restore the file.")
    if not all(isinstance(s.get("inst_class"), str) for s in stems.values()):
        raise UserError(f"{path} has a stem without inst_class: restore the file.")
    return data


def stem_file(folder: Path, stem_id: str) -> Path | None:
    """The stem's audio file, flac or wav, readable or not; None if it does not exist.

    `audio_dir` of the metadata is not used, since it is wrong in places.
    """
    paths = (folder / "stems" / f"{stem_id}{suffix}" for suffix in (".flac", ".wav"))
    return next((path for path in paths if path.is_file()), None)


def _readable(path: Path | None) -> Path | None:
    """The path if it is that of an audio file with samples, else None."""
    try:
        return path if path is not None and sf.info(path).frames > 0 else None
    except sf.LibsndfileError:
        return None


def read_track(folder: Path, split: str) -> Track:
    """Reads a track's metadata and finds its stems.

    Raises:
        UserError: If the metadata cannot be used.
    """
    data = read_metadata(folder)
    stems = [
        Stem(
            id=stem_id,
            inst_class=fields["inst_class"],
            is_drum=bool(fields.get("is_drum", False)),
            path=_readable(stem_file(folder, stem_id)),
            declared=bool(fields.get("audio_rendered", False)),
        )
        for stem_id, fields in sorted(data["stems"].items())
    ]
    return Track(folder.name, folder, split, str(data.get("UUID") or ""), tuple(stems))


def read_uuids(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Track names by the UUID of their MIDI file; only its line is read, for speed."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        try:
            text = (folder / "metadata.yaml").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if match := _UUID_LINE.search(text):
            found.setdefault(match[1], []).append(folder.name)
    return found


def read_split(root: str | Path, split: str) -> tuple[list[Track], dict[str, list[str]]]:
    """The tracks of a split, sorted by name, and the training tracks by the UUID of their MIDI.

    A stem counts if its file can be read and has samples, whatever the metadata say. Tracks with
    unusable metadata are left out; `doctor` reports them.

    Raises:
        UserError: If the folder is not a Slakh tree, or lacks the split.
    """
    splits = find_splits(root)
    if split not in splits:
        raise UserError(f"{root} has no split {split!r}: choose from {', '.join(splits)}.")
    tracks = []
    for folder in splits[split]:
        with suppress(UserError):
            tracks.append(read_track(folder, split))
    return tracks, {} if split == "train" else read_uuids(splits.get("train", []))
