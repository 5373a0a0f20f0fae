"""Gradients of a loss with respect to the values of hook points, recorded while the model runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.roles import Output
from mechmem.errors import ActivationError, ConfigError
from mechmem.models.reading.stores import Store

Loss = Callable[[Float[Tensor, "example class"], Int[Tensor, " example"]], Float[Tensor, "..."]]
"""Function of the logits and the given labels that returns a loss summed over examples, or one loss per example."""


class Tape:
    """Keeps the points' values in the graph of one chunk, and stores the gradients with respect to them.

    Args:
        loss: the loss to differentiate.
        store: store of the gradients.
        output: position of the logits in the model's output.
    """

    def __init__(self, loss: Loss, store: Store, output: Output):
        self.store = store
        self._loss = loss
        self._output = output
        self._values: dict[str, Tensor] = {}
        self._absent: dict[str, str] = {}
        self._reached: set[str] = set()
        self._checked = False

    def record(self, key: str, value: Tensor) -> Tensor | None:
        """Keep a value to differentiate by, and return the copy with which the model goes on."""
        kept, handed_on = self.copied(value)
        if kept is not None:
            self._values[key] = kept
        elif value.is_floating_point():
            self._absent[key] = (
                "has no gradient: the network records none there (torch.no_grad, or checkpointing with "
                "use_reentrant=True, for which use_reentrant=False is a substitute)"
            )
        else:
            self._absent[key] = f"has no gradient: it holds {value.dtype}"
        return handed_on

    def copied(self, value: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return a copy of a value to differentiate by, and that with which the model goes on; None without gradients.

        Two copies: the model may change in place both the point's input and its output.
        """
        if not (value.is_floating_point() and torch.is_grad_enabled()):
            return None, None
        kept = value.clone() if value.requires_grad else value.detach().clone().requires_grad_()
        return kept, kept.clone()

    def end(self, returned: Any, given: Int[Tensor, " example"], block: slice) -> None:
        """Differentiate the loss of a chunk and release its graph.

        Raises:
            ConfigError: the loss is not summed over examples, or does not depend on the values.
            ActivationError: the network checkpoints activations in a way that gives no gradients.
        """
        logits = self._output.read(returned)
        loss = self._summed(logits, given)
        if not loss.requires_grad:
            raise ConfigError("the loss of gradients= does not depend on the values of the hook points")
        values, self._values = self._values, {}
        slopes = _differentiated(loss, list(values.values()))
        for (key, value), slope in zip(values.items(), slopes, strict=True):
            if slope is not None:
                self._reached.add(key)
            self.store.put(key, block, torch.zeros_like(value) if slope is None else slope)

    def _summed(self, logits: Float[Tensor, "example class"], given: Int[Tensor, " example"]) -> Float[Tensor, ""]:
        loss = self._loss(logits, given)
        if not isinstance(loss, Tensor) or not loss.is_floating_point() or loss.shape not in ((), (len(logits),)):
            seen = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ConfigError(f"gradients= must return a loss summed over examples, or one per example; got {seen}")
        if loss.ndim:
            return loss.sum()
        if not self._checked:
            with torch.no_grad():
                twice = self._loss(torch.cat([logits, logits]), torch.cat([given, given]))
            if not torch.allclose(twice, 2 * loss.detach(), rtol=1e-3, atol=1e-6):
                raise ConfigError(
                    "gradients= must return a loss summed over examples: with every example twice it is "
                    f"{float(twice):.6g}, with every example once {float(loss.detach()):.6g}"
                )
            self._checked = True
        return loss

    def results(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return the gradients by firing, and the reason for each firing without one."""
        found = self.store.results()
        shown = dict.fromkeys(found.keys() - self._reached, "has no gradient: the logits do not depend on it")
        return {key: value for key, value in found.items() if key in self._reached}, self._absent | shown


def _differentiated(loss: Float[Tensor, ""], values: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradient of a loss with respect to each value; None for one on which it does not depend."""
    if not values:
        return ()
    try:
        return torch.autograd.grad(loss, values, allow_unused=True)
    except RuntimeError as error:
        if "checkpoint" not in str(error).lower() or ".grad()" not in str(error):
            raise
        raise ActivationError(
            "the network recomputes activations in the backward pass by checkpointing with use_reentrant=True, which "
            "gives no gradients at hook points: checkpoint with use_reentrant=False, or not at all"
        ) from error
