"""Any folder of audio is a data set: splits, instruments, stems, and what is left out."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.cli import main
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.data.cache import TrackCache
from asteroid_ucr.data.datasets import describe, load_tracks
from asteroid_ucr.data.encode import cache_metadata, fill
from asteroid_ucr.data.tracks import SPLITS, read_sources
from asteroid_ucr.utils.stems import MARK


@pytest.fixture(autouse=True)
def record(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "record"))


def song(seed, seconds=3.0, rate=44_100, channels=2):
    """Notes and beats at random, `(time, channels)`."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 110 * 2 ** (generator.integers(0, 24, 12) / 12)
    notes = np.sin(2 * np.pi * np.cumsum(pitch[(time / seconds * 11.99).astype(int)]) / rate)
    beats = generator.normal(0, 1, len(time)) * np.exp(-20 * (time % generator.uniform(0.2, 0.5)))
    wave = 0.1 * (notes + beats)
    return np.stack([wave * (1 - 0.3 * k) for k in range(channels)], axis=1)


def write(path, wave, rate=44_100):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, wave, rate)
    return path


def files(root, split):
    return {track.mixture.name for track in load_tracks(root, split)}


def test_every_nesting_format_rate_and_number_of_channels(tmp_path):
    root = tmp_path / "music"
    write(root / "train" / "a.wav", song(0))
    write(root / "train" / "album" / "CD1" / "b.FLAC", song(1, rate=22_050, channels=1), 22_050)
    write(root / "train" / "album" / "CD2" / "b.mp3", song(2, rate=48_000), 48_000)
    write(root / "valid" / "c.ogg", song(3))
    write(root / "train" / "._a.wav", song(4))
    (root / "train" / "notes.txt").write_text("no audio")
    assert files(root, "train") == {"a.wav", "b.FLAC", "b.mp3"}
    assert files(root, "validation") == {"c.ogg"}
    with pytest.raises(UserError, match="split 'test'"):
        load_tracks(root, "test")
    names = {track.name for track in load_tracks(root, "train")}
    assert len(names) == 3 and all("/" not in name and "." not in name for name in names)
    audio = read_sources(load_tracks(root, "train")[0], ["drums", "bass"], 24_000)
    assert audio.mixture.shape == (72_000,) and audio.references.shape == (0, 72_000)
    assert audio.mix == "file"


def test_without_folders_the_content_decides_and_adding_songs_moves_none(tmp_path):
    root = tmp_path / "music"
    for seed in range(20):
        write(root / f"{seed}.wav", song(seed, rate=8000, channels=1), 8000)
    before = {split: files(root, split) for split in SPLITS}
    assert sum(map(len, before.values())) == 20 and len(before["train"]) >= 8
    (root / "0.wav").rename(root / "renamed.wav")
    for seed in range(20, 30):
        write(root / f"{seed}.wav", song(seed, rate=8000, channels=1), 8000)
    after = {split: files(root, split) for split in SPLITS}
    for split, names in before.items():
        assert {"renamed.wav" if name == "0.wav" else name for name in names} <= after[split]


def test_what_cannot_be_used_is_counted_and_left_out(tmp_path):
    root = tmp_path / "music" / "train"
    write(root / "a.wav", song(0))
    write(root / "b.wav", song(1))
    write(root / "silent.wav", np.zeros(200_000))
    write(root / "short.wav", song(2)[:44_100])
    (root / "broken.mp3").write_bytes(b"no music" * 1000)
    # The same recording at another rate, volume and format, and a file under another name.
    write(root / "copy.mp3", 0.5 * song(0))
    write(root / "copy.ogg", 0.3 * song(0))
    (root / "z.wav").write_bytes((root / "b.wav").read_bytes())
    with sf.SoundFile(root / "drums.wav", "w", 44_100, 2) as file:
        file.comment = f"{MARK}drums-bass 12345678"
        file.write(song(4))
    report = "\n".join(describe(root.parent))
    assert files(root.parent, "train") == {"a.wav", "b.wav"}
    for line in ("1 x silent", "1 x too short", "1 x broken", "3 x copy", "same as train/a.wav"):
        assert line in report, report
    assert "1 x an estimate" in report and "wrote with the model drums-bass" in report
    assert "2 songs" in report


