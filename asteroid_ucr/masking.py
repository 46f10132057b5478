"""From estimates to soft masks, and from masks to waveforms that add up to the mixture.

A codec renders sources with its own phase and its own errors. Used as masks on the mixture's
short-time Fourier transform, the same estimates keep the mixture's phase and lose nothing of its
signal: the masks sum to one at every time and frequency, so the sources sum to the mixture.
"""

from __future__ import annotations

from functools import cache

import torch
from einops import rearrange
from torch import Tensor

# Masks live on a grid of 75 frames per second, EnCodec's frame rate, at 24 kHz.
MASK_RATE = 24_000
MASK_FFT = 2048  # 85 ms: resolves a bass's partials, 11.7 Hz per bin
MASK_HOP = 320  # 13 ms: one latent frame


@cache
def fast_length(size: int) -> int:
    """The smallest number from `size` on with no prime factor above 5, fast to transform."""
    rest = size
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    return size if rest == 1 else fast_length(size + 1)


def stft_settings(sample_rate: int) -> tuple[int, int]:
    """FFT size and hop, in samples, that last as long at `sample_rate` as the grid's at 24 kHz.

    The FFT may be a little longer, so that its size has small factors: 3764 samples at 44.1 kHz,
    four times a prime, take one and a half times as long to transform as 3840, or more.
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
    # Zero padding, unlike reflection, works for signals shorter than the window.
    spec = torch.stft(
        flat,
        n_fft,
        hop,
        window=torch.hann_window(n_fft, device=wav.device, dtype=wav.dtype),
        pad_mode="constant",
        return_complex=True,
    )
    return spec.reshape(*wav.shape[:-1], *spec.shape[-2:])


def istft(spec: Tensor, length: int, sample_rate: int = MASK_RATE) -> Tensor:
    """Inverse of `stft`: `(..., freq, frames)` to `(..., length)`."""
    n_fft, hop = stft_settings(sample_rate)
    flat = spec.reshape(-1, *spec.shape[-2:])
    window = torch.hann_window(n_fft, device=spec.device, dtype=spec.real.dtype)
    wav = torch.istft(flat, n_fft, hop, window=window, length=length)
    return wav.reshape(*spec.shape[:-2], length)


def wiener_masks(power: Tensor, eps: float = 1e-10) -> Tensor:
    """Soft masks from power spectrograms: each source's share of the total power.

    This is the single-channel Wiener filter of independent Gaussian sources. Where all estimates
    are silent, the sources share equally.

    Args:
        power: `(..., n_src, freq, frames)`, not negative.
        eps: Power below which sources count as equally loud.

    Returns:
        Masks of the same shape, in [0, 1], that sum to one over the sources.
    """
    floored = power + eps
    return floored / floored.sum(-3, keepdim=True)


def apply_masks(wav: Tensor, masks: Tensor, sample_rate: int = MASK_RATE) -> Tensor:
    """Filters a waveform with each of the masks.

    Masks are functions of time in seconds and frequency in Hz: for a waveform at another rate than
    24 kHz they are interpolated linearly, and above 12 kHz the mean mask of the top kilohertz is
    used. Interpolation keeps their sum at one, so that the outputs sum to `wav`.

    Args:
        wav: `(batch, channels, time)`; all channels are filtered alike.
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
    # As real numbers: a complex product would first copy the masks into complex ones.
    parts = rearrange(torch.view_as_real(spec), "b c f k part -> b 1 c f k part")
    filtered = torch.view_as_complex(parts * rearrange(masks, "b n f k -> b n 1 f k 1"))
    return istft(filtered, wav.shape[-1], sample_rate)


def _fit_frames(masks: Tensor, frames: int) -> Tensor:
    """Crops, or repeats the last frame, to `frames`."""
    missing = frames - masks.shape[-1]
    if missing <= 0:
        return masks[..., :frames]
    return torch.cat([masks, masks[..., -1:].expand(*masks.shape[:-1], missing)], dim=-1)


def _resize(masks: Tensor, n_fft: int, hop: int, sample_rate: int, frames: int) -> Tensor:
    bins = masks.shape[-2]
    top = masks[..., -round(1000 * MASK_FFT / MASK_RATE) :, :].mean(-2, keepdim=True)
    masks = torch.cat([masks, top], dim=-2)
    position = torch.arange(n_fft // 2 + 1, device=masks.device) * (
        sample_rate / n_fft * MASK_FFT / MASK_RATE
    )
    masks = _interpolate(masks, torch.where(position > bins - 1, float(bins), position), dim=-2)
    if hop * MASK_RATE == MASK_HOP * sample_rate:
        return masks  # frames coincide, as at 44.1 and 48 kHz
    time = torch.arange(frames, device=masks.device) * (hop / sample_rate * MASK_RATE / MASK_HOP)
    return _interpolate(masks, time.clamp(max=masks.shape[-1] - 1), dim=-1)


def _interpolate(values: Tensor, position: Tensor, dim: int) -> Tensor:
    """Linear interpolation of `values` along `dim` at fractional indices `position`."""
    low = position.floor().long()
    high = (low + 1).clamp(max=values.shape[dim] - 1)
    weight = (position - low).to(values.dtype)
    weight = weight[:, None] if dim == -2 else weight
    return torch.lerp(values.index_select(dim, low), values.index_select(dim, high), weight)
