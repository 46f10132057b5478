"""Networks over latents `(batch, channels, frames)`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from asteroid_ucr.networks.blocks import FrameNorm, ResidualBlock
from asteroid_ucr.networks.semantic_encoder import SemanticEncoder
from asteroid_ucr.networks.unet import ComponentUNet1d, UNet1d
from asteroid_ucr.networks.unet2d import UNet2d
from asteroid_ucr.utils.errors import UserError


def build_denoiser(
    name: str,
    channels: int,
    latent_dim: int,
    widths: Sequence[int],
    kernels: Sequence[int],
    time_embedding: bool,
) -> nn.Module:
    """Builds a denoiser by name; the other arguments are those of `UCRSeparator`.

    Raises:
        UserError: If there is no denoiser of that name.
    """
    if name == "unet2d":
        return UNet2d(channels, latent_dim, widths)
    if name != "unet1d":
        raise UserError(f"denoiser {name!r} is unknown: choose unet1d or unet2d.")
    dim = 256 if time_embedding else None
    return ComponentUNet1d(channels, latent_dim, tuple(widths), tuple(kernels), embedding_dim=dim)


__all__ = [
    "ComponentUNet1d",
    "FrameNorm",
    "ResidualBlock",
    "SemanticEncoder",
    "UNet1d",
    "UNet2d",
    "build_denoiser",
]