def test_copies_in_two_splits_are_refused(tmp_path):
    write(tmp_path / "train" / "a.wav", song(0))
    write(tmp_path / "train" / "b.wav", song(1))
    write(tmp_path / "validation" / "e.wav", song(3))
    write(tmp_path / "test" / "c.flac", song(0))
    write(tmp_path / "test" / "d.flac", song(2))
    with pytest.raises(UserError, match=r"1 of 2 test tracks.*their audio.*c-\w+ with a-"):
        load_tracks(tmp_path, "test")
    assert len(load_tracks(tmp_path, "test", allow_shared_midi=True)) == 2


def test_folders_name_instruments(tmp_path):
    for number, folder in enumerate(["drums+bass", "Bass + Piano/live", "other"]):
        write(tmp_path / "train" / folder / "a.wav", song(number))
    both = load_tracks(tmp_path, "train", sources=["bass", "drums"])
    assert [track.instruments for track in both] == [("drums", "bass")]
    assert len(load_tracks(tmp_path, "train", sources=["piano", "bass"])) == 1
    assert len(load_tracks(tmp_path, "train")) == 2
    with pytest.raises(UserError, match="piano"):
        load_tracks(tmp_path, "train", sources=["piano"])
    report = "\n".join(describe(tmp_path))
    assert "1 songs of drums+bass" in report and "1 songs of unknown instruments" in report


def test_lists_of_files(tmp_path):
    for number, name in enumerate(["a.wav", "b.wav", "c.wav"]):
        write(tmp_path / "audio" / name, song(number))
    rows = [
        {"path": "audio/a.wav", "split": "train", "instruments": "drums+bass"},
        {"path": "audio/b.wav", "split": "test", "instruments": "drums+bass"},
    ]
    csv, lines = tmp_path / "songs.csv", tmp_path / "songs.jsonl"
    text = "\n".join(",".join(row.values()) for row in rows)
    csv.write_text(f"path,split,instruments\n{text}\n")
    lines.write_text("\n".join(map(json.dumps, rows)))
    for path in (csv, lines):
        (track,) = load_tracks(path, "test", sources=["drums", "bass"])
        assert track.mixture.name == "b.wav"
    csv.write_text("path\naudio/a.wav\naudio/c.wav\n")
    assert sum(len(files) for files in (survey_of(csv))) == 2


def survey_of(root):
    from asteroid_ucr.data.folder import survey

    return survey(root).tracks.values()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,colour\na.wav,red\n", "unknown columns colour"),
        ("file\na.wav\n", "unknown columns file"),
        ("path\nnowhere.wav\n", "names 1 files that do not exist, such as nowhere.wav"),
        ("path,split\na.wav,rest\n", "split 'rest'"),
        ("", "neither a folder nor a list"),
    ],
)
def test_bad_lists_are_refused(tmp_path, content, words):
    write(tmp_path / "a.wav", song(0))
    path = tmp_path / "songs.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        load_tracks(path, "train")


