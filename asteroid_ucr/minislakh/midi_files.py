"""Songs from MIDI files that the user provides."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pretty_midi

from asteroid_ucr.minislakh.notes import Note, Part, Recording
from asteroid_ucr.utils.errors import UserError

_SUFFIXES = (".mid", ".midi", ".kar")
_SHORTEST = 2.0  # seconds of music


class Unusable(Exception):  # noqa: N818
    """A MIDI file cannot be rendered as a song; the message is the reason."""


def find_midi(folder: str | Path) -> list[tuple[Path, str]]:
    """All MIDI files below a folder, with their MD5 sums; copies of a file count once.

    Raises:
        UserError: If the folder does not exist or holds no MIDI file, or a file is unreadable.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"--midi_dir {folder} is not a folder: give one that holds .mid files.")
    unique: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            try:
                # Slakh identifies MIDI files by their MD5 sums.
                name = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
                unique.setdefault(name, path)
            except OSError as error:
                text = f"{path} cannot be read ({error.strerror}): repair or remove it."
                raise UserError(text) from error
    if not unique:
        raise UserError(f"--midi_dir {folder} holds no .mid, .midi or .kar file.")
    return [(path, name) for name, path in unique.items()]


def load_midi(path: Path, uuid: str, index: int, seconds: float, root: Path) -> Recording:
    """Reads the fullest stretch of a MIDI file.

    Args:
        path: MIDI file.
        uuid: MD5 sum of the file.
        index: Number of the song in the collection.
        seconds: Length of the stretch; a shorter file is read completely.
        root: Folder that the name of the file is relative to.

    Returns:
        The stretch in which the most instruments play for the longest.

    Raises:
        Unusable: If the file is damaged, is shorter than two seconds, or has fewer than two
            instruments with notes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            midi = pretty_midi.PrettyMIDI(str(path))
    except Exception as error:
        # The parser raises errors of all kinds on damaged files.
        raise Unusable("damaged or not a MIDI file") from error
    instruments = [instrument for instrument in midi.instruments if instrument.notes]
    if len(instruments) < 2:
        raise Unusable("fewer than two instruments have notes")
    start = _fullest(instruments, midi.get_end_time(), seconds)
    length = min(seconds, midi.get_end_time() - start)
    if length < _SHORTEST:
        raise Unusable(f"shorter than {_SHORTEST:g} s")
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
        raise Unusable("fewer than two instruments play in the fullest stretch")
    tempi = midi.get_tempo_changes()[1]
    tempo = float(tempi[0]) if len(tempi) else 120.0
    return Recording(index, uuid, path.relative_to(root).as_posix(), tempo, length, tuple(parts))


def _fullest(instruments: list[pretty_midi.Instrument], end: float, seconds: float) -> float:
    """Start of the stretch with the most instruments playing, in whole seconds."""
    playing = np.zeros((len(instruments), int(end) + 2))
    for row, instrument in zip(playing, instruments, strict=True):
        for note in instrument.notes:
            row[int(note.start) : int(note.end) + 1] = 1
    window = int(np.ceil(seconds))
    if playing.shape[1] <= window:
        return 0.0
    sums = np.convolve(playing.sum(0), np.ones(window), "valid")
    return float(np.argmax(sums))


def _pedalled(instrument: pretty_midi.Instrument) -> list[float]:
    """Ends of the notes in seconds, extended while the sustain pedal (controller 64) is down."""
    changes = sorted((c.time, c.value >= 64) for c in instrument.control_changes if c.number == 64)
    if not changes or instrument.is_drum:
        return [note.end for note in instrument.notes]
    times = np.array([time for time, _ in changes])
    ends = []
    for note in instrument.notes:
        last = int(np.searchsorted(times, note.end, "right")) - 1
        end = note.end
        if last >= 0 and changes[last][1]:
            lifted = [time for time, down in changes[last + 1 :] if not down]
            again = [n.start for n in instrument.notes if n.pitch == note.pitch and n.start >= end]
            # A pedal that is never lifted holds notes for at most 8 s.
            end = min([note.end + 8.0, *lifted[:1], *([min(again)] if again else [])])
        ends.append(max(end, note.end))
    return ends
