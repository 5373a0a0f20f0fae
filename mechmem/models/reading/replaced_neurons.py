"""Logits of a network after the values of a layer's neurons have been replaced."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.math.blocks import blocks
from mechmem.models.hooks.hooking import hooked
from mechmem.models.hooks.running import block_rows, full_precision
from mechmem.models.reading.forward import logits_of
from mechmem.models.reading.grid import answering_neurons

Change = Callable[[slice, Float[Tensor, "row neuron"]], Float[Tensor, "row neuron"]]
"""Gives the new values of some rows of the examples, from the rows' place among them and their own values."""


def logits_after(
    subject: Subject, point: str, ids: Int[Tensor, " example"], change: Change
) -> Float[Tensor, "example class"]:
    """Run examples with changed neurons at the output position; other positions and paths are as they were.

    Args:
        subject: the network.
        point: hook point of the neurons.
        ids: the examples.
        change: gives the new values; its own values are on the CPU, in at least float32.

    Raises:
        ActivationError: the point does not hold (example, neuron) or (example, position, neuron).
    """
    model, task, output = subject.model, subject.task, subject.roles.output
    found = []
    # One block is one forward pass: `logits_of` cuts its ids by the same `block_rows`.
    for block in blocks(len(ids), block_rows(model)):

        def changed(held: Tensor, block: slice = block) -> Tensor:
            new = held.clone()
            answering = answering_neurons(subject, new, point)
            answering.copy_(change(block, full_precision(answering.cpu())).to(new))
            return new

        with hooked(model, point, changed):
            found.append(logits_of(model, task, ids[block], output))
    return torch.cat(found) if found else torch.empty(0, task.n_classes)
