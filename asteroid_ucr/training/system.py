"""The Lightning systems of the decomposition model and of its prior, and their averaging."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from asteroid.engine.system import System
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from asteroid_ucr.base import SeparatorModel
from asteroid_ucr.prior import draw_masks
from asteroid_ucr.separator import UCRSeparator
from asteroid_ucr.utils.seeding import generator_for


class StepwiseSystem(System):
    """Asteroid's `System`, its scheduler stepped with the optimizer and its losses logged.

    Subclasses give `common_step`. What is random in it comes from `generator`, which is seeded with
    the seed and the step, so that a resumed run draws what an uninterrupted one does.

    Args:
        model: to be trained.
        optimizer: over its parameters.
        scheduler: stepped after each optimizer step.
        seed: of what the loss draws.
        loss_func: Asteroid's `(estimates, targets)`; None where the model has its own.
    """

    def __init__(
        self,
        model: SeparatorModel,
        optimizer: torch.optim.Optimizer,
        scheduler: LambdaLR,
        seed: int,
        loss_func: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        stepwise = {"scheduler": scheduler, "interval": "step"}
        super().__init__(model, optimizer, loss_func, None, scheduler=stepwise)
        self.seed = seed

    def generator(self, batch_nb: int, train: bool) -> torch.Generator:
        """The random stream of a step; validation, in streams of its own, repeats itself."""
        stream, step = (0, self.global_step) if train else (1, batch_nb)
        return generator_for(self.seed, stream, step, self.global_rank)

    def training_step(self, batch: Tensor, batch_nb: int) -> Tensor:
        """Lightning's hook; logs the mean loss of each epoch as well."""
        loss = self.common_step(batch, batch_nb, train=True)
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Tensor, batch_nb: int) -> None:
        """Lightning's hook."""
        loss = self.common_step(batch, batch_nb, train=False)
        self.log("val_loss", loss, on_epoch=True, prog_bar=True, batch_size=len(batch))


class DecompositionSystem(StepwiseSystem):
    """The system that trains a model's `decomposition` on latents of mixtures."""

    def common_step(self, batch: Tensor, batch_nb: int, train: bool = True) -> Tensor:
        """The loss on a batch of crops."""
        generator = self.generator(batch_nb, train)
        noise = torch.randn(batch.shape, generator=generator).to(batch)
        alpha = torch.rand(len(batch), generator=generator).to(batch)
        return self.loss(batch, noise, alpha, generator)

    def loss(
        self, latents: Tensor, noise: Tensor, alpha: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The decomposition's loss on latents of mixtures, `(batch, channels, frames)`."""
        return self.model.decomposition.loss(latents, noise, alpha)


class PriorSystem(DecompositionSystem):
    """The system that trains a model's prior, and nothing else of it, on component latents.

    Args:
        model: whose `prior` is trained; the rest is frozen.
        optimizer: over the prior's parameters.
        scheduler: stepped after each optimizer step.
        seed: of noise, α and masks.
        all_masked: probability of the mask that masks all; see `asteroid_ucr.prior.mask_law`.
    """

    def __init__(
        self,
        model: UCRSeparator,
        optimizer: torch.optim.Optimizer,
        scheduler: LambdaLR,
        seed: int,
        all_masked: float,
    ):
        model.decomposition.requires_grad_(False)
        super().__init__(model, optimizer, scheduler, seed)
        self.all_masked = all_masked

    def loss(
        self, latents: Tensor, noise: Tensor, alpha: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The prior's loss on component latents, `(batch, n_src, latent_dim, frames)`."""
        mask = draw_masks(len(latents), latents.shape[1], self.all_masked, generator)
        return self.model.prior.loss(latents, noise, alpha, mask.to(latents.device))


class WarmEMA(WeightAveraging):
    """Lightning's weight averaging with an exponential moving average that warms up.

    The decay after `n` updates is min(decay, (1 + n) / (10 + n)), so that a short run's average is
    not dominated by its first weights. Validation and checkpoints use the average.

    Args:
        decay: the limit.
    """

    def __init__(self, decay: float):
        def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
            n = float(updates)
            return torch.lerp(current, averaged, min(decay, (1 + n) / (10 + n)))

        super().__init__(use_buffers=False, avg_fn=average)


def build_scheduler(
    optimizer: torch.optim.Optimizer, schedule: str, warmup_steps: int, total_steps: int
) -> LambdaLR:
    """Linear warm-up, then a constant learning rate or half a cosine down to zero.

    Args:
        optimizer: whose learning rate is scaled.
        schedule: "constant" or "cosine".
        warmup_steps: length of the warm-up.
        total_steps: at which the cosine reaches zero.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        if schedule == "constant":
            return 1.0
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, factor)
