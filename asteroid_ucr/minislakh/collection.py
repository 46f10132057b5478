"""Builds a whole collection: splits, record, resuming, processes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from joblib import Parallel, delayed
from tqdm import tqdm

from asteroid_ucr.data.slakh import SPLITS, track_folders
from asteroid_ucr.minislakh.kits import Kit
from asteroid_ucr.minislakh.midi_files import Unusable, find_midi, load_midi
from asteroid_ucr.minislakh.recording import Recording, StemNotes, TimedNote
from asteroid_ucr.minislakh.song import compose
from asteroid_ucr.minislakh.soundfont import SoundFont
from asteroid_ucr.minislakh.sounds import default_soundfont, describe, open_sounds
from asteroid_ucr.minislakh.write import is_complete, write_track
from asteroid_ucr.utils.atomic import atomic_path, make_folder
from asteroid_ucr.utils.errors import UserError

# Raised whenever the same seed gives other songs than before.
VERSION = 2
RECORD = "minislakh.json"
_LEFTOVER = re.compile(r"\.Track\d+\.\d+")


def split_of(index: int) -> str:
    """The split of a song: of every twenty, fourteen train, three validate and three test.

    It depends on the number alone, so that a collection that grows keeps its splits; three songs
    already give one of each.
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

    Song i depends on the seed and i alone: neither the number of songs nor of workers changes it.
    Complete tracks are kept, so that an interrupted build goes on where it stopped, and a
    collection can grow. `minislakh.json` records the settings, and the digest, name and licence of
    every soundfont and drum kit as far as the file states them.

    Args:
        out: An empty or new folder, or one that holds a collection of the same settings.
        songs: Number of songs; from three on every split has one. The maximum with `midi_dir`.
        seconds: Length of a song, 2 or more. The maximum with `midi_dir`.
        seed: Seed, 0 or more.
        midi_dir: Folder with multi-track MIDI files to render instead of composed songs.
        soundfont: .sf2 or .sf3 files, and folders of Hydrogen drum kits, of which each stem draws
            one; by default the soundfont that comes with pretty_midi.
        varied: Draw programs within their families, any drum kit, and levels up to 15 dB apart,
            as training collections need it; otherwise levels are close to Slakh's.
        workers: Number of processes, 1 or more.
        progress: Whether to show a progress bar.

    Raises:
        UserError: For numbers out of range, a missing or unreadable file, a folder without usable
            MIDI files, or an `out` that holds anything else or cannot be written.
    """
    for name, value, least in (
        ("songs", songs, 1),
        ("seconds", seconds, 2),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if not value >= least or value == float("inf"):
            raise UserError(f"--{name} is {value}: give a number of {least} or more.")
    out, paths = Path(out), tuple(map(str, soundfont or [default_soundfont()]))
    settings = {
        "version": VERSION,
        "seed": seed,
        "seconds": float(seconds),
        "varied": varied,
        "midi": None,
        "soundfonts": [describe(source) for source in _opened(paths)],
    }
    recordings: Sequence[Recording | None] = [None] * songs
    if midi_dir is not None:
        recordings, settings["midi"] = _choose_midi(Path(midi_dir), songs, seconds)
    wanted = {out / split_of(i) / f"Track{i + 1:05d}": i for i in range(len(recordings))}
    _check_folder(out, settings, wanted)
    for split in SPLITS:
        make_folder(out / split)
    with atomic_path(out / RECORD) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    missing = {folder: i for folder, i in wanted.items() if not is_complete(folder)}

    tasks = (
        delayed(_write)(recordings[i] or (seed, i, seconds), folder, seed, paths, varied)
        for folder, i in missing.items()
    )
    done = Parallel(min(workers, max(1, len(missing))), return_as="generator_unordered")(tasks)
    bar = tqdm(done, total=len(missing), desc="rendering", unit="song", disable=not progress)
    for _ in bar:
        pass


@lru_cache(maxsize=1)
def _opened(paths: tuple[str, ...]) -> list[SoundFont | Kit]:
    """The sounds, opened once per process: what they have read stays in memory."""
    return open_sounds(paths)


def _write(
    song: Recording | tuple[int, int, float],
    folder: Path,
    seed: int,
    paths: tuple[str, ...],
    varied: bool,
) -> None:
    """Renders one song, given or to be composed, in any process."""
    recording = song if isinstance(song, Recording) else compose_recording(*song)
    write_track(recording, folder, seed, _opened(paths), varied)


def compose_recording(seed: int, index: int, seconds: float) -> Recording:
    """Song `index` of a seed, in seconds, ready to be rendered."""
    song = compose(seed, index, seconds)
    stems = []
    for part in song.parts:
        notes = tuple(
            TimedNote(
                song.to_seconds(n.start),
                max(0.02, min(song.to_seconds(n.length), seconds - song.to_seconds(n.start))),
                n.pitch,
                n.velocity,
            )
            for n in part.notes
            if song.to_seconds(n.start) < seconds - 0.02
        )
        if notes:
            stems.append(StemNotes(part.program, part.is_drum, notes))
    name = f"minislakh {VERSION} {seed} {index}"
    uuid = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    return Recording(index, uuid, f"{song.style}/{uuid}.mid", song.tempo, seconds, tuple(stems))


def _choose_midi(folder: Path, songs: int, seconds: float) -> tuple[list[Recording], str]:
    """The first usable files, and a fingerprint of all of them."""
    files = find_midi(folder)
    chosen: list[Recording] = []
    passed_over: Counter[str] = Counter()
    for path, uuid in files:
        if len(chosen) == songs:
            break
        try:
            chosen.append(load_midi(path, uuid, len(chosen), seconds, folder))
        except Unusable as error:
            passed_over[str(error)] += 1
    reasons = "; ".join(f"{count} {reason}" for reason, count in passed_over.most_common())
    if not chosen:
        raise UserError(
            f"--midi_dir {folder} holds no usable file among its {len(files)} MIDI files "
            f"({reasons}): give some that can be read and have two instruments or more."
        )
    if passed_over:
        print(f"{passed_over.total()} MIDI files were passed over: {reasons}.")
    names = " ".join(uuid for _, uuid in files)
    return chosen, hashlib.md5(names.encode(), usedforsecurity=False).hexdigest()


def _check_folder(out: Path, settings: dict[str, object], wanted: dict[Path, int]) -> None:
    """Refuses a folder that holds anything but a part of this very collection."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file: give a folder to write the songs to.")
    record = out / RECORD
    if not record.is_file():
        if any(out.iterdir()):
            raise UserError(f"{out} is not empty and holds no mini-Slakh: give another folder.")
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
        for entry in (out / split).glob(".Track*") if (out / split).is_dir() else ():
            if _LEFTOVER.fullmatch(entry.name):
                shutil.rmtree(entry, ignore_errors=True)
