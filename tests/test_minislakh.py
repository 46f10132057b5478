"""mini-Slakh: composed, rendered and read back for real."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import librosa
import numpy as np
import pretty_midi
import pytest
import soundfile as sf
import torch
import yaml
from fast_bss_eval.torch import si_sdr_loss

from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.doctor import examine
from asteroid_ucr.data.tracks import read_sources
from asteroid_ucr.minislakh import build
from asteroid_ucr.minislakh.collection import split_of
from asteroid_ucr.minislakh.notes import SAMPLE_RATE, Part
from asteroid_ucr.minislakh.sounds import default_soundfont
from asteroid_ucr.utils.errors import UserError

CORE = ["drums", "bass", "piano"]


def digests(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("minislakh") / "songs"
    build(root, songs=16, seconds=14.0, seed=3, progress=False)
    return root


def test_the_doctor_finds_no_fault_and_the_reader_reads(collection: Path) -> None:
    diagnosis = examine(collection)
    assert diagnosis.faults == []
    assert diagnosis.tracks_per_split == {"train": 11, "validation": 3, "test": 2}
    for track in load_tracks(collection, "validation", sources=CORE):
        audio = read_sources(track, CORE, SAMPLE_RATE)
        assert audio.references.shape == (3, 14 * SAMPLE_RATE)
        assert float(audio.references.square().mean(1).sqrt().min()) > 0.005


def test_layout_is_that_of_slakh(collection: Path) -> None:
    folder = collection / "train" / "Track00001"
    data = yaml.safe_load((folder / "metadata.yaml").read_text())
    assert set(data) == {
        *("UUID", "audio_dir", "lmd_midi_dir", "midi_dir", "normalization_factor"),
        *("normalized", "overall_gain", "stems", "target_peak"),
    }
    total = 0
    for name, stem in data["stems"].items():
        assert set(stem) == {
            *("audio_rendered", "inst_class", "integrated_loudness", "is_drum", "midi_saved"),
            *("midi_program_name", "plugin_name", "program_num"),
        }
        samples, rate = sf.read(folder / "stems" / f"{name}.flac", dtype="int16")
        assert rate == 44100 and samples.ndim == 1
        total = total + samples.astype(np.int64)
        (part,) = pretty_midi.PrettyMIDI(str(folder / "MIDI" / f"{name}.mid")).instruments
        assert part.is_drum == stem["is_drum"] and len(part.notes) > 4
        assert part.program == stem["program_num"] or stem["program_num"] == 128
    mix = sf.read(folder / "mix.flac", dtype="int16")[0]
    assert np.array_equal(mix, total)
    assert np.abs(mix).max() <= 32767 * 10 ** (-1 / 20)
    whole = pretty_midi.PrettyMIDI(str(folder / "all_src.mid"))
    assert len(whole.instruments) == len(data["stems"])


def test_songs_depend_on_seed_and_number_alone(collection: Path, tmp_path: Path) -> None:
    build(tmp_path / "few", songs=3, seconds=14.0, seed=3, workers=1, progress=False)
    few, many = digests(tmp_path / "few"), digests(collection)
    assert len(few) > 20 and few.items() <= many.items()
    build(tmp_path / "other", songs=3, seconds=14.0, seed=4, progress=False)
    other = digests(tmp_path / "other")
    mixes = [name for name in few if name.endswith("mix.flac")]
    assert len(mixes) == 3 and all(other[name] != few[name] for name in mixes)


def test_songs_differ_from_each_other(collection: Path) -> None:
    uuids = [yaml.safe_load(path.read_text())["UUID"] for path in collection.rglob("metadata.yaml")]
    mixes = [hashlib.md5(path.read_bytes()).hexdigest() for path in collection.rglob("mix.flac")]
    assert len(set(uuids)) == len(set(mixes)) == 16


def test_splits_do_not_move_when_a_collection_grows() -> None:
    splits = [split_of(i) for i in range(60)]
    assert [splits.count(s) for s in ("train", "validation", "test")] == [42, 9, 9]
    assert set(splits[:3]) == {"train", "validation", "test"}


def test_an_interrupted_build_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "songs"
    build(out, songs=3, seconds=4.0, progress=False)
    before = digests(out)
    kept = out / "test" / "Track00003" / "mix.flac"
    stamp = kept.stat().st_mtime_ns
    (out / "train" / "Track00001" / "stems" / "S01.flac").unlink()
    (out / "validation" / "Track00002" / "metadata.yaml").write_text("stems: [")
    (out / "train" / ".Track00001.12345").mkdir()
    build(out, songs=4, seconds=4.0, progress=False)
    after = digests(out)
    assert before.items() <= after.items() and "train/Track00004/mix.flac" in after
    assert kept.stat().st_mtime_ns == stamp
    assert not (out / "train" / ".Track00001.12345").exists()


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "songs"
    build(out, songs=2, seconds=3.0, progress=False)
    before = digests(out)
    for change, word in (
        ({"seed": 1}, "seed"),
        ({"seconds": 4.0}, "seconds"),
        ({"songs": 1}, "002"),
    ):
        with pytest.raises(UserError, match=word):
            build(out, **{"songs": 2, "seconds": 3.0, "progress": False, **change})
    assert digests(out) == before
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".1-0.json").write_text("{")  # of a build that was killed at once
    build(tmp_path / "new", songs=1, seconds=2.0, progress=False)
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        build(foreign, songs=2, seconds=3.0)
    with pytest.raises(UserError, match="is a file"):
        build(foreign / "thesis.txt", songs=2, seconds=3.0)
    with pytest.raises(UserError, match="Cannot write"):
        build(foreign / "thesis.txt" / "songs", songs=2, seconds=3.0)
    (out / "minislakh.json").write_text("{")
    with pytest.raises(UserError, match=r"minislakh\.json"):
        build(out, songs=2, seconds=3.0)


@pytest.mark.parametrize(
    "bad", [{"songs": 0}, {"seconds": 1.0}, {"seconds": float("nan")}, {"seed": -1}, {"workers": 0}]
)
def test_numbers_out_of_range(tmp_path: Path, bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(bad))}"):
        build(tmp_path / "songs", **bad)
    assert not (tmp_path / "songs").exists()


def test_bass_and_piano_of_a_song_are_in_one_key(collection: Path) -> None:
    """Their chroma agree within songs, and not across songs."""

    def chroma(wave: np.ndarray) -> np.ndarray:
        low = librosa.resample(wave, orig_sr=SAMPLE_RATE, target_sr=11025)
        power = np.abs(librosa.stft(low, n_fft=8192, hop_length=2756)) ** 2
        found = np.sqrt(librosa.feature.chroma_stft(S=power, sr=11025, norm=None, tuning=0.0))
        found -= found.mean(0)
        return found / np.maximum(np.linalg.norm(found, axis=0), 1e-2 * np.abs(found).max())

    pairs = []
    for track in load_tracks(collection, "train", sources=CORE):
        both = read_sources(track, ["bass", "piano"], SAMPLE_RATE).references.numpy()
        pairs.append([chroma(wave) for wave in both])
    agreement = np.array([[np.mean((b * p).sum(0)) for _, p in pairs] for b, _ in pairs])
    same = np.diag(agreement)
    others = (agreement.sum(1) - same) / (len(pairs) - 1)
    assert same.mean() > 0.2 and abs(others.mean()) < 0.07
    assert (same > others).mean() > 0.8


def test_a_fixed_filter_does_not_separate(collection: Path) -> None:
    window = torch.hann_window(2048)

    def stft(wav: torch.Tensor) -> torch.Tensor:
        return torch.stft(wav, 2048, 512, window=window, return_complex=True, pad_mode="constant")

    def apply(mask: torch.Tensor, wav: torch.Tensor) -> torch.Tensor:
        mixture = stft(wav.sum(0))[None]
        return torch.istft(mask * mixture, 2048, 512, window=window, length=wav.shape[-1])

    def read(split: str) -> list[torch.Tensor]:
        tracks = load_tracks(collection, split, sources=CORE)
        return [read_sources(track, CORE[:2], 24000).references for track in tracks]

    power = sum(stft(wav).abs().square().sum(-1, keepdim=True) for wav in read("train"))
    fixed, oracle = [], []
    for wav in [*read("validation"), *read("test")]:
        local = stft(wav).abs().square()
        fixed.append(si_sdr_loss(apply(power / power.sum(0), wav), wav))
        oracle.append(si_sdr_loss(apply(local / local.sum(0).clamp_min(1e-12), wav), wav))
    gap = torch.stack(fixed).mean() - torch.stack(oracle).mean()
    assert float(gap) > 4.0


def write_midi(path: Path, programs: list[tuple[int, bool]], length: float = 8.0) -> None:
    midi = pretty_midi.PrettyMIDI()
    for k, (program, is_drum) in enumerate(programs):
        part = pretty_midi.Instrument(program, is_drum)
        times = np.arange(0, length, 0.5)
        pitch = 36 if is_drum else 40 + 5 * k
        part.notes = [pretty_midi.Note(100, pitch, t, t + 0.4) for t in times]
        midi.instruments.append(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    midi.write(str(path))


def test_own_midi_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    band = [(0, True), (33, False), (2, False), (50, False), (81, False)]
    for i in range(3):
        write_midi(tmp_path / "midi" / f"{i}" / "song.mid", band[: 5 - i], length=8.0 + i)
    (tmp_path / "midi" / "broken.mid").write_bytes(b"MThd, or so")
    write_midi(tmp_path / "midi" / "solo.mid", [(0, False)])
    write_midi(tmp_path / "midi" / "copy.mid", band)
    out = tmp_path / "out"
    build(out, songs=10, seconds=5.0, midi_dir=tmp_path / "midi", progress=False)
    said = capsys.readouterr().out
    assert "2 MIDI files were skipped" in said
    assert "1 damaged or not a MIDI file" in said and "1 fewer than two instruments" in said
    diagnosis = examine(out)
    assert diagnosis.faults == []
    assert diagnosis.tracks_per_split == {"train": 1, "validation": 1, "test": 1}
    (track,) = load_tracks(out, "train")
    assert [s.inst_class for s in track.stems] == [
        *("Drums", "Bass", "Piano", "Strings (continued)", "Synth Lead"),
    ]
    assert read_sources(track, ["bass"], 44100).references.shape == (1, 5 * 44100)
    with pytest.raises(UserError, match="midi"):
        build(out, songs=10, seconds=5.0, progress=False)


def test_own_files_that_are_not_usable(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.mid").write_bytes(b"nonsense")
    (tmp_path / "font.sf2").write_bytes(b"RIFF nonsense")
    for options, words in (
        ({"midi_dir": tmp_path / "absent"}, "--midi_dir .*absent is not a folder"),
        ({"midi_dir": tmp_path / "empty"}, "holds no .mid"),
        ({"midi_dir": tmp_path / "bad"}, "no usable file among its 1 MIDI files .1 damaged"),
        ({"soundfont": [tmp_path / "absent.sf2"]}, "--soundfont .*absent"),
        ({"soundfont": [tmp_path / "font.sf2"]}, "not a soundfont"),
    ):
        with pytest.raises(UserError, match=words):
            build(tmp_path / "out", songs=3, seconds=3.0, progress=False, **options)
    assert not (tmp_path / "out").exists()


def test_own_soundfonts(tmp_path: Path) -> None:
    fonts = [tmp_path / "mine.sf2", tmp_path / "yours.sf2"]
    for font in fonts:
        font.write_bytes(default_soundfont().read_bytes())
    build(tmp_path / "out", songs=3, seconds=3.0, soundfont=fonts, progress=False)
    texts = [path.read_text() for path in (tmp_path / "out").rglob("metadata.yaml")]
    plugins = {name for text in texts for name in re.findall("plugin_name: '?(.*?):", text)}
    assert plugins == {"mine.sf2", "yours.sf2"}  # each stem draws one
    assert json.loads((tmp_path / "out" / "minislakh.json").read_text())["soundfonts"]


def test_slakhs_names_of_the_families() -> None:
    names = [
        Part(program, False, ()).inst_class
        for program in (0, 13, 19, 30, 39, 40, 48, 60, 81, 100, 127)
    ]
    assert names == [
        *("Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings"),
        *("Strings (continued)", "Brass", "Synth Lead", "Synth Effects", "Sound Effects"),
    ]
    assert Part(0, True, ()).inst_class == "Drums"
