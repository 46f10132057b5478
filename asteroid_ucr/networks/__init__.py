"""Networks over latents `(batch, channels, frames)`."""

from asteroid_ucr.networks.semantic_encoder import SemanticEncoder
from asteroid_ucr.networks.unet import UNet1d

__all__ = ["SemanticEncoder", "UNet1d"]
