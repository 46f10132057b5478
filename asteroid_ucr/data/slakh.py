"""Reads Slakh2100 trees (redux, original, split2), BabySlakh and mini-Slakh.

Source of the format: Manilow et al., "Cutting Music Source Separation Some Slakh", WASPAA 2019.
A track is a folder `TrackNNNNN` with `metadata.yaml`, `stems/SNN.flac` (or `.wav`), `MIDI/SNN.mid`
and `mix.flac` (or `.wav`). The stems already carry the track's `overall_gain`, so that their plain
sum is the mixture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile as sf
import torch
import yaml
from torch import Tensor

from asteroid_ucr.utils.audio import read_audio, resample
from asteroid_ucr.utils.errors import UserError

SPLITS = ("train", "validation", "test")
MIX_POLICIES = ("sum", "paper_mean")
SPLIT_FOLDERS = (*SPLITS, "omitted")
_TRACK_NAME = re.compile(r"Track\d+")
_UUID_LINE = re.compile(r"^UUID:\s*['\"]?([^\s'\"#]+)", re.MULTILINE)

# The C loader is about ten times as fast; a whole Slakh tree has two thousand metadata files.
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(YAML_LOADER):
    """Reads the keys of mappings as text: the stem 01 has the file 01.flac."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Stem:
    """One rendered instrument of a track."""

    id: str  # name in the metadata, such as "S03"
    inst_class: str  # family as Slakh names it, such as "Strings (continued)"
    is_drum: bool
    path: Path | None  # audio file; None if no file can be read
    declared: bool  # `audio_rendered` of the metadata; the file decides, not this flag

    @property
    def source(self) -> str:
        """The stem's source name: the instrument class in lower case."""
        return self.inst_class.lower()


@dataclass(frozen=True)
class Track:
    """One song: its folder, its split, the MIDI file it was made from, and its stems."""

    name: str
    folder: Path
    split: str
    uuid: str
    stems: tuple[Stem, ...]

    def stem_paths(self, source: str) -> list[Path]:
        """Audio files of all stems of a source, in the order of their ids (empty if none)."""
        return [s.path for s in self.stems if s.path is not None and s.source == source.lower()]

    @property
    def sources(self) -> list[str]:
        """Names of the sources that have at least one audio file, sorted."""
        return sorted({s.source for s in self.stems if s.path is not None})


@dataclass(frozen=True)
class SourceAudio:
    """References, in the order of the sources asked for, and the mixture that they make up."""

    references: Tensor  # `(n_src, time)`, float32
    mixture: Tensor  # `(time,)`
    mix: str  # policy: "sum" or "paper_mean" (see `read_sources`)


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
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: the track cannot be used.") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason}): restore the file.") from error
    stems = data.get("stems") if isinstance(data, dict) else None
    if not isinstance(stems, dict) or not all(isinstance(s, dict) for s in stems.values()):
        raise UserError(f"{path} has no mapping named stems: restore the file.")
    if not all(isinstance(name, str) and Path(name).name == name for name in stems):
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


def load_tracks(
    root: str | Path,
    split: str,
    allow_shared_midi: bool = False,
    sources: Sequence[str] | None = None,
) -> list[Track]:
    """The tracks of a split, sorted by name.

    A stem counts if its file can be read and has samples, whatever the metadata say. Tracks with
    unusable metadata and tracks that lack a wanted source are left out; `doctor` reports them.

    Args:
        root: The tree's folder (see `find_splits`).
        split: "train", "validation" or "test" ("omitted" where the tree has it).
        allow_shared_midi: Keep validation and test tracks made from the same MIDI file as a
            training track. In the original splits there are 94 and 57 of them.
        sources: Keep only tracks with at least one stem of each of these.

    Raises:
        UserError: If the folder is not a Slakh tree, lacks the split or has no track with all the
            sources, or if tracks share their MIDI with training tracks without permission.
    """
    splits = find_splits(root)
    if split not in splits:
        raise UserError(f"{root} has no split {split!r}: choose from {', '.join(splits)}.")
    tracks = []
    for folder in splits[split]:
        try:
            track = read_track(folder, split)
        except UserError:
            continue
        if all(track.stem_paths(source) for source in sources or ()):
            tracks.append(track)
    if splits[split] and not tracks:
        wanted = f" with {', '.join(sources)}" if sources else ""
        raise UserError(
            f"No track of the split {split!r} of {root} can be used{wanted}: run asteroid-ucr "
            f"doctor {root} to see why."
        )
    if split in ("validation", "test") and not allow_shared_midi:
        trained = read_uuids(splits.get("train", []))
        if shared := [track for track in tracks if track.uuid in trained]:
            example = f"{shared[0].name} with {trained[shared[0].uuid][0]}"
            raise UserError(
                f"{len(shared)} of {len(tracks)} {split} tracks of {root} share their MIDI file "
                f"with training tracks (such as {example}): use the redux splits, or pass "
                "--allow_shared_midi to keep them."
            )
    return tracks


def read_sources(
    track: Track, sources: Sequence[str], sample_rate: int, mix: str = "sum"
) -> SourceAudio:
    """Reads a whole track as one signal per source, and their mixture.

    Stems are mixed down to mono, cropped to the shortest and combined; then each source is
    resampled once.

    Args:
        track: Track from `load_tracks`.
        sources: Source names; the order of the references.
        sample_rate: Samples per second.
        mix: "sum": a reference is the sum of the source's stems, and the mixture is the sum of the
            references. "paper_mean" (published code of Bindi & Esling 2024): a reference is
            the mean of the source's audible stems, and the mixture is the mean of the references.

    Raises:
        UserError: For an unknown policy, no sources, a source that the track lacks, or a stem that
            cannot be read.
    """
    if mix not in MIX_POLICIES:
        raise UserError(f"mix is {mix!r}: choose from {', '.join(MIX_POLICIES)}.")
    if not sources:
        raise UserError("sources is empty: name at least one source.")
    signals: list[Tensor] = []
    native = 0
    for source in sources:
        paths = track.stem_paths(source)
        if not paths:
            raise UserError(
                f"{track.folder} has no stem of {source!r}: it has {', '.join(track.sources)}."
            )
        stems = []
        for path in paths:
            wav, rate = read_audio(path, mono=True)
            native = native or rate
            stems.append(resample(wav[0], rate, native))
        total = _stack(stems).sum(0)
        # A silent stem adds nothing to a sum but would lower a mean.
        audible = sum(bool(stem.any()) for stem in stems)
        signals.append(total if mix == "sum" else total / max(audible, 1))
    references = resample(_stack(signals), native, sample_rate)
    mixture = references.sum(0) if mix == "sum" else references.mean(0)
    return SourceAudio(references, mixture, mix)


def _stack(signals: list[Tensor]) -> Tensor:
    """Signals `(count, time)`, cropped to the shortest."""
    shortest = min(map(len, signals))
    return torch.stack([signal[:shortest] for signal in signals])
