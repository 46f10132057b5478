"""Building blocks: time embedding, residual block with FiLM, self-attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with up to 8 groups, as many as gcd(channels, 8)."""
    return nn.GroupNorm(math.gcd(channels, 8), channels)


class FrameNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each frame, `(batch, channels, frames)`.

    Unlike group normalisation, it does not mix frames: what a network makes of a passage does not
    depend on the mean and the spread of the passage.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalises; the shape stays."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def pad_frames(signal: Tensor, stride: int) -> Tensor:
    """Repeats the last frame until the number of frames is a multiple of `stride`."""
    return F.pad(signal, (0, -signal.shape[-1] % stride), mode="replicate")


class TimeEmbedding(nn.Module):
    """Embeds α: sinusoids at geometrically spaced frequencies, then a two-layer perceptron."""

    def __init__(self, dim: int):
        super().__init__()
        # One to 1000 periods over [0, 1], as usual for diffusion models with 1000 steps.
        frequencies = 2 * math.pi * torch.logspace(0, 3, dim // 2)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, alpha: Tensor) -> Tensor:
        """`(batch,)` in [0, 1] to `(batch, dim)`."""
        phase = alpha[:, None] * self.frequencies
        return self.mlp(torch.cat([phase.sin(), phase.cos()], dim=-1))


class ResidualBlock(nn.Module):
    """Two convolutions with pre-activation, FiLM between them, and a shortcut.

    FiLM (Perez et al. 2018) reads an embedding, unless `embedding_dim` is None. A time-varying
    condition with `condition_channels` is concatenated to the input. The kernel size is odd, so
    that the number of frames does not change. `norm` makes a normalisation of some channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        embedding_dim: int | None = None,
        condition_channels: int = 0,
        conv: type[nn.Conv1d] | type[nn.Conv2d] = nn.Conv1d,
        norm: Norm = group_norm,
    ):
        super().__init__()
        size = {"kernel_size": kernel_size, "padding": kernel_size // 2}
        self.norm1 = norm(in_channels)
        self.conv1 = conv(in_channels + condition_channels, out_channels, **size)
        self.film = nn.Linear(embedding_dim, 2 * out_channels) if embedding_dim else None
        self.norm2 = norm(out_channels)
        self.conv2 = conv(out_channels, out_channels, **size)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else conv(in_channels, out_channels, 1)

    def forward(
        self, x: Tensor, embedding: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """`(batch, in_channels, …)` to `(batch, out_channels, …)`."""
        hidden = F.silu(self.norm1(x))
        if condition is not None:
            hidden = torch.cat([hidden, condition], dim=1)
        hidden = self.norm2(self.conv1(hidden))
        if self.film is not None:
            film = self.film(embedding).reshape(len(x), -1, *[1] * (x.ndim - 2))
            scale, shift = film.chunk(2, dim=1)
            hidden = hidden * (1 + scale) + shift
        return self.conv2(F.silu(hidden)) + self.shortcut(x)


class SelfAttention(nn.Module):
    """Multi-head self-attention over frames, with a residual connection."""

    def __init__(self, channels: int, heads: int = 8, norm: Norm = group_norm):
        super().__init__()
        self.heads = heads
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, channels, frames)` to the same shape."""
        q, k, v = rearrange(
            self.qkv(self.norm(x)), "b (three h d) t -> three b h t d", three=3, h=self.heads
        )
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(rearrange(attended, "b h t d -> b (h d) t"))