def test_bad_folders_are_refused(tmp_path, slakh_tree):
    with pytest.raises(UserError, match="does not exist"):
        load_tracks(tmp_path / "nowhere", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no audio files"):
        load_tracks(tmp_path / "empty", "train")
    write(tmp_path / "silence" / "a.wav", np.zeros(200_000))
    with pytest.raises(UserError, match="no audio that can be used: left out: 1 x silent"):
        load_tracks(tmp_path / "silence", "train")
    deep = tmp_path / "a" / "b" / "c"
    deep.parent.mkdir(parents=True)
    deep.symlink_to(slakh_tree)
    with pytest.raises(UserError, match="Slakh tree"):
        load_tracks(deep.parent, "train", sources=["organ"])


def test_songs_with_stems_are_mixed_from_them(tmp_path):
    """The layout of MUSDB18, which has no folder of validation."""
    names = ["bass", "drums", "other", "vocals"]
    for number in range(12):
        split = "test" if number == 0 else "train"
        stems = {name: song(10 * number + k, rate=8000) for k, name in enumerate(names)}
        folder = tmp_path / split / f"Artist - Song {number}"
        for name, wave in {**stems, "mixture": sum(stems.values())}.items():
            write(folder / f"{name}.wav", wave, 8000)
    (track,) = load_tracks(tmp_path, "test", sources=["drums", "bass"], stems=True)
    audio = read_sources(track, ["drums", "bass"], 8000)
    drums = torch.from_numpy(sf.read(track.folder / "drums.wav")[0].mean(1)).float()
    torch.testing.assert_close(audio.references[0], drums)
    torch.testing.assert_close(audio.mixture, audio.references.sum(0))
    counts = [len(load_tracks(tmp_path, split)) for split in ("train", "validation")]
    assert sum(counts) == 11 and min(counts) >= 1
    with pytest.raises(UserError, match="piano"):
        load_tracks(tmp_path, "test", sources=["piano"])


def test_shards_fill_a_cache_together(slakh_tree, tmp_path):
    codec, sources = build_codec("mel"), ["drums", "bass"]
    expected = cache_metadata(slakh_tree, "train", sources, "sum", codec)
    fill(TrackCache(tmp_path / "c", expected, write=True), slakh_tree, codec, shard=(2, 2))
    with pytest.raises(UserError, match="not complete"):
        TrackCache(tmp_path / "c", expected)
    fill(TrackCache(tmp_path / "c", expected, write=True), slakh_tree, codec, shard=(1, 2))
    assert len(TrackCache(tmp_path / "c", expected).tracks) == 3


def test_stems_are_not_cached_where_there_are_none(tmp_path):
    write(tmp_path / "train" / "a.wav", song(0))
    with pytest.raises(UserError, match="with stems of drums, bass"):
        about = cache_metadata(tmp_path, "train", ["drums", "bass"], "sum")
        fill(TrackCache(tmp_path / "c", about, write=True), tmp_path)


TINY = (
    "--training.steps 2 --training.epoch_steps 2 --training.batch_size 2 --training.frames 64 "
    "--training.warmup_steps 1 --training.validation_items 2 --model.encoder_widths [16] "
    "--model.denoiser_widths [16,32] --model.denoiser_kernels [3,3] --training.accelerator cpu "
    "--evaluation.segment_seconds 2 --evaluation.max_clips 2 --evaluation.examples 1"
)


def test_from_a_folder_to_stems(tmp_path, capsys):
    root, exp = tmp_path / "music", tmp_path / "exp"
    for number, split in enumerate(["train", "train", "validation", "test"]):
        write(root / split / f"{number}.mp3", song(number))
    (root / "train" / "broken.mp3").write_bytes(b"no music" * 1000)
    options = [*TINY.split(), "--data.root", str(root), "--data.cache", str(tmp_path / "cache")]
    options += ["--data.sources", "[one, two]"]
    assert main(["train", *options, "--exp_dir", str(exp / "seed0")]) == 0
    stems = ["--stems", str(tmp_path / "stems")]
    assert main(["evaluate-runs", *options, "--exp_dir", str(exp), "--runs", "0", *stems]) == 0
    text = capsys.readouterr().out
    assert "4 songs" in text and "R²" in text and "chose seed0" in text
    (example,) = (exp / "examples").iterdir()
    assert {path.name for path in example.iterdir()} == {"mixture.wav", "one.wav", "two.wav"}
    assert UCRSeparator.from_pretrained(exp).sources == ["one", "two"]
    assert "wrote one, two of 4 songs" in text and "1 x broken" in text
    written = {path.relative_to(tmp_path / "stems") for path in (tmp_path / "stems").rglob("*.*")}
    assert len(written) == 8 and Path("train/0/one.flac") in written
    mixture, rate = sf.read(root / "test" / "3.mp3")
    parts = [sf.read(tmp_path / "stems" / "test" / "3" / f"{name}.flac") for name in ("one", "two")]
    assert [about for _, about in parts] == [rate, rate]
    np.testing.assert_allclose(sum(wav for wav, _ in parts), mixture, atol=1e-3)
    with pytest.raises(UserError, match="instruments in the songs of"):
        run_solos(options)
    assert main(["cache", *options, "--shard", "3/2"]) == 2
    assert main(["doctor", str(root)]) == 0


def run_solos(options):
    from asteroid_ucr.commands import COMMANDS

    COMMANDS["solos"].run("solos", options)
