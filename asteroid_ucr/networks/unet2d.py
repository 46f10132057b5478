"""Two-dimensional U-Net over frequency and time, a denoiser for latents that are spectrograms.

A convolution over frequency learns the pattern of a harmonic sound once; a convolution over time
alone has to learn it for every pitch. The design is that of small spectrogram separators: a U-Net
(Jansson et al. 2017) with a recurrent layer across time, as in open-unmix (Stöter et al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from asteroid_ucr.networks.blocks import ResidualBlock, TimeEmbedding, group_norm, pad_frames

FOLD = 4  # latent frames that the network takes as one (53 ms; the window of a frame is 85 ms)
EMBEDDING = 64  # size of the embedding of α
MAPS, HIDDEN = 8, 128  # spectra made from a component latent, and hidden width of that mapping
GATE = 0.15  # exponent of the gate, the same as that of the compressed spectrograms


class _Trunk(nn.Module):
    """The U-Net over blends: features that do not depend on the component."""

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        block = partial(ResidualBlock, embedding_dim=EMBEDDING, conv=nn.Conv2d)
        above = [widths[0], *widths[:-1]]
        levels = list(zip(above, widths, strict=True))
        # Convolutions alone cannot distinguish low frequencies from high ones.
        self.position = nn.Parameter(0.02 * torch.randn(1, 2, channels, 1))
        self.enter = nn.Conv2d(FOLD + 2, widths[0], 3, padding=1)
        self.embed = TimeEmbedding(EMBEDDING)
        self.down = nn.ModuleList(block(a, w) for a, w in levels)
        self.halve = nn.ModuleList(nn.Conv2d(w, w, 2, stride=2) for w in widths)
        self.middle = block(widths[-1], widths[-1])
        flat = widths[-1] * channels // 2 ** len(widths)
        self.recurrent = nn.GRU(flat, flat // 4, bidirectional=True, batch_first=True)
        self.leave = nn.Linear(flat // 4 * 2, flat)
        self.up = nn.ModuleList(block(2 * w, a) for a, w in levels)

    def forward(self, x: Tensor, alpha: Tensor) -> Tensor:
        """`(batch, channels, frames)` to `(batch, widths[0], channels, frames / FOLD)`."""
        embedding = self.embed(alpha)
        x = rearrange(x, "b c (t fold) -> b fold c t", fold=FOLD)
        position = self.position.expand(x.shape[0], -1, -1, x.shape[-1])
        x = self.enter(torch.cat([x, position], dim=1))
        skips = []
        for block, halve in zip(self.down, self.halve, strict=True):
            x = block(x, embedding)
            skips.append(x)
            x = halve(x)
        x = self.middle(x, embedding)
        over_time, _ = self.recurrent(rearrange(x, "b w c t -> b t (w c)"))
        x = x + rearrange(self.leave(over_time), "b t (w c) -> b w c t", c=x.shape[2])
        for block in reversed(self.up):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skips.pop()], dim=1), embedding)
        return x


class UNet2d(nn.Module):
    """The denoiser D(x_α, α, z_i) over frequency and time.

    A U-Net extracts features from the blend x_α, once for all components if they share it. For each
    component, a small head combines these features with the component's latent, which enters as a
    few spectra per frame and through FiLM (Perez et al. 2018). The output is

        silence + gate · (w(α) · x_α + rest − silence),

    where the head computes `rest` and the gate in (0, 1), and w(α) = α / (α² + (1 − α)²) is the
    coefficient of the best linear estimate of unit-variance data from their blend with noise. Near
    α = 1 the gate acts as a mask on the mixture; at α = 0, where w is 0, the component is rendered
    from its latent alone. `widths` are the numbers of feature maps of each level, from the top
    down, and `channels` the number of bands, which must be a multiple of `2 ** len(widths)`.
    """

    def __init__(
        self, channels: int = 128, latent_dim: int = 4, widths: Sequence[int] = (16, 32, 64, 96)
    ):
        super().__init__()
        if channels % 2 ** len(widths):
            raise ValueError(f"{channels} channels cannot be halved {len(widths)} times.")
        self.stride = FOLD * 2 ** len(widths)
        width = widths[0]
        self.trunk = _Trunk(channels, widths)
        self.features = nn.Conv2d(width, width, 3, padding=1)
        self.latent = nn.Conv1d(FOLD * latent_dim, HIDDEN, 3, padding=1)
        self.spectra = nn.Conv1d(HIDDEN, MAPS * channels, 1)
        self.film = nn.Conv1d(HIDDEN, 2 * width, 1)
        self.join = nn.Conv2d(MAPS, width, 3, padding=1, bias=False)
        self.norm = group_norm(width)
        self.out = nn.Conv2d(width, 2 * FOLD, 3, padding=1)
        nn.init.zeros_(self.out.weight)  # every component starts as half of the mixture
        nn.init.zeros_(self.out.bias)
        self.register_buffer("silence", torch.zeros(channels, 1))

    def set_silence(self, silence: Tensor) -> None:
        """Sets the standardised latents `(channels, 1)` of silence."""
        self.silence.copy_(silence)

    def forward(self, x: Tensor, alpha: Tensor, z: Tensor) -> Tensor:
        """Denoises all components; shapes as for `asteroid_ucr.decomposition.Decomposition`."""
        n_src, frames = z.shape[1], x.shape[-1]
        shared = x.ndim == 3
        x = pad_frames(x if shared else x.flatten(0, 1), self.stride)
        alpha_each = alpha.repeat_interleave(n_src)
        features = self.features(self.trunk(x, alpha if shared else alpha_each))
        if shared:
            x, features = (repeat(it, "b ... -> (b n) ...", n=n_src) for it in (x, features))

        z = pad_frames(z.flatten(0, 1), self.stride)
        z = rearrange(z, "b d (t fold) -> b (d fold) t", fold=FOLD)
        z = F.silu(self.latent(z))
        spectra = rearrange(self.spectra(z), "b (k c) t -> b k c t", k=MAPS)
        scale, shift = self.film(z)[:, :, None].chunk(2, dim=1)
        hidden = self.norm(features + self.join(spectra)) * (1 + scale) + shift
        hidden = self.out(F.silu(hidden))
        logit, rest = rearrange(hidden, "b (two fold) c t -> two b c (t fold)", fold=FOLD)

        weight = (alpha_each / (alpha_each.square() + (1 - alpha_each).square()))[:, None, None]
        gate = torch.exp(GATE * F.logsigmoid(logit))
        output = self.silence + gate * (weight * x + rest - self.silence)
        return output[..., :frames].unflatten(0, (-1, n_src))
