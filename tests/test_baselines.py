import pytest
import soundfile
import torch
from conftest import make_clip

from asteroid_ucr import UserError
from asteroid_ucr.baselines.classical import separate_hpss
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.data.clips import Clip, folder_clips
from asteroid_ucr.evaluation.model_rows import file_rows
from asteroid_ucr.evaluation.rows import (
    Row,
    ceiling_rows,
    classical_rows,
    floor_rows,
)
from asteroid_ucr.evaluation.scores import level_dbfs, log_spectral_distance, si_sdr_matrix
from asteroid_ucr.utils.audio import write_audio

RATE = 24_000


@pytest.fixture
def clip():
    return make_clip()


def si_sdr(clip, row):
    return si_sdr_matrix(clip.references, row.separate(clip)).diagonal()


@pytest.mark.parametrize("n", [2, 3])
def test_rows_give_one_estimate_per_source_that_add_up_to_the_mixture(n):
    clip = make_clip(sources=("drums", "bass", "piano")[:n])
    for row in (*floor_rows([clip]), classical_rows()[0], *ceiling_rows(None)):
        estimates = row.separate(clip)
        assert estimates.shape == clip.references.shape
        error = level_dbfs(estimates.sum(0) - clip.mixture)
        assert error < level_dbfs(clip.mixture) - 60, row.name


def test_oracle_exceeds_hpss_and_hpss_the_mixture(clip):
    rows = (*floor_rows([]), classical_rows()[0], *ceiling_rows(None))
    mixture, hpss, oracle = (si_sdr(clip, row) for row in rows)
    assert (hpss > mixture + 3).all()
    assert (oracle > hpss).all()


def test_hpss_gives_the_percussive_part_to_drums_wherever_they_are(clip):
    drums, bass = separate_hpss(clip.mixture, RATE, ("drums", "bass"))
    assert torch.equal(
        separate_hpss(clip.mixture, RATE, ("bass", "drums")), torch.stack([bass, drums])
    )
    assert torch.equal(
        separate_hpss(clip.mixture, RATE, ("piano", "bass")), torch.stack([drums, bass])
    )


def test_static_eq_is_one_gain_per_frequency_from_validation(clip):
    _, row = floor_rows([make_clip(seed=5)])
    masks = row.masks(clip)
    assert torch.equal(masks, masks[..., :1].expand_as(masks))
    assert masks.sum(0) == pytest.approx(1.0, abs=1e-5)
    # Its bass mask passes the partials that validation has, and little else.
    partial = round(110 * 2048 / RATE)
    assert masks[1, partial, 0] > 0.9
    assert masks[1, round(3000 * 2048 / RATE), 0] < 0.1
    # On a bass at another pitch, it passes the wrong frequencies.
    other = make_clip(seed=6, pitch=87.0)
    assert si_sdr(other, row)[1] < si_sdr(clip, row)[1] - 3


def test_codec_rows_against_the_true_sources(clip):
    (mixture,), (oracle, codec_mask, roundtrip) = floor_rows([]), ceiling_rows(build_codec("mel"))
    through_codec = si_sdr(clip, codec_mask)
    assert (through_codec > si_sdr(clip, mixture) + 3).all()
    # The codec's spectra are coarser than the true ones.
    assert (through_codec < si_sdr(clip, oracle)).all()
    decoded = roundtrip.separate(clip)
    assert decoded.shape == clip.references.shape
    swapped = log_spectral_distance(clip.references, decoded.flip(0))
    assert (log_spectral_distance(clip.references, decoded) < swapped / 2).all()


def test_codec_roundtrip_does_not_depend_on_the_level(clip):
    row = ceiling_rows(build_codec("mel"))[-1]
    quiet = Clip("q", "q", clip.mixture / 8, clip.references / 8, clip.sources)
    assert row.separate(quiet) * 8 == pytest.approx(row.separate(clip), abs=1e-3)


def test_row_refuses_an_unknown_group():
    with pytest.raises(ValueError, match="group"):
        Row("x", "X", "magic", lambda clip: clip.references)


@pytest.fixture
def clip_folder(tmp_path, clip):
    for name in ("one", "two"):
        for source, wav in zip(clip.sources, clip.references, strict=True):
            write_audio(tmp_path / name / f"{source}.wav", wav, RATE)
            write_audio(tmp_path / name / f"{source}_paper.wav", wav * 0.5, RATE)
        write_audio(tmp_path / name / "mix.wav", clip.mixture * 0.6, RATE)
    return tmp_path


def test_folder_clips_read_mixture_and_sources(clip_folder, clip):
    clips = list(folder_clips(clip_folder, ["bass", "drums"]))
    assert [c.name for c in clips] == ["one", "two"]
    assert clips[0].mix == "file"
    assert clips[0].references == pytest.approx(clip.references.flip(0), abs=1e-4)
    assert clips[0].mixture == pytest.approx(clip.mixture * 0.6, abs=1e-4)
    assert len(list(folder_clips(clip_folder / "one", ["drums", "bass"]))) == 1


def test_folder_clips_without_mixture_add_the_sources_up(clip_folder):
    (clip_folder / "one" / "mix.wav").unlink()
    first, second = folder_clips(clip_folder, ["drums", "bass"])
    assert (first.mix, second.mix) == ("sum", "file")
    assert first.mixture == pytest.approx(first.references.sum(0))


def test_folder_clips_at_another_rate_are_resampled(clip_folder):
    wav, _ = soundfile.read(clip_folder / "one" / "drums.wav")
    soundfile.write(clip_folder / "one" / "drums.wav", wav[::2], RATE // 2)
    first = next(iter(folder_clips(clip_folder, ["drums", "bass"])))
    assert abs(first.mixture.shape[-1] - 3 * RATE) < 10


def test_folder_clips_pass_over_those_with_other_sources(clip_folder, clip):
    write_audio(clip_folder / "two" / "piano.wav", clip.mixture, RATE)
    assert [c.name for c in folder_clips(clip_folder, ["drums", "bass"])] == ["one"]
    with pytest.raises(UserError, match="guitar"):
        list(folder_clips(clip_folder, ["drums", "guitar"]))
    with pytest.raises(UserError, match="not a folder"):
        list(folder_clips(clip_folder / "nowhere", ["drums"]))


def test_published_files_as_they_are_and_as_masks(clip_folder):
    clip = next(iter(folder_clips(clip_folder, ["drums", "bass"])))
    raw, refined = file_rows("_paper")
    assert (raw.name, refined.name) == ("paper", "paper_wiener")
    assert raw.separate(clip) == pytest.approx(clip.references / 2, abs=1e-4)
    # True sources at half their level make the oracle's masks.
    assert refined.separate(clip) == pytest.approx(ceiling_rows(None)[0].separate(clip), abs=1e-3)
    with pytest.raises(UserError, match="drums_other"):
        file_rows("_other")[0].separate(clip)
