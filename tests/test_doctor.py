"""Every fault that the doctor knows, on trees damaged on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml
from test_slakh import SAMPLE, STEMS, make_track

from asteroid_ucr.data.doctor import KINDS, Diagnosis, examine
from asteroid_ucr.utils.errors import UserError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A sound tree of five tracks."""
    for i, split in enumerate(("train", "train", "train", "validation", "test")):
        make_track(tmp_path, f"Track{i:05d}", STEMS, split)
    return tmp_path


def found(diagnosis: Diagnosis) -> set[tuple[str, str, str]]:
    return {(fault.kind, fault.track, fault.stem) for fault in diagnosis.faults}


def edit(folder: Path, change: dict[str, object]) -> None:
    data = yaml.safe_load((folder / "metadata.yaml").read_text())
    data["stems"]["S00"].update(change)
    (folder / "metadata.yaml").write_text(yaml.safe_dump(data))


def test_a_sound_tree_has_no_faults(tree: Path) -> None:
    diagnosis = examine(tree)
    assert diagnosis.faults == []
    assert diagnosis.tracks_per_split == {"train": 3, "validation": 1, "test": 1}
    assert diagnosis.usable(["drums", "bass"]) == {"train": 3, "validation": 1, "test": 1}
    assert diagnosis.usable(["piano"]) == {"train": 0, "validation": 0, "test": 0}
    assert any("no faults" in line for line in diagnosis.lines())


def test_damage_to_metadata_and_declarations(tree: Path) -> None:
    train = tree / "train"
    (train / "Track00000" / "metadata.yaml").unlink()
    (train / "Track00001" / "metadata.yaml").write_text("stems: [broken")
    (train / "Track00002" / "stems" / "S00.wav").unlink()
    edit(tree / "test" / "Track00004", {"audio_rendered": False})
    sf.write(tree / "test" / "Track00004" / "stems" / "S09.wav", np.full(4000, 0.1), 8000)
    assert found(examine(tree)) == {
        ("metadata_missing", "train/Track00000", ""),
        ("metadata_invalid", "train/Track00001", ""),
        ("stem_missing", "train/Track00002", "S00"),
        ("stem_undeclared", "test/Track00004", "S00"),
        ("stem_unlisted", "test/Track00004", "S09"),
    }


def test_damage_to_audio(tree: Path) -> None:
    stems = tree / "train" / "Track00000" / "stems"
    (stems / "S00.wav").write_bytes(b"RIFF, perhaps")
    sf.write(stems / "S01.wav", np.zeros(0), 8000)
    sf.write(tree / "train" / "Track00001" / "stems" / "S01.wav", np.zeros(4000), 8000)
    sf.write(tree / "train" / "Track00002" / "stems" / "S01.wav", np.full(3000, 0.1), 8000)
    sf.write(tree / "test" / "Track00004" / "stems" / "S01.wav", np.full(8000, 0.1), 16000)
    (tree / "validation" / "Track00003" / "mix.wav").unlink()
    diagnosis = examine(tree)
    assert found(diagnosis) == {
        ("stem_unreadable", "train/Track00000", "S00"),
        ("stem_empty", "train/Track00000", "S01"),
        ("stem_silent", "train/Track00001", "S01"),
        ("length_differs", "train/Track00002", ""),
        ("rate_differs", "test/Track00004", "S01"),
        ("mix_missing", "validation/Track00003", "mix"),
    }
    # Track 0 has drums left (S02), but no bass; track 1 has a silent bass.
    assert diagnosis.usable(["drums", "bass"])["train"] == 1
    assert "stem_silent" not in examine(tree, listen=False).counts()


def test_a_stem_that_breaks_off_is_found_by_listening(tree: Path) -> None:
    folder = tree / "train" / "Track00000" / "stems"
    (folder / "S00.wav").unlink()
    noise = np.random.default_rng(0).normal(0, 0.1, 4000)
    sf.write(folder / "S00.flac", noise, 8000)
    whole = (folder / "S00.flac").read_bytes()
    (folder / "S00.flac").write_bytes(whole[: len(whole) // 2])
    assert examine(tree, listen=False).faults == []
    assert found(examine(tree)) == {("stem_unreadable", "train/Track00000", "S00")}


def test_tracks_without_any_stem(tree: Path) -> None:
    for path in (tree / "test" / "Track00004" / "stems").iterdir():
        path.unlink()
    assert examine(tree).counts() == {"stem_missing": 3, "no_stems": 1}


def test_shared_midi_is_counted_by_pair(tree: Path) -> None:
    make_track(tree, "Track00010", STEMS, "test", uuid="trainTrack00001")
    make_track(tree, "Track00011", STEMS, "test", uuid="trainTrack00001")
    make_track(tree, "Track00012", STEMS, "validation", uuid="trainTrack00002")
    diagnosis = examine(tree)
    assert diagnosis.shared == {
        ("train", "validation"): 1,
        ("train", "test"): 2,
        ("validation", "test"): 0,
    }
    assert diagnosis.counts() == {"shared_midi": 3}


def test_splits_are_held_against_the_published_ones(tree: Path) -> None:
    (tree / "omitted").mkdir()
    (tree / "test").rename(tree / "elsewhere")
    (tree / "test").mkdir()
    (tree / "validation").rename(tree / "valid")
    diagnosis = examine(tree)
    assert diagnosis.edition == "redux"
    details = {(f.kind, f.track): f.detail for f in diagnosis.faults}
    assert "3 tracks where the redux edition has 1289" in details["split_count", "train"]
    assert ("split_empty", "test") in details and ("split_missing", "validation") in details


def test_other_folders(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    diagnosis = examine(tmp_path)
    assert diagnosis.counts() == {"not_slakh": 1}
    assert any("no Slakh tree" in line for line in diagnosis.lines())
    with pytest.raises(UserError, match="absent"):
        examine(tmp_path / "absent")


def test_the_report_groups_counts_and_shortens(tree: Path) -> None:
    for stem in ("S00", "S01", "S02"):
        (tree / "train" / "Track00000" / "stems" / f"{stem}.wav").unlink()
    lines = examine(tree).lines(examples=2)
    start = next(i for i, line in enumerate(lines) if line.startswith("3 x stem_missing"))
    assert KINDS["stem_missing"] in lines[start]
    assert "train/Track00000 S00" in lines[start + 1] and "1 more" in lines[start + 3]


def test_real_babyslakh_is_undeclared_throughout() -> None:
    root = SAMPLE / "babyslakh_16k"
    if not root.is_dir():
        pytest.skip("no sample of Slakh beside the repository")
    diagnosis = examine(root, listen=False)
    assert diagnosis.counts() == {"metadata_missing": 1, "stem_undeclared": 10}
    assert diagnosis.tracks[0].stem_paths("bass")
