"""Data sets: Slakh trees, folders of audio and lists of files, all read as tracks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from asteroid_ucr.data import folder, slakh
from asteroid_ucr.data.tracks import Track
from asteroid_ucr.utils.errors import UserError


def load_tracks(
    root: str | Path,
    split: str,
    allow_shared_midi: bool = False,
    sources: Sequence[str] = (),
    stems: bool = False,
) -> list[Track]:
    """The tracks of a split, sorted by name.

    Args:
        root: Slakh tree (see `slakh.find_splits`), folder of audio or list of files (see
            `folder.survey`).
        split: "train", "validation" or "test" ("omitted" where a Slakh tree has it).
        allow_shared_midi: Keep validation and test tracks made from the same MIDI file as a
            training track, or with the same audio. In the original splits of Slakh there are 94 and
            57 of them.
        sources: Keep only tracks that can be used as mixtures of these.
        stems: Keep only tracks with stems.

    Raises:
        UserError: If there is no such data set, it lacks the split or has no track that can be
            used, or if tracks are shared with training without permission.
    """
    read = slakh.read_split if is_slakh(root) else folder.read_split
    found, trained = read(root, split)
    if any(track.instruments for track in found):  # then songs of unknown ones are not guessed at
        found = [track for track in found if track.mixture is None or track.instruments]
    tracks = [t for t in found if t.has(sources) and not (stems and t.mixture is not None)]
    if not tracks and (found or not is_slakh(root)):
        wanted = f" with {'stems of ' if stems else ''}{', '.join(sources)}" if sources else ""
        raise UserError(
            f"No track of the split {split!r} of {root} can be used{wanted}: run asteroid-ucr "
            f"doctor {root} to see why."
        )
    if split in ("validation", "test") and not allow_shared_midi:
        if shared := [track for track in tracks if track.uuid in trained]:
            example = f"{shared[0].name} with {trained[shared[0].uuid][0]}"
            raise UserError(
                f"{len(shared)} of {len(tracks)} {split} tracks of {root} share their MIDI file or "
                f"their audio with training tracks (such as {example}): remove them (of Slakh, use "
                "the redux splits), or pass --allow_shared_midi to keep them."
            )
    return tracks


def is_slakh(root: str | Path) -> bool:
    """Whether a folder is a Slakh tree, one of its splits, or the folder above it."""
    root = Path(root)
    folders = [root, *(root / name for name in slakh.SPLIT_FOLDERS)]
    if root.is_dir():
        folders += [child for child in root.iterdir() if child.is_dir()]
        folders += [child / "train" for child in folders]
    tracks = (track for folder in folders for track in slakh.track_folders(folder))
    return any((track / "metadata.yaml").is_file() for track in tracks)


def describe(root: str | Path) -> list[str]:
    """What a folder of audio or a list of files holds, and what is left out of it, as lines.

    A Slakh tree gives none: `doctor.examine` knows more about it.
    """
    return [] if is_slakh(root) else folder.survey(root).lines()
