"""The sounds that stems are played with: soundfonts and drum kits, and how a stem draws one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pretty_midi

from asteroid_ucr.minislakh.kits import Kit
from asteroid_ucr.minislakh.notes import Gains, Note, Part, Wave
from asteroid_ucr.minislakh.player import Player
from asteroid_ucr.minislakh.soundfont import DRUM_BANK, SoundFont
from asteroid_ucr.utils.errors import UserError

Source = SoundFont | Kit

# Programs from this one on are orchestra and effect kits.
_KITS = 48
# This piano is out of tune on purpose, and used only in songs that ask for it.
_HONKY_TONK = 3
# The kits of avldrums have one kick, and hats and cymbals in place of high toms.
_AVL_KEYS = {35: 36, 48: 47, 50: 47}


@dataclass(frozen=True)
class Preset:
    """One instrument of a source; all that follows applies to soundfonts only."""

    source: Source
    bank: int = 0
    program: int = 0
    is_kit: bool = False  # whether it is a drum kit in a file of its own

    @property
    def name(self) -> str:
        """Names of the file and the instrument, for the metadata."""
        if isinstance(self.source, Kit):
            return self.source.path.name
        return f"{self.source.path.name}: {self.source.preset_name(self.bank, self.program)}"

    def play(
        self, notes: tuple[Note, ...], frames: int, gains: Gains | None = None, tuning: float = 0.0
    ) -> Wave:
        """Renders notes as `Player.play` does, transposed by `tuning` semitones."""
        if isinstance(self.source, Kit):
            return self.source.play(notes, frames, gains, tuning)
        if self.is_kit and self.bank != DRUM_BANK:
            notes = tuple(replace(n, pitch=_AVL_KEYS.get(n.pitch, n.pitch)) for n in notes)
        return Player(self.source, self.bank, self.program, tuning).play(notes, frames, gains)


def default_soundfont() -> Path:
    """The General MIDI soundfont that comes with pretty_midi."""
    return Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"


def open_sounds(paths: Iterable[str | Path]) -> list[Source]:
    """Opens soundfonts, and the usable drum kits in folders.

    Args:
        paths: .sf2 or .sf3 files, Hydrogen drum kits, or folders of those.

    Raises:
        UserError: If a file cannot be read, a folder holds no usable kit, or the sources together
            lack melodic programs or drums.
    """
    sources: list[Source] = []
    for path in map(Path, paths):
        if path.is_dir():
            kits = [Kit(xml.parent) for xml in sorted(path.rglob("drumkit.xml"))]
            usable = [kit for kit in kits if kit.usable]
            if not usable:
                raise UserError(
                    f"--soundfont {path} holds no Hydrogen drum kit with kick, snare and hi-hat."
                )
            sources += usable
        elif path.is_file():
            sources.append(SoundFont(path))
        else:
            raise UserError(
                f"--soundfont {path} does not exist: give an .sf2 or .sf3 file, or a folder of "
                "Hydrogen drum kits."
            )
    for is_drum, what in ((False, "melodic instruments"), (True, "drums")):
        if not any(_presets(source, is_drum) for source in sources):
            raise UserError(f"--soundfont holds no {what}: add a General MIDI soundfont.")
    return sources


def draw_preset(
    part: Part, sources: Sequence[Source], rng: np.random.Generator, varied: bool
) -> Preset:
    """Draws the instrument of a part.

    Args:
        part: What the stem plays.
        sources: Result of `open_sounds`; each source that has the program may be drawn.
        rng: Random stream.
        varied: Whether to draw any drum kit, and half of the time any program of the family.
    """
    offers = [_matching(source, part, exact=True) for source in sources]
    if varied:
        family = [_matching(source, part, exact=False) for source in sources]
        swap = part.is_drum or rng.random() < 0.5
        offers = family if swap or not any(offers) else offers
    if not any(offers):
        offers = [_presets(source, part.is_drum) for source in sources]
    # Banks of several presets count as three at most, single drum kits as one.
    weights = np.array([min(len(presets), 3) for presets in offers], dtype=float)
    presets = offers[int(rng.choice(len(offers), p=weights / weights.sum()))]
    return presets[int(rng.integers(len(presets)))]


def _presets(source: Source, is_drum: bool) -> list[Preset]:
    """All drum kits, or all melodic instruments of General MIDI and its variations (bank 8)."""
    if isinstance(source, Kit):
        return [Preset(source)] if is_drum else []
    keys = sorted(source.presets)
    if len(keys) == 1:
        # A file with a single preset is a drum kit if most of its samples serve one key.
        widths = [zone.keys[1] - zone.keys[0] for zone in source.zones(*keys[0])]
        if widths and np.median(widths) == 0:
            return [Preset(source, *keys[0], is_kit=True)] if is_drum else []
    if is_drum:
        return [Preset(source, bank, p) for bank, p in keys if bank == DRUM_BANK and p < _KITS]
    return [Preset(source, bank, p) for bank, p in keys if bank in (0, 8)]


def _matching(source: Source, part: Part, exact: bool) -> list[Preset]:
    """Presets with the program of a part, or with any program of its family."""
    presets = _presets(source, part.is_drum)
    if part.is_drum:
        same = [p for p in presets if p.program == part.program and p.bank == DRUM_BANK]
        return (same or presets[:1]) if exact else presets
    if exact:
        return [p for p in presets if (p.bank, p.program) == (0, part.program)]
    return [p for p in presets if p.program // 8 == part.program // 8 and p.program != _HONKY_TONK]


def describe(source: Source) -> dict[str, str]:
    """Record of a source: its file, its SHA-256, and what it states about origin and licence."""
    files = [source.path] if source.path.is_file() else sorted(source.path.rglob("*"))
    total = hashlib.sha256()
    for file in filter(Path.is_file, files):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return {"file": source.path.name, "sha256": total.hexdigest(), **source.info}
