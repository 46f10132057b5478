"""The semantic encoder: from the mixture's latents to one component latent per source."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from asteroid_ucr.networks.blocks import ResidualBlock, group_norm


class _Tower(nn.Sequential):
    """The encoder of one component: an input layer, a stage per width, and an output head."""

    def __init__(self, channels: int, widths: Sequence[int], out_channels: int, kernel_size: int):
        conv = partial(nn.Conv1d, kernel_size=kernel_size, padding=kernel_size // 2)
        layers: list[nn.Module] = [conv(channels, channels)]
        below = channels
        for width in widths:
            layers += [nn.SiLU(), conv(below, width), ResidualBlock(width, width, kernel_size)]
            below = width
        layers += [group_norm(below), nn.SiLU(), conv(below, below // 2), nn.SiLU()]
        super().__init__(*layers, conv(below // 2, out_channels))


class SemanticEncoder(nn.Module):
    """Encodes latents as `n_src` component latents, each by a tower of its own.

    The default widths and the latent dimension of 1 ("univariate") are those of Bindi & Esling
    2024.
    """

    def __init__(
        self,
        channels: int = 128,
        n_src: int = 2,
        latent_dim: int = 1,
        widths: Sequence[int] = (256, 512),
        kernel_size: int = 3,
    ):
        super().__init__()
        self.towers = nn.ModuleList(
            _Tower(channels, widths, latent_dim, kernel_size) for _ in range(n_src)
        )

    def pick(self, components: Sequence[int]) -> None:
        """Keeps only the towers of these components, in this order."""
        self.towers = nn.ModuleList(self.towers[k] for k in components)

    def forward(self, latents: Tensor) -> Tensor:
        """`(batch, channels, frames)` to `(batch, n_src, latent_dim, frames)`."""
        return torch.stack([tower(latents) for tower in self.towers], dim=1)
