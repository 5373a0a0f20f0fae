"""Stateless dropout: masks derived from (seed, layer, step)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.core.randomness import generator


class StepDropout(nn.Module):
    """Inverted dropout: in training values are set to 0 at this rate, and the others divided by 1 − rate.

    `nn.Dropout` draws from torch's global generator. Here each layer has its own, seeded by a hash of (seed, layer,
    step) at the start of a step, so that a resumed run draws the same masks as an uninterrupted one. Without
    `begin_step` (in a user's own training loop) it continues the stream of step 0.

    Args:
        rate: probability that a value is dropped, in [0, 1).
        layer: number of the hidden layer it belongs to; each layer has its own stream.
        seed: seed of the masks drawn before the first `begin_step`.
    """

    def __init__(self, rate: float, layer: int = 0, seed: int = 0):
        super().__init__()
        self.rate, self.layer = rate, layer
        self.begin_step(seed, 0)

    def begin_step(self, seed: int, step: int) -> None:
        """Start the masks of an optimisation step."""
        self._draw = generator(seed, f"dropout.{self.layer}", step)

    def forward(self, values: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """Drop and rescale in training; return the values unchanged in evaluation."""
        if not self.training:
            return values
        # Uniform numbers are drawn in sequence, so blocks of rows draw the same as the whole batch.
        kept = torch.rand(values.shape, generator=self._draw) >= self.rate
        return values * (kept.to(values) / (1 - self.rate))

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"rate={self.rate}"


def dropout_layers(model: nn.Module) -> tuple[StepDropout, ...]:
    """Return a model's layers of dropout."""
    return tuple(module for module in model.modules() if isinstance(module, StepDropout))


def begin_step(layers: Iterable[StepDropout], seed: int, step: int) -> None:
    """Start the masks of an optimisation step (counted from 0) in layers of dropout."""
    for layer in layers:
        layer.begin_step(seed, step)
