"""Training: learns, resumes exactly, and refuses what does not belong together."""

import math
import os
import shutil
import signal
import tempfile
import time

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
import yaml
from conftest import in_a_process

from asteroid_ucr import UCRSeparator, UserError
from asteroid_ucr.base import hours_of_audio
from asteroid_ucr.baselines.neural import HDemucsSeparator
from asteroid_ucr.config import TrainingConfig, fill_cache, open_cache, parse_recipe, recipe_parser
from asteroid_ucr.data.crops import item_loader
from asteroid_ucr.training.decomposition import build_model, load_weights, train
from asteroid_ucr.training.loop import TrainingSystem, WarmEMA, fit, learning_rate, start_run

SETTINGS = {
    "training.steps": 40,
    "training.epoch_steps": 10,
    "training.batch_size": 4,
    "training.frames": 64,
    "training.lr": 0.003,
    "training.warmup_steps": 5,
    "training.validation_items": 8,
    "training.accelerator": "cpu",
    "model.encoder_widths": "[16]",
    "model.denoiser_widths": "[16,32]",
    "model.denoiser_kernels": "[5,3]",
}


def arguments(root, cache, **overrides):
    changed = {k.replace("__", "."): v for k, v in overrides.items()}
    settings = {"data.root": root, "data.cache": cache, **SETTINGS, **changed}
    return [f"--{key}={value}" for key, value in settings.items()]


def parse(args):
    return parse_recipe(recipe_parser("test"), args)[0]


