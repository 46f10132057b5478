"""Mixes a song's stems and writes it as a track of Slakh2100."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pretty_midi
import soundfile as sf
import yaml

from asteroid_ucr.minislakh.kits import Kit
from asteroid_ucr.minislakh.notes import SAMPLE_RATE, Part, Recording, Wave
from asteroid_ucr.minislakh.render import NORMALIZATION, RenderedStem, render_stems
from asteroid_ucr.minislakh.soundfont import SoundFont
from asteroid_ucr.utils.atomic import make_folder, write_error
from asteroid_ucr.utils.seeding import song_rng

# Peak of a mix in dBFS, as in Slakh.
TARGET_PEAK = -1.0
# Usual gain of Slakh's mixes; a loud mix gets less.
_USUAL_GAIN = 0.18


def mix_gain(waves: list[Wave], rng: np.random.Generator) -> float:
    """Gain for all stems: Slakh's usual one, or less where mix or stems would exceed -1 dBFS."""
    peaks = [float(np.abs(wave).max(initial=0.0)) for wave in [*waves, np.sum(waves, axis=0)]]
    limit = 10 ** (TARGET_PEAK / 20) - 1e-3
    return min(_USUAL_GAIN * float(rng.uniform(0.75, 1.25)), limit / max(*peaks, 1e-9))


def write_track(
    recording: Recording,
    folder: Path,
    seed: int,
    sources: Sequence[SoundFont | Kit],
    varied: bool = False,
) -> None:
    """Renders a song and writes its folder, whole or not at all.

    Args:
        recording: The song.
        folder: Folder of the track, `.../train/TrackNNNNN`.
        seed: Seed of the collection: sounds, room and levels follow from it and the song's index.
        sources: Soundfonts and drum kits, of which each stem draws one.
        varied: As for `render_stems`.

    Raises:
        UserError: If the folder cannot be written.
    """
    rendered = render_stems(recording, seed, sources, varied)
    gain = mix_gain([stem.wave for stem in rendered], song_rng(seed, recording.index, "gain"))
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        make_folder(scratch / "stems")
        make_folder(scratch / "MIDI")
        total = np.zeros(len(rendered[0].wave), dtype=np.int32)
        stems = {}
        for number, item in enumerate(rendered):
            name = f"S{number:02d}"
            samples = np.round(item.wave * (gain * 32767)).astype(np.int16)
            # The mix is the sum of the stems as they are stored, to the last bit.
            total += samples
            sf.write(scratch / "stems" / f"{name}.flac", samples, SAMPLE_RATE, subtype="PCM_16")
            _midi([item.stem], recording.tempo).write(str(scratch / "MIDI" / f"{name}.mid"))
            stems[name] = _stem_metadata(item)
        mix = np.clip(total, -32768, 32767).astype(np.int16)
        sf.write(scratch / "mix.flac", mix, SAMPLE_RATE, subtype="PCM_16")
        _midi([item.stem for item in rendered], recording.tempo).write(str(scratch / "all_src.mid"))
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


def _stem_metadata(item: RenderedStem) -> dict[str, object]:
    stem = item.stem
    name = "Drums" if stem.is_drum else pretty_midi.program_to_instrument_name(stem.program)
    return {
        "audio_rendered": True,
        "inst_class": stem.inst_class,
        "integrated_loudness": item.loudness,
        "is_drum": stem.is_drum,
        "midi_program_name": name,
        "midi_saved": True,
        "plugin_name": item.sound,
        # Slakh marks drums with a program of their own.
        "program_num": 128 if stem.is_drum else stem.program,
    }


def _midi(stems: list[Part], tempo: float) -> pretty_midi.PrettyMIDI:
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
