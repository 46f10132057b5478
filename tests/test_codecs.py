"""Codecs behind one interface; EnCodec through its real class and files."""

import hashlib
import json
import re
import subprocess
import sys
from copy import deepcopy

import librosa
import pytest
import torch
from conftest import SHARED
from encodec import EncodecModel
from encodec.modules import SEANetDecoder, SEANetEncoder
from safetensors.torch import save_file

from asteroid_ucr import UserError
from asteroid_ucr.codecs import build_codec
from asteroid_ucr.codecs import encodec as encodec_module
from asteroid_ucr.codecs.chunks import past_frames, run_in_chunks
from asteroid_ucr.composition import build_composition
from asteroid_ucr.masking import stft
from asteroid_ucr.utils.audio import read_audio


@pytest.fixture(scope="module")
def encodec_state():
    torch.manual_seed(0)
    return EncodecModel.encodec_model_24khz(pretrained=False).state_dict()


@pytest.fixture(scope="module")
def encodec(encodec_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "own.th"
    torch.save(encodec_state, path)
    return build_codec("encodec_24khz", weights=str(path), bandwidth=24.0)


@pytest.fixture(params=["mel", "mdct", "encodec"])
def codec(request):
    name = request.param
    return request.getfixturevalue("encodec") if name == "encodec" else build_codec(name)


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 24_000])
def test_shapes(codec, samples):
    wav = 0.1 * torch.randn(2, 1, samples)
    latents = codec.encode(wav)
    assert (
        latents.shape == (2, 128, -(-samples // 320)) == (2, codec.channels, codec.frames(samples))
    )
    assert codec.decode(latents, samples).shape == wav.shape
    assert codec.spectrogram(latents, samples).shape == stft(wav[:, 0]).shape
    assert codec.frame_rate == 75


def test_mel_equals_librosa():
    wav = 0.1 * torch.randn(1, 1, 12_000)
    codec = build_codec("mel")
    filters = librosa.filters.mel(sr=24_000, n_fft=2048, n_mels=128, norm=None)
    spectrum = librosa.stft(wav[0, 0].numpy(), n_fft=2048, hop_length=320, pad_mode="constant")
    mel = (filters / filters.sum(1, keepdims=True)) @ abs(spectrum) ** 2
    expected = (torch.from_numpy(mel) + 1e-6) ** 0.15 - 1e-6**0.15
    latents = codec.encode(wav)[0]
    assert torch.allclose(latents, expected[:, : latents.shape[-1]].float(), atol=1e-3)


def test_mel_power_round_trip():
    codec = build_codec("mel")
    power = torch.rand(3, 128, 5) * 10
    assert torch.allclose(codec.to_power(codec.from_power(power)), power, rtol=1e-3, atol=1e-6)
    assert codec.encode(torch.zeros(1, 1, 3200)).abs().max() == 0


def test_mel_decodes_a_tone_at_its_pitch():
    wav = 0.3 * torch.sin(2 * torch.pi * 1000 * torch.arange(24_000) / 24_000)[None, None]
    codec = build_codec("mel")
    decoded = codec.decode(codec.encode(wav), 24_000)
    peak = torch.fft.rfft(decoded[0, 0]).abs().argmax()
    assert abs(int(peak) - 1000) < 30
    assert torch.equal(decoded, codec.decode(codec.encode(wav), 24_000))


def test_encodec_latents_are_the_packages_own(encodec, encodec_state):
    model = EncodecModel.encodec_model_24khz(pretrained=False)
    model.load_state_dict(encodec_state)
    model.set_target_bandwidth(24.0)
    wav = 0.1 * torch.randn(1, 1, 6000)
    with torch.no_grad():
        codes, _ = model.encode(wav)[0]
        assert codes.shape[1] == 32
        expected = model.quantizer.decode(codes.transpose(0, 1))
        decoded = model(wav)
    assert torch.equal(encodec.encode(wav), expected)
    assert torch.allclose(encodec.decode(expected, 6000), decoded, atol=1e-6)


def test_encodec_bandwidths(encodec_state, tmp_path):
    torch.save(encodec_state, tmp_path / "own.th")
    wav = 0.1 * torch.randn(1, 1, 6000)
    few, many, all_ = (
        build_codec("encodec_24khz", weights=str(tmp_path / "own.th"), bandwidth=bandwidth)
        for bandwidth in (1.5, 24.0, 0)
    )
    assert len({c.fingerprint for c in (few, many, all_)}) == 3
    unquantised = all_.encode(wav)
    errors = [(c.encode(wav) - unquantised).square().mean() for c in (few, many)]
    assert errors[0] > 0 and errors[1] > 0
    with pytest.raises(UserError, match="bandwidth 7"):
        build_codec("encodec_24khz", weights=str(tmp_path / "own.th"), bandwidth=7)


def test_encodec_stays_frozen(encodec):
    encodec.train()
    assert not encodec.model.quantizer.training
    before = {k: v.clone() for k, v in encodec.state_dict().items()}
    encodec.encode(torch.randn(4, 1, 6000))
    assert all(torch.equal(v, before[k]) for k, v in encodec.state_dict().items())
    assert not any(p.requires_grad for p in encodec.parameters())


def test_unused_codec_can_be_copied(encodec_state, tmp_path):
    # As the averages of a model's weights are, before the codec has coded anything.
    torch.save(encodec_state, tmp_path / "own.th")
    codec = build_codec("encodec_24khz", weights=str(tmp_path / "own.th"))
    wav = 0.1 * torch.randn(1, 1, 3200)
    assert torch.equal(deepcopy(codec).encode(wav), codec.encode(wav))


def published_file(folder, state, monkeypatch):
    """A file under the published name scheme: the name ends in the start of its own SHA-256."""
    path = folder / "encodec_24khz-00000000.th"
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    named = path.rename(folder / f"encodec_24khz-{digest}.th")
    # The package looks for the hash of Meta's weights; ours has another.
    code = EncodecModel._get_pretrained

    def with_our_hash(checkpoint_name, repository=None):
        return code(named.name, repository)

    monkeypatch.setattr(EncodecModel, "_get_pretrained", staticmethod(with_our_hash))
    monkeypatch.setattr(encodec_module, "PUBLISHED_FILE", named.name)
    return named


def test_published_path(encodec, encodec_state, tmp_path, monkeypatch):
    published_file(tmp_path, encodec_state, monkeypatch)
    codec = build_codec("encodec_24khz", codec_dir=str(tmp_path))
    wav = 0.1 * torch.randn(1, 1, 6000)
    assert torch.equal(codec.encode(wav), encodec.encode(wav))
    assert codec.fingerprint == encodec.fingerprint


def test_damaged_published_file_is_refused(encodec_state, tmp_path, monkeypatch):
    path = published_file(tmp_path, encodec_state, monkeypatch)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="is not EnCodec's published file"):
        build_codec("encodec_24khz", codec_dir=str(tmp_path))


def test_missing_published_file_is_named(tmp_path):
    with pytest.raises(UserError, match="CC BY-NC") as caught:
        build_codec("encodec_24khz", codec_dir=str(tmp_path))
    assert str(tmp_path / "encodec_24khz-d7cc33bc.th") in str(caught.value)


# -- MDCT ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 159, 160, 319, 320, 321, 479, 480, 640, 24_001])
def test_mdct_with_all_coefficients_gives_the_waveform_back(samples):
    codec = build_codec("mdct", channels=320)
    wav = 0.1 * torch.randn(2, 1, samples, generator=torch.Generator().manual_seed(samples))
    latents = codec.encode(wav)
    assert latents.shape == (2, 320, -(-samples // 320))
    assert torch.allclose(codec.decode(latents, samples), wav, atol=1e-5)


def snr(reference, estimate):
    return float(10 * torch.log10(reference.square().sum() / (reference - estimate).square().sum()))


def test_mdct_of_real_music():
    clips = sorted((SHARED / "slakh_real_dev").glob("*_1"))
    if not clips:
        pytest.skip("needs the real clips of the shared folder")
    codec, found = build_codec("mdct"), {"mix": [], "stem": []}
    for path in (f for clip in clips for f in clip.glob("*.wav") if "_paper" not in f.stem):
        wav = read_audio(path, mono=True)[0][None]
        decoded = codec.decode(codec.encode(wav), wav.shape[-1])
        found["mix" if path.stem == "mix" else "stem"].append(snr(wav, decoded))
    assert sum(found["mix"]) / len(found["mix"]) == pytest.approx(29.8, abs=1.5)
    assert sum(found["stem"]) / len(found["stem"]) == pytest.approx(38.4, abs=1.5)


def test_encodec_is_imported_only_where_it_is_used():
    """Its code is licensed for non-commercial use."""
    script = """
import sys, torch, asteroid_ucr, asteroid_ucr.cli
model = asteroid_ucr.UCRSeparator(encoder_widths=(8,), denoiser_widths=(8,), denoiser_kernels=(3,))
model(torch.zeros(1, 1, 3200))
assert "encodec" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# -- Hugging Face's layout -------------------------------------------------------------------------


def transformers_state(state, norm):
    """The state dict that `transformers` has for the same network.

    Written from its published names: this test needs no `transformers`.
    """
    renamed = {}
    for key, value in state.items():
        key = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", key)
        key = re.sub(r"\.conv(tr)?\.conv(tr)?\.", ".conv.", key)
        key = re.sub(
            r"^quantizer\.vq\.layers\.(\d+)\._codebook", r"quantizer.layers.\1.codebook", key
        )
        if norm == "parametrizations":
            key = key.replace("weight_g", "parametrizations.weight.original0")
            key = key.replace("weight_v", "parametrizations.weight.original1")
        renamed[key] = value.contiguous()
    return renamed


def huggingface_folder(folder, state, file="model.safetensors", **config):
    (folder / "config.json").write_text(json.dumps({"model_type": "encodec", **config}))
    if file.endswith("safetensors"):
        save_file(state, folder / file)
    else:
        torch.save(state, folder / file)
    return str(folder)


def test_transformers_names_are_the_published_ones(encodec_state):
    names = transformers_state(encodec_state, "parametrizations")
    # From `transformers.EncodecModel`: the first convolution, an LSTM, an upsampling, a codebook.
    for name, shape in {
        "encoder.layers.0.conv.parametrizations.weight.original1": (32, 1, 7),
        "encoder.layers.13.lstm.weight_hh_l1": (2048, 512),
        "encoder.layers.4.shortcut.conv.bias": (64,),
        "decoder.layers.3.conv.parametrizations.weight.original0": (512, 1, 1),
        "decoder.layers.13.block.3.conv.parametrizations.weight.original1": (32, 16, 1),
        "quantizer.layers.31.codebook.embed_avg": (1024, 128),
    }.items():
        assert tuple(names[name].shape) == shape


@pytest.mark.parametrize("norm", ["weight_g", "parametrizations"])
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_huggingface_checkpoint_is_the_same_codec(encodec, encodec_state, tmp_path, norm, file):
    folder = huggingface_folder(tmp_path, transformers_state(encodec_state, norm), file)
    codecs = [
        build_codec("encodec_24khz", codec_dir=folder),
        build_codec("encodec_24khz", weights=str(tmp_path / file)),
    ]
    assert {codec.fingerprint for codec in codecs} == {encodec.fingerprint}


def test_other_checkpoints_of_that_layout_are_refused(encodec_state, tmp_path):
    state = transformers_state(encodec_state, "weight_g")
    bias = "decoder.layers.15.conv.bias"

    def refused(words, state, **config):
        folder = huggingface_folder(tmp_path, state, **config)
        with pytest.raises(UserError, match=words):
            build_codec("encodec_24khz", codec_dir=folder)

    refused("sampling_rate 48000.*facebook/encodec_24khz", state, sampling_rate=48_000)
    refused("model_type mimi", state, model_type="mimi")
    refused("conv.bias is missing", {k: v for k, v in state.items() if k != bias})
    refused("more is not a weight", {**state, "more": torch.zeros(1)})
    refused(r"has shape \(2,\), not \(1,\)", {**state, bias: torch.zeros(2)})
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="not a state dict of EnCodec"):
        build_codec("encodec_24khz", codec_dir=str(tmp_path))


def test_transformers_own_model_agrees(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    model = transformers.EncodecModel(transformers.EncodecConfig()).eval()
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_(std=0.05)
    model.save_pretrained(tmp_path)
    codec = build_codec("encodec_24khz", codec_dir=str(tmp_path), bandwidth=6.0)
    wav = 0.1 * torch.randn(2, 1, 6400)
    with torch.no_grad():
        codes = model.encode(wav, bandwidth=6.0).audio_codes
        expected = model.decode(codes, [None])[0]
    assert torch.allclose(codec.decode(codec.encode(wav), 6400), expected, atol=1e-5)


# -- long sounds -----------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("samples", [320 * 40, 320 * 61 + 1, 320 * 40 + 319])
def test_chunks_equal_the_whole(encodec_state, samples):
    model = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    model.load_state_dict(encodec_state)
    wav = 0.3 * torch.randn(2, 1, samples, generator=torch.Generator().manual_seed(0))
    latents = model.encoder(wav)
    decoded = model.decoder(latents)
    ours = run_in_chunks(model.encoder.model, wav, frames=20)
    assert ours.shape == latents.shape
    assert (ours - latents).abs().max() < 1e-5 * latents.abs().max()
    ours = run_in_chunks(model.decoder.model, latents, frames=20)
    assert ours.shape == decoded.shape
    assert (ours - decoded).abs().max() < 1e-5 * decoded.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 3])
def test_past_is_what_the_convolutions_see(layers):
    torch.manual_seed(0)
    options = {"n_filters": 2, "n_residual_layers": layers, "lstm": 0, "causal": True}
    for kind, shape, hop, out in (
        (SEANetEncoder, (1, 1, 320 * 40), 320, 1),
        (SEANetDecoder, (1, 128, 40), 1, 320),
    ):
        network = kind(**options).double().eval()
        x = torch.randn(shape, dtype=torch.double)
        changed = x.clone()
        changed[..., : 10 * hop] += 1.0  # frames 0 to 9
        difference = (network(x) - network(changed)).abs().amax(1)[0]
        last = int(difference.nonzero().max()) // out
        past = past_frames(network.model, hop)
        assert last <= 9 + past  # none is missed …
        assert past <= last - 9 + 1  # … and little is computed in vain


def test_codec_takes_long_sounds_in_chunks(encodec, monkeypatch):
    wav = 0.1 * torch.randn(1, 1, 320 * 50 + 7)
    latents = encodec.encode(wav)
    decoded = encodec.decode(latents, wav.shape[-1])
    monkeypatch.setattr(encodec_module, "CHUNK_FRAMES", 20)
    monkeypatch.setattr(run_in_chunks, "__defaults__", (20,))
    assert torch.allclose(encodec.encode(wav), latents, atol=1e-5)
    assert torch.allclose(encodec.decode(latents, wav.shape[-1]), decoded, atol=1e-5)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("opus", {}, "Unknown codec"),
        ("encodec_48khz", {}, "scale"),
        ("mel", {"colour": 3}, "does not take"),
        ("encodec_24khz", {"weights": "/nowhere.th"}, "do not exist"),
    ],
)
def test_bad_options(name, options, words):
    with pytest.raises(UserError, match=words):
        build_codec(name, **options)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.th")
    with pytest.raises(UserError, match="not a state dict of EnCodec"):
        build_codec("encodec_24khz", weights=str(tmp_path / "other.th"))


def test_compositions(encodec):
    mel = build_codec("mel")
    components = torch.rand(2, 3, 128, 5)
    assert torch.allclose(build_composition("mean", mel)(components), components.mean(1))
    assert torch.allclose(build_composition("sum", encodec)(components), components.sum(1))
    power = mel.to_power(build_composition("power_sum", mel)(components))
    assert torch.allclose(power, mel.to_power(components).sum(1), rtol=1e-3, atol=1e-6)
    with pytest.raises(UserError, match="power_sum"):
        build_composition("power_sum", encodec)
    with pytest.raises(UserError, match="Unknown composition"):
        build_composition("product", mel)


def test_power_sum_has_finite_gradients_at_silence():
    components = torch.zeros(1, 2, 128, 3, requires_grad=True)
    build_composition("power_sum", build_codec("mel"))(components).sum().backward()
    assert components.grad.isfinite().all()
