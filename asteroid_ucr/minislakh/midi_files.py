"""Songs from MIDI files that the user provides."""

from __future__ import annotations

import hashlib
import warnings
from bisect import bisect_right
from collections import Counter
from pathlib import Path

import numpy as np
import pretty_midi

from asteroid_ucr.minislakh.notes import Note, Part, Recording
from asteroid_ucr.utils.errors import UserError

_SUFFIXES = (".mid", ".midi", ".kar")
_SHORTEST, _LONGEST = 2.0, 24 * 3600.0  # seconds of music
_LONGEST_PEDAL = 8.0  # seconds for which a pedal that is never lifted holds a note


class _Unusable(Exception):  # noqa: N818
    """A MIDI file cannot be rendered as a song; the message is the reason."""


def md5(data: bytes) -> str:
    """The MD5 sum by which Slakh identifies MIDI files, in hexadecimal."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def read_midi(folder: Path, songs: int, seconds: float) -> tuple[list[Recording], str]:
    """Reads the first usable MIDI files below a folder; copies of a file count once.

    Of each file, the stretch is taken in which the most instruments play for the longest.

    Args:
        folder: Folder of .mid, .midi and .kar files; `origin` is relative to it.
        songs: Largest number of files.
        seconds: Length of the stretch; a shorter file is read completely.

    Returns:
        The songs, and an MD5 sum over all files found.

    Raises:
        UserError: If the folder does not exist, a file is unreadable, or no file is usable. Usable
            files have two seconds and two instruments or more.
    """
    if not folder.is_dir():
        raise UserError(f"--midi_dir {folder} is not a folder: give one that holds .mid files.")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            try:
                files.setdefault(md5(path.read_bytes()), path)
            except OSError as error:
                text = f"{path} cannot be read ({error.strerror}): repair or remove it."
                raise UserError(text) from error
    if not files:
        raise UserError(f"--midi_dir {folder} holds no .mid, .midi or .kar file.")
    recordings: list[Recording] = []
    skipped: Counter[str] = Counter()
    for uuid, path in files.items():
        if len(recordings) == songs:
            break
        try:
            tempo, length, parts = _read(path, seconds)
        except _Unusable as error:
            skipped[str(error)] += 1
            continue
        origin = path.relative_to(folder).as_posix()
        recordings.append(Recording(len(recordings), uuid, origin, tempo, length, parts))
    reasons = "; ".join(f"{count} {reason}" for reason, count in skipped.most_common())
    if not recordings:
        raise UserError(
            f"--midi_dir {folder} holds no usable file among its {len(files)} MIDI files "
            f"({reasons}): give files that can be read and have two instruments or more."
        )
    if skipped:
        print(f"{skipped.total()} MIDI files were skipped: {reasons}.")
    return recordings, md5(" ".join(files).encode())


def _read(path: Path, seconds: float) -> tuple[float, float, tuple[Part, ...]]:
    """Tempo, length and parts of the fullest stretch of a file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            midi = pretty_midi.PrettyMIDI(str(path))
    except Exception as error:
        # The parser raises errors of all kinds on damaged files.
        raise _Unusable("damaged or not a MIDI file") from error
    instruments = [instrument for instrument in midi.instruments if instrument.notes]
    if len(instruments) < 2:
        raise _Unusable("fewer than two instruments have notes")
    if midi.get_end_time() > _LONGEST:
        raise _Unusable(f"longer than {_LONGEST / 3600:g} h")
    start = _fullest(instruments, midi.get_end_time(), seconds)
    length = min(seconds, midi.get_end_time() - start)
    if length < _SHORTEST:
        raise _Unusable(f"shorter than {_SHORTEST:g} s")
    parts, stop = [], start + length
    for instrument in instruments:
        notes = tuple(
            Note(n.start - start, min(end, stop) - n.start, int(n.pitch), max(1, int(n.velocity)))
            for n, end in zip(instrument.notes, _pedalled(instrument), strict=True)
            if start <= n.start < stop and n.end > n.start
        )
        if notes:
            parts.append(Part(int(instrument.program), bool(instrument.is_drum), notes))
    if len(parts) < 2:
        raise _Unusable("fewer than two instruments play in the fullest stretch")
    tempi = midi.get_tempo_changes()[1]
    return float(tempi[0]) if len(tempi) else 120.0, length, tuple(parts)


def _fullest(instruments: list[pretty_midi.Instrument], end: float, seconds: float) -> float:
    """Start of the stretch with the most instruments playing, in whole seconds."""
    playing = np.zeros((len(instruments), int(end) + 2))
    for row, instrument in zip(playing, instruments, strict=True):
        for note in instrument.notes:
            row[int(note.start) : int(note.end) + 1] = 1
    window = int(np.ceil(seconds))
    if playing.shape[1] <= window:
        return 0.0
    return float(np.argmax(np.convolve(playing.sum(0), np.ones(window), "valid")))


def _pedalled(instrument: pretty_midi.Instrument) -> list[float]:
    """Ends of the notes in seconds, extended while the sustain pedal (controller 64) is down."""
    pedal = [c for c in instrument.control_changes if c.number == 64 and not instrument.is_drum]
    changes = sorted((c.time, c.value >= 64) for c in pedal)
    times = [time for time, _ in changes]
    ends = []
    for note in instrument.notes:
        until, following = [note.end], bisect_right(times, note.end)
        if following and changes[following - 1][1]:
            again = (n.start for n in instrument.notes if n.pitch == note.pitch)
            lifted = (time for time, down in changes[following:] if not down)
            until = [note.end + _LONGEST_PEDAL, *(t for t in again if t >= note.end), *lifted]
        ends.append(min(until))
    return ends
