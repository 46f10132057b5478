"""One-dimensional U-Net with a time embedding and a time-varying condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from asteroid_ucr.networks.blocks import (
    Norm,
    ResidualBlock,
    SelfAttention,
    TimeEmbedding,
    group_norm,
    pad_frames,
)


class UNet1d(nn.Module):
    """The denoiser D(x_α, α, condition): a U-Net over frames.

    Each level has a residual block and a strided convolution that halves the frame rate. FiLM
    conditions the block on α, and the condition is concatenated at the level's own frame rate. The
    deepest level attends over all frames. Inputs may have any number of frames. The default widths
    and kernel sizes, from the top level down, are those of Bindi & Esling 2024. Without an
    embedding, the network does not receive α, as in the authors' published code. `norm` makes the
    normalisations.
    """

    def __init__(
        self,
        channels: int = 128,
        condition_channels: int = 1,
        widths: Sequence[int] = (128, 256, 256, 512),
        kernel_sizes: Sequence[int] = (5, 3, 3, 3),
        embedding_dim: int | None = 256,
        heads: int = 8,
        norm: Norm = group_norm,
    ):
        super().__init__()
        if len(widths) != len(kernel_sizes):
            raise ValueError(
                f"widths {tuple(widths)} and kernel_sizes {tuple(kernel_sizes)} differ in length."
            )
        self.stride = 2 ** len(widths)
        self.embed = TimeEmbedding(embedding_dim) if embedding_dim else None
        above = [channels, *widths[:-1]]
        levels = list(zip(above, widths, kernel_sizes, strict=True))
        conditioning: dict[str, Any] = {"embedding_dim": embedding_dim, "norm": norm}
        conditioning["condition_channels"] = condition_channels
        self.down = nn.ModuleList(ResidualBlock(a, w, k, **conditioning) for a, w, k in levels)
        self.halve = nn.ModuleList(nn.Conv1d(w, w, 4, stride=2, padding=1) for w in widths)
        self.middle = ResidualBlock(widths[-1], widths[-1], 3, **conditioning)
        self.attention = SelfAttention(widths[-1], heads, norm)
        self.up = nn.ModuleList(ResidualBlock(2 * w, a, k, **conditioning) for a, w, k in levels)
        last = nn.Conv1d(channels, channels, 3, padding=1)
        self.out = nn.Sequential(norm(channels), nn.SiLU(), last)

    def forward(self, x: Tensor, alpha: Tensor, condition: Tensor) -> Tensor:
        """Denoises the blend x_α `(batch, channels, frames)`, with α `(batch,)` in [0, 1]."""
        frames = x.shape[-1]
        x, condition = pad_frames(x, self.stride), pad_frames(condition, self.stride)
        embedding = self.embed(alpha) if self.embed is not None else None

        skips = []
        for block, halve in zip(self.down, self.halve, strict=True):
            x = block(x, embedding, _at_rate_of(x, condition))
            skips.append(x)
            x = halve(x)
        x = self.attention(self.middle(x, embedding, _at_rate_of(x, condition)))
        for block in reversed(self.up):
            skip = skips.pop()
            x = torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], dim=1)
            x = block(x, embedding, _at_rate_of(x, condition))
        return self.out(x)[..., :frames]


class ComponentUNet1d(UNet1d):
    """A `UNet1d` that denoises each component separately, conditioned on its latent."""

    def forward(self, x: Tensor, alpha: Tensor, z: Tensor) -> Tensor:
        """Denoises all components; shapes as for `asteroid_ucr.decomposition.Decomposition`."""
        n_src = z.shape[1]
        if x.ndim == 3:
            x = repeat(x, "b c t -> b n c t", n=n_src)
        denoised = super().forward(x.flatten(0, 1), alpha.repeat_interleave(n_src), z.flatten(0, 1))
        return denoised.unflatten(0, (-1, n_src))


def _at_rate_of(x: Tensor, condition: Tensor) -> Tensor:
    """Averages the condition down to the frame rate of `x`."""
    return F.avg_pool1d(condition, condition.shape[-1] // x.shape[-1])
