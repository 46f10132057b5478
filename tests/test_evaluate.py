import json
from dataclasses import replace

import pandas as pd
import pytest
import soundfile
import torch

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.data.clips import slakh_clips
from asteroid_ucr.evaluation.rows import Row
from asteroid_ucr.evaluation.scores import scorable
from asteroid_ucr.evaluation.separation import assign_components, assign_runs, evaluate
from asteroid_ucr.reports.score_tables import load_results, protocol_line, score_table
from asteroid_ucr.reports.tables import Cell

SOURCES = ("drums", "bass")
RATE = 24_000


def small_model(seed):
    torch.manual_seed(seed)
    return UCRSeparator(
        SOURCES, encoder_widths=(16,), denoiser_widths=(16, 16), denoiser_kernels=(3, 3)
    ).eval()


@pytest.fixture(scope="module")
def clips(slakh_tree):
    return list(slakh_clips(slakh_tree, "test", SOURCES, seconds=2.0, max_clips=3))


@pytest.fixture(scope="module")
def validation(slakh_tree):
    return list(slakh_clips(slakh_tree, "validation", SOURCES, seconds=2.0, max_clips=4))


@pytest.fixture(scope="module")
def sounding(slakh_tree):
    """The first two test clips in which both sources sound."""
    clips = slakh_clips(slakh_tree, "test", SOURCES, seconds=2.0)
    return [clip for clip in clips if scorable(clip.references).all()][:2]


def broken_on_first(first):
    def separate(clip):
        if clip.name == first:
            raise RuntimeError("cannot separate this one")
        return clip.references + 0.1 * clip.mixture

    return Row("broken", "Broken", "classical", separate)


