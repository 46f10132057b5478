"""The latent cache: checked, resumable, readable by many."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from asteroid_ucr import UserError
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.data.cache import LatentMetadata, TrackCache
from asteroid_ucr.data.crops import RandomCrops, item_loader
from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.encode import cache_metadata, fill
from asteroid_ucr.data.tracks import read_sources
from asteroid_ucr.utils.audio import level_gain

META = LatentMetadata(
    dataset="set",
    split="train",
    sources=("drums", "bass"),
    mix="sum",
    codec="codec",
    frame_rate=75.0,
    channels=4,
)


def filled(path, tracks=3, frames=50):
    cache = TrackCache(path, META, write=True)
    generator = np.random.default_rng(0)
    contents = {}
    for number in range(tracks):
        latents = generator.standard_normal((4, frames + number)).astype(np.float16)
        power = generator.random((2, frames + number)).astype(np.float32)
        cache.add(f"Track{number}", latents, power)
        contents[f"Track{number}"] = (latents, power)
    cache.finish(list(contents))
    return contents


def test_what_goes_in_comes_out(tmp_path):
    contents = filled(tmp_path)
    cache = TrackCache(tmp_path, META)
    assert cache.tracks == list(contents)
    assert cache.lengths() == [50, 51, 52]
    for track, (latents, power) in contents.items():
        assert np.array_equal(cache.crop(track, 7, 20), latents[:, 7:27].astype(np.float32))
        assert np.array_equal(cache.power(track), power)
    everything = np.concatenate([x for x, _ in contents.values()], 1).astype(np.float64)
    mean, std = cache.statistics()
    assert np.allclose(mean, everything.mean(1)) and np.allclose(std, everything.std(1))


@pytest.mark.parametrize(
    "change",
    [{"codec": "other"}, {"sources": ("bass",)}, {"mix": "paper_mean"}, {"split": "test"}],
)
def test_foreign_cache_is_refused(tmp_path, change):
    filled(tmp_path)
    for write in (False, True):
        with pytest.raises(UserError, match=next(iter(change))):
            TrackCache(tmp_path, dataclasses.replace(META, **change), write=write)


def test_unfinished_missing_and_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="run stage 1"):
        TrackCache(tmp_path / "none", META)
    cache = TrackCache(tmp_path / "half", META, write=True)
    cache.add("Track0", np.zeros((4, 5)), np.zeros((2, 5)))
    with pytest.raises(UserError, match="not complete"):
        TrackCache(tmp_path / "half", META)
    (tmp_path / "other").mkdir()
    for content in (b"something else", b"[]", b"\xff"):
        (tmp_path / "other" / "cache.json").write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            TrackCache(tmp_path / "other", META)


def test_format_of_another_version_is_refused(tmp_path):
    TrackCache(tmp_path, dataclasses.replace(META, format=99), write=True)
    with pytest.raises(UserError, match="format = 99"):
        TrackCache(tmp_path, META)


def test_damaged_tracks_are_refused(tmp_path):
    filled(tmp_path)
    cache, file = TrackCache(tmp_path, META), tmp_path / "Track1.safetensors"
    whole = file.read_bytes()
    for content in (whole[:-1], b"", (tmp_path / "Track2.safetensors").read_bytes()):
        file.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            cache.crop("Track1", 0, 10)
    file.unlink()
    with pytest.raises(UserError, match="damaged"):
        cache.power("Track1")


WRITER = """
import sys, numpy as np
sys.path.insert(0, {tests!r})
from test_cache import META
from asteroid_ucr.data.cache import TrackCache
cache = TrackCache({path!r}, META, write=True)
for number in range(100_000):
    cache.add(f"Track{{number:06d}}", np.full((4, 2000), number % 100), np.zeros((2, 2000)))
    print(number, flush=True)
