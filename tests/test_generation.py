"""Generation as users meet it: the model's methods, the command, and bad input."""

import numpy as np
import pytest
import soundfile as sf
import torch
from conftest import SMALL, draw_latents

from asteroid_ucr import UCRSeparator, UserError, generator, iadb
from asteroid_ucr.cli import main
from asteroid_ucr.utils.audio import level_gain

RATE = 24_000
PRIOR = {"widths": (16, 32), "kernel_sizes": (3, 3), "frames": 64}


def make_model(sources=("drums", "bass"), **options):
    torch.manual_seed(0)
    options = {"codec_options": {"iterations": 2}, **SMALL, **options}
    model = UCRSeparator(sources, **options, prior=PRIOR).eval()
    z = model.encode(noise(seconds=2.0))[0].detach()
    model.prior.set_statistics(z.mean(-1), z.std(-1))
    return model


def noise(*shape, seconds=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.05 * torch.randn(*shape, round(seconds * RATE), generator=generator)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.mark.parametrize("seconds", [1.0, 0.00001, 1.2345, 2.5])
def test_unconditional(model, seconds):
    stems = model.generate(seconds, steps=2)
    assert stems.shape == (1, 2, max(1, round(seconds * RATE)))
    assert stems.isfinite().all() and stems.device.type == "cpu"


def test_seeds_repeat_differ_and_number_the_batch(model):
    batch = model.generate(1.0, steps=3, seed=5, batch=3)
    assert torch.equal(batch, model.generate(1.0, steps=3, seed=5, batch=3))
    assert not torch.allclose(batch[0], batch[1], atol=1e-3)
    latents = draw_latents(model, 1.0, steps=3, seed=5, batch=3)
    for k in range(3):
        alone = draw_latents(model, 1.0, steps=3, seed=5 + k)
        assert torch.allclose(alone[0], latents[k], atol=1e-5)


def test_kept_latents_come_back_bit_by_bit(model):
    z = torch.randn(2, 1, 150)
    found = draw_latents(model, 2.0, {"bass": z}, steps=4, seed=1)
    assert found.shape == (2, 2, 1, 150)
    assert torch.equal(found[:, 1], z)
    assert not torch.isclose(found[0, 0], found[1, 0]).all()


def test_kept_audio_is_untouched_and_encoded_at_half_the_power_of_a_mixture(model):
    drums = noise(seconds=2.0, seed=1)
    stems = model.generate(2.0, {"drums": drums}, steps=2, batch=2)
    assert torch.equal(stems[:, 0], drums.expand(2, -1))
    z = draw_latents(model, 2.0, {"drums": drums}, steps=2)
    latents = model.codec.encode((0.5**0.5 * level_gain(drums) * drums)[None, None])
    assert torch.allclose(z[:, 0], model.decomposition.encode(latents)[:, 0], atol=1e-5)
    # The partner is as loud as what is kept, and nothing else of it depends on that.
    assert torch.allclose(level_gain(stems[:, 1]), level_gain(drums), rtol=1e-3)
    louder = model.generate(2.0, {"drums": 4 * drums}, steps=2, batch=2)
    assert torch.allclose(louder[:, 1], 4 * stems[:, 1], atol=1e-4)


def test_several_kept_stems_keep_their_balance():
    model = make_model(("drums", "bass", "piano"), latent_dim=2)
    drums, piano = noise(seed=1), 0.3 * noise(seed=2)
    stems = model.generate(1.0, {"piano": piano, "drums": drums}, steps=2)
    assert torch.equal(stems[0, 0], drums) and torch.equal(stems[0, 2], piano)
    gain = (2 / 3) ** 0.5 * level_gain(drums + piano)
    direct = model.decomposition.encode(model.codec.encode((gain * piano)[None, None]))[:, 2]
    z = draw_latents(model, 1.0, {"piano": piano, "drums": drums}, steps=2)
    assert torch.allclose(z[:, 2], direct, atol=1e-5)


def test_assigning_components_reorders_what_is_generated(monkeypatch):
    # With the same noise for both components, as they trade places.
    model = make_model()
    draw = iadb.frame_noise
    monkeypatch.setattr(iadb, "frame_noise", lambda *args: draw(*args)[:, :1].expand(-1, 2, -1))
    z = draw_latents(model, 1.0, steps=3)
    kept = {"drums": torch.randn(1, 75)}
    partner = draw_latents(model, 1.0, kept, steps=3)
    model.assign([1, 0])
    assert torch.allclose(draw_latents(model, 1.0, steps=3), z[:, [1, 0]], atol=1e-5)
    swapped = draw_latents(model, 1.0, {"bass": kept["drums"]}, steps=3)
    assert torch.allclose(swapped, partner[:, [1, 0]], atol=1e-5)


def test_a_variation_starts_between_mixture_and_noise(model, monkeypatch):
    """With a network that leaves all as it is, what comes out is what sampling started from."""
    monkeypatch.setattr(model.prior, "forward", lambda x, alpha, mask, present=None: x)
    mixture = noise(seconds=0.8)
    z = model.encode(mixture).detach()
    mean, std = model.prior.mean, model.prior.std
    common = {"mixture": mixture, "steps": 3, "seed": 4}
    start = draw_latents(model, 0.8, steps=3, seed=4)  # the noise alone
    for strength in (0.1, 0.6):
        found = draw_latents(model, 0.8, strength=strength, **common)
        expected = (1 - strength) * (z - mean) / std + strength * (start - mean) / std
        assert torch.allclose(found, expected * std + mean, atol=1e-5)
    # One component may be varied, and another kept.
    found = draw_latents(model, 0.8, {"drums": z[:, 0]}, strength=0.5, **common)
    assert torch.equal(found[:, 0], z[:, 0]) and not torch.isclose(found[:, 1], z[:, 1]).all()


def test_a_variation_has_the_level_of_its_mixture(model):
    mixture = noise(seconds=0.5)
    stems = model.generate(0.5, mixture=mixture, strength=0.5, steps=2)
    louder = model.generate(0.5, mixture=3 * mixture, strength=0.5, steps=2)
    assert torch.allclose(louder, 3 * stems, atol=1e-3)


def test_windows_agree(model):
    """What long latents are at a frame depends on their neighbourhood, not on where windows lie."""
    seen = []
    hook = model.prior.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    draw_latents(model, 3.0, steps=3)
    hook.remove()
    starts = [*range(0, 225 - 64, 32), 225 - 64]
    assert len(seen) == 3 * len(starts)
    for step in range(3):
        windows = seen[step * len(starts) : (step + 1) * len(starts)]
        for (a, first), (b, second) in zip(
            zip(starts, windows, strict=True), list(zip(starts, windows, strict=True))[1:],
            strict=False,
        ):  # fmt: skip
            assert torch.equal(first[..., b - a :], second[..., : 64 - (b - a)])


def test_long_files_are_rendered_in_chunks(model, monkeypatch):
    monkeypatch.setattr(generator, "CHUNK_SECONDS", 4)
    decode, spans = model.codec.decode, []
    monkeypatch.setattr(
        model.codec, "decode", lambda z, length: spans.append(z.shape[-1]) or decode(z, length)
    )
    assert model.generate(7.3, steps=1).shape == (1, 2, round(7.3 * RATE))
    assert spans == [300, 300, 248]  # two seconds of overlap


@pytest.mark.parametrize("composition", ["mean", "sum", "power_sum"])
def test_stems_have_their_share_of_the_mixture(composition):
    model = make_model(composition=composition)
    components = torch.rand(1, 2, 128, 10)
    balanced, scale = model.latents.balance(components)
    power = model.codec.to_power(balanced).sum(1)
    mixture = model.codec.to_power(model.decomposition.compose(components))
    assert scale == 1 and torch.allclose(power, mixture, rtol=1e-3)
    ratio = model.codec.to_power(components)
    found = model.codec.to_power(balanced)
    assert torch.allclose(found[:, 0] * ratio[:, 1], found[:, 1] * ratio[:, 0], rtol=1e-2)


def test_a_codec_without_power_decodes_each_component():
    options = {"codec": "mdct", "codec_options": None}
    for composition, share in [("mean", 0.5), ("sum", 1.0)]:
        model = make_model(**options, composition=composition)
        z = draw_latents(model, 1.0, steps=2)
        stems = model.generate(1.0, steps=2)
        with torch.no_grad():
            assert torch.allclose(stems, share * model.decode(z), atol=1e-5)


def test_a_model_with_a_prior_is_saved_and_loaded_whole(model, tmp_path):
    torch.save(model.serialize(), tmp_path / "best_model.pth")
    loaded = UCRSeparator.from_pretrained(str(tmp_path))
    assert torch.equal(draw_latents(loaded, 1.0, steps=2), draw_latents(model, 1.0, steps=2))
    wav = noise(1, seconds=0.2)
    with torch.no_grad():
        assert torch.equal(loaded(wav), model(wav))
    assert loaded.get_model_args()["prior"] == {
        "widths": [16, 32],
        "kernel_sizes": [3, 3],
        "frames": 64,
    }


def test_noise_of_prior_and_denoiser_are_not_the_same(model, monkeypatch):
    seen = []
    draw = iadb.frame_noise
    monkeypatch.setattr(iadb, "frame_noise", lambda *args: seen.append(draw(*args)) or seen[-1])
    model.generate(3.0, steps=1)
    prior, denoiser = (noise[0, :2].flatten().numpy() for noise in seen)
    assert abs(np.corrcoef(prior, denoiser)[0, 1]) < 0.2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seconds": 0}, "seconds must be above 0"),
        ({"seconds": -1.0}, "seconds must be above 0"),
        ({"seconds": float("nan")}, "seconds must be above 0"),
        ({"keep": {"guitar": noise()}}, "'guitar' cannot be kept: the model's sources are drums"),
        ({"keep": {"drums": noise(seconds=0.5)}}, "drums has 12000 samples, 0.5 s"),
        ({"keep": {"drums": torch.zeros(1, 74)}}, "drums has 74 samples"),
        ({"keep": {"drums": torch.zeros(3, 75)}}, "drums has the shape"),
        ({"keep": {"drums": torch.zeros(1, 2, RATE)}}, "give mono audio"),
        ({"keep": {"drums": noise(), "bass": noise()}}, "nothing is left to generate"),
        ({"keep": {"drums": noise(3)}, "batch": 2}, r"batches of \[3\]"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"guidance": 2.0}, "trained on subsets"),
        ({"guidance": -1.0}, "guidance must be 0 or more"),
        ({"mixture": noise()}, "both a mixture and a strength"),
        ({"strength": 0.5}, "both a mixture and a strength"),
        ({"mixture": noise(), "strength": 0.0}, "strength must lie between 0 and 1"),
        ({"mixture": noise(), "strength": 1.0}, "strength must lie between 0 and 1"),
        ({"mixture": noise(seconds=3.0), "strength": 0.5}, "mixture has 72000 samples"),
    ],
)
def test_bad_calls(model, options, words):
    with pytest.raises(UserError, match=words) as caught:
        model.generate(**{"seconds": 1.0, **options})
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    torch.save(model.serialize(), folder / "model.pth")
    for name, rate, seconds in [("drums", RATE, 2.0), ("cd", 44_100, 1.0)]:
        wav = 0.2 * np.random.default_rng(0).standard_normal(round(seconds * rate))
        sf.write(folder / f"{name}.wav", wav, rate)
    sf.write(folder / "stereo.wav", np.stack([wav, -wav], 1), RATE)
    return folder


