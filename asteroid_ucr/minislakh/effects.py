"""How a stem sounds beyond its instrument: equaliser, saturation and rooms, drawn per song."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import butter, lfilter

from asteroid_ucr.minislakh.recording import SAMPLE_RATE, Wave


@dataclass(frozen=True)
class Tone:
    """How a stem sounds beyond its program, as amplifiers, rooms and tunings do.

    Attributes:
        tuning: in semitones, for drums.
        tilt: slope of the spectrum about 1 kHz, in dB per octave.
        peaks: bells as (frequency in Hz, gain in dB); one octave wide.
        drive: saturation, 0 (none) to about 4.
        wet: share of reverberation, as an amplitude.
        drums: gain in dB by drum key.
    """

    tuning: float = 0.0
    tilt: float = 0.0
    peaks: tuple[tuple[float, float], ...] = ()
    drive: float = 0.0
    wet: float = 0.0
    drums: tuple[tuple[int, float], ...] = ()


def draw_tone(rng: np.random.Generator, inst_class: str) -> Tone:
    """The sound of a stem in one song: no two songs have the same bass or drum kit."""
    peaks = tuple(
        (float(2 ** rng.uniform(np.log2(low), np.log2(high))), float(rng.normal(0, 3)))
        for low, high in ((60, 300), (300, 1500), (1500, 6000))
    )
    if inst_class == "Drums":
        gains = {key: float(rng.normal(0, 2)) for key in range(27, 88)}
        # From a dry click to a boom that fills the bass's range.
        gains[36] = gains[35] = float(rng.normal(0, 4))
        drums = tuple(gains.items())
        return Tone(
            float(rng.uniform(-3.5, 3.0)), float(rng.normal(0, 0.8)), peaks,
            float(rng.choice([0.0, 0.0, 0.8])), float(rng.uniform(0.02, 0.2)), drums,
        )  # fmt: skip
    if inst_class == "Bass":
        drive = float(rng.choice([0.0, 0.7, 1.5, 3.0]))
        return Tone(0.0, float(rng.uniform(-3.0, 3.0)), peaks, drive, float(rng.uniform(0, 0.03)))
    # From muffled to as bright as the soundfont, whose samples are recorded close.
    tilt = float(rng.uniform(-5.0, 1.0))
    return Tone(0.0, tilt, peaks, 0.0, float(rng.uniform(0.02, 0.2)))


def room(rng: np.random.Generator, sample_rate: int = SAMPLE_RATE) -> Wave:
    """Impulse response of a room: noise that fades within 0.25 to 1.2 s, of energy one."""
    length = float(rng.uniform(0.25, 1.2))
    time = np.arange(round(length * sample_rate)) / sample_rate
    noise = rng.standard_normal(len(time)) * 10 ** (-3 * time / length)
    noise = lfilter(*butter(1, float(rng.uniform(2000, 7000)), fs=sample_rate), noise)
    noise = np.concatenate([np.zeros(round(0.012 * sample_rate)), noise])
    return (noise / np.sqrt(np.sum(noise**2))).astype(np.float32)


def shape_tone(wave: Wave, tone: Tone, response: Wave, sample_rate: int = SAMPLE_RATE) -> Wave:
    """Applies drive, equaliser and reverberation to a stem `(time,)`."""
    if tone.drive and (level := float(np.sqrt(np.mean(np.square(wave))))) > 0:
        wave = np.tanh(tone.drive * wave / (3 * level)) * (3 * level / tone.drive)
    size = next_fast_len(len(wave) + len(response), real=True)
    spectrum = rfft(wave, size)
    frequency = np.maximum(rfftfreq(size, 1 / sample_rate), 20.0)
    octaves = np.log2(frequency / 1000)
    gain = tone.tilt * np.clip(octaves, -5, 4)
    for centre, height in tone.peaks:
        gain = gain + height * np.exp(-0.5 * ((octaves - np.log2(centre / 1000)) / 0.5) ** 2)
    # Below the lowest string there is only rumble.
    gain = gain - 12 * np.maximum(0, np.log2(30 / frequency))
    spectrum *= (10 ** (gain / 20)).astype(np.float32)
    if tone.wet:
        spectrum *= 1 + np.float32(tone.wet) * rfft(response, size)
    return irfft(spectrum, size)[: len(wave)].astype(np.float32)
