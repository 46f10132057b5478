"""Masks: they sum to one, so the sources sum to the mixture, at any rate and length."""

import pytest
import torch
from scipy.fft import next_fast_len
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from asteroid_ucr.masking import (
    MASK_FFT,
    MASK_HOP,
    apply_masks,
    downmix,
    fast_length,
    istft,
    stft,
    wiener_masks,
)
from asteroid_ucr.utils.audio import resample


def test_fast_lengths_are_scipys():
    assert all(fast_length(n) == next_fast_len(n, real=True) for n in range(1, 5000))


def random_masks(n_src, frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return wiener_masks(torch.rand(1, n_src, MASK_FFT // 2 + 1, frames, generator=generator) ** 4)


@pytest.mark.parametrize("samples", [1, 100, 320, 24_000, 24_319])
def test_stft_round_trip(samples):
    wav = torch.randn(2, samples)
    assert torch.allclose(istft(stft(wav), samples), wav, atol=1e-5)


def test_stft_equals_scipy():
    wav = torch.randn(12_000).double()
    reference = ShortTimeFFT(hann(MASK_FFT, sym=False), MASK_HOP, fs=1)
    frames = 1 + len(wav) // MASK_HOP
    expected = torch.from_numpy(reference.stft(wav.numpy(), p0=0, p1=frames))
    # scipy counts phase from the window's start, torch from the same: magnitudes say it all.
    assert torch.allclose(stft(wav).abs(), expected.abs(), atol=1e-9)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_sources_add_up_at_any_rate(rate, channels):
    wav = torch.randn(1, channels, round(0.7 * rate))
    sources = apply_masks(wav, random_masks(3, 53), rate)
    assert sources.shape == (1, 3, channels, wav.shape[-1])
    assert torch.allclose(sources.sum(1), wav, atol=1e-5)


def test_masks_mean_the_same_at_another_rate():
    generator = torch.Generator().manual_seed(0)
    wav = resample(torch.randn(1, 1, 24_000, generator=generator), 24_000, 8000)
    wav = resample(wav, 8000, 24_000)
    # A step in frequency at 2 kHz, for half a second, then all to the first source.
    power = torch.full((1, 2, MASK_FFT // 2 + 1, 76), 1e-6)
    edge = round(2000 * MASK_FFT / 24_000)
    power[:, 0, :edge, :38] = 1
    power[:, 1, edge:, :38] = 1
    power[:, 0, :, 38:] = 1
    here = apply_masks(wav, wiener_masks(power))[:, :, 0]
    there = apply_masks(resample(wav, 24_000, 44_100), wiener_masks(power), 44_100)[:, :, 0]
    error = (
        (resample(there, 44_100, 24_000)[..., 1000:-1000] - here[..., 1000:-1000]).square().mean()
    )
    assert error < 1e-3 * here.square().mean()


def test_wiener_masks():
    power = torch.tensor([4.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
    assert torch.allclose(wiener_masks(power).flatten(), torch.tensor([0.8, 0.2, 0.0]), atol=1e-6)
    silent = wiener_masks(torch.zeros(1, 4, 2, 2))
    assert torch.equal(silent, torch.full((1, 4, 2, 2), 0.25))


@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_downmixing_keeps_the_power_of_all_channels(rate):
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 1, rate, generator=generator)
    mono = left[None]
    assert downmix(mono, rate) is mono
    for pair in ([left, left], [left, -left]):
        assert torch.allclose(downmix(torch.stack(pair, 1), rate), mono, atol=1e-4)
    both = downmix(torch.stack([left, right], 1), rate)
    assert both.square().mean() == pytest.approx(1.0, rel=0.15)
    assert downmix(torch.zeros(1, 2, 100), rate).abs().max() == 0


def test_silence_gives_silence():
    assert apply_masks(torch.zeros(1, 2, 5000), random_masks(2, 20), 44_100).abs().max() == 0
