"""From estimates to soft masks, and from masks to waveforms that add up to the mixture.

A codec decodes sources with a phase and errors of its own. If the estimates are used as masks on
the mixture's short-time Fourier transform instead, the sources have the mixture's phase. The masks
sum to one at every time and frequency, so the sources sum to the mixture.
"""

from __future__ import annotations

from functools import cache

import torch
from einops import rearrange
from torch import Tensor

# Grid of the masks, with EnCodec's 75 frames per second.
MASK_RATE = 24_000  # Hz
MASK_FFT = 2048  # 85 ms, or 11.7 Hz per bin, which resolves the partials of a bass
MASK_HOP = 320  # 13 ms, one latent frame


@cache
def fast_length(size: int) -> int:
    """The smallest number ≥ `size` without prime factors above 5, whose FFT is fast."""
    rest = size
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    return size if rest == 1 else fast_length(size + 1)


def stft_settings(sample_rate: int) -> tuple[int, int]:
    """FFT size and hop, in samples, with the durations of the grid's at 24 kHz.

    The FFT is slightly longer where that gives its size small factors. At 44.1 kHz, 3764 samples
    (four times a prime) take at least one and a half times as long to transform as 3840.
    """
    hop = max(1, round(MASK_HOP * sample_rate / MASK_RATE))
    half = max(2, round(MASK_FFT * sample_rate / MASK_RATE / 2))
    return 2 * fast_length(half), hop


def stft(wav: Tensor, sample_rate: int = MASK_RATE) -> Tensor:
    """Short-time Fourier transform on the mask grid.

    Args:
        wav: `(..., time)`.
        sample_rate: Sample rate of `wav`, in Hz.

    Returns:
        Complex spectrogram `(..., freq, frames)`, with `1 + time // hop` frames.
    """
    n_fft, hop = stft_settings(sample_rate)
    flat = wav.reshape(-1, wav.shape[-1])
    window = torch.hann_window(n_fft, device=wav.device, dtype=wav.dtype)
    # Unlike reflection, padding with zeros works for signals shorter than the window.
    padding = {"pad_mode": "constant", "return_complex": True}
    spec = torch.stft(flat, n_fft, hop, window=window, **padding)
    return spec.reshape(*wav.shape[:-1], *spec.shape[-2:])


def istft(spec: Tensor, length: int, sample_rate: int = MASK_RATE) -> Tensor:
    """Inverse of `stft`: `(..., freq, frames)` to `(..., length)`."""
    n_fft, hop = stft_settings(sample_rate)
    flat = spec.reshape(-1, *spec.shape[-2:])
    window = torch.hann_window(n_fft, device=spec.device, dtype=spec.real.dtype)
    wav = torch.istft(flat, n_fft, hop, window=window, length=length)
    return wav.reshape(*spec.shape[:-2], length)


def downmix(wav: Tensor, sample_rate: int = MASK_RATE) -> Tensor:
    """One channel with the mean power of all channels at every time and frequency.

    Channels of opposite phase, whose mean is silence, do not cancel.

    Args:
        wav: `(batch, channels, time)`; a single channel is returned unchanged.
        sample_rate: Sample rate in Hz.

    Returns:
        `(batch, 1, time)`.
    """
    if wav.shape[1] == 1:
        return wav
    spec = stft(wav, sample_rate)
    rms = spec.abs().square().mean(1, keepdim=True).sqrt()
    # The phase is that of the sum. Its weights differ slightly, so that nothing cancels exactly.
    weights = torch.linspace(1, 0.9, wav.shape[1], device=wav.device, dtype=wav.dtype)
    total = (spec * weights[:, None, None]).sum(1, keepdim=True)
    return istft(rms * torch.sgn(total), wav.shape[-1], sample_rate)


def wiener_masks(power: Tensor, eps: float = 1e-10) -> Tensor:
    """Soft masks from power spectrograms: each source's share of the total power.

    This is the single-channel Wiener filter for independent Gaussian sources. Where all estimates
    are silent, the masks are equal.

    Args:
        power: `(..., n_src, freq, frames)`, not negative.
        eps: Power added to each source.

    Returns:
        Masks of the same shape, in [0, 1], that sum to one over the sources.
    """
    floored = power + eps
    return floored / floored.sum(-3, keepdim=True)


