"""Plays a preset of a soundfont: notes in, waveform out.

It implements the synthesis model of the SoundFont specification 2.04 (section 9) for single notes
without controllers: looped samples, volume and modulation envelopes, two oscillators, a resonant
low-pass filter, modulators and exclusive classes. Where the specification leaves a choice, the
result follows FluidSynth. Modulation envelopes hold their level when a note is released.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from asteroid_ucr.minislakh.notes import SAMPLE_RATE, Gains, Note, Wave
from asteroid_ucr.minislakh.soundfont import Gen, SoundFont, Zone

_LONGEST = 30.0  # seconds of a note
_RANGE = 96.0  # dB by which envelopes fall in their decay or release time
# Values of the MIDI controllers after a reset; all others are 0.
_CONTROLLERS = {7: 100, 10: 63.5, 11: 127, 91: 40}
# The generators that affect a held note, apart from its volume envelope.
_TONE = (*range(5, 12), Gen.MOD_LFO_VOLUME, *range(21, 30), 31, 32, Gen.VOLUME_ENV, 51, 52)
# Offsets into a sample: fine, and coarse in units of 32768 frames.
_OFFSETS = (
    (Gen.START, Gen.START_COARSE),
    (Gen.END, Gen.END_COARSE),
    (Gen.LOOP_START, Gen.LOOP_START_COARSE),
    (Gen.LOOP_END, Gen.LOOP_END_COARSE),
)
_BLOCK = 32  # frames with one cutoff

Generators = dict[int, float]


@dataclass
class Voice:
    """A sound `(time,)`: first frame, gain, and the group in which voices cut each other."""

    start: int
    wave: Wave
    gain: float
    group: int = 0


def mix_voices(voices: Iterable[Voice], frames: int) -> Wave:
    """Adds voices, given in the order of their first frames, and drops what exceeds the length.

    A voice cuts the earlier ones of its group in 50 ms.
    """
    out = np.zeros(frames, np.float32)
    sounding: dict[int, list[Voice]] = {}
    fade = np.linspace(1, 0, SAMPLE_RATE // 20, dtype=np.float32) ** 2
    voices = list(voices)
    for voice in (voice for voice in voices if voice.group):
        earlier = sounding.get(voice.group, [])
        for other in earlier:
            cut = voice.start - other.start
            if cut > 0:
                other.wave = other.wave[: cut + len(fade)].copy()
                tail = other.wave[cut:]
                tail *= fade[: len(tail)]
        sounding[voice.group] = [*(v for v in earlier if v.start == voice.start), voice]
    for voice in voices:
        stop = min(len(voice.wave), frames - voice.start)
        if stop > 0:
            out[voice.start : voice.start + stop] += voice.wave[:stop] * np.float32(voice.gain)
    return out


class Player:
    """Plays notes of one preset, which must exist, transposed by `tuning` semitones."""

    def __init__(self, font: SoundFont, bank: int, program: int, tuning: float = 0.0) -> None:
        self.font, self.tuning = font, tuning
        self.zones = font.zones(bank, program)
        self._tones: dict[tuple[int, ...], tuple[Wave, bool]] = {}

    def play(self, notes: Iterable[Note], frames: int, gains: Gains | None = None) -> Wave:
        """Renders notes as mono audio `(frames,)` at 44.1 kHz.

        Args:
            notes: Notes with times in seconds from the start of the result.
            frames: Length of the result in frames; what exceeds it is dropped.
            gains: Amplitude by pitch, where it is not one.
        """
        gains = gains or {}
        voices = (self._voices(note, gains.get(note.pitch, 1.0)) for note in sorted(notes))
        return mix_voices(chain.from_iterable(voices), frames)

    def _voices(self, note: Note, gain: float) -> Iterable[Voice]:
        """One voice for every zone that responds to the note."""
        for number, zone in enumerate(self.zones):
            (low, high), (soft, loud) = zone.keys, zone.velocities
            if not (low <= note.pitch <= high and soft <= note.velocity <= loud):
                continue
            fixed = zone.generators[Gen.FIXED_VELOCITY]
            generators = modulate(zone, note.pitch, fixed if fixed >= 0 else note.velocity)
            envelope = _Envelope.of(generators, Gen.VOLUME_ENV, note.pitch)
            release = max(envelope.release, 0.005)
            seconds = min(note.length + min(0.8 * release, 8.0), _LONGEST)
            wave = self._tone(number, note.pitch, generators, round(seconds * SAMPLE_RATE))
            held = min(round(note.length * SAMPLE_RATE), len(wave))
            # The release replaces the decay and starts from the current level of the envelope.
            shape = envelope.volume(held + 1)
            slope = np.float32(-np.log(10) / 20 * _RANGE / (release * SAMPLE_RATE))
            fall = np.exp(slope * np.arange(len(wave) - held, dtype=np.float32))
            wave = wave * np.concatenate([shape[:-1], shape[-1] * fall])
            end = min(len(wave), 64)
            wave[len(wave) - end :] *= np.linspace(1, 0, end, dtype=np.float32)
            pan = np.pi / 2 * (np.clip(generators[Gen.PAN], -500, 500) / 1000 + 0.5)
            # As in E-mu's hardware, 1 dB of attenuation in the file means 0.4 dB; the share that
            # modulators add counts fully.
            attenuation = generators[Gen.ATTENUATION] - 0.6 * zone.generators[Gen.ATTENUATION]
            level = 10 ** (-attenuation / 200) * (np.cos(pan) + np.sin(pan)) / 2
            group = zone.generators[Gen.EXCLUSIVE_CLASS]
            yield Voice(round(note.start * SAMPLE_RATE), wave, float(gain * level), group)

    def _tone(self, number: int, key: int, generators: Generators, frames: int) -> Wave:
        """A held note without its volume envelope, `frames` long or shorter if the sample ends.

        It is kept for later notes with the same key.
        """
        generators = {**generators, Gen.CUTOFF: 50 * round(generators[Gen.CUTOFF] / 50)}
        cache_key = (number, key, *(round(generators[g]) for g in _TONE))
        known = self._tones.get(cache_key)
        if not known or (known[1] and len(known[0]) < frames):
            length = round(1.5 * frames) if known else max(frames, SAMPLE_RATE // 2)
            wave = self._pitched(number, key, generators, length)
            goes_on = len(wave) == length
            known = self._tones[cache_key] = _coloured(wave, key, generators), goes_on
        return known[0][:frames]

    def _pitched(self, number: int, key: int, generators: Generators, frames: int) -> Wave:
        """The sample at the pitch of a key, `frames` long or shorter if the sample ends."""
        zone, at = self.zones[number], self.zones[number].generators
        sample = self.font.sample(zone.sample)
        shift, end, loop_start, loop_end = (at[g] + 32768 * at[c] for g, c in _OFFSETS)
        first, last = max(0, shift), len(sample.wave) + min(0, end)
        loop = sample.loop[0] - first + loop_start, sample.loop[1] - first + loop_end
        root = at[Gen.ROOT_KEY] if at[Gen.ROOT_KEY] >= 0 else sample.key
        played = at[Gen.FIXED_KEY] if at[Gen.FIXED_KEY] >= 0 else key
        cents = (played - root) * at[Gen.SCALE_TUNING] + 100 * self.tuning + sample.correction
        cents += 100 * generators[Gen.COARSE_TUNE] + generators[Gen.FINE_TUNE]
        silent = round(_seconds(generators[Gen.VOLUME_ENV]) * SAMPLE_RATE)
        bend = self._bend(key, generators, max(0, frames - silent))
        step = sample.rate / SAMPLE_RATE * 2 ** (cents / 1200)
        if bend is None:
            positions = np.arange(max(0, frames - silent)) * step
        else:
            positions = np.cumsum(np.concatenate([[0.0], step * 2 ** (bend[:-1] / 1200)]))
        loops = at[Gen.LOOPS] in (1, 3)
        wave = _read(sample.wave[first:last], loop if loops else None, positions)
        return np.concatenate([np.zeros(silent, np.float32), wave])[:frames] if silent else wave

    def _bend(self, key: int, generators: Generators, frames: int) -> NDArray[np.float64] | None:
        """Deviation from the pitch of the note in cents over time; None if there is none."""
        bends = []
        if abs(depth := generators[Gen.MOD_ENV_PITCH]) >= 1:
            bends.append(depth * _Envelope.of(generators, Gen.MOD_ENV, key).modulation(frames))
        for name in ("VIB_LFO", "MOD_LFO"):
            if abs(depth := generators[Gen[f"{name}_PITCH"]]) >= 1:
                bends.append(depth * _oscillator(generators, Gen[f"{name}_DELAY"], frames))
        return sum(bends[1:], bends[0]) if bends else None


def _coloured(wave: Wave, key: int, generators: Generators) -> Wave:
    """Applies the low-pass filter and the tremolo."""
    cutoff, resonance = generators[Gen.CUTOFF], round(generators[Gen.RESONANCE])
    by_envelope = generators[Gen.MOD_ENV_CUTOFF]
    by_lfo = generators[Gen.MOD_LFO_CUTOFF]
    if abs(by_envelope) >= 1 or abs(by_lfo) >= 1:
        blocks = -(-len(wave) // _BLOCK)
        envelope = _Envelope.of(generators, Gen.MOD_ENV, key).modulation(blocks, _BLOCK)
        swing = _oscillator(generators, Gen.MOD_LFO_DELAY, blocks, _BLOCK)
        wave = _sweep(wave, cutoff + by_envelope * envelope + by_lfo * swing, resonance)
    elif cutoff < 13500 or resonance > 10:
        wave = lfilter(*_lowpass(int(cutoff), resonance), wave)
    if abs(tremolo := generators[Gen.MOD_LFO_VOLUME]) >= 1:
        swing = _oscillator(generators, Gen.MOD_LFO_DELAY, len(wave))
        wave = wave * (10 ** (tremolo / 200 * swing)).astype(np.float32)
    return wave


def modulate(zone: Zone, key: int, velocity: int) -> Generators:
    """Generators of a zone with all that its modulators add for one note (section 9.5)."""
    generators: Generators = dict(zone.generators)
    for modulator, amount in zone.modulators:
        if modulator.source == 0 or amount == 0:
            continue
        value = amount * _controller(modulator.source, key, velocity)
        if modulator.amount_source:
            value *= _controller(modulator.amount_source, key, velocity)
        if modulator.transform == 2:
            value = abs(value)
        generators[modulator.generator] = generators.get(modulator.generator, 0) + value
    return generators


def _controller(code: int, key: int, velocity: int) -> float:
    """A modulator's source, mapped to [0, 1] or [-1, 1] (sections 8.2 and 9.5)."""
    index, curve = code & 0x7F, code >> 10
    is_midi, falls, bipolar = (bool(code & bit) for bit in (0x80, 0x100, 0x200))
    # Note-on velocity, key, pitch wheel, and its sensitivity of two semitones.
    inner = {2: velocity, 3: key, 14: 63.5, 16: 2}
    value = (_CONTROLLERS if is_midi else inner).get(index, 0) / 127
    value = 1 - value if falls else value
    sign = 1.0
    if bipolar:
        value, sign = abs(2 * value - 1), float(np.sign(2 * value - 1))
    if curve in (1, 2):
        # Concave, and convex as its mirror image: 96 dB over the whole range.
        value = value if curve == 1 else 1 - value
        bent = 1.0 if value >= 1 else min(1.0, -40 / _RANGE * np.log10(1 - value))
        value = bent if curve == 1 else 1 - bent
    elif curve == 3:
        value = float(value >= 0.5)
    return sign * value


