"""Hidden neurons as functions on the grid of pairs, streamed over it once."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor

from mechmem.caching import activations
from mechmem.contracts import Subject
from mechmem.errors import ActivationError
from mechmem.math.blocks import blocks
from mechmem.math.grid_frequencies import GridFrequencies
from mechmem.models.forward import block_rows, full_precision
from mechmem.models.residual import at_answer
from mechmem.tasks.grid import grid_rows


def answering_neurons(
    subject: Subject, held: Shaped[Tensor, "example ..."], point: str
) -> Float[Tensor, "example neuron"]:
    """Return a view of what a hook point holds at the position that answers.

    Args:
        subject: names the answering position.
        held: the point's value.
        point: its name.

    Raises:
        ActivationError: the point does not hold (example, neuron) or (example, position, neuron).
    """
    if held.ndim not in (2, 3):
        raise ActivationError(f"{point!r} has shape {tuple(held.shape)}, whose axes are not (example, neuron)")
    return at_answer(subject, held, 2)


def grid_frequencies(subject: Subject, point: str) -> GridFrequencies:
    """Run the grid of pairs through the network, and return what each frequency carries of the neurons at a point.

    Raises:
        MissingNeedError: the group is not cyclic, or a pair is missing.
        ActivationError: the point does not hold (example, neuron) or (example, position, neuron).
    """
    rows = grid_rows(subject.task)
    n = len(rows)
    sums: GridFrequencies | None = None
    for part in blocks(n, block_rows(subject.model) // n):
        ids = subject.task.ids[rearrange(rows[part], "a b -> (a b)")]
        held = answering_neurons(subject, activations(subject, point, ids=ids)[point], point)
        if sums is None:
            sums = GridFrequencies(n, held.shape[1])
        sums.add(rearrange(full_precision(held), "(a b) neuron -> a b neuron", b=n), part.start)
    return GridFrequencies(n, 0) if sums is None else sums
