"""Builds a collection of songs: its splits, its record of settings, and how it resumes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed
from tqdm import tqdm

from asteroid_ucr.data.slakh import track_folders
from asteroid_ucr.data.tracks import SPLITS
from asteroid_ucr.minislakh.midi_files import md5, read_midi
from asteroid_ucr.minislakh.notes import Note, Part, Recording
from asteroid_ucr.minislakh.song import compose
from asteroid_ucr.minislakh.sounds import Source, default_soundfont, describe, open_sounds
from asteroid_ucr.minislakh.write import is_complete, write_track
from asteroid_ucr.utils.atomic import atomic_path, make_folder
from asteroid_ucr.utils.errors import UserError

# Increased whenever the same seed gives other songs than before.
VERSION = 2
RECORD = "minislakh.json"
_LEFTOVER = re.compile(r"\.Track\d+\.\d+(\.old)?")


def split_of(index: int) -> str:
    """The split of a song: of every 20 songs, 14 are for training, 3 for validation, 3 for test.

    It depends on the number alone, so that a growing collection keeps its splits. The first three
    songs already cover all splits.
    """
    place = index % 20
    if place in (1, 8, 15):
        return "validation"
    return "test" if place in (2, 9, 16) else "train"


def build(
    out: str | Path,
    songs: int = 60,
    seconds: float = 30.0,
    seed: int = 0,
    midi_dir: str | Path | None = None,
    soundfont: Sequence[str | Path] | None = None,
    varied: bool = False,
    workers: int = 2,
    progress: bool = True,
) -> None:
    """Writes a collection of songs to `out/{train,validation,test}/TrackNNNNN`.

    A song depends on the seed and its number alone, not on the number of songs or workers. Complete
    tracks are kept: an interrupted build continues where it stopped, and a collection can grow.
    `minislakh.json` records the settings, and the digest, name and licence of every soundfont and
    drum kit as far as the files state them.

    Args:
        out: An empty or new folder, or one that holds a collection with the same settings.
        songs: Number of songs; with `midi_dir`, the largest number.
        seconds: Length of a song, 2 or more; with `midi_dir`, the largest length.
        seed: Seed, 0 or more.
        midi_dir: Folder with multi-track MIDI files to render instead of composed songs.
        soundfont: .sf2 or .sf3 files and folders of Hydrogen drum kits; each stem draws one. By
            default, the soundfont that comes with pretty_midi.
        varied: Whether to draw programs within their families, any drum kit, and levels up to 15
            dB apart, for training. Otherwise levels are close to Slakh's.
        workers: Number of processes, 1 or more.
        progress: Whether to show a progress bar.

    Raises:
        UserError: If a number is out of range, a file is missing or unreadable, `midi_dir` holds no
            usable file, or `out` holds anything else or cannot be written.
    """
    numbers = {"songs": songs, "seconds": seconds, "seed": seed, "workers": workers}
    for (name, value), least in zip(numbers.items(), (1, 2, 0, 1), strict=True):
        if not value >= least or value == float("inf"):
            raise UserError(f"--{name} is {value}: give a number of {least} or more.")
    out, paths = Path(out), tuple(map(str, soundfont or [default_soundfont()]))
    settings: dict[str, Any] = {
        "version": VERSION,
        "seed": seed,
        "seconds": float(seconds),
        "varied": varied,
        "midi": None,
        "soundfonts": [describe(source) for source in _opened(paths)],
    }
    chosen: Sequence[Recording | int] = range(songs)
    if midi_dir is not None:
        chosen, settings["midi"] = read_midi(Path(midi_dir), songs, seconds)
    wanted = {out / split_of(i) / f"Track{i + 1:05d}": song for i, song in enumerate(chosen)}
    _check_folder(out, settings, wanted)
    with atomic_path(out / RECORD) as temporary:  # before anything else: it says what this is
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    for split in SPLITS:
        make_folder(out / split)
    tasks = [
        delayed(_write)(song, folder, settings, paths)
        for folder, song in wanted.items()
        if not is_complete(folder)
    ]
    done = Parallel(min(workers, max(1, len(tasks))), return_as="generator_unordered")(tasks)
    for _ in tqdm(done, total=len(tasks), desc="rendering", unit="song", disable=not progress):
        pass


@lru_cache(maxsize=1)
def _opened(paths: tuple[str, ...]) -> list[Source]:
    """The sounds, opened once per process: what they have read stays in memory."""
    return open_sounds(paths)


def _write(
    song: Recording | int, folder: Path, settings: dict[str, Any], paths: tuple[str, ...]
) -> None:
    """Renders a given song, or composes one by its number, in any process."""
    seed, seconds = settings["seed"], settings["seconds"]
    recording = compose_recording(seed, song, seconds) if isinstance(song, int) else song
    write_track(recording, folder, seed, _opened(paths), settings["varied"])


def compose_recording(seed: int, index: int, seconds: float) -> Recording:
    """Composes song `index` of a seed, with times in seconds, ready to be rendered."""
    song, parts = compose(seed, index, seconds), []
    for part in song.parts:
        notes = []
        for note in part.notes:
            start, length = song.to_seconds(note.start), song.to_seconds(note.length)
            if start < seconds - 0.02:
                length = max(0.02, min(length, seconds - start))
                notes.append(Note(start, length, note.pitch, note.velocity))
        if notes:
            parts.append(Part(part.program, part.is_drum, tuple(notes)))
    uuid = md5(f"minislakh {VERSION} {seed} {index}".encode())
    return Recording(index, uuid, f"{song.style}/{uuid}.mid", song.tempo, seconds, tuple(parts))


def _check_folder(out: Path, settings: dict[str, Any], wanted: Collection[Path]) -> None:
    """Refuses a folder that holds anything other than a part of this collection."""
    record = out / RECORD
    if out.is_file():
        raise UserError(f"{out} is a file: give a folder to write the songs to.")
    if not record.is_file():
        if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise UserError(f"{out} is not empty and is not a mini-Slakh: give another folder.")
        return
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{record} cannot be read: remove {out} or give another.") from error
    if found != settings:
        found = found if isinstance(found, dict) else {}
        other = [key for key in settings if found.get(key) != settings[key]]
        raise UserError(
            f"{out} holds songs made with other settings ({', '.join(other) or 'unknown'}): give "
            "another folder, or remove this one."
        )
    for split in SPLITS:
        for folder in track_folders(out / split):
            if folder not in wanted:
                raise UserError(
                    f"{folder} is not among the {len(wanted)} songs asked for: ask for more songs, "
                    "or give another folder."
                )
    for entry in out.glob("*/.Track*"):
        if _LEFTOVER.fullmatch(entry.name):
            shutil.rmtree(entry, ignore_errors=True)
