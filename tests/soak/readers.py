"""Every reader of ours, as a function of bytes, and small valid inputs to begin with.

A reader may return, or raise a `UserError`. Everything else is a fault.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
import soundfile as sf
import torch
from jsonargparse import ArgumentParser

from asteroid_ucr import UCRSeparator
from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.config import DataConfig, parse_recipe, recipe_parser
from asteroid_ucr.data.cache import LatentMetadata, TrackCache
from asteroid_ucr.data.folder import survey
from asteroid_ucr.data.slakh import read_track
from asteroid_ucr.minislakh.kits import Kit
from asteroid_ucr.minislakh.midi_files import read_midi
from asteroid_ucr.minislakh.notes import Note
from asteroid_ucr.minislakh.soundfont import SoundFont
from asteroid_ucr.store import write_folder
from asteroid_ucr.training.loop import record_config
from asteroid_ucr.utils.audio import read_audio

SMALL = {"encoder_widths": (4,), "denoiser_widths": (4,), "denoiser_kernels": (3,)}
CACHE = LatentMetadata(
    dataset="d",
    split="train",
    sources=("a", "b"),
    mix="sum",
    codec="c",
    frame_rate=75.0,
    channels=2,
)
_SPLIT = b"\n--\n"  # between the parts of an input


def metadata(data: bytes, folder: Path) -> None:
    """The metadata of a Slakh track."""
    (folder / "metadata.yaml").write_bytes(data)
    track = read_track(folder, "train")
    for stem in track.stems:  # no name leads out of the folder
        assert stem.path is None or stem.path.parent == folder / "stems"


def configuration(data: bytes, folder: Path) -> None:
    """The configuration of the recipe."""
    (folder / "config.yml").write_bytes(data)
    parse_recipe(_parser(), ["--config", str(folder / "config.yml")])


def record(data: bytes, folder: Path) -> None:
    """The settings that a run has recorded, when it goes on."""
    (folder / "conf.yml").write_bytes(data)
    record_config({"data": DataConfig()}, folder / "conf.yml", resuming=True)


def cache(data: bytes, folder: Path) -> None:
    """What a latent cache holds: its metadata with its list of tracks, and a track."""
    index, _, track = data.partition(_SPLIT)
    (folder / "cache.json").write_bytes(index)
    (folder / "t.safetensors").write_bytes(track)
    found = TrackCache(folder, CACHE)
    for name, frames in zip(found.tracks, found.lengths(), strict=True):
        assert found.whole(name).shape == (2, frames)
        assert found.power(name).shape == (2, frames)


def checkpoint(data: bytes, folder: Path) -> None:
    """A model as torch writes it: the input is the pickle in the archive."""
    with zipfile.ZipFile(_saved(folder)) as good, zipfile.ZipFile(folder / "p.pth", "w") as new:
        for name in good.namelist():
            new.writestr(name, data if name.endswith("data.pkl") else good.read(name))
    SeparatorModel.from_pretrained(folder / "p.pth")


def archive(data: bytes, folder: Path) -> None:
    """A model file: the input says how much of it is left, and which bytes at its end change."""
    whole = bytearray(_saved(folder).read_bytes())
    cut = int.from_bytes(data[:3], "little") % len(whole)
    for at, value in zip(data[3::2], data[4::2], strict=False):
        whole[-1 - 16 * at] = value
    (folder / "model.pth").write_bytes(whole[: len(whole) - cut])
    SeparatorModel.from_pretrained(folder / "model.pth")


def hub_folder(data: bytes, folder: Path) -> None:
    """A model in the form of the hub: its configuration, and the header of its weights."""
    about, _, header = data.partition(_SPLIT)
    place = folder / "hub"
    place.mkdir(exist_ok=True)
    (place / "config.json").write_bytes(about)
    size = len(header).to_bytes(8, "little")
    (place / "model.safetensors").write_bytes(size + header + bytes(_saved(folder, weights=True)))
    SeparatorModel.from_pretrained(place)


def table(data: bytes, folder: Path) -> None:
    """A list of audio files as CSV."""
    _listed(data, folder, "list.csv")


def lines(data: bytes, folder: Path) -> None:
    """A list of audio files as JSON lines."""
    _listed(data, folder, "list.jsonl")


def _listed(data: bytes, folder: Path, name: str) -> None:
    os.environ["XDG_CACHE_HOME"] = str(folder / "record")
    song = folder / "a.wav"
    if not song.exists():
        sf.write(song, np.random.default_rng(0).uniform(-0.1, 0.1, 8000), 4000)
    (folder / name).write_bytes(data)
    assert all(
        track.mixture for tracks in survey(folder / name).tracks.values() for track in tracks
    )


def midi(data: bytes, folder: Path) -> None:
    """A folder of MIDI files."""
    (folder / "midi").mkdir(exist_ok=True)
    (folder / "midi" / "a.mid").write_bytes(data)
    (recording,), _ = read_midi(folder / "midi", 1, 10.0)
    assert recording.parts and np.isfinite(recording.tempo)


def soundfont(data: bytes, folder: Path) -> None:
    """A soundfont, with all that its presets name."""
    (folder / "a.sf2").write_bytes(data)
    font = SoundFont(folder / "a.sf2")
    for preset in list(font.presets)[:4]:
        font.preset_name(*preset)
        for zone in font.zones(*preset)[:8]:
            assert font.sample(zone.sample).wave.ndim == 1


def drum_kit(data: bytes, folder: Path) -> None:
    """A Hydrogen drum kit."""
    kit = folder / "kit"
    if not kit.exists():
        kit.mkdir()
        sf.write(kit / "a.wav", np.zeros(100), 8000)
    (kit / "drumkit.xml").write_bytes(data)
    Kit(kit).play([Note(0.0, 0.1, key, 90) for key in (36, 38, 42)], 4000)


def audio(data: bytes, folder: Path) -> None:
    """A recording; libsndfile and ffmpeg look at its content, not at its name."""
    (folder / "a.wav").write_bytes(data)
    wav, rate = read_audio(folder / "a.wav")
    assert rate > 0 and wav.ndim == 2 and wav.numel() and wav.isfinite().all()


Reader = Callable[[bytes, Path], None]
READERS: dict[str, Reader] = {
    reader.__name__: reader
    for reader in (
        *(metadata, configuration, record, cache, checkpoint, archive, hub_folder),
        *(table, lines, midi, soundfont, drum_kit, audio),
    )
}


def read(name: str, data: bytes, folder: Path) -> None:
    """Gives an input to a reader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        READERS[name](data, folder)


