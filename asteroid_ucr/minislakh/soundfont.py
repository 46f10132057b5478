"""Reads SoundFont files (.sf2, and .sf3 with Ogg Vorbis samples): presets, zones and samples.

Section numbers refer to the SoundFont Technical Specification, version 2.04 (E-mu Systems, 2006).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from asteroid_ucr.utils.errors import UserError

DRUM_BANK = 128


class Gen(IntEnum):
    """Generators (section 8.1.2): times in timecents, frequencies in cents, levels in centibels."""

    START, END, LOOP_START, LOOP_END, START_COARSE = 0, 1, 2, 3, 4
    MOD_LFO_PITCH, VIB_LFO_PITCH, MOD_ENV_PITCH = 5, 6, 7
    CUTOFF, RESONANCE, MOD_LFO_CUTOFF, MOD_ENV_CUTOFF = 8, 9, 10, 11
    END_COARSE, MOD_LFO_VOLUME, PAN = 12, 13, 17
    MOD_LFO_DELAY, MOD_LFO_RATE, VIB_LFO_DELAY, VIB_LFO_RATE = 21, 22, 23, 24
    # Delay, attack, hold, decay, sustain, release, key to hold, key to decay.
    MOD_ENV, VOLUME_ENV = 25, 33
    INSTRUMENT, KEYS, VELOCITIES, LOOP_START_COARSE = 41, 43, 44, 45
    FIXED_KEY, FIXED_VELOCITY, ATTENUATION, LOOP_END_COARSE = 46, 47, 48, 50
    COARSE_TUNE, FINE_TUNE, SAMPLE, LOOPS, SCALE_TUNING = 51, 52, 53, 54, 56
    EXCLUSIVE_CLASS, ROOT_KEY = 57, 58


# Section 8.1.3.
_DEFAULTS = {
    **dict.fromkeys(range(61), 0),
    Gen.CUTOFF: 13500,
    **dict.fromkeys((Gen.MOD_LFO_DELAY, Gen.VIB_LFO_DELAY), -12000),
    **{env + i: -12000 for env in (Gen.MOD_ENV, Gen.VOLUME_ENV) for i in (0, 1, 2, 3, 5)},
    **dict.fromkeys((Gen.FIXED_KEY, Gen.FIXED_VELOCITY, Gen.ROOT_KEY), -1),
    Gen.SCALE_TUNING: 100,
}
# Presets may not change these (section 8.5); ranges are intersected instead.
_INSTRUMENT_ONLY = {
    *(Gen.START, Gen.END, Gen.LOOP_START, Gen.LOOP_END, Gen.START_COARSE, Gen.END_COARSE),
    *(Gen.LOOP_START_COARSE, Gen.LOOP_END_COARSE, Gen.FIXED_KEY, Gen.FIXED_VELOCITY, Gen.LOOPS),
    *(Gen.EXCLUSIVE_CLASS, Gen.ROOT_KEY, Gen.KEYS, Gen.VELOCITIES, Gen.INSTRUMENT, Gen.SAMPLE),
}


@dataclass(frozen=True)
class Modulator:
    """Adds `amount`, scaled by two controllers, to a generator (sections 7.4 and 8.2)."""

    source: int
    generator: int
    amount_source: int
    transform: int


# Section 8.4.1. Velocity to cutoff (8.4.2) is left out, as FluidSynth does: later revisions of the
# specification disagree about it. The other defaults are constant without controllers.
_DEFAULT_MODULATORS = {Modulator(0x0502, Gen.ATTENUATION, 0, 0): 960}

# Fields of the records of each chunk (section 7), as numpy's types.
_BAG, _GENERATOR = "gen:<u2 mod:<u2", "generator:<u2 amount:<i2"
_MODULATOR = "source:<u2 generator:<u2 amount:<i2 amount_source:<u2 transform:<u2"
_RECORDS = {
    b"phdr": "name:S20 program:<u2 bank:<u2 bag:<u2 unused:V12",
    b"inst": "name:S20 bag:<u2",
    b"shdr": "name:S20 start:<u4 end:<u4 loop_start:<u4 loop_end:<u4 rate:<u4 pitch:u1 "
    "correction:i1 link:<u2 type:<u2",
    **{b"pbag": _BAG, b"pgen": _GENERATOR, b"pmod": _MODULATOR},
    **{b"ibag": _BAG, b"igen": _GENERATOR, b"imod": _MODULATOR},
}
# Presets and instruments: header, first letter of their chunks, what their zones name, and where.
_LEVELS = ((b"phdr", b"p", Gen.INSTRUMENT, b"inst"), (b"inst", b"i", Gen.SAMPLE, b"shdr"))
_TEXTS = {b"INAM": "name", b"IENG": "engineer", b"ICOP": "copyright", b"ICMT": "comment"}
_ROM, _VORBIS = 0x8000, 0x10


@dataclass(frozen=True)
class Zone:
    """A sample with the keys and velocities that it is for, its generators and modulators."""

    keys: tuple[int, int]
    velocities: tuple[int, int]
    generators: dict[int, int]
    modulators: tuple[tuple[Modulator, int], ...]
    sample: int


@dataclass(frozen=True)
class Sample:
    """Audio `(time,)` in [-1, 1], its loop in frames, rate in Hz, key and correction in cents."""

    wave: NDArray[np.float32]
    loop: tuple[int, int]
    rate: int
    key: int
    correction: int


class SoundFont:
    """A soundfont, mapped into memory so that only the samples in use are read.

    Attributes:
        presets: Number of the preset's header by (bank, program).
        info: Name, engineer, copyright and comment, as far as the file states them.

    Raises:
        UserError: If the file is missing, truncated or not a soundfont.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"The soundfont {path} is not a file: give an .sf2 or .sf3 file.")
        try:
            raw = np.memmap(self.path, np.uint8, "r")
            if raw[:4].tobytes() != b"RIFF" or raw[8:12].tobytes() != b"sfbk":
                raise ValueError("it is not a RIFF file of type sfbk")
            chunks = dict(_chunks(raw, 12, len(raw)))
            self._samples = chunks[b"smpl"]
            self._records = {
                name: np.frombuffer(
                    chunks[name].tobytes(), [tuple(f.split(":")) for f in fields.split()]
                )
                for name, fields in _RECORDS.items()
            }
            self._check()
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise UserError(
                f"{path} is not a soundfont that can be read ({error}): give another file."
            ) from error
        self.info = {
            word: chunks[name].tobytes().split(b"\0")[0].decode("latin1").strip()
            for name, word in _TEXTS.items()
            if name in chunks
        }
        heads = self._records[b"phdr"][:-1]
        self.presets = {(int(h["bank"]), int(h["program"])): i for i, h in enumerate(heads)}
        self.zones = lru_cache(maxsize=64)(self._zones)
        self.sample = lru_cache(maxsize=512)(self._sample)

    def _check(self) -> None:
        """Refuses files whose records refer to records that do not exist."""
        for head, kind, terminal, target in _LEVELS:
            bags, generators = self._records[kind + b"bag"], self._records[kind + b"gen"]
            named = generators["amount"][generators["generator"] == terminal]
            for name in (head, kind + b"bag"):
                columns = {"bag", "gen", "mod"} & set(self._records[name].dtype.names)
                if any((np.diff(self._records[name][c].astype(int)) < 0).any() for c in columns):
                    raise ValueError(f"damaged chunk {name.decode()}")  # section 7.2
            for name, column, last in (
                (head, self._records[head]["bag"], len(bags) - 1),
                (kind + b"bag", bags["gen"], len(generators)),
                (kind + b"bag", bags["mod"], len(self._records[kind + b"mod"])),
                (kind + b"gen", named, len(self._records[target]) - 2),
            ):
                if (column < 0).any() or (column > last).any():
                    raise ValueError(f"damaged chunk {name.decode()}")
            if len(self._records[head]) < 2 or len(bags) < 2:
                raise ValueError(f"empty chunk {head.decode()}")

    def preset_name(self, bank: int, program: int) -> str:
        """Name of an existing preset."""
        name = self._records[b"phdr"][self.presets[bank, program]]["name"]
        return name.split(b"\0")[0].decode("latin1").strip()

    def _zones(self, bank: int, program: int) -> tuple[Zone, ...]:
        """Zones of a preset: every sample of each of its instruments (section 9.4)."""
        zones = []
        for outer, added in self._level(0, self.presets[bank, program]):
            for inner, modulators in self._level(1, outer[Gen.INSTRUMENT]):
                sample = inner[Gen.SAMPLE]
                if int(self._records[b"shdr"][sample]["type"]) & _ROM:
                    continue
                generators = {**_DEFAULTS, **inner}
                for generator, amount in outer.items():
                    if generator not in _INSTRUMENT_ONLY:
                        generators[generator] = generators.get(generator, 0) + amount
                # Modulators of the instrument replace the defaults; those of the preset are added.
                merged = {**_DEFAULT_MODULATORS, **modulators}
                for modulator, amount in added.items():
                    merged[modulator] = merged.get(modulator, 0) + amount
                keys, velocities = (_range(g, outer, inner) for g in (Gen.KEYS, Gen.VELOCITIES))
                zones.append(Zone(keys, velocities, generators, tuple(merged.items()), sample))
        return tuple(zones)

    def _level(
        self, level: int, number: int
    ) -> Iterator[tuple[dict[int, int], dict[Modulator, int]]]:
        """Generators and modulators of the zones of one preset or instrument (section 7.3).

        The first zone is global if it names no instrument or sample; others like it are ignored.
        """
        head, kind, terminal, _ = _LEVELS[level]
        first, last = (int(self._records[head][number + i]["bag"]) for i in (0, 1))
        shared: tuple[dict[int, int], dict[Modulator, int]] = ({}, {})
        for bag in range(first, last):
            start, stop = self._records[kind + b"bag"][bag : bag + 2]
            generators = {
                int(g["generator"]): int(g["amount"])
                for g in self._records[kind + b"gen"][start["gen"] : stop["gen"]]
            }
            modulators = {
                Modulator(*(int(m[f]) for f in Modulator.__dataclass_fields__)): int(m["amount"])
                for m in self._records[kind + b"mod"][start["mod"] : stop["mod"]]
            }
            if terminal in generators:
                yield {**shared[0], **generators}, {**shared[1], **modulators}
            elif bag == first:
                shared = generators, modulators

    def _sample(self, number: int) -> Sample:
        header = self._records[b"shdr"][number]
        start, end = int(header["start"]), int(header["end"])
        loop = int(header["loop_start"]), int(header["loop_end"])
        if int(header["type"]) & _VORBIS:
            # Addresses are in bytes here, and loops relative to the start of the sample.
            try:
                wave, _ = sf.read(io.BytesIO(self._samples[start:end].tobytes()), dtype="float32")
            except sf.LibsndfileError as error:
                raise UserError(f"{self.path} holds a sample that cannot be decoded.") from error
            wave = wave if wave.ndim == 1 else wave[:, 0]
        else:
            words = self._samples[2 * start : 2 * end]
            wave = np.frombuffer(words[: len(words) // 2 * 2].tobytes(), "<i2") / np.float32(32768)
            loop = loop[0] - start, loop[1] - start
        key, rate = int(header["pitch"]), max(1, int(header["rate"]))
        return Sample(wave, loop, rate, key if key < 128 else 60, int(header["correction"]))


def _chunks(
    raw: NDArray[np.uint8], at: int, end: int, lists: bool = True
) -> Iterator[tuple[bytes, Any]]:
    """All chunks of a RIFF file below its lists."""
    while at + 8 <= end:
        tag, size = raw[at : at + 4].tobytes(), int(raw[at + 4 : at + 8].view("<u4")[0])
        stop = at + 8 + size
        if stop > end:
            raise ValueError("it is truncated")
        if tag == b"LIST" and lists:  # lists hold no lists
            yield from _chunks(raw, at + 12, stop, False)
        else:
            yield tag, raw[at + 8 : stop]
        # Chunks of odd size are padded, but some programs that write .sf3 files do not do so.
        at = stop + (size & 1 and not raw[stop : stop + 4].tobytes().isalnum())


def _range(generator: Gen, *levels: dict[int, int]) -> tuple[int, int]:
    """Lowest and highest key or velocity that every level accepts."""
    words = [level[generator] & 0xFFFF for level in levels if generator in level]
    return max([0, *(w & 0xFF for w in words)]), min([127, *(w >> 8 for w in words)])