@pytest.fixture(scope="module")
def cached(slakh_tree, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    config = parse(arguments(slakh_tree, cache))
    for split in ("train", "validation"):
        fill_cache(config, split)
    return slakh_tree, cache


@pytest.fixture(scope="module")
def finished(cached, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exp") / "whole"
    with pytest.MonkeyPatch.context() as patch:  # checkpoints need no folder of temporary files
        patch.setattr(tempfile, "tempdir", "/nowhere")
        train(parse(arguments(*cached)), folder)
    return folder


def weights(path):
    return torch.load(path, map_location="cpu", weights_only=False)


def test_it_learns_and_leaves_what_it_promises(cached, finished):
    names = {p.name for p in finished.iterdir()}
    assert names == {"best_model.pth", "checkpoints", "conf.yml", "logs"}
    saved = {p.name for p in (finished / "checkpoints").iterdir()}
    assert saved == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    log = pd.concat(map(pd.read_csv, sorted(finished.glob("logs/*/metrics.csv"))))
    assert log["val_loss"].dropna().size == 4
    assert log["loss_epoch"].dropna().iloc[-1] < 0.85 * log["loss_epoch"].dropna().iloc[0]
    assert yaml.safe_load((finished / "conf.yml").read_text())["training"]["steps"] == 40
    assert weights(finished / "checkpoints" / "last.ckpt")["global_step"] == 40
    model = UCRSeparator.from_pretrained(str(finished))
    assert model(torch.randn(1, 1, 4000)).shape == (1, 2, 4000)


def test_best_model_is_the_average_of_the_best_epoch(finished):
    stored = weights(finished / "checkpoints" / "best.ckpt")
    model = UCRSeparator.from_pretrained(str(finished))
    for key, value in model.state_dict().items():
        assert torch.equal(value, stored["state_dict"][f"model.{key}"])
    current = stored["current_model_state"]["model.decomposition.denoiser.out.2.weight"]
    assert not torch.equal(current, model.decomposition.denoiser.out[2].weight)


def test_statistics_are_the_training_sets(cached, finished):
    mean, std = open_cache(parse(arguments(*cached)), "train").statistics()
    core = UCRSeparator.from_pretrained(str(finished)).decomposition
    assert np.allclose(core.latent_mean[:, 0], mean, atol=1e-6)
    assert np.allclose(core.latent_std[:, 0], np.maximum(std, 1e-5), atol=1e-6)


def test_killed_and_resumed_ends_where_the_uninterrupted_run_does(cached, finished, tmp_path):
    folder = tmp_path / "killed"
    process = in_a_process(train, parse(arguments(*cached)), folder)
    last = folder / "checkpoints" / "last.ckpt"
    deadline = time.time() + 120
    while not last.is_file() and process.is_alive() and time.time() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # into the next epoch
    process.kill()
    process.join()
    assert last.is_file()
    assert weights(last)["global_step"] < 40
    train(parse(arguments(*cached)), folder)

    ours, theirs = weights(last), weights(finished / "checkpoints" / "last.ckpt")
    assert ours["global_step"] == theirs["global_step"] == 40
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(ours[part][k], theirs[part][k]) for k in theirs[part])
    states = [c["optimizer_states"][0]["state"] for c in (ours, theirs)]
    assert all(torch.equal(states[0][k]["exp_avg"], states[1][k]["exp_avg"]) for k in states[1])
    best = [
        torch.load(f / "best_model.pth", weights_only=True)["state_dict"]
        for f in (folder, finished)
    ]
    assert all(torch.equal(best[0][k], best[1][k]) for k in best[1])
    # The curve goes on: together the log files hold every epoch.
    log = pd.concat(map(pd.read_csv, sorted(folder.glob("logs/*/metrics.csv"))))
    assert set(log.dropna(subset="val_loss")["epoch"]) == {0, 1, 2, 3}


def test_a_cut_checkpoint_is_replaced_by_the_one_before(cached, finished, tmp_path, capsys):
    folder = tmp_path / "cut"
    shutil.copytree(finished, folder)
    last, previous = (folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    whole = weights(last)
    assert weights(previous)["global_step"] == 30
    last.write_bytes(last.read_bytes()[:-1000])
    train(parse(arguments(*cached)), folder)
    assert "last.ckpt is damaged: going on from previous.ckpt" in capsys.readouterr().err
    again = weights(last)
    assert all(torch.equal(again["state_dict"][k], v) for k, v in whole["state_dict"].items())
    for path in (last, previous):
        path.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"last\.ckpt is damaged"):
        train(parse(arguments(*cached)), folder)


class Numbers(torch.utils.data.Dataset):
    """1 in the first epoch of ten items, then what was chosen."""

    def __init__(self, then=1.0):
        self.then = then

    def __getitem__(self, number):
        return torch.tensor(1.0 if number < 10 else self.then)


def diverge(folder, then, **options):
    """Trains a weight to be zero, or as large as it can be where the data are negative."""
    settings = TrainingConfig(
        steps=40, epoch_steps=10, batch_size=1, validation_items=1, accelerator="cpu", **options
    )
    model = HDemucsSeparator(channels=4, depth=2)
    weight = next(model.parameters())

    def loss(model, batch, generator):
        return (batch * weight.square()).mean()

    loaders = item_loader(Numbers(then), 10, 1), item_loader(Numbers(), 1, 1, repeat=True)
    fit(TrainingSystem(model, loss, [weight], settings), *loaders, settings, folder, None)


@pytest.mark.parametrize(
    ("then", "options", "words"),
    [
        (math.nan, {}, "training's loss is not a finite number at step 11"),
        (-1.0, {"lr": 3.0, "warmup_steps": 0}, "training diverges: its loss rose to"),
    ],
)
def test_a_diverging_training_stops_and_keeps_its_last_good_weights(tmp_path, then, options, words):
    with pytest.raises(UserError, match=words) as raised:
        diverge(tmp_path, then, **options)
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert f"{last} holds the last good weights" in str(raised.value)
    assert all(value.isfinite().all() for value in weights(last)["state_dict"].values())


def test_no_model_is_written_when_the_loss_is_not_finite(cached, tmp_path):
    huge = {"training__lr": 1e30, "training__warmup_steps": 0}
    with pytest.raises(UserError, match=r"finite number at step \d+ \(no weights were saved\)"):
        train(parse(arguments(*cached, **huge)), tmp_path)
    assert not list(tmp_path.rglob("*.pth")) and not list(tmp_path.rglob("*.ckpt"))


def test_checkpoints_of_the_first_version_are_refused(cached, finished, tmp_path):
    folder = tmp_path / "old"
    (folder / "checkpoints").mkdir(parents=True)
    stored = weights(finished / "checkpoints" / "last.ckpt")
    stored["state_dict"]["model.order"] = torch.tensor([0, 1])  # a buffer of version 0.1
    torch.save(stored, folder / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt was written by another version"):
        train(parse(arguments(*cached)), folder)


def test_seeds_differ_and_repeat(cached, finished, tmp_path):
    short = {"training__steps": 10}
    runs = [
        train(parse(arguments(*cached, training__seed=seed, **short)), tmp_path / str(number))
        for number, seed in enumerate([0, 0, 1])
    ]
    first, second, other = (torch.load(run, weights_only=True)["state_dict"] for run in runs)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(
        first["decomposition.denoiser.out.2.weight"], other["decomposition.denoiser.out.2.weight"]
    )


def test_a_run_is_not_mixed_with_another(cached, finished):
    before = (finished / "conf.yml").read_bytes()
    with pytest.raises(UserError, match=r"model.composition"):
        train(parse(arguments(*cached, model__composition="sum")), finished)
    with pytest.raises(UserError, match="holds a run"):
        train(parse(arguments(*cached)), finished, resume="none")
    with pytest.raises(UserError, match="no such checkpoint"):
        train(parse(arguments(*cached)), finished, resume="/nowhere.ckpt")
    assert (finished / "conf.yml").read_bytes() == before


def test_missing_cache_is_named(slakh_tree, tmp_path):
    with pytest.raises(UserError, match="run stage 1"):
        train(parse(arguments(slakh_tree, tmp_path)), tmp_path / "exp")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--training.speed", "3"], "speed"),
        (["--training.steps", "many"], "steps"),
        (["--model.composition", "product"], "composition"),
        (["--config", "/nowhere.yml"], "nowhere"),
    ],
)
def test_bad_options_are_one_line(args, words):
    with pytest.raises(UserError, match=words) as caught:
        parse(args)
    assert "\n" not in str(caught.value)


