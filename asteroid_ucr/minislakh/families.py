"""General MIDI families and Slakh's names for them."""

from __future__ import annotations

# Slakh's inst_class of each group of eight programs.
_CLASSES = (
    "Piano",
    "Chromatic Percussion",
    "Organ",
    "Guitar",
    "Bass",
    "Strings",
    "Strings (continued)",
    "Brass",
    "Reed",
    "Pipe",
    "Synth Lead",
    "Synth Pad",
    "Synth Effects",
    "Ethnic",
    "Percussive",
    "Sound Effects",
)


def inst_class(program: int, is_drum: bool) -> str:
    """Slakh's instrument class of a General MIDI program (0 to 127)."""
    return "Drums" if is_drum else _CLASSES[program // 8]
