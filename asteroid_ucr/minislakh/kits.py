"""Plays drum kits of the Hydrogen drum machine: a folder of samples with a drumkit.xml."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import soundfile as sf
import soxr

from asteroid_ucr.minislakh.notes import SAMPLE_RATE, Gains, Note, Wave
from asteroid_ucr.minislakh.player import Voice, mix_voices
from asteroid_ucr.utils.errors import UserError

# General MIDI keys by words in the name of an instrument; the first pattern that matches counts.
_KEYS = (
    (r"stick|rim", (37,)),
    (r"pedal|foot|h\.?h.*ped", (44,)),
    (r"open|half|semi", (46,)),
    (r"clos|hi-?hat|hh", (42,)),
    (r"splash", (55,)),
    (r"china", (52,)),
    (r"bell", (53,)),
    (r"ride", (51, 59)),
    (r"crash|cymbal", (49, 57)),
    (r"cowbell", (56,)),
    (r"tamb", (54,)),
    (r"clap", (39,)),
    (r"shaker|maraca", (70,)),
    (r"kick|bass ?drum|\bbd\b", (36, 35)),
    (r"snare|\bsd\b", (38, 40)),
    (r"floor|low.*tom|tom\W*(low|lo|3|4)\b", (41, 43, 45)),
    (r"mid.*tom|tom\W*(mid|2)\b", (47, 45)),
    (r"tom", (50, 48)),
)
# Drums that replace each other: a key that a kit lacks is played by its nearest neighbour.
_GROUPS = (
    (35, 36),
    (37, 38, 40, 39),
    (44, 42, 46, 54, 69, 70, 82),
    (53, 51, 59, 57, 49, 55, 52),
    (41, 43, 45, 47, 48, 50),
)
_HATS = (42, 44, 46)
_FARTHEST = 60  # semitones by which a sample is transposed
_TEXTS = {
    "name": "name", "author": "engineer", "licence": "copyright", "license": "copyright",
    "info": "comment",
}  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    lowest: float
    highest: float
    gain: float
    pitch: float
    file: str


class Kit:
    """A Hydrogen drum kit in a folder.

    Attributes:
        info: Name, author and licence, as far as the kit states them.
        usable: Whether it has at least a kick, a snare and a closed hi-hat.

    Raises:
        UserError: If drumkit.xml is missing or unreadable.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)
        try:
            text = (self.path / "drumkit.xml").read_text(encoding="utf-8", errors="replace")
            root = ET.fromstring(re.sub(r'\sxmlns="[^"]+"', "", text))
            instruments = [self._instrument(item) for item in root.iter("instrument")]
        except (OSError, ET.ParseError, ValueError) as error:
            raise UserError(f"{folder} is not a Hydrogen drum kit ({error}).") from error
        self.info = {
            word: " ".join(text.split())
            for tag, word in _TEXTS.items()
            if (text := root.findtext(tag))
        }
        self._layers: dict[int, list[_Layer]] = {}
        for name, layers in instruments:
            keys = next((keys for words, keys in _KEYS if re.search(words, name)), ())
            for key in keys if layers else ():
                self._layers.setdefault(key, layers)
        for group in _GROUPS:
            owned = [i for i, key in enumerate(group) if key in self._layers]
            for i, key in enumerate(group) if owned else ():
                nearest = group[min(owned, key=lambda other: abs(other - i))]
                self._layers.setdefault(key, self._layers[nearest])
        self.usable = all(key in self._layers for key in (36, 38, 42))
        self._sample = lru_cache(maxsize=64)(self._read)

    def _instrument(self, item: ET.Element) -> tuple[str, list[_Layer]]:
        def number(element: ET.Element, tag: str, default: float) -> float:
            return float(element.findtext(tag) or default)

        volume = number(item, "volume", 1) * number(item, "gain", 1)
        layers = []
        # Old kits have one sample per instrument, and no layers.
        for layer in list(item.iter("layer")) or [item]:
            file = layer.findtext("filename") or ""
            if file and os.path.isfile(self._inside(file)):
                edges = number(layer, "min", 0), number(layer, "max", 1)
                gain = volume * number(layer, "gain", 1)
                if not abs(pitch := number(layer, "pitch", 0)) <= _FARTHEST:
                    raise ValueError(f"it transposes {file} by {pitch:g} semitones")
                layers.append(_Layer(*edges, gain, pitch, file))
        return (item.findtext("name") or "").lower(), sorted(layers, key=lambda e: e.lowest)

    def _inside(self, file: str) -> Path:
        """The path of a sample, which must be in the kit."""
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise ValueError(f"it names {file}, which is not inside it")
        return self.path / file

    def _read(self, file: str, pitch: float) -> Wave:
        try:
            wave, rate = sf.read(self.path / file, dtype="float32", always_2d=True)
        except (OSError, sf.LibsndfileError) as error:
            text = f"{self.path / file} cannot be read: reinstall the drum kit."
            raise UserError(text) from error
        return soxr.resample(wave.mean(1), rate * 2 ** (pitch / 12), SAMPLE_RATE)

    def play(
        self, notes: Iterable[Note], frames: int, gains: Gains | None = None, tuning: float = 0.0
    ) -> Wave:
        """Renders notes as `Player.play` does, but every sample sounds to its end.

        A closed hi-hat cuts an open one. Notes that the kit cannot play are left out.
        """
        voices = []
        for note in sorted(n for n in notes if n.pitch in self._layers):
            layers = self._layers[note.pitch]
            loudness = note.velocity / 127
            layer = next((e for e in layers if loudness <= e.highest), layers[-1])
            wave = self._sample(layer.file, round(layer.pitch + tuning, 1))
            gain = layer.gain * loudness**1.5 * (gains or {}).get(note.pitch, 1.0)
            group = int(note.pitch in _HATS)
            voices.append(Voice(round(note.start * SAMPLE_RATE), wave, gain, group))
        return mix_voices(voices, frames)