def test_unknown_option_in_the_file_is_named(tmp_path):
    path = tmp_path / "conf.yml"
    path.write_text("training:\n  steps: 10\n  sped: 3\n")
    with pytest.raises(UserError, match="sped"):
        parse(["--config", str(path)])
    path.write_text("training:\n  steps: 10\n")
    assert parse(["--config", str(path), "--training.lr", "0.5"]).training.steps == 10


def test_schedules():
    def rates(schedule):
        settings = TrainingConfig(schedule=schedule, warmup_steps=10, steps=110)
        return [2 * learning_rate(step, settings) for step in range(111)]

    assert np.allclose(rates("constant"), [0.2 * min(10, n + 1) for n in range(111)])
    cosine = rates("cosine")
    assert np.allclose(cosine[:10], [0.2 * (n + 1) for n in range(10)])
    assert cosine[60] == pytest.approx(1 + math.cos(math.pi / 2))
    assert cosine[-1] == pytest.approx(0)


def test_average_warms_up_to_its_decay():
    average = WarmEMA(0.9)._kwargs["avg_fn"]
    one, zero = torch.ones(1), torch.zeros(1)
    assert average(one, zero, torch.tensor(1)) == pytest.approx(2 / 11)
    assert average(one, zero, torch.tensor(10_000)) == pytest.approx(0.9)


def test_sums_of_solos_join_the_mixtures(cached, tmp_path):
    solos = tmp_path / "solos"
    noise = np.random.default_rng(0).normal(0, 0.1, 40_000)
    tone = 0.1 * np.sin(2 * np.pi * 80 / 24_000 * np.arange(40_000))
    for instrument, wav in (("drums", noise), ("bass", tone)):
        (solos / instrument).mkdir(parents=True)
        sf.write(solos / instrument / "Track00001_0.flac", wav, 24_000)
    settings = {"training__solo_share": 0.5, "data__solos": solos}
    config = parse(arguments(*cached, **settings, model__composition="power_sum"))
    train(config, tmp_path / "exp")
    log = pd.concat(map(pd.read_csv, sorted((tmp_path / "exp").glob("logs/*/metrics.csv"))))
    assert log["loss_epoch"].dropna().iloc[-1] < 0.85 * log["loss_epoch"].dropna().iloc[0]
    with pytest.raises(UserError, match="power_sum"):
        train(parse(arguments(*cached, **settings)), tmp_path / "mean")
    shutil.rmtree(solos / "bass")
    with pytest.raises(UserError, match="asteroid-ucr solos"):
        train(config, tmp_path / "other")


def test_training_can_start_from_a_model(cached, finished, tmp_path):
    model = finished / "best_model.pth"
    still = {"training__init": model, "training__lr": 1e-12, "training__seed": 1}
    short = {"training__steps": 4, "training__epoch_steps": 2}
    train(parse(arguments(*cached, **still, **short)), tmp_path / "second")
    first, second = (weights(run / "best_model.pth") for run in (finished, tmp_path / "second"))
    for name, value in first["state_dict"].items():
        torch.testing.assert_close(second["state_dict"][name], value, atol=1e-6, rtol=0)
    budget = UCRSeparator.from_pretrained(tmp_path / "second").budget
    hours = hours_of_audio(UCRSeparator.from_pretrained(model).budget)
    assert budget["earlier_hours"] == hours > 0
    assert hours_of_audio(budget) == pytest.approx(hours * (1 + 4 / 40))
    wider = {"training__init": model, "model__encoder_widths": "[8, 24]"}
    with pytest.raises(UserError, match=r"does not fit: .* weights differ, such as decomposition"):
        train(parse(arguments(*cached, **wider)), tmp_path / "third")
    other = build_model(parse(arguments(*cached, codec__name="mdct")))
    with pytest.raises(UserError, match=r"is a model of the codec mel.*, not of mdct"):
        load_weights(other, str(model))


