"""The semantic encoder: from the mixture's latents to one component latent per source."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn

from asteroid_ucr.networks.blocks import ResidualBlock, group_norm

TRUNKS = ("separate", "shared")


class _Tower(nn.Sequential):
    """A stem, a stage for each width, and a head that narrows to the output channels."""

    def __init__(self, channels: int, widths: Sequence[int], out_channels: int, kernel_size: int):
        def conv(from_channels: int, to_channels: int) -> nn.Conv1d:
            return nn.Conv1d(from_channels, to_channels, kernel_size, padding=kernel_size // 2)

        layers: list[nn.Module] = [conv(channels, channels)]
        below = channels
        for width in widths:
            layers += [nn.SiLU(), conv(below, width), ResidualBlock(width, width, kernel_size)]
            below = width
        layers += [group_norm(below), nn.SiLU(), conv(below, below // 2), nn.SiLU()]
        super().__init__(*layers, conv(below // 2, out_channels))


class SemanticEncoder(nn.Module):
    """Squeezes latents into `n_src` component latents at the same frame rate.

    Args:
        channels: of the codec's latents.
        n_src: number of components.
        latent_dim: channels of each component latent; 1 is the paper's "univariate".
        widths: channels of the stages; the reference has 256, 512 (Bindi & Esling 2024).
        kernel_size: odd.
        trunk: "separate" gives each component an encoder of its own, as the reference does;
            "shared" computes all components by one.
    """

    def __init__(
        self,
        channels: int = 128,
        n_src: int = 2,
        latent_dim: int = 1,
        widths: Sequence[int] = (256, 512),
        kernel_size: int = 3,
        trunk: str = "separate",
    ):
        super().__init__()
        if trunk not in TRUNKS:
            raise ValueError(f"trunk must be one of {TRUNKS}, got {trunk!r}.")
        self.n_src = n_src
        towers, dim = (n_src, latent_dim) if trunk == "separate" else (1, n_src * latent_dim)
        self.towers = nn.ModuleList(
            _Tower(channels, widths, dim, kernel_size) for _ in range(towers)
        )

    def forward(self, latents: Tensor) -> Tensor:
        """`(batch, channels, frames)` to `(batch, n_src, latent_dim, frames)`."""
        outputs = [tower(latents) for tower in self.towers]
        if len(outputs) == 1:
            return rearrange(outputs[0], "b (n d) t -> b n d t", n=self.n_src)
        return rearrange(outputs, "n b d t -> b n d t")
