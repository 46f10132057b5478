"""General MIDI families: Slakh's names for them, and how their notes decay."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Envelope:
    """How a held note fades, in seconds.

    Attributes:
        attack: rise from silence.
        decay: time to fall by 60 dB while held; infinite for instruments that sustain.
        release: fade after the note's end; infinite where the note's end does not matter.
    """

    attack: float
    decay: float
    release: float


_SUSTAINED = float("inf")
# Seconds to fall by 60 dB, by drum key; unnamed keys take the default.
_DRUM_DECAY = {
    **dict.fromkeys((35, 36), 0.4),
    **dict.fromkeys((37, 39, 75, 76, 77), 0.3),
    **dict.fromkeys((38, 40), 0.5),
    42: 0.16,
    44: 0.14,
    46: 0.9,
    **dict.fromkeys((49, 57), 2.6),
    **dict.fromkeys((51, 53, 59), 2.0),
    **dict.fromkeys((52, 55), 1.6),
    **dict.fromkeys((41, 43), 1.0),
    **dict.fromkeys((45, 47, 48, 50), 0.8),
    **dict.fromkeys((54, 56, 69, 70, 80), 0.25),
    58: 1.5,
    81: 1.5,
}
# Peak level of each drum relative to the snare: soundfonts differ wildly in this.
_DRUM_PEAK = {
    **dict.fromkeys((35, 36), 0.8),
    **dict.fromkeys((38, 40), 1.0),
    **dict.fromkeys((37, 39), 0.5),
    42: 0.26,
    44: 0.22,
    46: 0.33,
    **dict.fromkeys((49, 57), 0.6),
    **dict.fromkeys((51, 59), 0.3),
    53: 0.32,
    52: 0.5,
    **dict.fromkeys((41, 43, 45, 47, 48, 50), 0.8),
    **dict.fromkeys((54, 69, 70), 0.22),
}


def drum_peak(key: int) -> float:
    """Peak level of a drum key, full scale for the snare."""
    return _DRUM_PEAK.get(key, 0.4)


def envelope(program: int, is_drum: bool, pitch: int) -> Envelope:
    """Envelope of a note. Strings that are plucked or struck fade faster the higher they are."""
    if is_drum:
        return Envelope(0.0, _DRUM_DECAY.get(pitch, 0.6), _SUSTAINED)
    family = program // 8
    higher = 2.0 ** ((pitch - 48) / 20)
    if family == 0:
        length = {4: 1.3, 5: 1.3, 6: 0.5, 7: 0.3}.get(program, 1.0) * 10.0 / higher
        return Envelope(0.0, max(0.6, length), 0.15)
    if family == 3:
        length = {28: 0.5, 29: 14.0, 30: 16.0, 31: 3.0}.get(program, 5.0) / higher
        return Envelope(0.0, max(0.3, length), 0.09)
    if family == 4:
        length = {32: 3.5, 36: 4.0, 37: 4.0, 38: 2.5, 39: 5.0}.get(program, 7.0) / higher
        return Envelope(0.0, max(0.8, length), 0.06)
    struck = {1: 2.5, 14: 0.9}
    if family in struck or program in (45, 46, 47, *range(104, 109)):
        length = struck.get(family, {45: 0.6, 46: 3.0, 47: 2.0}.get(program, 2.0))
        return Envelope(0.0, max(0.3, length / higher), 0.2)
    if family in (6, 11):
        return Envelope(0.08, _SUSTAINED, 0.35)
    if family == 5:
        return Envelope(0.05, _SUSTAINED, 0.2)
    return Envelope(0.01, _SUSTAINED, 0.08)