def test_parts_of_the_model_can_be_frozen(cached, finished, tmp_path):
    model = finished / "best_model.pth"
    short = {"training__steps": 2, "training__epoch_steps": 2, "training__warmup_steps": 1}
    frozen = {"training__init": model, "training__freeze": "[encoder]"}
    train(parse(arguments(*cached, **short, **frozen)), tmp_path)
    before, after = (weights(path)["state_dict"] for path in (model, tmp_path / "best_model.pth"))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and not any(".encoder." in name for name in changed)


def test_gradients_accumulate(cached, tmp_path):
    """Two batches of two, accumulated, take as many steps as batches of four, and learn as much."""
    settings = {"training__batch_size": 2, "training__accumulate": 2}
    folder = tmp_path / "exp"
    train(parse(arguments(*cached, **settings)), folder)
    assert weights(folder / "checkpoints" / "last.ckpt")["global_step"] == 40
    log = pd.concat(map(pd.read_csv, sorted(folder.glob("logs/*/metrics.csv"))))
    assert log["val_loss"].dropna().size == 4
    assert log["loss_epoch"].dropna().iloc[-1] < 0.85 * log["loss_epoch"].dropna().iloc[0]
    budget = torch.load(folder / "best_model.pth", weights_only=True)["infos"]["budget"]
    assert (budget["batch_size"], budget["steps"]) == (4, 40)


class Counted(torch.utils.data.Dataset):
    def __getitem__(self, number):
        return torch.tensor(float(number))


def on_two_processes(folder, dies=False):
    settings = TrainingConfig(
        **{"steps": 4, "epoch_steps": 2, "batch_size": 1, "validation_items": 6, "lr": 0.01},
        **{"accelerator": "cpu", "devices": "2", "strategy": "ddp_fork"},
    )

    def loss(model, batch, generator):
        if dies and model.training and batch[0] == 5:  # in the second process and epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return batch.mean() * (1 + sum((p - p.detach()).sum() for p in model.parameters()))

    torch.manual_seed(0)
    model = HDemucsSeparator(channels=4, depth=2)
    system = TrainingSystem(model, loss, model.parameters(), settings)
    loaders = item_loader(Counted(), 2, 1), item_loader(Counted(), 6, 1, repeat=True)
    fit(system, *loaders, settings, folder, start_run(folder, "auto", {}))


def test_two_processes_share_the_items_and_resume_when_one_was_killed(tmp_path):
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder, dies in zip([*folders, folders[1]], (False, True, False), strict=True):
        process = in_a_process(on_two_processes, folder, dies)
        process.join(240)
        assert process.exitcode == int(dies)
    for folder in folders:
        log = pd.concat(map(pd.read_csv, sorted(folder.glob("logs/*/metrics.csv"))))
        # Validation has items 0 to 5; the epochs have the training items 0 to 3, then 4 to 7.
        assert log["val_loss"].dropna().tolist() == [2.5, 2.5]
        assert log["loss_epoch"].dropna().tolist() == [1.5, 5.5]
    assert len(list(folders[1].glob("logs/*"))) == 2
    ours, theirs = (weights(folder / "checkpoints" / "last.ckpt") for folder in folders)
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(ours[part][name], value) for name, value in theirs[part].items())


def test_two_processes_learn_what_one_with_twice_the_batch_does(cached, tmp_path):
    short = {"training__steps": 10, "training__epoch_steps": 5, "training__strategy": "ddp_fork"}
    curves = []
    for devices, batch in ((1, 4), (2, 2)):
        sizes = {"training__devices": devices, "training__batch_size": batch}
        config = parse(arguments(*cached, **short, **sizes))
        process = in_a_process(train, config, tmp_path / str(devices))
        process.join(400)
        assert process.exitcode == 0
        log = pd.concat(map(pd.read_csv, sorted(tmp_path.glob(f"{devices}/logs/*/metrics.csv"))))
        curves.append([log[name].dropna() for name in ("loss_epoch", "val_loss")])
    for one, two in zip(*curves, strict=True):
        assert len(one) == 2
        np.testing.assert_allclose(one, two, rtol=1e-4)


def test_it_trains_on_another_codec(slakh_tree, tmp_path):
    overrides = {"codec__name": "mdct", "training__steps": 2, "training__epoch_steps": 2}
    config = parse(arguments(slakh_tree, tmp_path / "cache", **overrides))
    for split in ("train", "validation"):
        fill_cache(config, split)
    train(config, tmp_path / "exp")
    model = UCRSeparator.from_pretrained(str(tmp_path / "exp"))
    assert not any("codec" in key for key in model.state_dict())
    assert model(torch.randn(1, 1, 4000)).shape == (1, 2, 4000)
