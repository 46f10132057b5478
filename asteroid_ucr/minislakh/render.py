"""Renders parts to audio: notes from a soundfont, played with dynamics and decay.

symusic's synthesizer gives every note its sample at full strength for exactly the note's length: it
ignores velocities, and the soundfont's decay and release. Each note is therefore rendered once,
held, and played from there: scaled and darkened by its velocity, faded as its instrument fades, and
released instead of cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pretty_midi
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import butter, lfilter
from symusic import Synthesizer, core

from asteroid_ucr.minislakh.families import Envelope, drum_peak, envelope

Wave = NDArray[np.float32]
SAMPLE_RATE = 44100
_LONGEST = 20.0


@dataclass(frozen=True)
class TimedNote:
    """One note: onset and length in seconds, MIDI pitch, velocity 1 to 127."""

    start: float
    length: float
    pitch: int
    velocity: int


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


def default_soundfont() -> Path:
    """The General MIDI soundfont that comes with pretty_midi."""
    return Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"


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


class Sampler:
    """Plays the notes of one program of a soundfont.

    Args:
        soundfont: an .sf2 or .sf3 file.
        program: General MIDI program; for drums the kit's.
        is_drum: whether pitches are drum keys.
        tuning: in semitones.
        sample_rate: of the result, in Hz.
    """

    def __init__(
        self,
        soundfont: Path,
        program: int,
        is_drum: bool,
        tuning: float = 0.0,
        sample_rate: int = SAMPLE_RATE,
    ) -> None:
        # A note rendered at a lower rate and played at the usual one sounds higher.
        self._rate = round(sample_rate / 2 ** (tuning / 12))
        self._synthesizer = Synthesizer(str(soundfont), self._rate, 4)
        self.program, self.is_drum, self.sample_rate = program, is_drum, sample_rate

    def play(self, notes: list[TimedNote], frames: int, gains: dict[int, float]) -> Wave:
        """Renders notes.

        Args:
            notes: in seconds from the start of the result.
            frames: length of the result in samples; what lies beyond is dropped.
            gains: amplitude by pitch, where it is not one.

        Returns:
            `(frames,)`, float32, mono.
        """
        out = np.zeros(frames, dtype=np.float32)
        for pitch in sorted({note.pitch for note in notes}):
            same = [note for note in notes if note.pitch == pitch]
            shape = envelope(self.program, self.is_drum, pitch)
            lengths = [self._sounding(note, notes, shape) for note in same]
            dark, bright = self._held(pitch, min(_LONGEST, max(lengths) + 0.01), shape)
            for note, length in zip(same, lengths, strict=True):
                start = round(note.start * self.sample_rate)
                stop = min(len(dark), round(length * self.sample_rate), frames - start)
                if start < 0 or stop < 2:
                    continue
                wave = dark[:stop] + (note.velocity / 100) ** 0.8 * bright[:stop]
                wave *= gains.get(pitch, 1.0) * (note.velocity / 100) ** 1.6
                tail = min(stop, max(64, round((length - note.length) * self.sample_rate)))
                if np.isinf(shape.release):
                    tail = min(stop, 400)
                wave[-tail:] *= np.linspace(1, 0, tail, dtype=np.float32) ** 2
                out[start : start + stop] += wave
        return out

    def _sounding(self, note: TimedNote, notes: list[TimedNote], shape: Envelope) -> float:
        """Seconds until a note has died away."""
        if not np.isinf(shape.release):
            return min(note.length, _LONGEST) + shape.release
        length = shape.decay
        if note.pitch == 46:
            # A closing hi-hat stops the open one.
            closing = [n.start for n in notes if n.pitch in (42, 44) and n.start > note.start]
            length = min([length, *(start - note.start + 0.02 for start in closing)])
        return length

    def _held(self, pitch: int, seconds: float, shape: Envelope) -> tuple[Wave, Wave]:
        """A held note, split in a dark and a bright part, both with their decay."""
        track = core.TrackSecond("", self.program, self.is_drum)
        track.notes.append(
            core.NoteSecond(0.0, seconds * self.sample_rate / self._rate, pitch, 100)
        )
        score = core.ScoreSecond(480)
        score.tracks.append(track)
        frames = round(seconds * self.sample_rate)
        wave = np.zeros(frames, dtype=np.float32)
        rendered = np.asarray(self._synthesizer.render(score, False))[0][:frames]
        wave[: len(rendered)] = rendered
        if self.is_drum and (peak := float(np.abs(wave).max())) > 0:
            wave *= drum_peak(pitch) / peak
        time = np.arange(frames, dtype=np.float32) / self.sample_rate
        if shape.attack:
            wave *= np.minimum(1, time / shape.attack)
        fundamental = 440 * 2 ** ((pitch - 69) / 12)
        corner = 2000.0 if self.is_drum else float(np.clip(4 * fundamental, 300, 6000))
        dark = lfilter(*butter(1, corner, fs=self.sample_rate), wave).astype(np.float32)
        bright = wave - dark
        # Only the decay that the sample itself lacks is added.
        lacking = max(0.0, 60 / shape.decay - self._own_decay(wave))
        if lacking:
            fall = np.float32(-lacking * np.log(10) / 20)
            dark *= np.exp(fall * time)
            bright *= np.exp(2.0 * fall * time)
        return dark, bright

    def _own_decay(self, wave: Wave) -> float:
        """Decay of a rendered note in dB per second, from its second tenth to its last quarter."""
        parts = np.array_split(wave, 10)
        early, late = (float(np.sqrt(np.mean(np.square(parts[i])))) for i in (1, 8))
        if early <= 1e-6:
            return np.inf
        return 20 * np.log10(early / max(late, 1e-6)) / (0.7 * len(wave) / self.sample_rate)


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
