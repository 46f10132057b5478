"""UCRSeparator as an Asteroid model."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
import soundfile as sf
import torch
from asteroid.dsp import LambdaOverlapAdd
from asteroid.metrics import get_metrics
from asteroid.models import BaseModel
from conftest import SMALL, draw_latents

from asteroid_ucr import UCRSeparator, UserError, iadb
from asteroid_ucr.utils.errors import AudioWarning


@pytest.fixture
def wav():
    return 0.1 * torch.randn(2, 1, 20_000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(5000,), (3, 5000), (3, 1, 5000), (1, 1, 7), (1, 1, 319)])
def test_shapes(small_model, shape):
    wav = torch.randn(shape)
    expected = (2, shape[-1]) if len(shape) == 1 else (shape[0], 2, shape[-1])
    with torch.no_grad():
        assert small_model(wav).shape == expected
        assert small_model(wav, refine="none").shape == expected
        assert small_model.separate(wav).shape == expected


@torch.no_grad()
def test_sources_add_up_and_scale_with_the_mixture(small_model, wav):
    sources = small_model(wav)
    assert torch.allclose(sources.sum(1), wav[:, 0], atol=1e-5)
    assert torch.allclose(small_model(5 * wav), 5 * sources, atol=1e-4)
    assert torch.allclose(small_model(wav[:1]), sources[:1], atol=1e-5)


@torch.no_grad()
def test_silence_gives_silence(small_model):
    for separate in (small_model, small_model.separate):
        assert separate(torch.zeros(1, 1, 5000)).abs().max() == 0


@torch.no_grad()
def test_seed_and_steps(small_model, wav):
    assert torch.equal(small_model(wav, seed=1), small_model(wav, seed=1))
    assert not torch.equal(small_model(wav, seed=1), small_model(wav, seed=2))
    small_model.seed, small_model.steps = 2, 3
    assert torch.equal(small_model(wav), small_model(wav, steps=3, seed=2))
    assert not torch.equal(small_model(wav, steps=1), small_model(wav))


def test_serialized_model_is_the_same_model(small_model, wav, tmp_path):
    small_model.assign([1, 0])
    small_model.sources = ["drums", "bass"]
    small_model.steps = 2
    path = str(tmp_path / "model.pth")
    torch.save(small_model.serialize(), path)
    conf = torch.load(path, weights_only=True)
    assert not any("codec" in key for key in conf["state_dict"])
    assert conf["infos"]["software_versions"]["torch_version"] == str(torch.__version__)
    for loader in (BaseModel, UCRSeparator):
        loaded = loader.from_pretrained(path).eval()
        assert isinstance(loaded, UCRSeparator)
        assert loaded.sources == ["drums", "bass"]
        with torch.no_grad():
            assert torch.equal(loaded(wav), small_model(wav))


def test_folder_and_overrides(small_model, tmp_path):
    torch.save(small_model.serialize(), tmp_path / "best_model.pth")
    assert UCRSeparator.from_pretrained(str(tmp_path), steps=7, refine="none").steps == 7


@torch.no_grad()
def test_assignment_reorders_everything(small_model, wav):
    sources, z, masks = small_model(wav), small_model.encode(wav), small_model.masks(wav)
    small_model.assign([1, 0])
    assert torch.equal(small_model(wav), sources[:, [1, 0]])
    assert torch.equal(small_model.encode(wav), z[:, [1, 0]])
    assert torch.equal(small_model.masks(wav), masks[:, [1, 0]])
    small_model.assign([1, 0])
    assert torch.equal(small_model(wav), sources)
    with pytest.raises(ValueError, match="permutation"):
        small_model.assign([0, 0])


@torch.no_grad()
def test_encode_and_decode(small_model, wav):
    z = small_model.encode(wav)
    assert z.shape == (2, 2, 1, 63)
    assert small_model.decode(z, 20_000).shape == (2, 2, 20_000)
    assert small_model.decode(z).shape == (2, 2, 63 * 320)
    # Decoding is what `refine="none"` does, but for the level.
    from asteroid_ucr.utils.audio import level_gain

    direct = small_model(wav, refine="none") * level_gain(wav)
    assert torch.allclose(small_model.decode(z, 20_000), direct, atol=1e-4)


def test_files_go_through_our_own_inference(small_model, tmp_path):
    """Asteroid's own function would write full scale for silence."""
    sf.write(tmp_path / "silence.wav", np.zeros(24_000), 24_000)
    for path in small_model.separate(str(tmp_path / "silence.wav")):
        assert np.abs(sf.read(path)[0]).max() == 0
    wav = 0.1 * np.random.default_rng(0).standard_normal((20_000, 2))
    sf.write(tmp_path / "a.wav", wav, 44_100, subtype="FLOAT")
    paths = small_model.separate(str(tmp_path / "a.wav"), output_dir=str(tmp_path / "out"))
    assert [p.name for p in paths] == ["a_est1.wav", "a_est2.wav"]
    stems = [sf.read(p)[0] for p in paths]
    assert np.allclose(sum(stems), wav, atol=1e-5)
    paths[0].write_text("kept")
    with pytest.warns(AudioWarning, match="exists already"):
        small_model.separate(str(tmp_path / "a.wav"), output_dir=tmp_path / "out")
    assert paths[0].read_text() == "kept"
    small_model.separate(str(tmp_path / "a.wav"), output_dir=tmp_path / "out", force_overwrite=True)
    assert np.array_equal(sf.read(paths[0])[0], stems[0])