def test_the_command_writes_names(files, tmp_path, capsys):
    out = tmp_path / "out"
    common = ["generate", str(files / "model.pth"), "--steps", "2", "--device", "cpu"]
    keep = ["--keep", f"drums={files / 'drums.wav'}", "--count", "2", "--seed", "7"]
    assert main([*common, "-o", str(out), *keep]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["00007", "00008"]
    drums = sf.read(files / "drums.wav", dtype="float32")[0]
    for folder in out.iterdir():
        wavs = {p.stem: sf.read(p, dtype="float32") for p in folder.iterdir()}
        assert set(wavs) == {"drums", "bass", "mix"}
        assert {rate for _, rate in wavs.values()} == {RATE}
        assert np.array_equal(wavs["drums"][0], drums)
        assert np.allclose(wavs["mix"][0], drums + wavs["bass"][0], atol=1e-6)
    bass = [sf.read(out / name / "bass.wav")[0] for name in ("00007", "00008")]
    assert not np.allclose(*bass, atol=1e-3)

    mixture = ["--mixture", str(files / "drums.wav")]
    assert main([*common, "-o", str(tmp_path / "v"), *mixture, "--strength", "0.4"]) == 0
    assert main([*common, "-o", str(tmp_path / "k"), *mixture, "--keep", "bass"]) == 0
    assert main([*common, "-o", str(tmp_path / "n"), "--seconds", "1"]) == 0
    lengths = [sf.info(tmp_path / n / "00000" / "bass.wav").frames for n in "vkn"]
    assert lengths == [2 * RATE, 2 * RATE, RATE]
    # What is kept of a mixture is rendered at the mixture's level.
    loaded = UCRSeparator.from_pretrained(str(files / "model.pth"))
    loud = torch.as_tensor(drums).square().mean().sqrt() / 0.1
    z = loaded.encode(torch.as_tensor(drums))[:, 1]
    expected = loud * loaded.generate(2.0, {"bass": z.detach()}, steps=2, seed=0)[0]
    found = sf.read(tmp_path / "k" / "00000" / "drums.wav", dtype="float32")[0]
    assert np.allclose(found, expected[0], atol=1e-3)
    assert "wrote drums, bass and mix of 1 items to" in capsys.readouterr().out
    assert main(["info", str(files / "model.pth")]) == 0
    assert "frames 64" in capsys.readouterr().out


def test_stems_of_any_rate_are_kept_as_they_are(files, tmp_path):
    """All files have the largest rate and the most channels of the stems."""
    stereo = 0.2 * np.random.default_rng(1).standard_normal((30_001, 2))
    sf.write(tmp_path / "bass.wav", stereo, 44_100, "FLOAT")
    sf.write(tmp_path / "drums.wav", stereo[:, :1], 44_100, "FLOAT")
    keep = [f"--keep=bass={tmp_path / 'bass.wav'}"]
    common = ["generate", str(files / "model.pth"), "--steps", "2", "--device", "cpu", *keep]
    assert main([*common, "-o", str(tmp_path / "out")]) == 0
    wavs = {p.stem: sf.read(p) for p in (tmp_path / "out" / "00000").iterdir()}
    assert {(wav.shape, rate) for wav, rate in wavs.values()} == {((30_001, 2), 44_100)}
    assert np.allclose(wavs["bass"][0], stereo, atol=1e-7)
    assert np.array_equal(wavs["drums"][0][:, 0], wavs["drums"][0][:, 1])
    # With both stems, a part of one of them can be made anew.
    both = [*common, f"--keep=drums={tmp_path / 'drums.wav'}", "--inpaint=bass=0.2-0.4"]
    assert main([*both, "-o", str(tmp_path / "in")]) == 0
    bass = sf.read(tmp_path / "in" / "00000" / "bass.wav")[0]
    assert np.allclose(bass[:8820], stereo[:8820], atol=1e-7)
    assert np.allclose(bass[17_641:], stereo[17_641:], atol=1e-7)
    assert np.abs(bass - stereo)[9800:16_700].mean() > 0.05


@torch.no_grad()
def test_inpainting_hears_what_surrounds_it(model):
    """Latents outside of the span are exact, and what is inside depends on them."""
    drums, bass = noise(seed=1), noise(seed=2)
    call = {"seconds": 1.0, "steps": 4, "inpaint": {"bass": (0.4, 0.6)}, "seed": 3}
    found = draw_latents(model, keep={"drums": drums, "bass": bass}, **call)
    plan = model.generator.plan(1.0, {"drums": drums, "bass": bass}, inpaint={"bass": (0.4, 0.6)})
    assert torch.equal(found[:, 0], plan.latents[:, 0])
    assert torch.equal(found[:, 1, :, :30], plan.latents[:, 1, :, :30])
    assert torch.equal(found[:, 1, :, 45:], plan.latents[:, 1, :, 45:])
    assert not torch.allclose(found[:, 1, :, 30:45], plan.latents[:, 1, :, 30:45], atol=1e-3)
    other = draw_latents(model, keep={"drums": drums, "bass": noise(seed=5)}, **call)
    assert not torch.allclose(found[:, 1, :, 30:45], other[:, 1, :, 30:45], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--keep", "guitar={}/drums.wav"], "'guitar' cannot be kept"),
        (["--keep", "drums={}/no.wav"], "does not exist"),
        (["--keep", "drums={}/drums.wav", "--inpaint", "drums=1"], "is not SOURCE=FROM-TO"),
        (["--keep", "drums={}/drums.wav", "--inpaint", "drums=1-3"], "a part of its 2 s"),
        (["--inpaint", "drums=0-1"], "drums cannot be in-painted: give its audio"),
        (["--keep", "drums={0}/drums.wav", "--keep", "drums={0}/drums.wav"], "is kept twice"),
        (["--keep", "drums={}/drums.wav", "--seconds", "3"], "drums has 48000 samples, 2 s"),
        (["--keep", "drums"], "give one, or drums=FILE"),
        (["--mixture", "{}/drums.wav"], "A mixture alone has no effect"),
        (["--mixture", "{}/drums.wav", "--strength", "1.5"], "strength must lie between 0 and 1"),
        (["--strength", "0.5"], "both a mixture and a strength"),
        (["--seconds", "0"], "seconds must be above 0"),
        (["--count", "0"], "count must be at least 1"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--out", "{}/drums.wav", "--seconds", "0.2"], "Cannot write"),
    ],
)
def test_the_command_refuses_in_one_line(files, tmp_path, capsys, arguments, words):
    arguments = [a.format(files) for a in arguments]
    command = ["generate", str(files / "model.pth"), "-o", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*command, *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("error")]
    assert len(errors) == 1 and words in errors[0]
    assert not list(tmp_path.glob("out/*"))
