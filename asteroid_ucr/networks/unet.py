"""One-dimensional U-Net with a time embedding and a time-varying condition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from asteroid_ucr.networks.blocks import ResidualBlock, SelfAttention, TimeEmbedding, group_norm


class UNet1d(nn.Module):
    """The denoiser D(x_α, α, condition): a U-Net over frames.

    Each level is a residual block, conditioned on α through FiLM and on the condition by
    concatenation at the level's own frame rate, and a strided convolution that halves the frame
    rate. The deepest level attends over all frames. Any number of frames is accepted: the input is
    padded to a multiple of the total stride by repeating its last frame, and the output is cropped.

    Args:
        channels: Channels of input and output.
        condition_channels: Channels of the condition.
        widths: Channels of each level, from the top down. The reference (Bindi & Esling 2024)
            has 128, 256, 256, 512 behind 128 input channels.
        kernel_sizes: Kernel sizes of each level's blocks; odd.
        embedding_dim: Size of the embedding of α; None leaves α out, so that the network must do
            without it, as the authors' published code does by mistake.
        heads: Attention heads at the deepest level.
    """

    def __init__(
        self,
        channels: int = 128,
        condition_channels: int = 1,
        widths: Sequence[int] = (128, 256, 256, 512),
        kernel_sizes: Sequence[int] = (5, 3, 3, 3),
        embedding_dim: int | None = 256,
        heads: int = 8,
    ):
        super().__init__()
        if len(widths) != len(kernel_sizes):
            raise ValueError(
                f"widths {tuple(widths)} and kernel_sizes {tuple(kernel_sizes)} differ in length."
            )
        self.stride = 2 ** len(widths)
        self.embed = TimeEmbedding(embedding_dim) if embedding_dim else None
        above = [channels, *widths[:-1]]  # what each level receives from the one above
        levels = list(zip(above, widths, kernel_sizes, strict=True))
        conditioning = {"embedding_dim": embedding_dim, "condition_channels": condition_channels}
        self.down = nn.ModuleList(ResidualBlock(a, w, k, **conditioning) for a, w, k in levels)
        self.halve = nn.ModuleList(nn.Conv1d(w, w, 4, stride=2, padding=1) for w in widths)
        self.middle = ResidualBlock(widths[-1], widths[-1], 3, **conditioning)
        self.attention = SelfAttention(widths[-1], heads)
        self.up = nn.ModuleList(ResidualBlock(2 * w, a, k, **conditioning) for a, w, k in levels)
        self.out = nn.Sequential(
            group_norm(channels), nn.SiLU(), nn.Conv1d(channels, channels, 3, padding=1)
        )

    @torch.no_grad()
    def permute_condition(self, order: Sequence[int]) -> None:
        """Lets the weights take the condition's channels in another order.

        Args:
            order: For each new channel, the index of the old one that it holds.
        """
        for block in [*self.down, self.middle, *self.up]:
            weight = block.conv1.weight[:, -len(order) :]
            weight.copy_(weight[:, list(order)])

    def forward(self, x: Tensor, alpha: Tensor, condition: Tensor) -> Tensor:
        """Denoises.

        Args:
            x: Blend x_α, `(batch, channels, frames)`.
            alpha: `(batch,)` in [0, 1].
            condition: `(batch, condition_channels, frames)`.

        Returns:
            `(batch, channels, frames)`.
        """
        frames = x.shape[-1]
        missing = -frames % self.stride
        x, condition = (F.pad(signal, (0, missing), mode="replicate") for signal in (x, condition))
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
    """A `UNet1d` that denoises each component by itself, conditioned on its latent."""

    def forward(self, x: Tensor, alpha: Tensor, z: Tensor) -> Tensor:
        """Denoises all components.

        Args:
            x: Blends x_α, `(batch, channels, frames)`, common to all components, or `(batch,
                n_src, channels, frames)`.
            alpha: `(batch,)` in [0, 1].
            z: Component latents, `(batch, n_src, latent_dim, frames)`.

        Returns:
            `(batch, n_src, channels, frames)`.
        """
        n_src = z.shape[1]
        if x.ndim == 3:
            x = repeat(x, "b c t -> b n c t", n=n_src)
        denoised = super().forward(x.flatten(0, 1), alpha.repeat_interleave(n_src), z.flatten(0, 1))
        return denoised.unflatten(0, (-1, n_src))


def _at_rate_of(x: Tensor, condition: Tensor) -> Tensor:
    """Averages the condition down to the frame rate of `x`."""
    return F.avg_pool1d(condition, condition.shape[-1] // x.shape[-1])