def apply_masks(wav: Tensor, masks: Tensor, sample_rate: int = MASK_RATE) -> Tensor:
    """Filters a waveform with each of the masks.

    For a sample rate other than 24 kHz, the masks are interpolated linearly in time and frequency;
    above 12 kHz, the mean mask of 11 to 12 kHz is used. Interpolation keeps the sum of the masks at
    one, so that the outputs sum to `wav`.

    Args:
        wav: `(batch, channels, time)`; all channels are filtered with the same masks.
        masks: `(batch, n_src, freq, frames)` on the 24 kHz grid.
        sample_rate: Sample rate of `wav`, in Hz.

    Returns:
        Waveforms `(batch, n_src, channels, time)`.
    """
    spec = stft(wav, sample_rate)
    n_fft, hop = stft_settings(sample_rate)
    if sample_rate != MASK_RATE:
        masks = _resize(masks, n_fft, hop, sample_rate, spec.shape[-1])
    masks = _fit_frames(masks, spec.shape[-1])
    # A complex product would first convert the masks to complex numbers.
    parts = rearrange(torch.view_as_real(spec), "b c f k part -> b 1 c f k part")
    filtered = torch.view_as_complex(parts * rearrange(masks, "b n f k -> b n 1 f k 1"))
    return istft(filtered, wav.shape[-1], sample_rate)


def _fit_frames(masks: Tensor, frames: int) -> Tensor:
    """Crops the masks to `frames`, or repeats their last frame."""
    missing = frames - masks.shape[-1]
    if missing <= 0:
        return masks[..., :frames]
    return torch.cat([masks, masks[..., -1:].expand(*masks.shape[:-1], missing)], dim=-1)


def _resize(masks: Tensor, n_fft: int, hop: int, sample_rate: int, frames: int) -> Tensor:
    """Interpolates masks from the 24 kHz grid to the grid of another sample rate."""
    bins = masks.shape[-2]
    top = masks[..., -round(1000 * MASK_FFT / MASK_RATE) :, :].mean(-2, keepdim=True)
    masks = torch.cat([masks, top], dim=-2)
    position = torch.arange(n_fft // 2 + 1, device=masks.device) * (
        sample_rate / n_fft * MASK_FFT / MASK_RATE
    )
    masks = _interpolate(masks, torch.where(position > bins - 1, float(bins), position), dim=-2)
    if hop * MASK_RATE == MASK_HOP * sample_rate:
        return masks  # the frames coincide, as at 44.1 and 48 kHz
    time = torch.arange(frames, device=masks.device) * (hop / sample_rate * MASK_RATE / MASK_HOP)
    return _interpolate(masks, time.clamp(max=masks.shape[-1] - 1), dim=-1)


def _interpolate(values: Tensor, position: Tensor, dim: int) -> Tensor:
    """Linear interpolation of `values` along `dim` at fractional indices `position`."""
    low = position.floor().long()
    high = (low + 1).clamp(max=values.shape[dim] - 1)
    weight = (position - low).to(values.dtype)
    weight = weight[:, None] if dim == -2 else weight
    return torch.lerp(values.index_select(dim, low), values.index_select(dim, high), weight)


def energy_share(masks: Tensor, power: Tensor) -> Tensor:
    """Share of a mixture's energy `(freq, frames)` under each mask `(n_src, freq, frames)`."""
    frames = min(masks.shape[-1], power.shape[-1])
    power = power[..., :frames]
    return (masks[..., :frames] * power).sum((-2, -1)) / power.sum()


def frequency_share(masks: Tensor, power: Tensor) -> Tensor:
    """Computes R², the share of the variance of masks that frequency alone explains.

    For a soft mask m(f, t) and the energy of the mixture w(f, t), let m̄ be the mean of m, and m̄(f)
    its mean at each frequency, both weighted with w. Then

        R² = Σ w (m̄(f) − m̄)² / Σ w (m − m̄)².

    The measure needs no labels. A separator that has learnt only a band split, the same filter at
    all times, has R² = 1; one whose masks follow notes and beats has a low R². The weights remove
    the influence of empty bins, where any mask gives the same result.

    Args:
        masks: Soft masks `(n_src, freq, frames)`.
        power: Energy of the mixture `(freq, frames)`, not negative.

    Returns:
        R² of each mask, `(n_src,)` in [0, 1]; NaN where a mask does not vary or the mixture is
        silent.
    """
    masks, weight = masks.double(), power.double()
    frames = min(masks.shape[-1], weight.shape[-1])
    masks, weight = masks[..., :frames], weight[..., :frames]
    per_bin = weight.sum(-1)
    mean = (weight * masks).sum((-2, -1), keepdim=True) / weight.sum()
    bin_mean = (weight * masks).sum(-1) / per_bin.clamp(min=1e-300)
    explained = (per_bin * (bin_mean - mean[..., 0]).square()).sum(-1)
    total = (weight * (masks - mean).square()).sum((-2, -1))
    # Because of rounding, the variance of a constant mask is tiny rather than zero.
    varies = total > 1e-12 * weight.sum()
    return torch.where(varies, explained / total, torch.nan)