@torch.no_grad()
def test_arrays_of_any_type(small_model, wav):
    expected = small_model.separate(wav)
    array = wav.numpy().astype(np.float64)
    found = small_model.separate(array)
    assert found.dtype == np.float64 and np.allclose(found, expected, atol=1e-6)
    integers = (wav.clamp(-1, 1) * 2**15).short()
    assert np.allclose(small_model.separate(integers.numpy()), expected, atol=0.02)
    assert small_model(torch.zeros(0, 1, 100)).shape == (0, 2, 100)
    assert small_model(integers).dtype == torch.float32
    with pytest.raises(UserError, match="NaN"):
        small_model.separate(np.full(100, np.nan))
    copy = pickle.loads(pickle.dumps(small_model))
    assert torch.equal(copy(wav), small_model(wav))


@pytest.mark.parametrize("refine", ["wiener", "none"])
def test_gradients_at_silence_are_finite(small_model, refine):
    silence = torch.zeros(1, 1, 8000, requires_grad=True)
    small_model(silence, refine=refine).sum().backward()
    gradients = [silence.grad, *(p.grad for p in small_model.parameters() if p.grad is not None)]
    assert all(g.isfinite().all() for g in gradients)


def test_weights_that_do_not_fit_are_named(small_model, wav):
    conf = small_model.serialize()
    state = conf["state_dict"]
    wrapped = {f"module.{key}": value for key, value in state.items()}
    loaded = UCRSeparator.from_pretrained({**conf, "state_dict": wrapped})
    with torch.no_grad():
        assert torch.equal(loaded(wav), small_model(wav))
    key = next(k for k in state if k.endswith("weight"))
    for changed, words in [
        ({k: v for k, v in state.items() if k != key}, "Missing key"),
        ({**state, "surplus": torch.zeros(1)}, "Unexpected key"),
        ({**state, key: torch.zeros(1)}, "size mismatch"),
        ({**state, key: torch.full_like(state[key], float("nan"))}, "NaN"),
    ]:
        with pytest.raises(UserError, match=words):
            UCRSeparator.from_pretrained({**conf, "state_dict": changed})


@torch.no_grad()
def test_asteroids_tools_work(small_model, wav):
    whole = LambdaOverlapAdd(small_model, n_src=2, window_size=8000, window="hann")(wav)
    assert whole.shape == (2, 2, 20_000)
    references = torch.randn(2, 20_000).numpy()
    scores = get_metrics(
        wav[0].numpy(), references, small_model(wav)[0].numpy(), 24_000, metrics_list=["si_sdr"]
    )
    assert {"si_sdr", "input_si_sdr"} <= set(scores)
    assert small_model.separate(wav.numpy()).shape == (2, 2, 20_000)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sources": []}, "different names"),
        ({"sources": ["bass", "bass"]}, "different names"),
        ({"sample_rate": 8000}, "sample_rate 8000"),
        ({"composition": "product"}, "composition"),
        ({"codec": "mp3"}, "codec"),
        ({"codec_fingerprint": "mel-v0"}, "another codec"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(UserError, match=words):
        UCRSeparator(**{**SMALL, **options})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m(torch.zeros(1, 2, 100)), "average the channels"),
        (lambda m: m(torch.zeros(1, 1, 0)), "zero length"),
        (lambda m: m(torch.zeros(100), steps=0), "steps"),
        (lambda m: m(torch.zeros(100), refine="magic"), "refine"),
        (lambda m: m.generate(3.0), "no prior"),
    ],
)
def test_bad_calls(small_model, call, words):
    with pytest.raises(UserError, match=words):
        call(small_model)


