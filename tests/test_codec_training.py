"""The codec of our own: trains, resumes exactly, ships, and is scored."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from asteroid_ucr import UserError
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.codecs.encodec import Architecture, load_codec, save_codec
from asteroid_ucr.config import recipe_parser
from asteroid_ucr.data.slakh import load_tracks, read_sources
from asteroid_ucr.training.codec import CodecTrainer, learning_rate_factor, train_codec
from asteroid_ucr.training.codec_config import CodecDataConfig, CodecRecipeConfig, parse_codec
from asteroid_ucr.training.codec_data import CodecStore, build_store
from asteroid_ucr.training.codec_losses import Balancer, MelLoss, feature_loss, noise_to_signal
from asteroid_ucr.training.codec_scores import Clip, folder_clips, mel_distance, score, track_clips

# Small enough for seconds, with every phase: quantised steps, discriminator, codebooks alone.
SETTINGS = {
    "network.n_filters": 2,
    "training.transform": 0,
    "training.steps": 12,
    "training.epoch_steps": 4,
    "training.batch_size": 2,
    "training.quantise_from": 2,
    "training.quantise_share": 0.9,
    "training.kmeans_iters": 1,
    "training.discriminate_from": 4,
    "training.discriminator_every": 2,
    "training.discriminator_filters": 1,
    "training.codebook_steps": 3,
    "training.codebook_batch": 4,
    "training.validation_items": 2,
    "training.threads": 1,
}
YAML = Path(__file__).resolve().parents[1] / "egs" / "slakh_ucr" / "local" / "codec.yml"


def arguments(root, store, **overrides):
    changed = {k.replace("__", "."): v for k, v in overrides.items()}
    settings = {"data.root": root, "data.store": store, **SETTINGS, **changed}
    return [f"--{key}={value}" for key, value in settings.items()]


def parse(args):
    return parse_codec(recipe_parser("test", CodecRecipeConfig), args)[0]


@pytest.fixture(scope="module")
def stored(slakh_tree, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    config = parse(arguments(slakh_tree, store))
    for split in ("train", "validation"):
        build_store(config.data, split)
    return slakh_tree, store


@pytest.fixture(scope="module")
def finished(stored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exp") / "whole"
    train_codec(parse(arguments(*stored)), folder)
    return folder


def checkpoint(folder):
    return torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)


def same(ours, theirs):
    """Whether two nests of containers, numbers and tensors are equal to the last bit."""
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


def test_it_leaves_what_it_promises(finished):
    assert {p.name for p in finished.iterdir()} == {
        "codec.pth",
        "conf.yml",
        "last.ckpt",
        "log.csv",
    }
    rows = list(csv.DictReader((finished / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == [4, 8, 12, 15]
    assert rows[1]["adversarial"] and rows[1]["discriminator"] and not rows[0]["adversarial"]
    assert rows[1]["commitment"] and rows[3]["codebook_error"] and not rows[3]["sdr"]
    assert "training" in yaml.safe_load((finished / "conf.yml").read_text())


SCRIPT = "import sys; sys.path.insert(0, {tests!r}); from test_codec_training import *; " + (
    "train_codec(parse(sys.argv[2:]), sys.argv[1])"
)


def test_killed_and_resumed_ends_where_the_uninterrupted_run_does(stored, finished, tmp_path):
    folder = tmp_path / "killed"
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, str(folder), *arguments(*stored)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.time() + 120
    while not (folder / "last.ckpt").is_file() and process.poll() is None:
        assert time.time() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint(folder)["trainer"]["done"] < 15, "it was killed too late to test resuming"
    train_codec(parse(arguments(*stored)), folder)

    ours, theirs = checkpoint(folder), checkpoint(finished)
    assert ours["trainer"]["done"] == 15
    assert same(ours["trainer"], theirs["trainer"])
    shipped = [torch.load(f / "codec.pth", weights_only=True) for f in (folder, finished)]
    assert same(*shipped)
    timeless = [[{**row, "hours": 0} for row in state["log"]] for state in (ours, theirs)]
    assert same(*timeless)


def test_pieces_by_time_are_one_run(stored, finished, tmp_path):
    config = parse(arguments(*stored))
    for done in (4, 8, 12, 15, 15):
        train_codec(config, tmp_path, minutes=0)
        assert checkpoint(tmp_path)["trainer"]["done"] == done
    assert same(checkpoint(tmp_path)["trainer"], checkpoint(finished)["trainer"])


def test_a_run_is_not_mixed_with_another(stored, finished):
    before = (finished / "conf.yml").read_bytes()
    with pytest.raises(UserError, match=r"network\.n_filters = 2, not 3"):
        train_codec(parse(arguments(*stored, network__n_filters=3)), finished)
    assert (finished / "conf.yml").read_bytes() == before


def test_divergence_is_named(stored, tmp_path):
    with pytest.raises(UserError, match="diverged at step"):
        train_codec(parse(arguments(*stored, training__lr="1e30")), tmp_path)


def test_it_learns_in_a_minute(stored):
    """From the scaled start, a few steps are enough to beat silence."""
    config = parse(
        arguments(
            *stored,
            network__n_filters=8,
            training__batch_size=8,
            training__steps=200,
            training__quantise_from=1000,
            training__discriminate_from=1000,
            training__warmup_steps=20,
            training__lr=0.002,
            data__stem_share=0,
            data__remix_share=0,
        )
    )
    store = CodecStore(build_store(config.data, "train"), config.data)
    trainer = CodecTrainer(config)
    trainer.start(store)
    losses = [trainer.step(store)["sdr"] for _ in range(160)]
    # Error above signal means worse than silence.
    assert np.mean(losses[-10:]) < -1 < np.mean(losses[:10])


def test_unquantised_steps_leave_the_codebooks_alone(stored):
    config = parse(arguments(*stored, training__quantise_share=0))
    store = CodecStore(build_store(config.data, "train"), config.data)
    trainer = CodecTrainer(config)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    for _ in range(4):
        assert "commitment" not in trainer.step(store)
    after = trainer.model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("quantizer"))
    assert not all(torch.equal(before[k], after[k]) for k in before)


# -- data ------------------------------------------------------------------------------------------


def test_store_holds_the_tree(stored):
    root, folder = stored
    config = CodecDataConfig(root=str(root), store=str(folder))
    store = CodecStore(build_store(config, "train"), config)
    for song, track in zip(store.songs, load_tracks(root, "train"), strict=True):
        references = read_sources(track, track.sources, 24_000).references
        for number, reference in enumerate(references):
            ours = store._crop(song, number, 0, song.length)
            # 16 bits of the loudest sample.
            assert np.abs(ours - reference.numpy()).max() <= reference.abs().max() / 32767


def test_batches_follow_from_their_numbers(stored):
    config = CodecDataConfig(root=str(stored[0]), store=str(stored[1]))
    store = CodecStore(build_store(config, "train"), config)
    first, again, other = (store.batch(6, 0.25, 0, step) for step in (3, 3, 4))
    assert first.shape == (6, 1, 6000) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)
    levels = 20 * store.batch(200, 0.25, 0, 0).square().mean((1, 2)).sqrt().log10()
    assert -35.1 < levels.min() < -33 and -14 < levels.max() < -11.9


def test_stem_share_one_gives_stems(stored):
    config = CodecDataConfig(root=str(stored[0]), store=str(stored[1]), stem_share=1.0)
    store = CodecStore(build_store(config, "train"), config)
    crop = store.batch(1, 0.25, 0, 0)[0, 0].numpy()
    signals = [store._crop(s, n, 0, s.length) for s in store.songs for n in range(len(s.scales))]
    spectra = [np.fft.rfft(x, 2**19) * np.fft.rfft(crop, 2**19).conj() for x in signals]
    energy = [np.convolve(x**2, np.ones(6000))[5999 : len(x)] for x in signals]
    matches = [
        np.abs(np.fft.irfft(c)[: len(e)]) / np.sqrt(np.maximum(e, 1e-6) * (crop**2).sum())
        for c, e in zip(spectra, energy, strict=True)
    ]
    assert max(m.max() for m in matches) == pytest.approx(1, abs=0.01)


def test_store_of_another_tree_is_refused(stored):
    with pytest.raises(UserError, match=r"data\.store to another folder"):
        build_store(CodecDataConfig(str(stored[0]), str(stored[1]), max_tracks=1), "train")


# -- losses ----------------------------------------------------------------------------------------


def test_balancer_gives_each_loss_its_share():
    output = torch.randn(3, 1, 50, requires_grad=True)
    target = torch.randn(3, 1, 50)
    losses = {"a": 1e6 * (output - target).square().mean(), "b": 1e-6 * output.sum()}
    alone = {
        name: Balancer({"a": 1.0, "b": 1.0}).gradient({name: loss}, output)
        for name, loss in losses.items()
    }
    both = Balancer({"a": 3.0, "b": 1.0}).gradient(losses, output)
    assert torch.allclose(both, 0.75 * alone["a"] + 0.25 * alone["b"], atol=1e-6)
    for gradient in alone.values():
        assert gradient.flatten(1).norm(dim=1).mean() == pytest.approx(1, abs=1e-4)


def test_balancer_averages_over_steps():
    balancer = Balancer({"a": 1.0}, decay=0.5)
    output = torch.zeros(1, 1, 4, requires_grad=True)
    direction = torch.tensor([[[1.0, 0, 0, 0]]])
    sizes = [
        balancer.gradient({"a": (size * direction * output).sum()}, output).norm().item()
        for size in (1.0, 4.0)
    ]
    assert sizes == pytest.approx([1, 4 / ((0.5 * 1 + 4) / 1.5)])
    resumed = Balancer({"a": 1.0}, decay=0.5)
    resumed.load_state_dict(balancer.state_dict())
    loss = (2 * direction * output).sum()
    assert torch.equal(
        resumed.gradient({"a": loss}, output), balancer.gradient({"a": loss}, output)
    )


def test_losses_vanish_for_equals_and_know_the_distance():
    wav = 0.1 * torch.randn(2, 1, 6000)
    mel = MelLoss([256, 1024])
    assert mel(wav, wav) == 0 and mel(0.9 * wav, wav) < mel(0.5 * wav, wav)
    assert noise_to_signal(0.9 * wav, wav) == pytest.approx(-20, abs=0.1)
    assert noise_to_signal(0 * wav, wav) == pytest.approx(0, abs=1e-4)
    features = [[torch.randn(1, 2, 3)], [torch.randn(1, 2, 3)]]
    assert feature_loss(features, features) == 0
    assert feature_loss(features, [[2 * f for f in s] for s in features]) == pytest.approx(1)


def test_silence_has_finite_gradients():
    silence = torch.zeros(1, 1, 6000)
    estimate = torch.zeros(1, 1, 6000, requires_grad=True)
    loss = noise_to_signal(estimate, silence) + MelLoss([256])(estimate + 1e-4, silence)
    loss.backward()
    assert estimate.grad.isfinite().all()


def test_schedule():
    factors = [learning_rate_factor(step, 10, 110) for step in range(111)]
    assert factors[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert factors[60] == pytest.approx(0.5) and factors[-1] == pytest.approx(0)


# -- the codec -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bandwidth", [0, 1.5, 3, 6, 12, 24])
def test_trained_file_is_a_codec(finished, bandwidth):
    codec = build_codec("ucr_24khz", bandwidth=bandwidth, weights=str(finished / "codec.pth"))
    wav = 0.1 * torch.randn(2, 1, 1000)
    latents = codec.encode(wav)
    assert latents.shape == (2, 128, 4) and codec.frame_rate == 75
    assert codec.decode(latents, 1000).shape == wav.shape


def test_fingerprint_knows_weights_and_bandwidth(finished, stored, tmp_path):
    other = train_codec(parse(arguments(*stored, training__seed=1)), tmp_path, minutes=0)
    codecs = [
        build_codec("ucr_24khz", bandwidth=bandwidth, weights=str(path))
        for path in (finished / "codec.pth", other)
        for bandwidth in (0, 6)
    ]
    assert len({codec.fingerprint for codec in codecs}) == 4


def test_codec_file_keeps_the_trained_weights(finished):
    trained = checkpoint(finished)["trainer"]["model"]
    for key, value in load_codec(finished / "codec.pth").state_dict().items():
        if not key.endswith(("cluster_size", "embed_avg")):
            expected = trained[key]
            if key.endswith("embed"):
                expected = expected.clamp(-65504, 65504).half().float()
            assert torch.equal(value, expected)


def test_other_files_are_refused(finished, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    content = (finished / "codec.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[:5000])
    (tmp_path / "text.pth").write_text("hello")
    for name in ("other", "cut", "text"):
        with pytest.raises(UserError, match="is not a codec file"):
            build_codec("ucr_24khz", weights=str(tmp_path / f"{name}.pth"))
    with pytest.raises(UserError, match="do not exist"):
        build_codec("ucr_24khz", weights="/nowhere.pth")
    with pytest.raises(UserError, match="bandwidth 7"):
        build_codec("ucr_24khz", bandwidth=7, weights=str(finished / "codec.pth"))


# -- configuration and scores ----------------------------------------------------------------------


def test_configuration_file_is_the_defaults():
    from_file = parse(["--config", str(YAML)])
    defaults = parse([])
    defaults.training.threads = 1  # one on the recipe's machine, all elsewhere
    assert from_file == defaults


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--training.speed", "3"], "speed"),
        (["--training.steps", "0"], "steps is 0"),
        (["--network.bins", "512"], "24 kbit/s"),
        (["--data.seconds", "0.01"], "0.1 or more"),
        (["--config", "/nowhere.yml"], "nowhere"),
    ],
)
def test_bad_options_are_one_line(args, words):
    with pytest.raises(UserError, match=words) as caught:
        parse(args)
    assert "\n" not in str(caught.value)


def test_scores_of_known_distortions(slakh_tree):
    clips = track_clips(slakh_tree, ("drums", "bass"), seconds=2)
    assert [clip.source for clip in clips[:3]] == ["mixture", "drums", "bass"]
    assert clips[0].wav.square().mean().sqrt() == pytest.approx(0.1, rel=1e-3)
    assert torch.allclose(clips[0].wav, clips[1].wav + clips[2].wav, atol=1e-5)
    torch.manual_seed(0)

    def noisy(wav):
        noise = torch.randn_like(wav)
        return wav + 0.1 * noise * wav.norm() / noise.norm()

    lines = list(score([*clips, Clip("none", "drums", torch.zeros(48_000))], noisy))
    assert len(lines) == len(clips)  # silence has no score
    assert all(line["si_sdr"] == pytest.approx(20, abs=0.2) for line in lines)
    assert mel_distance(clips[0].wav, clips[0].wav) == 0
    assert mel_distance(clips[0].wav, 0.5 * clips[0].wav) == pytest.approx(6, abs=0.3)


def test_folder_of_clips(tmp_path):
    import soundfile as sf

    wav = 0.05 * np.random.default_rng(0).standard_normal(24_000)
    for name in ("a/mix", "a/drums", "a/drums_paper", "mixtures/b"):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        sf.write(path, wav, 24_000)
    clips = folder_clips(tmp_path)
    assert [(c.track, c.source) for c in clips] == [
        ("a", "mixture"),
        ("a", "drums"),
        ("mixtures/b", "mixture"),
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \*/mix.wav"):
        folder_clips(tmp_path / "empty")


def test_unused_entries_do_not_spoil_the_codec(finished, tmp_path):
    stored = torch.load(finished / "codec.pth", weights_only=True)
    state = {k: v.float() for k, v in stored["state_dict"].items()}
    key = next(k for k in state if k.endswith("_codebook.embed"))
    state[key][0] = 1e9
    save_codec(tmp_path / "codec.pth", Architecture(**stored["architecture"]), state)
    codec = build_codec("ucr_24khz", bandwidth=1.5, weights=str(tmp_path / "codec.pth"))
    assert codec.encode(0.1 * torch.randn(1, 1, 3200)).isfinite().all()
