"""Iterative α-(de)blending as pure functions (Heitz et al. 2023, "Iterative α-(de)Blending").

A sample x and noise ε blend to x_α = α·x + (1 − α)·ε. A network that sees x_α and α predicts the
posterior mean of x (variant "c") or of x − ε (variant "d"); the sampler follows the blend from
α = 0, pure noise, to α = 1. Everything here broadcasts: data is `(batch, …)`, α is `(batch,)`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from asteroid_ucr.utils.seeding import generator_for

VARIANTS = ("c", "d")
Denoiser = Callable[[Tensor, Tensor], Tensor]


def _like(alpha: Tensor, x: Tensor) -> Tensor:
    return alpha.reshape(-1, *[1] * (x.ndim - 1))


def blend(x: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """x_α = α·x + (1 − α)·noise (Heitz et al. 2023, eq. 1).

    Args:
        x: Data `(batch, …)`.
        noise: Noise of the same shape.
        alpha: `(batch,)` in [0, 1].
    """
    return torch.lerp(noise.to(x.dtype), x, _like(alpha, x).to(x.dtype))


def estimate(output: Tensor, x_alpha: Tensor, alpha: Tensor, variant: str = "c") -> Tensor:
    """The estimate of x that a network output stands for.

    Args:
        output: What the network gave for `(x_alpha, alpha)`, `(batch, …)`.
        x_alpha: The blend that it saw.
        alpha: `(batch,)` in [0, 1].
        variant: "c", the output is x itself; "d", it is x − noise.
    """
    if variant == "c":
        return output
    return x_alpha + (1 - _like(alpha, x_alpha)) * output


def sample(
    denoiser: Denoiser,
    noise: Tensor,
    steps: int,
    variant: str = "c",
    alpha_start: float = 0.0,
) -> Tensor:
    """Deterministic sampler (Heitz et al. 2023, algorithm 4), with equal steps in α.

    One step from α = 0 is the network's posterior mean given noise alone: the estimate of least
    squared error. More steps sharpen it towards a sample.

    Args:
        denoiser: Maps `(x_alpha, alpha)` to the network's output.
        noise: The blend to start from, at `alpha_start`, `(batch, …)`.
        steps: Number of network evaluations, at least 1.
        variant: What the network predicts, "c" or "d".
        alpha_start: Where to start, in [0, 1).

    Returns:
        The sample at α = 1, shaped like `noise`.

    Raises:
        ValueError: If `steps` or `alpha_start` is out of range.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}.")
    if not 0 <= alpha_start < 1:
        raise ValueError(f"alpha_start must lie in [0, 1), got {alpha_start}.")
    grid = torch.linspace(alpha_start, 1.0, steps + 1).tolist()
    x = noise
    for now, following in pairwise(grid):
        alpha = torch.full((x.shape[0],), now, device=x.device, dtype=x.dtype)
        # Under autocast, networks may answer in lower precision than they are asked.
        target = estimate(denoiser(x, alpha), x, alpha, variant).to(x.dtype)
        # Moving along (target − noise) for (following − now), with the noise that x implies.
        x = torch.lerp(x, target, (following - now) / (1 - now))
    return x


def in_windows(denoiser: Denoiser, window: int) -> Denoiser:
    """Lets a denoiser work on signals longer than it was trained on.

    Windows that overlap by half are denoised one by one, and their outputs are averaged with
    triangular weights. Used at every step of `sample`, all windows see one common signal: what
    they say of their overlaps is reconciled before they can drift apart (Bar-Tal et al. 2023,
    "MultiDiffusion"). Signals that fit into a window pass through as they are.

    Args:
        denoiser: Of signals `(batch, …, frames)`; its output has to be an estimate of the data.
        window: Frames that it takes at a time, at least 2.

    Returns:
        A denoiser of any number of frames. Its memory use is constant, apart from the signal.
    """

    def denoise(x: Tensor, alpha: Tensor) -> Tensor:
        frames = x.shape[-1]
        if frames <= window:
            return denoiser(x, alpha)
        ramp = torch.arange(1, window + 1, device=x.device, dtype=x.dtype)
        weight = torch.minimum(ramp, ramp.flip(0))
        total, weights = torch.zeros_like(x), x.new_zeros(frames)
        starts = [*range(0, frames - window, window // 2), frames - window]
        for start in starts:
            span = slice(start, start + window)
            total[..., span] += weight * denoiser(x[..., span], alpha)
            weights[span] += weight
        return total / weights

    return denoise


def frame_noise(
    channels: int, first: int, frames: int, seed: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal noise that is a function of the absolute frame number.

    Chunks of a long signal that overlap draw the same values where they overlap, and a chunk can
    be drawn without those before it. The values do not depend on the device.

    Args:
        channels: Channels of the latents.
        first: Number of the first frame, from the start of the signal; may be negative.
        frames: Number of frames.
        seed: Any integer.
        device: Device of the result.

    Returns:
        Noise `(1, channels, frames)`, float32.
    """
    block = 256  # frames drawn by one generator: long enough to be cheap, short enough to skip to
    start, stop = first // block, (first + frames - 1) // block + 1
    blocks = [
        torch.randn(channels, block, generator=generator_for(seed, index))
        for index in range(start, stop)
    ]
    offset = first - start * block
    return torch.cat(blocks, dim=1)[None, :, offset : offset + frames].to(device)