def test_bad_checkpoints(tmp_path):
    text, other = tmp_path / "text.pth", tmp_path / "other.pth"
    text.write_text("not a checkpoint")
    torch.save({"weights": torch.zeros(1)}, other)
    for name, words in [
        ("no-such-model", "There is no model no-such-model"),
        (str(tmp_path), "no best_model.pth"),
        (str(text), "not a model file"),
        (str(other), "not a serialized model"),
    ]:
        with pytest.raises(UserError, match=words):
            UCRSeparator.from_pretrained(name)


@torch.no_grad()
def test_checkpoints_of_version_0_1(wav, tmp_path):
    """They store the order of the outputs beside the weights, and two settings that are gone."""
    model = UCRSeparator(["drums", "piano", "bass"], **SMALL).eval()
    old = model.serialize()
    old["state_dict"] = {**old["state_dict"], "order": torch.tensor([2, 0, 1])}
    old["model_args"] = {**old["model_args"], "trunk": "separate", "variant": "c"}
    torch.save(old, tmp_path / "best_model.pth")
    loaded = UCRSeparator.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode(wav), model.encode(wav)[:, [2, 0, 1]])
    for option in ({"trunk": "shared"}, {"variant": "d"}):
        refused = {**old, "model_args": {**old["model_args"], **option}}
        with pytest.raises(UserError, match="no longer supports"):
            UCRSeparator.from_pretrained(refused)


@torch.no_grad()
def test_priors_of_earlier_versions_are_left_out(wav):
    model = UCRSeparator(**SMALL).eval()
    old = model.serialize()
    old["state_dict"] = {**old["state_dict"], "prior.mean": torch.zeros(2, 1, 1)}
    old["model_args"] = {**old["model_args"], "prior": {"widths": [8]}, "render_gain": [1.0] * 128}
    with pytest.warns(UserWarning, match="train it again"):
        loaded = UCRSeparator.from_pretrained(old)
    assert loaded.prior is None and torch.equal(loaded(wav), model(wav))


TINY = {"encoder_widths": (8,), "denoiser_widths": (8,), "denoiser_kernels": (3,)}
TINY_PRIOR = {"widths": (8,), "kernel_sizes": (3,), "frames": 16}


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_models_of_other_precisions(dtype):
    torch.manual_seed(0)
    model = UCRSeparator(composition="power_sum", prior=TINY_PRIOR, **TINY).eval()
    wav = 0.1 * torch.randn(1, 1, 3200)
    expected = model(wav)
    converted = deepcopy(model).to(dtype)
    assert torch.allclose(converted(wav), expected, atol=0.05)
    assert converted(wav.to(dtype)).dtype == dtype
    assert torch.allclose(converted.encode(wav), model.encode(wav), atol=0.05)
    kept = torch.randn(1, 8)
    latents = draw_latents(converted, 0.1, {"drums": kept}, steps=1)
    assert torch.equal(latents[0, 0], kept) and latents.isfinite().all()
    assert converted.generate(0.1, steps=1).isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("refine", ["wiener", "none"])
def test_inference_under_autocast(refine):
    torch.manual_seed(0)
    model, wav = UCRSeparator(**TINY, alpha_start=0.5).eval(), 0.1 * torch.randn(1, 1, 1600)
    expected = model(wav, steps=2, refine=refine)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(wav, steps=2, refine=refine)
    assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=0.1)


@torch.no_grad()
@pytest.mark.parametrize("composition", ["mean", "sum", "power_sum"])
def test_whole_models_can_be_pickled(composition, wav, tmp_path):
    model = UCRSeparator(composition=composition, **SMALL).eval()
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(loaded(wav), model(wav))


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 2])
def test_separation_can_be_exported(small_model, steps):
    """At a fixed length, with the noise as an argument, it is one graph."""
    wav = 0.1 * torch.randn(1, 1, 4800)
    noise = iadb.frame_noise(128, 0, 15, seed=0)
    graph = torch.export.export(small_model, (wav,), {"noise": noise, "steps": steps}).module()
    other = 0.1 * torch.randn(1, 1, 4800)
    expected = small_model(other, steps=steps, seed=0)
    assert torch.allclose(graph(other, noise=noise, steps=steps), expected, atol=1e-5)