def _seconds(timecents: float) -> float:
    """Absolute timecents in seconds; the lowest value means 0 (section 8.1.2)."""
    return 0.0 if timecents <= -11999 else float(2 ** (min(timecents, 8000) / 1200))


@dataclass(frozen=True)
class _Envelope:
    """Times in seconds, and `sustain` in the unit of its generator, 0 to 1000."""

    delay: float
    attack: float
    hold: float
    decay: float
    release: float
    sustain: float

    @staticmethod
    def of(generators: Generators, first: Gen, key: int) -> _Envelope:
        """The envelope whose first generator is given; higher keys shorten hold and decay."""
        values = [generators[first + i] for i in range(8)]
        delay, attack, hold, decay, sustain, release, to_hold, to_decay = values
        hold, decay = hold + to_hold * (60 - key), decay + to_decay * (60 - key)
        times = map(_seconds, (delay, attack, hold, decay, release))
        return _Envelope(*times, float(np.clip(sustain, 0, 1000)))

    def volume(self, frames: int) -> Wave:
        """Amplitude while the note is held: linear attack, exponential decay."""
        time = np.arange(frames, dtype=np.float32) / SAMPLE_RATE - np.float32(self.delay)
        if self.sustain > 0:
            fall = np.maximum(0, time - np.float32(self.attack + self.hold))
            fall *= np.float32(_RANGE / max(self.decay, 1e-3))
            level = np.exp(np.minimum(fall, self.sustain / 10) * np.float32(-np.log(10) / 20))
        else:
            level = np.ones(frames, np.float32)
        if self.attack > 0:
            level *= np.clip(time / np.float32(self.attack), 0, 1)
        return level

    def modulation(self, frames: int, hop: int = 1) -> NDArray[np.float64]:
        """Level from 0 to 1 while the note is held, with linear attack and decay."""
        time = np.arange(frames) * (hop / SAMPLE_RATE) - self.delay
        rise = np.clip(time / self.attack, 0, 1) if self.attack > 0 else (time >= 0) * 1.0
        fall = 1 - np.maximum(0, time - self.attack - self.hold) / max(self.decay, 1e-3)
        return np.minimum(rise, np.maximum(fall, 1 - self.sustain / 1000))