@pytest.fixture(scope="module")
def run(clips, validation, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    models = {"a": small_model(0), "b": small_model(1)}
    settings = {"steps": (1, 2), "examples": 1, "extra_rows": [broken_on_first(clips[0].name)]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOKY_MAX_CPU_COUNT", "2")
        return evaluate(models, iter(clips), iter(validation), out, **settings), out


def entry(results, name):
    return next(row for row in results["rows"] if row["name"] == name)


def test_segments_are_consecutive_and_tracks_take_turns(slakh_tree):
    clips = list(slakh_clips(slakh_tree, "test", SOURCES, seconds=2.0))
    names = [clip.name for clip in clips]
    assert len(set(names)) == len(names)
    assert all(clip.mixture.shape == (2 * RATE,) for clip in clips)
    for clip in clips:
        assert clip.mixture == pytest.approx(clip.references.sum(0), abs=1e-6)
    tracks = {clip.track for clip in clips}
    assert len(tracks) >= 2
    few = list(slakh_clips(slakh_tree, "test", SOURCES, seconds=2.0, max_clips=len(tracks)))
    assert {clip.track for clip in few} == tracks
    # The segments of a track, laid end to end, are those of half the number at twice the length.
    longer = next(iter(slakh_clips(slakh_tree, "test", SOURCES, seconds=4.0)))
    assert torch.equal(longer.mixture, torch.cat([clips[0].mixture, clips[1].mixture]))


def test_paper_mean_is_named_in_the_clip(slakh_tree):
    clip = next(iter(slakh_clips(slakh_tree, "test", SOURCES, seconds=2.0, mix="paper_mean")))
    assert clip.mix == "paper_mean"
    assert clip.mixture == pytest.approx(clip.references.mean(0), abs=1e-6)


def test_no_track_with_the_sources_is_a_clear_error(slakh_tree):
    with pytest.raises(UserError, match="bagpipe"):
        list(slakh_clips(slakh_tree, "test", ["drums", "bagpipe"]))


def test_every_row_clip_and_source_has_a_line(run, clips):
    results, out = run
    lines = pd.read_csv(out / "all_metrics.csv", dtype={"reference": str})
    # Floors and ceilings once, models twice.
    fixed, ours = 11, 2 * 2
    assert len(results["rows"]) == fixed + 2
    assert len(lines) == (fixed + ours) * len(clips) * len(SOURCES)
    assert not lines.duplicated(["row", "model", "seed", "clip", "source", "reference"]).any()
    assert lines["row"].unique().tolist() == [row["name"] for row in results["rows"]]


def test_rows_are_ordered_as_they_must_be(run):
    results, _ = run
    scores = {
        row["name"]: row["scores"]["true"]["all"]["si_sdr"]["mean"] for row in results["rows"]
    }
    assert scores["mixture"] < scores["static_eq"] < scores["oracle_wiener"]
    assert scores["oracle_codec_mask"] < scores["oracle_wiener"]
    assert entry(results, "mixture")["scores"]["true"]["all"]["si_sdri"]["mean"] == pytest.approx(
        0, abs=1e-6
    )
    assert entry(results, "static_eq")["frequency_r2"]["drums"] == pytest.approx(1.0)
    assert 0.05 < entry(results, "oracle_wiener")["frequency_r2"]["drums"] < 0.95


def test_failing_clips_are_recorded_not_dropped(run, clips):
    results, out = run
    broken = entry(results, "broken")
    assert broken["failures"] == 1
    assert broken["errors"] == ["RuntimeError: cannot separate this one"]
    assert results["protocol"]["failures"] == 1
    lines = pd.read_csv(out / "all_metrics.csv")
    failed = lines[lines["error"].notna()]
    assert set(failed["clip"]) == {clips[0].name}
    assert len(failed) == len(SOURCES)
    assert failed["si_sdr"].isna().all()


def test_training_seeds_share_a_row_with_their_spread(run):
    results, _ = run
    ours = entry(results, "ours_2")
    assert [r["model"] for r in ours["runs"]] == ["a", "b"]
    summary = ours["scores"]["true"]["all"]["si_sdr"]
    assert summary["runs"] == 2
    first, second = (r["si_sdr"] for r in ours["runs"])
    assert summary["seed_std"] == pytest.approx(abs(first - second) / 2**0.5)
    assert entry(results, "hpss")["scores"]["true"]["all"]["si_sdr"]["seed_std"] is None


def test_protocol_says_what_was_done(run, clips, validation):
    results, out = run
    protocol = results["protocol"]
    assert protocol["mix"] == "sum"
    assert protocol["clips"] == len(clips)
    assert protocol["validation_clips"] == len(validation)
    assert protocol["versions"]["fast_bss_eval"]
    assert set(protocol["silent_references"]) == set(SOURCES)
    assert load_results(out) == json.loads((out / "final_metrics.json").read_text()) == results
    line = protocol_line(results)
    for part in ("drums + bass", "24 kHz", f"{len(clips)} clips of 2 s", "true stems", "fixed"):
        assert part in line


def test_examples_hold_the_signals_that_were_scored(run, clips):
    results, out = run
    (example,) = results["examples"]
    clip = next(clip for clip in clips if clip.name == example["name"])
    mixture, rate = soundfile.read(out / "examples" / clip.name / "mixture.wav", dtype="float32")
    assert rate == RATE
    assert mixture == pytest.approx(clip.mixture.numpy(), abs=1e-4)
    parts = [
        soundfile.read(out / "examples" / clip.name / "ours_2" / f"{s}.wav")[0] for s in SOURCES
    ]
    assert sum(parts) == pytest.approx(clip.mixture.numpy(), abs=2e-4)


def test_scoring_in_this_process_gives_the_same(run, clips, validation, tmp_path):
    models = {"a": small_model(0), "b": small_model(1)}
    settings = {"steps": (2,), "examples": 0, "bss_eval": False}
    again = evaluate(models, clips, validation, tmp_path, **settings)
    for name in ("hpss", "ours_2"):
        new = entry(again, name)["scores"]["true"]["all"]
        old = entry(run[0], name)["scores"]["true"]["all"]
        assert new["si_sdr"]["mean"] == pytest.approx(old["si_sdr"]["mean"], abs=1e-6)
        assert new["sdr"]["mean"] is None
        assert old["sdr"]["mean"] is not None
    assert again["examples"] == []


def test_silent_references_are_counted(sounding, validation, tmp_path):
    clip, other = sounding
    quiet = clip.references * torch.tensor([[0.0], [1.0]])
    silent = replace(clip, name="quiet", references=quiet, mixture=quiet.sum(0))
    results = evaluate({}, [silent, other], validation, tmp_path, bss_eval=False)
    protocol = results["protocol"]
    assert protocol["silent_references"]["drums"] == 1
    assert (protocol["clips"], protocol["clips_with_silence"]) == (2, 1)
    drums = entry(results, "mixture")["scores"]["true"]["drums"]
    assert drums["si_sdr"]["clips"] == 1
    # Half the mixture, which is the bass alone, sounds where the drums are silent.
    expected = 20 * torch.log10(silent.mixture.square().mean().sqrt() / 2).item()
    assert drums["residue_dbfs"]["mean"] == pytest.approx(expected, abs=0.01)
    assert [example["name"] for example in results["examples"]] == [other.name]


def test_decoded_references_are_a_table_of_their_own(sounding, validation, tmp_path):
    torch.manual_seed(0)
    model = UCRSeparator(
        SOURCES, "mdct", encoder_widths=(16,), denoiser_widths=(16, 16), denoiser_kernels=(3, 3)
    ).eval()
    settings = {"steps": (1,), "bss_eval": False}
    results = evaluate({"m": model}, sounding[:1], validation, tmp_path, **settings)
    roundtrip = entry(results, "codec_roundtrip")["scores"]
    assert roundtrip["codec"]["all"]["si_sdr"]["mean"] > 90
    assert 10 < roundtrip["true"]["all"]["si_sdr"]["mean"] < 60
    assert "codec-decoded" in protocol_line(results, "codec")
    # The codec keeps the phase, so decoded estimates are scored beside masks.
    names = [row["name"] for row in results["rows"]]
    assert names.index("ours_1_raw") == names.index("ours_1") + 1


def test_assignment_is_stored_in_the_model(validation):
    model = small_model(0)
    assign_components(model, validation)
    latents = model.encode(validation[0].mixture)
    assert assign_components(model, validation)[0] == [0, 1]
    # Of a model whose outputs were swapped, the same components are found.
    model.assign([1, 0])
    assert assign_components(model, validation)[0] == [1, 0]
    assert torch.equal(model.encode(validation[0].mixture), latents)


def test_runs_keep_their_assignment_and_the_best_is_chosen(validation, tmp_path):
    scores = {}
    for seed in (0, 1):
        model = small_model(seed)
        scores[f"seed{seed}"] = assign_components(model, validation)[1]
        model.assign([1, 0])
        model.save(tmp_path / f"seed{seed}" / "best_model.pth")
    models = assign_runs(tmp_path, list(scores), validation)
    best = UCRSeparator.from_pretrained(tmp_path)
    chosen = models[max(scores, key=scores.get)]
    for model in (best, UCRSeparator.from_pretrained(tmp_path / "seed0"), *models.values()):
        assert assign_components(model, validation)[0] == [0, 1]
    assert torch.equal(best(validation[0].mixture), chosen(validation[0].mixture))
    with pytest.raises(UserError, match="drums, bass"):
        assign_runs(tmp_path, ["seed0"], [replace(validation[0], sources=("bass", "drums"))])


def test_clips_must_have_the_models_sources(clips, validation, tmp_path):
    model = UCRSeparator(("bass", "drums"), encoder_widths=(16,), denoiser_widths=(16, 16),
                         denoiser_kernels=(3, 3))  # fmt: skip
    with pytest.raises(UserError, match="order"):
        evaluate({"m": model}, clips, validation, tmp_path)
    with pytest.raises(UserError, match="no clips"):
        evaluate({}, [], validation, tmp_path)


def test_tables_show_what_the_results_hold(run):
    results, _ = run
    score = entry(results, "oracle_wiener")["scores"]["true"]["all"]["si_sdr"]["mean"]
    table = score_table(results)
    markdown = table.markdown()
    (line,) = [text for text in markdown.splitlines() if text.startswith("| Oracle mask |")]
    assert line.split("|")[2].split()[0] == f"{score:.1f}".replace("-", "−")
    assert "**Ours, 2 steps**" in markdown
    assert protocol_line(results) in markdown
    html = table.html()
    assert html.count('<tr class="ours">') == 2
    assert html.index("Floors") < html.index("Trained on mixtures alone") < html.index("Ceilings")


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(None), "–"),
        (Cell(-0.04), "0.0"),
        (Cell(-1.26, 0.5), "−1.3 ±0.5"),
        (Cell(100.0, limited=True), "∞"),
    ],
)
def test_cells_as_text(cell, text):
    assert str(cell) == text


def test_results_that_are_missing_or_broken_are_clear_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_results(tmp_path)
    (tmp_path / "final_metrics.json").write_text("{}")
    with pytest.raises(UserError, match="no evaluation results"):
        load_results(tmp_path)
