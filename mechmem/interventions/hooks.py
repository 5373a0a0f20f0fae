"""Hooks that replace or record what a point holds during one forward pass, and are gone afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from mechmem.caching import hooked
from mechmem.errors import ActivationError


@contextlib.contextmanager
def replaced(
    model: nn.Module,
    point: str,
    value: Shaped[Tensor, ...],
    mask: Bool[Tensor, ...] | None = None,
) -> Iterator[None]:
    """Replace what a point holds during one forward pass; nothing stays behind, whatever happens inside.

    Args:
        model: the network.
        point: name of a hook point; `name#i` for firing i of a point that fires several times.
        value: what it is to hold: (example, …), or one for all examples: (…), or a single number.
        mask: which of the values of an example are replaced, of a shape that broadcasts to one example's; by default
            all.

    Raises:
        UnknownNameError: there is no such point.
        ActivationError: the point holds another shape, or did not fire.
    """

    def put(output: Tensor) -> Tensor:
        shape = tuple(output.shape)
        if value.ndim and tuple(value.shape) not in (shape, shape[1:]):
            raise ActivationError(f"{point!r} holds shape {shape}; it cannot be given {tuple(value.shape)}")
        new = value.to(output)
        # A copy: the network may go on to change it in place.
        return new.expand_as(output).clone() if mask is None else torch.where(mask.to(output.device), new, output)

    with hooked(model, point, put):
        yield


@contextlib.contextmanager
def recorded(model: nn.Module, point: str, held: dict[str, Tensor]) -> Iterator[None]:
    """Record what a point holds during one forward pass, before hooks that are put on later replace it.

    Raises:
        UnknownNameError: there is no such point.
        ActivationError: the point did not fire.
    """

    def keep(output: Tensor) -> None:
        held[point] = output.clone()

    with hooked(model, point, keep):
        yield