def _oscillator(at: Generators, delay: Gen, frames: int, hop: int = 1) -> NDArray[np.float64]:
    """Triangle wave from -1 to 1 that starts at 0; the generator after `delay` is its rate."""
    rate = 8.176 * 2 ** (at[delay + 1] / 1200)
    time = np.arange(frames) * (hop / SAMPLE_RATE) - _seconds(at[delay])
    return 1 - 4 * np.abs((np.maximum(0, time) * rate + 0.75) % 1 - 0.5)


def _read(wave: Wave, loop: tuple[int, int] | None, positions: NDArray[np.float64]) -> Wave:
    """Reads a sample at fractional positions by cubic Hermite interpolation."""
    if loop and 0 <= loop[0] <= loop[1] - 8 and loop[1] <= len(wave):
        beyond = int(positions[-1]) + 4 - loop[1] if len(positions) else 0
        if beyond > 0:
            turns = beyond // (loop[1] - loop[0]) + 1
            wave = np.concatenate([wave[: loop[1]], np.tile(wave[loop[0] : loop[1]], turns)])
    else:
        positions = positions[: np.searchsorted(positions, len(wave))]
    index = positions.astype(np.int32)
    part = (positions - index).astype(np.float32)
    padded = np.concatenate([np.zeros(1, np.float32), wave, np.zeros(4, np.float32)])
    a, b, c, d = (padded[index + i] for i in range(4))
    slope = 0.5 * (c - a)
    third = 0.5 * (d - a) + 1.5 * (b - c)
    return ((third * part + (a - 2.5 * b + 2 * c - 0.5 * d)) * part + slope) * part + b


