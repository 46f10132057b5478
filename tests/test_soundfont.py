"""The soundfont player: in tune, with velocities, envelopes and exclusive classes."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import librosa
import numpy as np
import pretty_midi
import pytest
import soundfile as sf
from scipy.signal import find_peaks

from asteroid_ucr.minislakh.notes import SAMPLE_RATE, Note, Wave
from asteroid_ucr.minislakh.player import Player
from asteroid_ucr.minislakh.soundfont import DRUM_BANK, Gen, SoundFont
from asteroid_ucr.minislakh.sounds import default_soundfont
from asteroid_ucr.utils.errors import UserError

PROGRAMS = (0, 4, 7, 16, 22, 24, 26, 33, 34, 36, 40, 48, 56, 65, 73, 80)


@pytest.fixture(scope="module")
def font() -> SoundFont:
    return SoundFont(default_soundfont())


def play(font: SoundFont, program: int, *notes: tuple[float, float, int, int]) -> Wave:
    """Two seconds of notes given as (start, length, pitch, velocity)."""
    return Player(font, 0, program).play([Note(*n) for n in notes], 2 * SAMPLE_RATE)


def rms(wave: Wave, start: float, stop: float) -> float:
    part = wave[int(start * SAMPLE_RATE) : int(stop * SAMPLE_RATE)]
    return float(np.sqrt(np.mean(part**2)))


def detune(wave: Wave, pitch: int) -> float:
    """Semitones between a note and its expected pitch, by autocorrelation; below an octave."""
    part = wave[int(0.15 * SAMPLE_RATE) : int(0.75 * SAMPLE_RATE)]
    part = part - part.mean()
    spectrum = np.abs(np.fft.rfft(part, 4 * len(part))) ** 2
    # Fewer samples overlap at longer lags.
    overlap = 1 - np.arange(len(part)) / len(part)
    likeness = np.fft.irfft(spectrum)[: len(part)] / overlap
    lag = SAMPLE_RATE / librosa.midi_to_hz(pitch)
    first, last = int(lag / 2 ** (11 / 12)), int(lag * 2 ** (11 / 12))
    peaks, found = find_peaks(likeness[first:last], height=0)
    best = first + int(peaks[np.argmax(found["peak_heights"])])
    a, b, c = likeness[best - 1 : best + 2]
    best += 0.5 * (a - c) / (a - 2 * b + c)
    return 12 * np.log2(lag / best)


def odd_partials(wave: Wave, fundamental: float) -> float:
    """Level of the odd multiples of a frequency, in dB relative to its first six multiples."""
    part = wave[int(0.15 * SAMPLE_RATE) : int(0.75 * SAMPLE_RATE)]
    power = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 18)) ** 2
    near = 2 ** (np.array([-0.5, 0.5]) / 12) * (1 << 18) / SAMPLE_RATE
    edges = [(fundamental * number * near).astype(int) for number in range(1, 7)]
    peaks = [power[first:last].max() for first, last in edges]
    return float(10 * np.log10(sum(peaks[::2]) / sum(peaks)))


@pytest.mark.parametrize("program", PROGRAMS)
def test_notes_are_in_tune(font: SoundFont, program: int) -> None:
    pitches = (33, 45, 57) if 32 <= program < 40 else (48, 57, 69)
    waves = [play(font, program, (0.0, 1.0, p, 90)) for p in pitches]
    errors = [detune(wave, p) for wave, p in zip(waves, pitches, strict=True)]
    assert np.abs(errors).max() < 0.3, errors
    for wave, hertz in zip(waves, librosa.midi_to_hz(pitches), strict=True):
        # A note that sounds an octave too high lacks the odd partials of the expected one.
        assert odd_partials(wave, hertz) > -10
        # One that sounds an octave too low adds odd multiples of half its frequency. So does the
        # 16-foot stop of a drawbar organ, which belongs to its sound.
        assert (odd_partials(wave, hertz / 2) > -10) == (program == 16)
        assert program == 16 or odd_partials(wave, hertz / 2) < -30


def test_tuning_moves_the_pitch(font: SoundFont) -> None:
    wave = Player(font, 0, 73, tuning=2.0).play([Note(0, 1, 60, 90)], SAMPLE_RATE)
    assert abs(detune(wave, 62)) < 0.1


@pytest.mark.parametrize("program", [0, 33, 48])
def test_velocity_is_loudness(font: SoundFont, program: int) -> None:
    levels = [rms(play(font, program, (0, 1, 57, v)), 0.1, 0.8) for v in (20, 60, 100, 127)]
    decibels = np.diff(20 * np.log10(levels))
    assert (decibels > 2).all() and 15 < decibels.sum() < 45


def test_notes_decay_and_are_released(font: SoundFont) -> None:
    piano = play(font, 0, (0, 1.2, 60, 100))
    assert rms(piano, 0.9, 1.1) < 0.7 * rms(piano, 0.1, 0.3)
    assert 0 < rms(piano, 1.3, 1.35) < rms(piano, 1.1, 1.2)
    assert rms(piano, 1.9, 2.0) < 1e-3 * rms(piano, 0.1, 0.3)
    # A flute does not fade while it is held.
    flute = play(font, 73, (0, 1.2, 72, 100))
    assert rms(flute, 1.0, 1.2) > 0.5 * rms(flute, 0.3, 0.5)


def test_a_closed_hi_hat_cuts_the_open_one(font: SoundFont) -> None:
    kit, open_hat = Player(font, DRUM_BANK, 0), Note(0, 0.1, 46, 110)
    alone = kit.play([open_hat], SAMPLE_RATE)
    closed = kit.play([Note(0.15, 0.1, 42, 1)], SAMPLE_RATE)
    both = kit.play([open_hat, Note(0.15, 0.1, 42, 1)], SAMPLE_RATE)
    assert np.array_equal(both[:6000], alone[:6000])
    assert rms(alone, 0.25, 0.4) > 10 * rms(both - closed, 0.25, 0.4)


def test_the_result_is_the_same_every_time(font: SoundFont) -> None:
    notes = [(0.0, 0.5, 60, 80), (0.2, 1.0, 64, 90), (0.7, 0.2, 60, 80)]
    assert np.array_equal(play(font, 48, *notes), play(font, 48, *notes))


def tiny_font(path: Path, generators: list[tuple[int, int]], header_key: int) -> Path:
    """A soundfont of one looped sine at 440 Hz whose header states a key."""
    period = 100
    wave = np.round(20000 * np.sin(2 * np.pi * np.arange(20 * period) / period)).astype("<i2")

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    def lst(form: bytes, *chunks: bytes) -> bytes:
        return chunk(b"LIST", form + b"".join(chunks))

    gens = [*generators, (Gen.LOOPS, 1), (Gen.SAMPLE, 0)]
    header = (0, len(wave), 10 * period, 11 * period, 44000, header_key, 0, 0, 1)
    body = (
        lst(b"INFO", chunk(b"ifil", struct.pack("<HH", 2, 4)), chunk(b"INAM", b"Tiny\0\0")),
        lst(b"sdta", chunk(b"smpl", wave.tobytes() + bytes(92))),
        lst(
            b"pdta",
            chunk(
                b"phdr",
                struct.pack("<20sHHHIII", b"Sine", 0, 0, 0, 0, 0, 0)
                + struct.pack("<20sHHHIII", b"EOP", 0, 0, 1, 0, 0, 0),
            ),
            chunk(b"pbag", struct.pack("<4H", 0, 0, 1, 0)),
            chunk(b"pmod", bytes(10)),
            chunk(b"pgen", struct.pack("<HhHh", Gen.INSTRUMENT, 0, 0, 0)),
            chunk(b"inst", struct.pack("<20sH", b"Sine", 0) + struct.pack("<20sH", b"EOI", 1)),
            chunk(b"ibag", struct.pack("<4H", 0, 0, len(gens), 0)),
            chunk(b"imod", bytes(10)),
            chunk(b"igen", b"".join(struct.pack("<Hh", *g) for g in [*gens, (0, 0)])),
            chunk(
                b"shdr",
                struct.pack("<20s5IBbHH", b"Sine", *header) + struct.pack("<20s26x", b"EOS"),
            ),
        ),
    )
    path.write_bytes(chunk(b"RIFF", b"sfbk" + b"".join(body)))
    return path


def test_the_zone_decides_the_pitch_whatever_the_header_says(tmp_path: Path) -> None:
    font = SoundFont(tiny_font(tmp_path / "a.sf2", [(Gen.ROOT_KEY, 69)], header_key=56))
    assert font.info == {"name": "Tiny"}
    for pitch in (57, 69, 76):
        assert abs(detune(play(font, 0, (0, 1, pitch, 100)), pitch)) < 0.02


def test_generators_act_as_specified(tmp_path: Path) -> None:
    def sound(*generators: tuple[int, int]) -> Wave:
        font = SoundFont(tiny_font(tmp_path / "g.sf2", list(generators), header_key=69))
        return play(font, 0, (0, 1, 81, 127))

    plain = sound()
    assert abs(detune(plain, 81)) < 0.02
    assert abs(detune(sound((Gen.SCALE_TUNING, 50)), 75)) < 0.02
    assert abs(detune(sound((Gen.COARSE_TUNE, -3), (Gen.FINE_TUNE, 50)), 78) - 0.5) < 0.02
    # 100 cB of attenuation are 4 dB, not 10: the factor 0.4 of E-mu's hardware.
    ratio = rms(plain, 0.2, 0.8) / rms(sound((Gen.ATTENUATION, 100)), 0.2, 0.8)
    assert 20 * np.log10(ratio) == pytest.approx(4.0, abs=0.1)
    # An envelope that falls by 96 dB in a second is at -48 dB after half of it.
    falling = sound((Gen.VOLUME_ENV + 3, 0), (Gen.VOLUME_ENV + 4, 1000))
    assert 20 * np.log10(rms(falling, 0.499, 0.509) / rms(falling, 0.0, 0.01)) == pytest.approx(
        -48, abs=1.5
    )
    # A release of a second starts from the level at the note's end.
    released = sound((Gen.VOLUME_ENV + 5, 0))
    assert rms(released, 0.95, 1.0) == pytest.approx(rms(plain, 0.95, 1.0), rel=0.01)
    assert 20 * np.log10(rms(released, 1.24, 1.26) / rms(released, 0.9, 1)) == pytest.approx(
        -24, abs=1
    )
    dark = sound((Gen.CUTOFF, 6900))  # 440 Hz, an octave below the note
    assert -16 < 20 * np.log10(rms(dark, 0.2, 0.8) / rms(plain, 0.2, 0.8)) < -8


@pytest.mark.parametrize("size", [0, 3, 60, 3000, 4300])
def test_a_broken_soundfont_is_one_sentence(tmp_path: Path, size: int) -> None:
    whole = tiny_font(tmp_path / "whole.sf2", [], 69).read_bytes()
    (tmp_path / "broken.sf2").write_bytes(whole[:size])
    with pytest.raises(UserError, match=r"broken\.sf2 is not a soundfont"):
        SoundFont(tmp_path / "broken.sf2")
    with pytest.raises(UserError, match=r"absent\.sf2 is not a file"):
        SoundFont(tmp_path / "absent.sf2")


@pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="needs fluidsynth on PATH")
@pytest.mark.parametrize("program", [0, 6, 16, 24, 33, 56, 73])
def test_agrees_with_fluidsynth(font: SoundFont, tmp_path: Path, program: int) -> None:
    notes = [(0.1, 0.4, 45, 60), (0.6, 0.4, 57, 100), (1.1, 0.5, 69, 120)]
    ours = play(font, program, *notes)
    midi = pretty_midi.PrettyMIDI()
    part = pretty_midi.Instrument(program)
    part.notes = [pretty_midi.Note(v, p, s, s + length) for s, length, p, v in notes]
    midi.instruments.append(part)
    midi.write(str(tmp_path / "a.mid"))
    command = ["fluidsynth", "-niq", "-R", "0", "-C", "0", "-g", "0.5", "-r", str(SAMPLE_RATE)]
    command += ["-F", str(tmp_path / "a.wav"), str(font.path), str(tmp_path / "a.mid")]
    subprocess.run(command, check=True, capture_output=True)
    theirs = sf.read(tmp_path / "a.wav", dtype="float32")[0].mean(1)[: len(ours)]
    theirs = np.pad(theirs, (0, len(ours) - len(theirs)))
    ours = ours * np.sqrt(np.mean(theirs**2) / np.mean(ours**2))
    mels = [librosa.feature.melspectrogram(y=w, sr=SAMPLE_RATE, n_mels=64) for w in (ours, theirs)]
    a, b = (librosa.power_to_db(m, ref=np.max, top_db=60) for m in mels)
    heard = np.maximum(a, b) > -60
    # The partials of an organ are far apart, so that the sides of each peak weigh more.
    assert np.abs(a - b)[heard].mean() < (1.5 if program == 16 else 0.6)
