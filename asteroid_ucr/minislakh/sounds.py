"""The sounds that stems are played with: soundfonts and drum kits, and how a stem draws one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pretty_midi

from asteroid_ucr.minislakh.kits import Kit
from asteroid_ucr.minislakh.notes import Note, Part, Wave
from asteroid_ucr.minislakh.player import Player
from asteroid_ucr.minislakh.soundfont import DRUM_BANK, SoundFont
from asteroid_ucr.utils.errors import UserError

# Programs from here on are orchestra and effect kits.
_KITS = 48
# A piano out of tune on purpose: only for songs that ask for it.
_HONKY_TONK = 3
# avldrums has one kick, and hats and cymbals where General MIDI has high toms.
_AVL_KEYS = {35: 36, 48: 47, 50: 47}


@dataclass(frozen=True)
class Preset:
    """One instrument of a source; `bank` and `program` count for soundfonts only."""

    source: SoundFont | Kit
    bank: int = 0
    program: int = 0

    @property
    def name(self) -> str:
        """Names the file and the instrument, for the metadata."""
        if isinstance(self.source, Kit):
            return self.source.path.name
        return f"{self.source.path.name}: {self.source.preset_name(self.bank, self.program)}"

    def play(
        self,
        notes: tuple[Note, ...],
        is_drum: bool,
        frames: int,
        gains: Mapping[int, float] | None = None,
        tuning: float = 0.0,
    ) -> Wave:
        """Renders notes as `Player.play` does; `is_drum` says whether pitches are drum keys."""
        if isinstance(self.source, Kit):
            return self.source.play(notes, frames, gains, tuning)
        if is_drum and self.bank != DRUM_BANK:
            notes = tuple(replace(n, pitch=_AVL_KEYS.get(n.pitch, n.pitch)) for n in notes)
        return Player(self.source, self.bank, self.program, tuning).play(notes, frames, gains)


def default_soundfont() -> Path:
    """The General MIDI soundfont that comes with pretty_midi."""
    return Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"


def open_sounds(paths: Iterable[str | Path]) -> list[SoundFont | Kit]:
    """Opens soundfonts, and the usable drum kits in folders.

    Args:
        paths: .sf2 or .sf3 files, Hydrogen drum kits, or folders of those.

    Raises:
        UserError: If a file cannot be read, a folder holds no usable kit, or the sources together
            lack melodic programs or drums.
    """
    sources: list[SoundFont | Kit] = []
    for path in map(Path, paths):
        if path.is_dir():
            kits = [Kit(xml.parent) for xml in sorted(path.rglob("drumkit.xml"))]
            if not any(kit.usable for kit in kits):
                raise UserError(
                    f"--soundfont {path} holds no Hydrogen drum kit with kick, snare and hi-hat."
                )
            sources += [kit for kit in kits if kit.usable]
        elif path.is_file():
            sources.append(SoundFont(path))
        else:
            raise UserError(
                f"--soundfont {path} does not exist: give an .sf2 or .sf3 file, or a folder of "
                "Hydrogen drum kits."
            )
    for is_drum, what in ((False, "melodic instruments"), (True, "drums")):
        if not any(_presets(source, is_drum) for source in sources):
            raise UserError(f"--soundfont gives no {what}: add a General MIDI soundfont.")
    return sources


def draw_preset(
    stem: Part, sources: Sequence[SoundFont | Kit], rng: np.random.Generator, varied: bool
) -> Preset:
    """Draws the instrument of a stem.

    Args:
        stem: The stem.
        sources: What `open_sounds` returned; all that have the stem's program may be drawn.
        rng: Chance.
        varied: Draw any program of the same family, or any drum kit, half of the time.
    """
    offers = [_matching(source, stem, exact=True) for source in sources]
    if varied:
        family = [_matching(source, stem, exact=False) for source in sources]
        swap = stem.is_drum or rng.random() < 0.5
        offers = family if swap or not any(offers) else offers
    if not any(offers):
        offers = [_presets(source, stem.is_drum) for source in sources]
    # A bank of many counts as three, so that single drum kits do not outnumber whole banks.
    weights = np.array([min(len(presets), 3) for presets in offers], dtype=float)
    presets = offers[int(rng.choice(len(offers), p=weights / weights.sum()))]
    return presets[int(rng.integers(len(presets)))]


def _presets(source: SoundFont | Kit, is_drum: bool) -> list[Preset]:
    """All drum kits, or all melodic instruments of General MIDI and its variations (bank 8)."""
    if isinstance(source, Kit):
        return [Preset(source)] if is_drum else []
    keys = sorted(source.presets)
    if len(keys) == 1:
        # A sampled kit by itself: most samples serve one key.
        widths = [zone.keys[1] - zone.keys[0] for zone in source.zones(*keys[0])]
        if widths and np.median(widths) == 0:
            return [Preset(source, *keys[0])] if is_drum else []
    if is_drum:
        return [Preset(source, bank, p) for bank, p in keys if bank == DRUM_BANK and p < _KITS]
    return [Preset(source, bank, p) for bank, p in keys if bank in (0, 8)]


def _matching(source: SoundFont | Kit, stem: Part, exact: bool) -> list[Preset]:
    presets = _presets(source, stem.is_drum)
    if stem.is_drum:
        same = [p for p in presets if p.program == stem.program and p.bank == DRUM_BANK]
        return (same or presets[:1]) if exact else presets
    if exact:
        return [p for p in presets if (p.bank, p.program) == (0, stem.program)]
    return [p for p in presets if p.program // 8 == stem.program // 8 and p.program != _HONKY_TONK]


def fingerprint(source: SoundFont | Kit) -> str:
    """SHA-256 of a soundfont, or of all files of a drum kit."""
    files = [source.path] if source.path.is_file() else sorted(source.path.rglob("*"))
    total = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    total.update(block)
    return total.hexdigest()


def describe(source: SoundFont | Kit) -> dict[str, str]:
    """Record of a source: file, digest, and what the source says about its origin and licence."""
    return {"file": source.path.name, "sha256": fingerprint(source), **source.info}
