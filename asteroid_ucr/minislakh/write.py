"""Mixes a song's stems and writes it as a track of Slakh2100."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pretty_midi
import soundfile as sf
import yaml

from asteroid_ucr.minislakh.families import inst_class
from asteroid_ucr.minislakh.loudness import loudness
from asteroid_ucr.minislakh.render import (
    SAMPLE_RATE,
    Sampler,
    TimedNote,
    Tone,
    Wave,
    draw_tone,
    room,
    shape_tone,
)
from asteroid_ucr.minislakh.song import song_rng
from asteroid_ucr.utils.atomic import make_folder, write_error

# Slakh brings each stem to this loudness and the mix to this peak.
NORMALIZATION = -13.0
TARGET_PEAK = -1.0
# Usual gain of Slakh's mixes; a loud mix gets less.
_USUAL_GAIN = 0.18


@dataclass(frozen=True)
class StemNotes:
    """What one stem plays, in seconds, and on which program."""

    program: int
    is_drum: bool
    notes: tuple[TimedNote, ...]

    @property
    def inst_class(self) -> str:
        """Slakh's name of the instrument family."""
        return inst_class(self.program, self.is_drum)


@dataclass(frozen=True)
class Recording:
    """A song ready to be rendered.

    Attributes:
        index: its number in the collection.
        uuid: identifies the MIDI: 32 hexadecimal digits.
        origin: where the MIDI comes from, for `lmd_midi_dir`.
        tempo: in beats per minute, for the MIDI files.
        seconds: length of the audio.
        stems: at least one.
    """

    index: int
    uuid: str
    origin: str
    tempo: float
    seconds: float
    stems: tuple[StemNotes, ...]


def render_stems(
    recording: Recording, seed: int, soundfonts: Sequence[Path]
) -> tuple[list[Wave], list[float]]:
    """Renders every stem, with sounds and a room drawn for this song.

    Returns:
        Stems `(time,)` at 44.1 kHz brought to -13 LUFS more or less (silent ones stay silent), and
        the loudness in LUFS that each had before.
    """
    frames = round(recording.seconds * SAMPLE_RATE)
    response = room(song_rng(seed, recording.index, "room"))
    waves, levels = [], []
    for number, stem in enumerate(recording.stems):
        rng = song_rng(seed, recording.index, f"tone {number}")
        tone: Tone = draw_tone(rng, stem.inst_class)
        soundfont = _soundfont_of(recording, number, seed, soundfonts)
        sampler = Sampler(soundfont, stem.program, stem.is_drum, tone.tuning)
        gains = {key: 10 ** (gain / 20) for key, gain in tone.drums}
        wave = sampler.play(list(stem.notes), frames, gains)
        if wave.any():
            wave = shape_tone(wave, tone, response)
        level = loudness(wave, SAMPLE_RATE)
        core = stem.inst_class in ("Drums", "Bass", "Piano")
        offset = float(np.clip(rng.normal(0, 2.5), -5, 5)) - (0 if core else 3)
        if np.isfinite(level):
            wave = wave * np.float32(10 ** ((NORMALIZATION + offset - level) / 20))
        waves.append(wave)
        levels.append(level if np.isfinite(level) else -70.0)
    return waves, levels


def _soundfont_of(recording: Recording, number: int, seed: int, soundfonts: Sequence[Path]) -> Path:
    """The soundfont of a stem, drawn: the instruments of a song rarely come from one."""
    rng = song_rng(seed, recording.index, f"soundfont {number}")
    return soundfonts[int(rng.integers(len(soundfonts)))]


def mix_gain(waves: list[Wave], rng: np.random.Generator) -> float:
    """Gain for all stems: Slakh's usual one, or less where mix or stems would exceed -1 dBFS."""
    peaks = [float(np.abs(wave).max(initial=0.0)) for wave in [*waves, np.sum(waves, axis=0)]]
    limit = 10 ** (TARGET_PEAK / 20) - 1e-3
    return min(_USUAL_GAIN * float(rng.uniform(0.75, 1.25)), limit / max(*peaks, 1e-9))


