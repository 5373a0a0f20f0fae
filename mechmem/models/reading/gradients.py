"""Gradients of a loss by what hook points hold, recorded while the model runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.roles import Output
from mechmem.errors import ConfigError
from mechmem.models.reading.stores import Store

Loss = Callable[[Float[Tensor, "example class"], Int[Tensor, " example"]], Float[Tensor, "..."]]
"""A loss summed over examples, or one loss per example, of the logits and the given labels."""


class Tape:
    """Keeps the points' values in the graph of one chunk, and stores the gradients by them.

    Args:
        loss: what is differentiated.
        store: where the gradients go.
        output: where the logits stand in what the model returns.
    """

    def __init__(self, loss: Loss, store: Store, output: Output):
        self.store = store
        self._loss = loss
        self._output = output
        self._values: dict[str, Tensor] = {}
        self._absent: dict[str, str] = {}
        self._reached: set[str] = set()
        self._checked = False

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Let autograd record, whatever the caller has turned off."""
        with torch.inference_mode(False), torch.enable_grad():
            yield

    def record(self, key: str, value: Tensor) -> Tensor | None:
        """Keep a value that a gradient is wanted by, and return what the model is to go on with."""
        if not value.is_floating_point():
            self._absent[key] = f"has no gradient: it holds {value.dtype}"
            return None
        # Two copies: the model may change in place both what it gave the point and what it gets back.
        kept = value.clone() if value.requires_grad else value.detach().clone().requires_grad_()
        self._values[key] = kept
        return kept.clone()

    def end(self, returned: Any, given: Int[Tensor, " example"], block: slice) -> None:
        """Differentiate the loss of a chunk, and let go of its graph."""
        logits = self._output.read(returned)
        loss = self._summed(logits, given)
        if not loss.requires_grad:
            raise ConfigError("the loss of gradients= does not depend on what the hook points hold")
        values, self._values = self._values, {}
        slopes = torch.autograd.grad(loss, list(values.values()), allow_unused=True)
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
                    "gradients= must return a loss summed over examples: over every example twice it is "
                    f"{float(twice):.6g}, over every example once {float(loss.detach()):.6g}"
                )
            self._checked = True
        return loss

    def results(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return the gradients by firing; and of firings that have none, the reason."""
        found = self.store.results()
        shown = dict.fromkeys(found.keys() - self._reached, "has no gradient: nothing that it holds reaches the logits")
        return {key: value for key, value in found.items() if key in self._reached}, self._absent | shown