def test_gradients_reach_all_weights(small_model):
    latents = torch.rand(2, 128, 40)
    small_model.decomposition.loss(latents, torch.randn(2, 128, 40), torch.rand(2)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in small_model.parameters())


@pytest.mark.parametrize("composition", ["mean", "sum", "power_sum"])
def test_loss_by_its_definition(composition):
    """The loss equals its formula, computed one component and one item at a time."""
    torch.manual_seed(0)
    model = UCRSeparator(**SMALL, composition=composition)
    core = model.decomposition
    core.set_statistics(torch.rand(128), torch.rand(128) + 0.5)
    latents, noise, alpha = (
        torch.rand(2, 128, 24),
        torch.randn(2, 128, 24),
        torch.tensor([0.2, 0.7]),
    )
    with torch.no_grad():
        errors = []
        for i in range(2):
            x = core.standardise(latents[i : i + 1])
            a = alpha[i : i + 1]
            blend = iadb.blend(x, noise[i : i + 1], a)
            z = core.encode(latents[i : i + 1])
            outputs = [core.denoiser(blend, a, z[:, n : n + 1])[:, 0] for n in range(2)]
            composed = core.compose(torch.stack([core.restore(o) for o in outputs], 1))
            errors.append(core.standardise(composed) - x)
        expected = torch.cat(errors).square().mean()
        assert torch.allclose(core.loss(latents, noise, alpha), expected, rtol=1e-4)


@torch.no_grad()
def test_rendering_can_start_from_the_mixture(small_model, wav):
    assert torch.equal(small_model(wav), small_model(wav, alpha_start=0.0))
    assert not torch.equal(small_model(wav), small_model(wav, alpha_start=0.5))
    small_model.alpha_start = 0.5
    loaded = UCRSeparator.from_pretrained(small_model.serialize())
    assert torch.equal(loaded(wav), small_model(wav, alpha_start=0.5))
    # The noise matters less, the more there is of the mixture.
    spreads = [
        (small_model(wav, seed=1, alpha_start=a) - small_model(wav, seed=2, alpha_start=a)).std()
        for a in (0.0, 0.9)
    ]
    assert spreads[1] < spreads[0]
    with pytest.raises(UserError, match="alpha_start"):
        small_model(wav, alpha_start=1.0)


def test_samples_in_the_wrong_order_are_refused(small_model):
    with pytest.raises(UserError, match="time, channels"):
        small_model(torch.zeros(24_000, 2))


@torch.no_grad()
def test_selected_sources_keep_their_encoders(wav, tmp_path):
    model = UCRSeparator(["drums", "piano", "bass"], composition="power_sum", **SMALL).eval()
    model.assign([2, 0, 1])
    part = model.select(["bass", "drums"])
    assert part.sources == ["bass", "drums"]
    assert torch.equal(part.encode(wav), model.encode(wav)[:, [2, 0]])
    torch.save(part.serialize(), tmp_path / "best_model.pth")
    assert torch.equal(UCRSeparator.from_pretrained(tmp_path)(wav), part(wav))
    assert model.n_src == 3
    assert torch.allclose(part(wav).sum(1), wav[:, 0], atol=1e-5)
    with pytest.raises(UserError, match="guitar"):
        model.select(["drums", "guitar"])
    part.add_prior(**TINY_PRIOR)
    assert part.select(["bass", "drums"]).prior is not None
    assert part.select(["drums"]).prior is None  # it has never heard drums alone
    part.add_prior(**TINY_PRIOR, subsets=True)
    assert part.select(["drums"]).prior is None  # nor has this one
    model.add_prior(**TINY_PRIOR, subsets=True)
    assert model.select(["bass", "drums"]).prior.slots == [2, 0]


@torch.no_grad()
def test_energy_is_shared_out(wav):
    model = UCRSeparator(["drums", "bass"], composition="power_sum", **SMALL).eval()
    latents = model.codec.encode(wav)
    energy = model.latent_energy(latents)
    assert energy.shape == (2, 2, latents.shape[-1])
    assert torch.allclose(energy.sum(1), model.codec.to_power(latents).sum(1), rtol=1e-3)