@lru_cache
def _parser() -> ArgumentParser:
    return recipe_parser("fuzz")


def _saved(folder: Path, weights: bool = False) -> Any:
    """The file of a small valid model, or the size of its weights in the form of the hub."""
    path = folder / "seed.pth"
    if not path.exists():
        torch.manual_seed(0)
        model = UCRSeparator(sources=("a", "b"), **SMALL)
        model.save(path)
        write_folder(model.serialize(), folder / "seed")
    if not weights:
        return path
    stored = (folder / "seed" / "model.safetensors").read_bytes()
    return len(stored) - 8 - int.from_bytes(stored[:8], "little")


def _soundfont() -> bytes:
    """One preset, one instrument and one sample."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return name + struct.pack("<I", len(data)) + data

    def record(form: str, *values: Any) -> bytes:
        return struct.pack("<" + form, *values)

    wave = (8000 * np.sin(np.arange(300) / 5)).astype("<i2").tobytes()
    parts = {
        b"phdr": record("20s3H12x", b"p", 0, 0, 0) + record("20s3H12x", b"EOP", 0, 0, 1),
        b"pbag": record("4H", 0, 0, 1, 0),
        b"pmod": bytes(10),
        b"pgen": record("2H", 41, 0) + bytes(4),
        b"inst": record("20sH", b"i", 0) + record("20sH", b"EOI", 1),
        b"ibag": record("4H", 0, 0, 2, 1),
        b"imod": record("HHhHH", 0x0502, 48, 960, 0, 0) + bytes(10),
        b"igen": record("4H", 54, 1, 53, 0) + bytes(4),
        b"shdr": record("20s5IBbHH", b"s", 0, 300, 10, 290, 8000, 60, 0, 0, 1) + bytes(46),
    }
    info = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"tiny\0\0"))
    sounds = chunk(b"LIST", b"sdta" + chunk(b"smpl", wave))
    about = b"".join(chunk(name, data) for name, data in parts.items())
    return chunk(b"RIFF", b"sfbk" + info + sounds + chunk(b"LIST", b"pdta" + about))


def _midi() -> bytes:
    song = pretty_midi.PrettyMIDI()
    for program in (0, 33):
        part = pretty_midi.Instrument(program)
        part.notes = [pretty_midi.Note(90, 40 + k, k / 2, k / 2 + 0.4) for k in range(8)]
        part.control_changes = [pretty_midi.ControlChange(64, 127, 1.0)]
        song.instruments.append(part)
    stream = io.BytesIO()
    song.write(stream)
    return stream.getvalue()


def seeds(name: str, folder: Path) -> list[bytes]:
    """Valid inputs of a reader."""
    if name == "metadata":
        stem = "{inst_class: Bass, audio_rendered: true, is_drum: false}"
        return [f"UUID: 1a\nstems:\n  S00: {stem}\n  01: {stem}\n".encode()]
    if name in ("configuration", "record"):
        return [b"data:\n  root: a\n  sources: [drums, bass]\ntraining: {steps: 3, lr: 1e-4}\n"]
    if name == "cache":
        written = TrackCache(folder / "seed_cache", CACHE, write=True)
        written.add("t", np.zeros((2, 20)), np.ones((2, 20)))
        written.finish(["t"])
        files = [written.path / "cache.json", written.path / "t.safetensors"]
        return [_SPLIT.join(file.read_bytes() for file in files)]
    if name == "checkpoint":
        with zipfile.ZipFile(_saved(folder)) as whole:
            return [whole.read(n) for n in whole.namelist() if n.endswith("data.pkl")]
    if name == "archive":
        return [bytes(3), bytes([200, 0, 0]), bytes([0, 0, 0, 1, 7])]
    if name == "hub_folder":
        _saved(folder, weights=True)
        weights = (folder / "seed" / "model.safetensors").read_bytes()
        header = weights[8 : 8 + int.from_bytes(weights[:8], "little")]
        return [_SPLIT.join([(folder / "seed" / "config.json").read_bytes(), header])]
    if name == "table":
        return [b"path,split,instruments\na.wav,train,drums+bass\n", b"path\na.wav\n"]
    if name == "lines":
        return [b'{"path": "a.wav", "split": "test", "instruments": "bass"}\n']
    if name == "midi":
        return [_midi()]
    if name == "soundfont":
        return [_soundfont()]
    if name == "drum_kit":
        layers = "<layer><filename>a.wav</filename><min>0</min><pitch>-1</pitch></layer>"
        parts = [f"<instrument><name>{n}</name>{layers}</instrument>" for n in ("kick", "snare")]
        return [f"<drumkit_info><name>k</name>{''.join(parts)}</drumkit_info>".encode()]
    found = []
    wav = np.random.default_rng(0).uniform(-0.1, 0.1, (300, 2))
    kinds = ("WAV PCM_16", "WAV MS_ADPCM", "AIFF FLOAT", "AU ULAW", "CAF ALAC_16", "W64 PCM_24")
    for kind in (*kinds, "FLAC PCM_16", "OGG VORBIS", "OGG OPUS", "MP3 MPEG_LAYER_III"):
        format, subtype = kind.split()
        stream = io.BytesIO()
        sf.write(stream, wav, 8000, format=format, subtype=subtype)
        found.append(stream.getvalue())
    return found
