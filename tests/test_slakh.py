"""The reader, on trees written here and, where it is at hand, on a cut-down real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml

from asteroid_ucr.data.datasets import load_tracks
from asteroid_ucr.data.slakh import find_splits, read_track
from asteroid_ucr.data.tracks import read_sources
from asteroid_ucr.utils.errors import UserError

SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "slakh_sample"


def make_track(
    root: Path,
    name: str,
    stems: dict[str, tuple[str, float]],
    split: str = "train",
    uuid: str | None = None,
    rate: int = 8000,
    frames: int = 4000,
    suffix: str = "wav",
) -> Path:
    """Writes a track whose stems are sines, given as id -> (class, frequency)."""
    folder = root / split / name
    (folder / "stems").mkdir(parents=True)
    time = np.arange(frames) / rate
    total = np.zeros(frames)
    for stem, (_, frequency) in stems.items():
        wave = 0.1 * np.sin(2 * np.pi * frequency * time)
        total += wave
        sf.write(folder / "stems" / f"{stem}.{suffix}", wave, rate)
    sf.write(folder / f"mix.{suffix}", total, rate)
    metadata = {
        "UUID": uuid or f"{split}{name}",
        "audio_dir": "nowhere",
        "stems": {
            stem: {
                "inst_class": family,
                "audio_rendered": True,
                "is_drum": family == "Drums",
                "program_num": 0,
            }
            for stem, (family, _) in stems.items()
        },
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return folder


STEMS = {"S00": ("Drums", 100.0), "S01": ("Bass", 200.0), "S02": ("Drums", 400.0)}


def test_sum_adds_all_stems_of_a_class(tmp_path: Path) -> None:
    folder = make_track(tmp_path, "Track00001", STEMS)
    (track,) = load_tracks(tmp_path, "train")
    audio = read_sources(track, ["bass", "drums"], 8000)
    stems = [
        torch.from_numpy(sf.read(folder / "stems" / f"S0{i}.wav")[0]).float() for i in range(3)
    ]
    torch.testing.assert_close(audio.references[0], stems[1])
    torch.testing.assert_close(audio.references[1], stems[0] + stems[2])
    torch.testing.assert_close(audio.mixture, sum(stems), rtol=0, atol=1e-6)


def test_paper_mean_averages_within_and_between_classes(tmp_path: Path) -> None:
    folder = make_track(tmp_path, "Track00001", {**STEMS, "S03": ("Drums", 0.0)})
    (track,) = load_tracks(tmp_path, "train")
    audio = read_sources(track, ["drums", "bass"], 8000, mix="paper_mean")
    stems = [
        torch.from_numpy(sf.read(folder / "stems" / f"S0{i}.wav")[0]).float() for i in range(3)
    ]
    # The fourth stem is silent and must not make the drums quieter.
    torch.testing.assert_close(audio.references[0], (stems[0] + stems[2]) / 2)
    torch.testing.assert_close(audio.mixture, (audio.references[0] + stems[1]) / 2)


def test_resampling_keeps_pitch_and_level(tmp_path: Path) -> None:
    make_track(tmp_path, "Track00001", {"S00": ("Bass", 440.0)}, rate=44100, frames=44100)
    (track,) = load_tracks(tmp_path, "train")
    bass = read_sources(track, ["bass"], 24000).references[0]
    assert bass.shape == (24000,)
    assert int(torch.fft.rfft(bass).abs().argmax()) == 440
    assert float(bass.abs().max()) == pytest.approx(0.1, rel=0.05)


def test_the_file_decides_not_the_metadata(tmp_path: Path) -> None:
    folder = make_track(tmp_path, "Track00001", STEMS)
    data = yaml.safe_load((folder / "metadata.yaml").read_text())
    data["stems"]["S01"]["audio_rendered"] = False
    (folder / "metadata.yaml").write_text(yaml.safe_dump(data))
    (folder / "stems" / "S00.wav").unlink()
    (folder / "stems" / "S02.wav").write_bytes(b"not audio")
    (track,) = load_tracks(tmp_path, "train")
    assert track.sources == ["bass"]
    assert [stem.declared for stem in track.stems] == [True, False, True]
    with pytest.raises(UserError, match="drums"):
        read_sources(track, ["drums"], 8000)


def test_stems_are_cropped_to_the_shortest(tmp_path: Path) -> None:
    folder = make_track(tmp_path, "Track00001", STEMS)
    sf.write(folder / "stems" / "S02.wav", np.full(1000, 0.1), 8000)
    (track,) = load_tracks(tmp_path, "train")
    assert read_sources(track, ["drums", "bass"], 8000).references.shape == (2, 1000)


def test_tracks_without_a_wanted_source_are_left_out(tmp_path: Path) -> None:
    make_track(tmp_path, "Track00002", STEMS)
    make_track(tmp_path, "Track00001", {"S00": ("Piano", 300.0)})
    assert [t.name for t in load_tracks(tmp_path, "train")] == ["Track00001", "Track00002"]
    assert [t.name for t in load_tracks(tmp_path, "train", sources=["Drums"])] == ["Track00002"]
    with pytest.raises(UserError, match="organ"):
        load_tracks(tmp_path, "train", sources=["organ"])


def test_shared_midi_is_refused_and_can_be_allowed(tmp_path: Path) -> None:
    make_track(tmp_path, "Track00001", STEMS, "train", uuid="aaa")
    make_track(tmp_path, "Track00002", STEMS, "test", uuid="aaa")
    make_track(tmp_path, "Track00003", STEMS, "test", uuid="bbb")
    with pytest.raises(UserError, match=r"1 of 2 test tracks.*--allow_shared_midi"):
        load_tracks(tmp_path, "test")
    kept = load_tracks(tmp_path, "test", allow_shared_midi=True)
    assert [track.name for track in kept] == ["Track00002", "Track00003"]
    assert len(load_tracks(tmp_path, "train")) == 1


@pytest.mark.parametrize(("tracks", "counts"), [(20, (12, 4, 4)), (3, (1, 1, 1)), (1, (1, 0, 0))])
def test_flat_trees_are_cut_by_name(tmp_path: Path, tracks: int, counts: tuple[int, ...]) -> None:
    for i in range(tracks):
        (tmp_path / f"Track{i:05d}").mkdir()
    splits = find_splits(tmp_path)
    assert tuple(len(splits[s]) for s in ("train", "validation", "test")) == counts
    names = [folder.name for split in splits.values() for folder in split]
    assert names == sorted(names) and len(names) == tracks


def test_other_folders_are_refused_by_name(tmp_path: Path) -> None:
    make_track(tmp_path / "slakh", "Track00001", STEMS)
    with pytest.raises(UserError, match=f"did you mean {tmp_path / 'slakh'}"):
        load_tracks(tmp_path, "train")
    with pytest.raises(UserError, match="give the folder above"):
        load_tracks(tmp_path / "slakh" / "train", "train")
    with pytest.raises(UserError, match="absent"):
        load_tracks(tmp_path / "absent", "train")
    with pytest.raises(UserError, match="no split 'test'"):
        load_tracks(tmp_path / "slakh", "test")


@pytest.mark.parametrize(
    ("tree", "rate", "declared"),
    [("slakh2100_flac_redux", 44100, True), ("babyslakh_16k", 16000, False)],
)
def test_real_trees(tree: str, rate: int, declared: bool) -> None:
    if not (SAMPLE / tree).is_dir():
        pytest.skip("no sample of Slakh beside the repository")
    (track,) = load_tracks(SAMPLE / tree, "train", sources=["guitar", "drums"])
    assert track.uuid == "1a81ae092884234f3264e2f45927f00a"
    stems = {stem.id: stem for stem in track.stems}
    assert stems["S06"].path is None and stems["S00"].declared is declared
    assert [path.stem for path in track.stem_paths("guitar")] == ["S00", "S07", "S08"]
    assert "strings (continued)" in track.sources
    audio = read_sources(track, ["guitar", "drums"], 24000)
    mix, native = sf.read(track.folder / f"mix{stems['S00'].path.suffix}")
    assert native == rate and audio.mixture.shape == (48000,)
    # In these two seconds only the guitar plays: the sum of the stems is the mix.
    assert float(audio.mixture.square().mean()) == pytest.approx(float((mix**2).mean()), rel=0.02)


def test_stems_may_be_named_by_numbers(tmp_path: Path) -> None:
    folder = make_track(tmp_path, "Track00001", {"01": ("Drums", 100.0), "S02": ("Bass", 200.0)})
    text = (folder / "metadata.yaml").read_text().replace("'01'", "01")
    (folder / "metadata.yaml").write_text(text)
    (track,) = load_tracks(tmp_path, "train")
    assert [stem.id for stem in track.stems] == ["01", "S02"]
    assert track.sources == ["bass", "drums"] and track.stems[0].is_drum


def test_stems_outside_the_track_are_refused(tmp_path: Path) -> None:
    folder = make_track(tmp_path, "Track00001", {"S00": ("Drums", 100.0)})
    sf.write(tmp_path / "secret.wav", np.ones(10), 8000)
    text = (folder / "metadata.yaml").read_text().replace("S00", "../../../secret")
    (folder / "metadata.yaml").write_text(text)
    with pytest.raises(UserError, match="name is not a file's"):
        read_track(folder, "train")
