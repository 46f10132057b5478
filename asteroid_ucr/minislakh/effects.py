"""Effects as a mixing engineer would use them, drawn for each stem by its instrument family.

Drums are tuned and balanced; drive, compression, chorus, equaliser and reverberation follow. The
linear effects (equaliser, cuts, reverberation) form one impulse response and take one convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, oaconvolve

from asteroid_ucr.minislakh.notes import SAMPLE_RATE, Note, Part, Wave

KICKS = (35, 36)
_CYMBALS = (42, 44, 46, 49, 51, 52, 53, 55, 57, 59)
_TAPS = 4096


@dataclass(frozen=True)
class Effects:
    """How a stem sounds, apart from its instrument."""

    tuning: float = 0.0  # semitones by which a drum kit is tuned
    touch: float = 1.0  # exponent of velocities; above 1, soft notes become softer
    keys: tuple[tuple[int, float], ...] = ()  # gains in dB by drum key
    # Of the kick drum: tuning in semitones, gain in dB below `kick_corner` in Hz, and the level and
    # the length in seconds of an added boom. None leaves it as it is.
    kick: tuple[float, float, float, float] | None = None
    kick_corner: float = 80.0
    drive: float = 0.0  # saturation, up to about 4
    ratio: float = 1.0  # of the compressor
    attack: float = 0.01  # of the compressor, in seconds
    chorus: float = 0.0  # level of a detuned copy, 0 to 1
    depth: float = 2.0  # peak deviation of the delay of that copy in ms
    curve: tuple[tuple[float, float, float], ...] = ()  # bells: centre in Hz, dB, octaves
    tilt: float = 0.0  # slope of the spectrum around 1 kHz in dB per octave
    low_cut: float = 25.0  # Hz below which, and above which, the spectrum falls by 12 dB per octave
    high_cut: float = np.inf
    plate: bool = False  # whether the reverberation is a plate rather than the room of the song
    wet: float = 0.0  # amplitude of the reverberation


def draw_effects(rng: np.random.Generator, part: Part) -> Effects:
    """Draws the effects of a stem, so that no two songs have the same bass or drum kit."""

    def log(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    def maybe(chance: float, value: float, otherwise: float) -> float:
        return value if rng.random() < chance else otherwise

    bells = tuple(
        (log(low, high), float(rng.normal(0, 3)), 1.0)
        for low, high in ((60, 300), (300, 1500), (1500, 6000))
    )
    plate = bool(rng.random() < 0.3)
    if part.inst_class == "Drums":
        # The cymbals of soundfonts are louder than those of records.
        keys = {key: float(rng.normal(0, 2)) for key in range(27, 88)}
        keys |= {key: keys[key] - float(rng.uniform(0, 8)) for key in _CYMBALS}
        kick = None
        if rng.random() < 0.7:
            # From a dry click to a boom with a tail.
            tuning, gain = float(rng.uniform(-9, 2)), float(rng.uniform(-8, 12))
            kick = tuning, gain, maybe(0.4, log(0.1, 1.0), 0.0), log(0.08, 0.6)
        return Effects(
            tuning=float(rng.uniform(-3.5, 3.0)), touch=float(rng.uniform(1.0, 1.7)),
            keys=tuple(keys.items()), kick=kick, kick_corner=log(50, 110),
            drive=maybe(0.3, log(0.4, 1.5), 0.0), ratio=maybe(0.3, log(1.5, 4), 1.0),
            attack=log(0.005, 0.03), curve=bells, tilt=float(rng.normal(-0.5, 0.8)), plate=plate,
            wet=maybe(0.85, log(0.03, 0.4), 0.0),
        )  # fmt: skip
    if part.inst_class == "Bass":
        # Most recorded basses peak between 100 and 250 Hz.
        body = (log(90, 280), float(rng.uniform(0, 9)), 1.2)
        sub = (40.0, float(rng.uniform(-14, 3)), 1.0)
        return Effects(
            drive=maybe(0.6, log(0.5, 4), 0.0), ratio=maybe(0.6, log(2, 6), 1.0),
            attack=log(0.003, 0.03), chorus=maybe(0.12, float(rng.uniform(0.2, 0.6)), 0.0),
            curve=(*bells[1:], body, sub), tilt=float(rng.uniform(-2, 3)), low_cut=log(22, 70),
            high_cut=maybe(0.5, log(1500, 10000), np.inf), plate=plate,
            wet=maybe(0.4, log(0.01, 0.08), 0.0),
        )  # fmt: skip
    amplified = 26 <= part.program < 32
    modulated = amplified or part.program in (4, 5) or part.program // 8 in (2, 10, 11)
    return Effects(
        drive=maybe(0.5 if amplified else 0.15, log(0.4, 3 if amplified else 1.2), 0.0),
        ratio=maybe(0.35, log(1.5, 4), 1.0), attack=log(0.005, 0.05),
        chorus=maybe(0.4 if modulated else 0.1, float(rng.uniform(0.2, 0.8)), 0.0),
        depth=float(rng.uniform(1, 4)), curve=bells,
        # The samples of soundfonts are recorded closely, and therefore bright.
        tilt=float(rng.uniform(-4.0, 1.0)), low_cut=log(25, 120),
        high_cut=maybe(0.4, log(2500, 12000), np.inf), plate=plate,
        wet=maybe(0.9, log(0.03, 0.5), 0.0),
    )  # fmt: skip


def shape_kick(wave: Wave, notes: tuple[Note, ...], effects: Effects) -> Wave:
    """Makes a kick drum `(time,)` thinner or heavier, and adds a boom to each note."""
    if effects.kick is None or not wave.any():
        return wave
    _, gain, boom, length = effects.kick
    out = wave
    for _ in range(2):  # Two shelving filters of first order.
        low = lfilter(*butter(1, effects.kick_corner, fs=SAMPLE_RATE), out)
        out = out + (10 ** (gain / 40) - 1) * low
    if boom:
        time = np.arange(round(1.5 * length * SAMPLE_RATE)) / SAMPLE_RATE
        # The pitch drops to its final value within about 50 ms.
        phase = effects.kick_corner * (0.6 * time - 0.03 * np.exp(-time / 0.03))
        tail = np.sin(2 * np.pi * (phase - phase[0])) * 10 ** (-2 * time / length)
        tail *= boom * np.abs(wave).max()
        for note in notes:
            start = round(note.start * SAMPLE_RATE)
            part = out[start : start + len(tail)]
            part += tail[: len(part)] * (note.velocity / 127) ** 2
    return out.astype(np.float32)


def apply_effects(wave: Wave, effects: Effects, room: Wave, rng: np.random.Generator) -> Wave:
    """Applies drive, compression, chorus, equaliser and reverberation to a stem `(time,)`.

    Args:
        wave: The stem.
        effects: Effects to apply.
        room: Impulse response of the room, with an energy of one.
        rng: Random stream for the plate and the phase of the chorus.
    """
    level = float(np.sqrt(np.mean(np.square(wave))))
    if level == 0:
        return wave
    if effects.drive:
        knee = 3 * level / effects.drive
        wave = np.tanh(wave / knee) * knee
    if effects.ratio > 1:
        wave = compress(wave, effects.ratio, effects.attack)
    if effects.chorus:
        wave = _chorus(wave, effects, float(rng.uniform()))
    response = _equaliser(effects)
    if effects.wet:
        space = reverb(rng, plate=True) if effects.plate else room
        dry_and_wet = np.float32(effects.wet) * space
        dry_and_wet[0] += 1
        response = oaconvolve(response, dry_and_wet)
    return oaconvolve(wave, response.astype(np.float32))[: len(wave)].astype(np.float32)


def compress(wave: Wave, ratio: float, attack: float, release: float = 0.15) -> Wave:
    """Compresses `(time,)` above its mean level, measured in blocks of 2 ms."""
    hop = round(0.002 * SAMPLE_RATE)
    blocks = np.pad(wave, (0, -len(wave) % hop)).reshape(-1, hop)
    levels = 10 * np.log10(np.mean(np.square(blocks), axis=1) + 1e-10)
    threshold = 10 * np.log10(np.mean(np.square(wave)) + 1e-10)
    wanted = np.maximum(0, levels - threshold) * (1 - 1 / ratio)
    rise, fall = (float(np.exp(-0.002 / time)) for time in (attack, release))
    reduction, state = [0.0], 0.0
    for value in wanted.tolist():
        state = value + (rise if value > state else fall) * (state - value)
        reduction.append(state)
    at = np.arange(len(wave)) / hop
    gain = np.interp(at, np.arange(len(reduction)), 10 ** (-np.array(reduction) / 20))
    return wave * gain.astype(np.float32)


def _chorus(wave: Wave, effects: Effects, phase: float) -> Wave:
    """Adds a copy whose delay varies around 15 ms."""
    time = np.arange(len(wave)) / SAMPLE_RATE
    swing = np.sin(2 * np.pi * ((0.3 + phase) * time + phase))
    delay = (15 + effects.depth * swing) * 1e-3 * SAMPLE_RATE
    copy = np.interp(np.arange(len(wave)) - delay, np.arange(len(wave)), wave)
    return wave + np.float32(effects.chorus) * copy.astype(np.float32)


def _equaliser(effects: Effects) -> NDArray[np.float64]:
    """Minimum-phase impulse response `(_TAPS,)` of the equaliser, by the real cepstrum."""
    frequency = np.maximum(np.fft.rfftfreq(2 * _TAPS, 1 / SAMPLE_RATE), 10.0)
    octaves = np.log2(frequency / 1000)
    gain = effects.tilt * np.clip(octaves, -5, 4)
    for centre, height, width in effects.curve:
        gain += height * np.exp(-0.5 * ((octaves - np.log2(centre / 1000)) / (width / 2)) ** 2)
    gain -= 10 * np.log10(1 + (effects.low_cut / frequency) ** 4)
    gain -= 10 * np.log10(1 + (frequency / effects.high_cut) ** 4)
    cepstrum = np.fft.irfft(gain * np.log(10) / 20)
    cepstrum[1:_TAPS] *= 2
    cepstrum[_TAPS + 1 :] = 0
    return np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))[:_TAPS]


def reverb(rng: np.random.Generator, plate: bool) -> Wave:
    """Draws the impulse response `(time,)` of a room or a plate, with an energy of one.

    It is noise whose high frequencies fade faster. A room begins with single reflections; a plate
    is brighter, longer, and dense from the start.
    """
    length = float(rng.uniform(0.7, 2.5) if plate else rng.uniform(0.25, 1.3))
    time = np.arange(round(length * SAMPLE_RATE)) / SAMPLE_RATE
    noise = rng.standard_normal(len(time))
    corner = float(rng.uniform(4000, 9000) if plate else rng.uniform(1500, 5000))
    low = lfilter(*butter(1, corner, fs=SAMPLE_RATE), noise)
    response = low * 10 ** (-3 * time / length) + (noise - low) * 10 ** (-7 * time / length)
    if not plate:
        early = (rng.uniform(0.003, 0.06, 10) * SAMPLE_RATE).astype(int)
        peak = np.abs(response).max()
        response[early] += rng.choice([-1, 1], 10) * peak * 2 ** -rng.uniform(size=10)
    response = lfilter(*butter(1, 180.0 if plate else 80.0, "high", fs=SAMPLE_RATE), response)
    before = np.zeros(round(rng.uniform(0.002, 0.02) * SAMPLE_RATE))
    response = np.concatenate([before, response])
    return (response / np.sqrt(np.sum(response**2))).astype(np.float32)