def write_track(recording: Recording, folder: Path, seed: int, soundfonts: Sequence[Path]) -> None:
    """Renders a song and writes its folder, whole or not at all.

    Args:
        recording: the song.
        folder: the track's folder, `.../train/TrackNNNNN`.
        seed: of the collection: sounds, room and levels follow from it and the song's index.
        soundfonts: the files to play from; each stem draws one.

    Raises:
        UserError: if the folder cannot be written.
    """
    waves, levels = render_stems(recording, seed, soundfonts)
    gain = mix_gain(waves, song_rng(seed, recording.index, "gain"))
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        make_folder(scratch / "stems")
        make_folder(scratch / "MIDI")
        total = np.zeros(len(waves[0]), dtype=np.int32)
        stems = {}
        for number, (stem, wave, level) in enumerate(
            zip(recording.stems, waves, levels, strict=True)
        ):
            name = f"S{number:02d}"
            samples = np.round(wave * (gain * 32767)).astype(np.int16)
            # The mix is the sum of the stems as they are stored, to the last bit.
            total += samples
            sf.write(scratch / "stems" / f"{name}.flac", samples, SAMPLE_RATE, subtype="PCM_16")
            _midi([stem], recording.tempo).write(str(scratch / "MIDI" / f"{name}.mid"))
            font = _soundfont_of(recording, number, seed, soundfonts)
            stems[name] = _stem_metadata(stem, level, font)
        mix = np.clip(total, -32768, 32767).astype(np.int16)
        sf.write(scratch / "mix.flac", mix, SAMPLE_RATE, subtype="PCM_16")
        _midi(list(recording.stems), recording.tempo).write(str(scratch / "all_src.mid"))
        metadata = {
            "UUID": recording.uuid,
            "audio_dir": f"{folder.name}/stems",
            "lmd_midi_dir": recording.origin,
            "midi_dir": f"{folder.name}/MIDI",
            "normalization_factor": NORMALIZATION,
            "normalized": True,
            "overall_gain": float(gain),
            "stems": stems,
            "target_peak": TARGET_PEAK,
        }
        (scratch / "metadata.yaml").write_text(yaml.safe_dump(metadata), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
    except (OSError, sf.LibsndfileError) as error:
        cause = error if isinstance(error, OSError) else OSError(0, str(error))
        raise write_error(folder, cause) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _stem_metadata(stem: StemNotes, level: float, soundfont: Path) -> dict[str, object]:
    name = "Drums" if stem.is_drum else pretty_midi.program_to_instrument_name(stem.program)
    return {
        "audio_rendered": True,
        "inst_class": stem.inst_class,
        "integrated_loudness": float(level),
        "is_drum": stem.is_drum,
        "midi_program_name": name,
        "midi_saved": True,
        "plugin_name": soundfont.name,
        # Slakh marks drums with a program of their own.
        "program_num": 128 if stem.is_drum else stem.program,
    }


def _midi(stems: list[StemNotes], tempo: float) -> pretty_midi.PrettyMIDI:
    midi = pretty_midi.PrettyMIDI(initial_tempo=tempo)
    for stem in stems:
        track = pretty_midi.Instrument(stem.program, stem.is_drum, stem.inst_class)
        track.notes = [
            pretty_midi.Note(n.velocity, n.pitch, n.start, n.start + n.length) for n in stem.notes
        ]
        midi.instruments.append(track)
    return midi


def is_complete(folder: Path) -> bool:
    """Whether a track's folder holds every file that was written into it."""
    try:
        metadata = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))
        names = list(metadata["stems"])
    except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
        return False
    files = [folder / "mix.flac", folder / "all_src.mid"]
    files += [folder / "stems" / f"{name}.flac" for name in names]
    files += [folder / "MIDI" / f"{name}.mid" for name in names]
    return all(file.is_file() and file.stat().st_size > 0 for file in files)