def _sweep(wave: Wave, path: NDArray[np.float64], resonance: int) -> Wave:
    """Filters with a cutoff in cents per block, which moves in steps of a third of a semitone."""
    steps = np.round(path / 33).astype(int)
    edges = [0, *(np.flatnonzero(np.diff(steps)) + 1), len(steps)]
    out, state = np.empty_like(wave), np.zeros(2, np.float32)
    for start, stop in pairwise(edges):
        part = slice(start * _BLOCK, stop * _BLOCK)
        filters = _lowpass(33 * int(steps[start]), resonance)
        out[part], state = lfilter(*filters, wave[part], zi=state)
    return out


@lru_cache(maxsize=4096)
def _lowpass(cutoff: int, resonance: int) -> tuple[Wave, Wave]:
    """Two-pole low-pass filter of a cutoff in cents and a resonance in centibels (8.1.3)."""
    frequency = np.clip(8.176 * 2 ** (cutoff / 1200), 5.0, 0.45 * SAMPLE_RATE)
    quality = 10 ** ((np.clip(resonance / 10, 0, 96) - 3.01) / 20)
    angle = 2 * np.pi * frequency / SAMPLE_RATE
    width, cosine = np.sin(angle) / (2 * quality), np.cos(angle)
    gain = min(1.0, quality**-0.5) / (1 + width)
    b = gain * np.array([(1 - cosine) / 2, 1 - cosine, (1 - cosine) / 2])
    a = np.array([1 + width, -2 * cosine, 1 - width]) / (1 + width)
    return b.astype(np.float32), a.astype(np.float32)
