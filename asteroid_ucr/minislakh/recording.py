"""What is to be rendered: notes in seconds, the stem that plays them, and the whole song."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asteroid_ucr.minislakh.families import inst_class

Wave = NDArray[np.float32]
SAMPLE_RATE = 44100


@dataclass(frozen=True, order=True)
class TimedNote:
    """One note: onset and length in seconds, MIDI pitch or drum key, velocity 1 to 127."""

    start: float
    length: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class StemNotes:
    """What one stem plays, in seconds, and on which General MIDI program (0 to 127)."""

    program: int
    is_drum: bool
    notes: tuple[TimedNote, ...]

    @property
    def inst_class(self) -> str:
        """Slakh's name of the instrument family."""
        return inst_class(self.program, self.is_drum)


@dataclass(frozen=True)
class Recording:
    """A song ready to be rendered.

    Attributes:
        index: Number of the song in the collection.
        uuid: Identifier of the MIDI: 32 hexadecimal digits.
        origin: Where the MIDI comes from, for `lmd_midi_dir`.
        tempo: Beats per minute, for the MIDI files.
        seconds: Length of the audio.
        stems: At least one stem.
    """

    index: int
    uuid: str
    origin: str
    tempo: float
    seconds: float
    stems: tuple[StemNotes, ...]
