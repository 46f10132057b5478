"""Notes, the parts that play them, and recordings: what is handed from one step to the next.

Times are in beats while a song is being composed, and in seconds in a recording.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
Gains = Mapping[int, float]  # amplitude by pitch, where it is not one
SAMPLE_RATE = 44100

# Slakh's name of each group of eight General MIDI programs.
_CLASSES = (
    "Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings", "Strings (continued)",
    "Brass", "Reed", "Pipe", "Synth Lead", "Synth Pad", "Synth Effects", "Ethnic", "Percussive",
    "Sound Effects",
)  # fmt: skip


@dataclass(frozen=True, order=True)
class Note:
    """One note: onset and length, MIDI pitch or drum key (0 to 127), velocity (1 to 127)."""

    start: float
    length: float
    pitch: int
    velocity: int


@dataclass(frozen=True)
class Part:
    """What one instrument plays."""

    program: int  # General MIDI, 0 to 127; for drums, the program of the kit
    is_drum: bool  # whether the pitches are drum keys
    notes: tuple[Note, ...]  # in any order

    @property
    def inst_class(self) -> str:
        """Slakh's name of the instrument family, such as "Bass"."""
        return "Drums" if self.is_drum else _CLASSES[self.program // 8]


@dataclass(frozen=True)
class Recording:
    """A song that is ready to be rendered."""

    index: int  # number of the song in the collection
    uuid: str  # identifier of the MIDI file: 32 hexadecimal digits
    origin: str  # source of the MIDI file, for `lmd_midi_dir`
    tempo: float  # beats per minute, for the MIDI files
    seconds: float  # length of the audio
    parts: tuple[Part, ...]  # at least one, with times in seconds
