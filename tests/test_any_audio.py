"""Properties of the stems of any audio: shape, sum, finiteness and scale.

`ASTEROID_UCR_EXAMPLES=1000 pytest tests/test_any_audio.py` is a long run.
"""

import os
import warnings

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from asteroid_ucr import Separator, UCRSeparator
from asteroid_ucr.utils.errors import AudioWarning

EXAMPLES = int(os.environ.get("ASTEROID_UCR_EXAMPLES", 12))
TINY = {"encoder_widths": (16,), "denoiser_widths": (16,), "denoiser_kernels": (3,)}
SUBTYPES = [(f, s) for f in ("WAV", "AIFF", "AU", "CAF", "W64") for s in sf.available_subtypes(f)]

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 100,  # the same examples in every ordinary run
    suppress_health_check=list(HealthCheck),
)
rates = st.one_of(st.sampled_from([8000, 22_050, 44_100, 48_000]), st.integers(4000, 192_000))
# Mostly short; the longest has more than one chunk.
seconds = st.one_of(st.floats(0, 1), st.floats(0, 6 if EXAMPLES < 100 else 60))
channels = st.one_of(st.integers(1, 2), st.integers(1, 8))


@pytest.fixture(scope="module")
def separator():
    torch.manual_seed(0)
    return Separator(UCRSeparator(**TINY, alpha_start=0.5).eval(), chunk_seconds=4)


@st.composite
def waveforms(draw):
    """A waveform `(channels, time)` with a peak of at most 1, and its sample rate."""
    rate, width = draw(rates), draw(channels)
    samples = max(1, min(round(draw(seconds) * rate), 6_000_000 // width))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["noise", "tone", "clicks", "constant", "silence", "late"]))
    time = np.arange(samples) / rate
    wav = {
        "noise": lambda: generator.uniform(-1, 1, (width, samples)),
        "tone": lambda: np.sin(2 * np.pi * generator.uniform(20, 2000, (width, 1)) * time),
        "clicks": lambda: (generator.random((width, samples)) < 1e-3).astype(float),
        "constant": lambda: np.repeat(generator.uniform(-1, 1, (width, 1)), samples, 1),
        "silence": lambda: np.zeros((width, samples)),
        "late": lambda: generator.uniform(-1, 1, (width, samples)) * (time > 0.7 * time[-1]),
    }[kind]()
    if draw(st.booleans()):
        wav = wav * np.sign(generator.standard_normal((width, 1)))  # channels of opposite phase
    return torch.from_numpy(wav).float(), rate


@seed(0)
@many
@given(waveforms(), st.floats(-30, 10))
def test_stems_of_any_waveform(separator, sound, exponent):
    """Above the floor of the level, the scale has no effect but on the scale."""
    wav, rate = sound
    stems = separator.separate(wav, rate)
    scale = float(2.0 ** round(exponent))  # exact in floating point
    scaled = separator.separate(scale * wav, rate)
    for name, stem in stems.items():
        assert stem.shape == wav.shape
        assert stem.isfinite().all() and scaled[name].isfinite().all()
        if wav.numel() > 1 and scale * wav.std() > 1e-3:
            assert torch.allclose(scaled[name] / scale, stem, atol=1e-4)
    assert torch.allclose(sum(stems.values()), wav, atol=1e-5)
    assert torch.allclose(sum(scaled.values()), scale * wav, atol=1e-5 * scale)


@seed(0)
@many
@given(waveforms(), st.sampled_from(SUBTYPES))
def test_stems_of_any_file(separator, tmp_path_factory, sound, format_and_subtype):
    wav, rate = sound
    container, subtype = format_and_subtype
    path = tmp_path_factory.mktemp("any") / f"a.{container.lower()}"
    try:
        sf.write(path, 0.9 * wav.T.numpy(), rate, subtype, format=container)
    except sf.LibsndfileError:
        return  # the format has no such rate or number of channels
    with warnings.catch_warnings():
        warnings.simplefilter("error", AudioWarning)  # nothing is damaged
        stems = separator.separate(path)
    with sf.SoundFile(path) as file:
        assert stems.sample_rate == file.samplerate
        samples = file.read(file.frames, dtype="float32", always_2d=True).T
    for stem in stems.values():
        assert stem.shape == samples.shape and stem.isfinite().all()
    assert np.allclose(sum(stems.values()), samples, atol=1e-5)
