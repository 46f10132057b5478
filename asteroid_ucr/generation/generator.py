"""What a model with a prior can do: the generating methods of `UCRSeparator`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from asteroid_ucr.generation.sampling import STEPS, make_plan, render, sample_latents
from asteroid_ucr.prior import MaskingPrior


class Generative:
    """Generation, for a model with sources, a decomposition, a codec and perhaps a prior.

    Attributes:
        prior: the model of its component latents, or None.
        render_gain: gains of the power of what is rendered, by channel of the codec, or None.
    """

    prior: MaskingPrior | None
    render_gain: list[float] | None

    def add_prior(self, **options: Any) -> None:
        """Adds an untrained prior; the options are those of `asteroid_ucr.prior.MaskingPrior`."""
        prior = MaskingPrior(self.n_src, self._args["latent_dim"], **options)
        self.prior = prior.to(self.device)
        self._args["prior"] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in options.items()
        }

    def generate(
        self,
        seconds: float = 10.0,
        keep: Mapping[str, Tensor] | None = None,
        *,
        mixture: Tensor | None = None,
        strength: float | None = None,
        steps: int = STEPS,
        render_steps: int | None = None,
        seed: int | None = None,
        batch: int | None = None,
    ) -> Tensor:
        """Generates sources by the prior: from nothing, to go with others, or as a variation.

        Args:
            seconds: length.
            keep: sources that are given, by name: mono audio at `sample_rate`, `(time,)`,
                `(batch, time)` or `(batch, 1, time)`; or component latents, `(latent_dim, frames)`
                or `(batch, latent_dim, frames)`, as `encode` gives them. Their length has to be
                that asked for, and tells which of the two they are.
            mixture: audio to vary, of the same length.
            strength: of the variation, between 0 (hardly any) and 1 (nothing left of the mixture):
                its latents are blended with noise at α = 1 − strength.
            steps: of the prior's sampler.
            render_steps: of the denoiser's sampler; None takes the model's `steps`.
            seed: item i of the batch is what the seed `seed + i` gives alone; None takes the
                model's.
            batch: number of items; None takes that of what is given, or 1.

        Returns:
            `(batch, n_src, time)` on the CPU, in the order of `sources`; they add up to the
            mixture. What was kept as audio is that audio, untouched, and the others are at its
            level; without audio, they are at the level of the training.

        Raises:
            UserError: if the model has no prior, or an argument is not valid.
        """
        seed = self.seed if seed is None else seed
        plan = make_plan(self, seconds, keep, mixture, strength, batch)
        z = sample_latents(self, plan, strength, steps, seed)
        return render(self, plan, z, render_steps, seed)

    def generate_latents(
        self,
        seconds: float = 10.0,
        keep: Mapping[str, Tensor] | None = None,
        *,
        mixture: Tensor | None = None,
        strength: float | None = None,
        steps: int = STEPS,
        seed: int | None = None,
        batch: int | None = None,
    ) -> Tensor:
        """The component latents `(batch, n_src, latent_dim, frames)` that `generate` renders."""
        plan = make_plan(self, seconds, keep, mixture, strength, batch)
        return sample_latents(self, plan, strength, steps, self.seed if seed is None else seed)
