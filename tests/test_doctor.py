"""Every fault that the doctor knows, on trees damaged on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pretty_midi
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


def play(folder: Path, stem: str, semitones: float, gain: float = 0.2) -> None:
    """A tune of plucked notes for a stem: MIDI as written, audio transposed."""
    rate = 16000
    time = np.arange(rate // 2) / rate
    part = pretty_midi.Instrument(0)
    tones = []
    for i, pitch in enumerate((57, 60, 64, 62, 65, 59, 55, 57)):
        part.notes.append(pretty_midi.Note(90, pitch, i / 2, i / 2 + 0.5))
        frequency = 440 * 2 ** ((pitch + semitones - 69) / 12)
        tone = sum(np.sin(2 * np.pi * k * frequency * time) / k for k in range(1, 6))
        tones.append(gain * tone * np.exp(-3 * time))
    (folder / "MIDI").mkdir(exist_ok=True)
    midi = pretty_midi.PrettyMIDI()
    midi.instruments.append(part)
    midi.write(str(folder / "MIDI" / f"{stem}.mid"))
    sf.write(folder / "stems" / f"{stem}.wav", np.concatenate(tones), rate)


def test_tuning_clipping_and_levels_are_heard(tmp_path: Path) -> None:
    classes = ("Piano", "Piano", "Bass", "Guitar", "Organ", "Drums")
    folder = make_track(
        tmp_path, "Track00001", {f"S0{i}": (c, 100.0) for i, c in enumerate(classes)}
    )
    for i, (semitones, gain) in enumerate(
        ((0, 0.2), (5, 0.2), (0.2, 0.1), (-0.8, 0.1), (12, 0.2), (3, 2.0))
    ):
        play(folder, f"S0{i}", semitones, gain)
    diagnosis = examine(tmp_path)
    offsets = [diagnosis.sounds["train/Track00001", f"S0{i}"].offset for i in range(6)]
    assert offsets[:4] == pytest.approx([0, 5, 0.2, -0.8], abs=0.15)
    # Octaves are not told apart, and drums have no pitch to be compared.
    assert abs(offsets[4]) < 0.15 and np.isnan(offsets[5])
    heard = {f for f in found(diagnosis) if f[0].startswith("stem_")}
    assert heard == {
        ("stem_out_of_tune", "train/Track00001", "S01"),
        ("stem_out_of_tune", "train/Track00001", "S03"),
        ("stem_clipped", "train/Track00001", "S05"),
    }
    lines = "\n".join(diagnosis.lines())
    assert "S01: Piano: S01.wav is +5.0 semitones off its MIDI" in lines
    assert "piano: 2 stems" in lines and "in tune 1 of 2 measured" in lines
    quiet, loud = (diagnosis.sounds["train/Track00001", s].rms for s in ("S02", "S00"))
    assert loud - quiet == pytest.approx(6, abs=0.2) and -30 < loud < -10
    unheard = examine(tmp_path, listen=False)
    assert not unheard.sounds and "stem_out_of_tune" not in unheard.counts()


def test_tracks_without_any_stem(tree: Path) -> None:
    for path in (tree / "test" / "Track00004" / "stems").iterdir():
        path.unlink()
    assert examine(tree).counts() == {"stem_missing": 3, "no_stems": 1}


def test_shared_midi_is_found_in_other_splits(tree: Path) -> None:
    make_track(tree, "Track00010", STEMS, "test", uuid="trainTrack00001")
    make_track(tree, "Track00011", STEMS, "test", uuid="trainTrack00001")
    make_track(tree, "Track00012", STEMS, "validation", uuid="trainTrack00002")
    diagnosis = examine(tree)
    assert diagnosis.counts() == {"shared_midi": 3}
    details = [fault.detail for fault in diagnosis.faults]
    assert sum("train/Track00001" in text for text in details) == 2


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
    assert any("not a Slakh tree" in line for line in diagnosis.lines())
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
