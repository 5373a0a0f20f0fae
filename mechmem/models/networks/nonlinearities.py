"""Activation functions as modules, so that a surgery can swap them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.errors import unknown_name
from mechmem.models.networks.differentiable import square


class Quadratic(nn.Module):
    """φ(x) = x²."""

    def forward(self, x: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """Square."""
        return square(x)


class ReverseReLU(nn.Module):
    """φ(x) = relu(−x)."""

    def forward(self, x: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """Keep the negative side, with its sign flipped."""
        return torch.relu(-x)


NONLINEARITIES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "quadratic": Quadratic,
    "reverse_relu": ReverseReLU,
}


def nonlinearity(name: str) -> nn.Module:
    """Return the activation module of this name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in NONLINEARITIES:
        raise unknown_name("activation", name, NONLINEARITIES)
    return NONLINEARITIES[name]()
