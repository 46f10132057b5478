"""A start from which a narrow SEANet learns waveforms quickly."""

from __future__ import annotations

import torch
from encodec import EncodecModel
from encodec.modules.seanet import SEANetResnetBlock
from torch import Tensor, nn

BRANCH_STD = 0.3  # of a residual block's branch beside its identity


@torch.no_grad()
def initialise(model: EncodecModel, wav: Tensor) -> None:
    """Makes convolutions orthogonal, and scales each for unit variance on a batch, in one pass.

    torch's own start loses about 5 dB of signal in each of some twenty layers, so that a short
    training spends most of its steps on silence. This is Mishkin & Matas, "All you need is a good
    init", ICLR 2016; the branches of residual blocks start small, and the last layer at the
    batch's level.

    Args:
        model: whose encoder and decoder are changed.
        wav: `(batch, 1, time)`.
    """
    branches = {
        [m for m in block.block.modules() if isinstance(m, nn.Conv1d)][-1]
        for block in model.modules()
        if isinstance(block, SEANetResnetBlock)
    }
    convolutions = [m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.ConvTranspose1d))]
    last = [m for m in model.decoder.modules() if isinstance(m, nn.Conv1d)][-1]

    def rescale(module: nn.Module, _: object, output: Tensor) -> Tensor:
        target = BRANCH_STD if module in branches else 1.0
        target = wav.std() if module is last else target
        factor = target / output.std().clamp(min=1e-8)
        module.weight_g.mul_(factor)  # exact, since the bias is zero
        return output * factor

    handles = []
    for module in convolutions:
        nn.init.orthogonal_(module.weight_v)
        # Weight normalisation takes the norm over all dimensions but the first.
        module.weight_g.copy_(module.weight_v.flatten(1).norm(dim=1).view_as(module.weight_g))
        module.bias.zero_()
        handles.append(module.register_forward_hook(rescale))
    try:
        model.decoder(model.encoder(wav))
    finally:
        for handle in handles:
            handle.remove()


__all__ = ["initialise"]