"""


def test_kill_leaves_whole_records(tmp_path):
    script = WRITER.format(tests=os.path.dirname(__file__), path=str(tmp_path / "c"))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= 20:
            break
    time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    written = [int(line) for line in process.communicate()[0].split()]
    cache = TrackCache(tmp_path / "c", META, write=True)
    last = max([20, *written])
    names = [f"Track{n:06d}" for n in range(last + 1)]
    assert all(name in cache for name in names)
    cache.finish(names)
    whole = TrackCache(tmp_path / "c", META)
    assert set(whole.lengths()) == {2000}
    assert whole.crop(names[-1], 0, 2000).max() == last % 100


def test_a_track_that_cannot_be_read_is_named(slakh_tree, tmp_path):
    """Cut FLAC files fail in the middle, with an error that does not cross processes."""
    tree = tmp_path / "tree"
    shutil.copytree(slakh_tree, tree)
    stem = tree / "train" / "Track00002" / "stems" / "S01.flac"
    stem.write_bytes(stem.read_bytes()[:30_000])
    codec = build_codec("mel")
    about = cache_metadata(tree, "train", ["drums", "bass"], "sum", codec)
    (failure,) = fill(TrackCache(tmp_path / "c", about, write=True), tree, codec, workers=1)
    assert "Track00002" in failure and "\n" not in failure


def test_encoding_a_tree(slakh_tree, tmp_path):
    codec = build_codec("mel")
    about = cache_metadata(slakh_tree, "train", ["drums", "bass"], "sum", codec)
    assert fill(TrackCache(tmp_path, about, write=True), slakh_tree, codec, workers=2) == []
    cache = TrackCache(tmp_path, about)
    audio = read_sources(load_tracks(slakh_tree, "train")[1], ["drums", "bass"], 24_000)
    mixture = audio.mixture * level_gain(audio.mixture)
    expected = codec.encode(mixture[None, None])[0]
    track = cache.tracks[1]
    assert np.allclose(cache.crop(track, 0, 10_000), expected, atol=1e-3 * expected.abs().max())
    power = torch.from_numpy(cache.power(track)).mean(1)
    assert torch.allclose(power, audio.references.square().mean(1), rtol=0.02)
    again = TrackCache(tmp_path, about, write=True)
    assert fill(again, slakh_tree, codec) == []  # finds every track there and changes none
    assert cache.tracks == [t.name for t in load_tracks(slakh_tree, "train")]


def test_crops_depend_on_seed_and_number_alone(tmp_path):
    filled(tmp_path)
    cache = TrackCache(tmp_path, META)
    crops = RandomCrops(cache, 10, seed=3)
    assert not torch.equal(crops[0], RandomCrops(cache, 10, seed=4)[0])
    assert not torch.equal(crops[0], crops[1])
    loader = item_loader(RandomCrops(cache, 10, seed=3), 40, 8, workers=2)
    for epoch in (1, 0):
        loader.sampler.set_epoch(epoch)
        loaded = torch.cat(list(loader))
        assert torch.equal(loaded, torch.stack([crops[40 * epoch + i] for i in range(40)]))


def test_every_passage_is_equally_likely(tmp_path):
    cache = TrackCache(tmp_path, META, write=True)
    for name, frames in [("A", 12), ("B", 30)]:  # 3 and 21 crops of 10 frames
        ramp = np.arange(frames) + (100 if name == "B" else 0)
        cache.add(name, np.tile(ramp, (4, 1)), np.ones((2, frames)))
    cache.finish(["A", "B"])
    crops = RandomCrops(cache, 10)
    starts, counts = np.unique([int(crops[i][0, 0]) for i in range(4800)], return_counts=True)
    assert len(starts) == 24
    assert abs(counts - 200).max() < 4.5 * 200**0.5


def test_silent_passages_are_avoided(tmp_path):
    cache = TrackCache(tmp_path, META, write=True)
    power = np.ones((2, 100))
    power[1, 20:] = 0
    cache.add("A", np.tile(np.arange(100), (4, 1)), power)
    cache.finish(["A"])
    crops = RandomCrops(cache, 10, min_rms=0.9)
    starts = [int(crops[i][0, 0]) for i in range(50)]
    assert max(starts) <= 11  # at most 19 % of the crop may be silent for an RMS of 0.9
    with pytest.raises(UserError, match="frames"):
        RandomCrops(cache, 101)


OTHER_WRITER = """
import sys
import numpy as np
from asteroid_ucr.data.cache import LatentMetadata, TrackCache
cache = TrackCache(sys.argv[1], LatentMetadata(**{metadata}), write=True)
print("ready", flush=True)
sys.stdin.readline()
for number in range(12):
    cache.add(f"{{sys.argv[2]}}{{number}}", np.full((4, 250_000), number), np.zeros((2, 250_000)))
cache.finish([f"{{sys.argv[2]}}{{number}}" for number in range(12)])
"""


def test_two_processes_write_one_cache(tmp_path):
    script = OTHER_WRITER.format(metadata=dataclasses.asdict(META))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "cache"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in "ab"
    ]
    for writer in writers:
        writer.stdout.readline()
    for writer in writers:
        writer.communicate(b"\n")
        assert writer.returncode == 0
    cache = TrackCache(tmp_path / "cache", META)
    for track in [f"{name}{number}" for name in "ab" for number in range(12)]:
        assert (cache.whole(track) == int(track[1:])).all() and cache.power(track).shape[
            1
        ] == 250_000
