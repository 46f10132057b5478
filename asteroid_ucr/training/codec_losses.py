"""Losses of a neural codec, and their balancer (Défossez et al. 2022, section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

MEL_FLOOR = 1e-5  # of magnitudes, so that silence has a finite logarithm


class Balancer:
    """Weighs losses by the gradients that they send into the decoder's output.

    Each loss's gradient with respect to the output is divided by a running mean of its norm, so
    that its weight is its share of the step, whatever its unit (Défossez et al. 2022, equation 5).

    Args:
        weights: share of each loss, by name; those given to `gradient` share the step.
        decay: of the running mean.
    """

    def __init__(self, weights: Mapping[str, float], decay: float = 0.999):
        self.weights, self.decay = dict(weights), decay
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    def gradient(self, losses: Mapping[str, Tensor], output: Tensor) -> Tensor:
        """The combined gradient at `output`, of its shape, and of norm about one for each item.

        Args:
            losses: scalars by name, each a function of `output`.
            output: `(batch, …)`.
        """
        total = torch.zeros_like(output)
        shares = sum(self.weights[name] for name in losses)
        for name, loss in losses.items():
            (gradient,) = torch.autograd.grad(loss, [output], retain_graph=True)
            norm = gradient.flatten(1).norm(dim=1).mean().item()
            total += self.weights[name] / shares / max(self._average(name, norm), 1e-12) * gradient
        return total

    def _average(self, name: str, norm: float) -> float:
        # Sum and count decay together, so that the mean is right from the first step on.
        self._sums[name] = self.decay * self._sums.get(name, 0.0) + norm
        self._counts[name] = self.decay * self._counts.get(name, 0.0) + 1.0
        return self._sums[name] / self._counts[name]

    def state_dict(self) -> dict[str, dict[str, float]]:
        """The running means."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Takes up the running means of another balancer."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])


class MelLoss(nn.Module):
    """L1 distance of mel magnitudes plus L2 distance of their logarithms, at several scales.

    Args:
        windows: in samples; the hop is a quarter of it.
        bands: at most so many mel bands; short windows have fewer.
        sample_rate: in Hz.
    """

    def __init__(self, windows: Sequence[int], bands: int = 64, sample_rate: int = 24_000):
        super().__init__()
        self.scales = nn.ModuleList(
            torchaudio.transforms.MelSpectrogram(
                sample_rate,
                n_fft=window,
                hop_length=window // 4,
                n_mels=min(bands, window // 16),  # more would leave bands without a bin
                power=1.0,
                normalized=True,
            )
            for window in windows
        )

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Mean distance over scales; both are `(batch, 1, time)`."""
        total = estimate.new_zeros(())
        for scale in self.scales:
            ours, theirs = scale(estimate), scale(target)
            logs = (ours + MEL_FLOOR).log() - (theirs + MEL_FLOOR).log()
            total = total + (ours - theirs).abs().mean() + logs.square().mean().sqrt()
        return total / len(self.scales)


def noise_to_signal(estimate: Tensor, target: Tensor) -> Tensor:
    """Power of the error over that of the target, in dB, averaged over the items.

    It is minus the signal-to-distortion ratio. It is not made scale-invariant: a codec must keep
    the level too.

    Args:
        estimate: `(batch, 1, time)`.
        target: of the same shape.
    """
    error = (estimate - target).square().mean((1, 2))
    # The floor, −60 dB of full scale, keeps near-silent items from ruling the batch.
    return 10 * ((error + 1e-6) / (target.square().mean((1, 2)) + 1e-6)).log10().mean()


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Hinge loss of the discriminator, averaged over its scales."""
    losses = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def adversarial_loss(fake: Sequence[Tensor]) -> Tensor:
    """Hinge loss of the codec, averaged over the discriminator's scales."""
    return torch.stack([F.relu(1 - f).mean() for f in fake]).mean()


def feature_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Relative L1 distance of the discriminator's features (Défossez et al. 2022, equation 2)."""
    losses = [
        (r.detach() - f).abs().mean() / r.detach().abs().mean().clamp(min=1e-6)
        for real_scale, fake_scale in zip(real, fake, strict=True)
        for r, f in zip(real_scale, fake_scale, strict=True)
    ]
    return torch.stack(losses).mean()
