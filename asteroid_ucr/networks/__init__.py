"""Networks over latents `(batch, channels, frames)`."""

from asteroid_ucr.networks.semantic_encoder import SemanticEncoder
from asteroid_ucr.networks.unet import ComponentUNet1d, UNet1d
from asteroid_ucr.networks.unet2d import UNet2d

__all__ = ["ComponentUNet1d", "SemanticEncoder", "UNet1d", "UNet2d"]
