"""Mixes the stems of a song and writes them as a track of Slakh2100."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pretty_midi
import soundfile as sf
import yaml
from numpy.typing import NDArray

from asteroid_ucr.data.slakh import read_metadata
from asteroid_ucr.minislakh.notes import SAMPLE_RATE, Part, Recording, Wave
from asteroid_ucr.minislakh.render import NORMALIZATION, RenderedStem, render_stems
from asteroid_ucr.minislakh.sounds import Source
from asteroid_ucr.utils.atomic import atomic_folder, make_folder
from asteroid_ucr.utils.audio import writing
from asteroid_ucr.utils.errors import UserError
from asteroid_ucr.utils.seeding import song_rng

# Peak of a mix in dBFS, as in Slakh.
TARGET_PEAK = -1.0
# Usual gain of the mixes of Slakh; loud mixes get less.
_USUAL_GAIN = 0.18


def mix_gain(waves: list[Wave], rng: np.random.Generator) -> float:
    """Gain for all stems: about the usual one, or less to keep mix and stems below -1 dBFS."""
    peaks = [float(np.abs(wave).max(initial=0.0)) for wave in [*waves, np.sum(waves, axis=0)]]
    limit = 10 ** (TARGET_PEAK / 20) - 1e-3
    return min(_USUAL_GAIN * float(rng.uniform(0.75, 1.25)), limit / max(*peaks, 1e-9))


def write_track(
    recording: Recording, folder: Path, seed: int, sources: Sequence[Source], varied: bool = False
) -> None:
    """Renders a song and writes its folder, completely or not at all.

    Args:
        recording: The song.
        folder: Folder of the track, `.../train/TrackNNNNN`.
        seed: Seed of the collection. With the number of the song, it decides sounds and levels.
        sources: Soundfonts and drum kits, of which each stem draws one.
        varied: See `render_stems`.

    Raises:
        UserError: If the folder cannot be written.
    """
    rendered = render_stems(recording, seed, sources, varied)
    stems = {f"S{number:02d}": item for number, item in enumerate(rendered)}
    gain = mix_gain([stem.wave for stem in rendered], song_rng(seed, recording.index, "gain"))
    with atomic_folder(folder) as scratch:
        make_folder(scratch / "stems")
        make_folder(scratch / "MIDI")
        total = np.zeros(len(rendered[0].wave), dtype=np.int32)
        for name, item in stems.items():
            samples = np.round(item.wave * (gain * 32767)).astype(np.int16)
            # The mix is the sum of the stems as they are stored, to the last bit.
            total += samples
            _write_audio(scratch / "stems" / f"{name}.flac", samples)
            _midi([item.part], recording.tempo).write(str(scratch / "MIDI" / f"{name}.mid"))
        _write_audio(scratch / "mix.flac", np.clip(total, -32768, 32767).astype(np.int16))
        _midi([item.part for item in rendered], recording.tempo).write(str(scratch / "all_src.mid"))
        metadata = {
            "UUID": recording.uuid,
            "audio_dir": f"{folder.name}/stems",
            "lmd_midi_dir": recording.origin,
            "midi_dir": f"{folder.name}/MIDI",
            "normalization_factor": NORMALIZATION,
            "normalized": True,
            "overall_gain": float(gain),
            "stems": {name: _stem_metadata(item) for name, item in stems.items()},
            "target_peak": TARGET_PEAK,
        }
        (scratch / "metadata.yaml").write_text(yaml.safe_dump(metadata), encoding="utf-8")


def _write_audio(path: Path, samples: NDArray[np.int16]) -> None:
    with writing(path):
        sf.write(path, samples, SAMPLE_RATE, subtype="PCM_16")


def _stem_metadata(item: RenderedStem) -> dict[str, object]:
    part = item.part
    name = "Drums" if part.is_drum else pretty_midi.program_to_instrument_name(part.program)
    return {
        "audio_rendered": True,
        "inst_class": part.inst_class,
        "integrated_loudness": item.loudness,
        "is_drum": part.is_drum,
        "midi_program_name": name,
        "midi_saved": True,
        "plugin_name": item.sound,
        # Slakh gives drums a program of their own.
        "program_num": 128 if part.is_drum else part.program,
    }


def _midi(parts: list[Part], tempo: float) -> pretty_midi.PrettyMIDI:
    midi = pretty_midi.PrettyMIDI(initial_tempo=tempo)
    for part in parts:
        track = pretty_midi.Instrument(part.program, part.is_drum, part.inst_class)
        for note in part.notes:
            end = note.start + note.length
            track.notes.append(pretty_midi.Note(note.velocity, note.pitch, note.start, end))
        midi.instruments.append(track)
    return midi


def is_complete(folder: Path) -> bool:
    """Whether the folder of a track holds every file that belongs to it."""
    try:
        stems = read_metadata(folder)["stems"]
    except UserError:
        return False
    files = [path for name in stems for path in (f"stems/{name}.flac", f"MIDI/{name}.mid")]
    paths = [folder / file for file in ("mix.flac", "all_src.mid", *files)]
    return all(path.is_file() and path.stat().st_size > 0 for path in paths)
