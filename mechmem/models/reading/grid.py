"""Decompositions of logits and neurons over the grid of a cyclic group, computed once per subject."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.errors import ActivationError
from mechmem.math.blocks import blocks
from mechmem.math.filtration import GridFrequencies
from mechmem.math.grid_parts import GridParts, grid_energy, grid_parts
from mechmem.math.logits import check_finite
from mechmem.math.reconstruction import LabelledCells
from mechmem.models.hooks.running import block_rows, full_precision
from mechmem.models.reading.activations import activations
from mechmem.models.reading.forward import all_logits
from mechmem.models.reading.residual import at_answer
from mechmem.tasks.grid import answer_sign, grid_rows
from mechmem.tasks.splits import LabelledSplit


def logit_parts(subject: Subject) -> GridParts:
    """Return row effects, column effects and rule of the logits on the grid, not centred over classes.

    Raises:
        MissingNeedError: the group is not cyclic, a pair is missing, or the operation is not ±.
    """
    rows, sign = grid_rows(subject.task), answer_sign(subject.task)
    return subject.memo("logit_parts", lambda: grid_parts(all_logits(subject), rows, sign))


def logit_energy(subject: Subject, *, centred: bool) -> Float[Tensor, "n half"]:
    """Return the energy of the logits' modes over both operands, summed over classes, in squared logit units.

    Args:
        subject: its task needs a cyclic group.
        centred: whether each cell's mean over classes, on which no prediction depends, is subtracted first.

    Raises:
        MissingNeedError: the group is not cyclic, or a pair is missing.
    """
    rows = grid_rows(subject.task)
    key = f"logit_energy centred={centred}"
    return subject.memo(key, lambda: grid_energy(all_logits(subject), rows, centred=centred))


def grid_cells(subject: Subject, ids: Int[Tensor, " example"]) -> Int[Tensor, "example 2"]:
    """Return the positions of each id's operands in the group; (−1, −1) if one of them is not in it.

    Raises:
        MissingNeedError: the group is not cyclic, or a pair is missing.
    """
    rows = grid_rows(subject.task)
    n = len(rows)
    cell = torch.full((len(subject.task.ids), 2), -1)
    cell[rearrange(rows, "a b -> (a b)")] = torch.cartesian_prod(torch.arange(n), torch.arange(n))
    return cell[subject.task.rows(ids)]


def labelled_cells(subject: Subject, split: LabelledSplit) -> LabelledCells | None:
    """Return the cells of a split that are on the grid of the group, with their labels; None where none is.

    Raises:
        MissingNeedError: the group is not cyclic, a pair is missing, or the operation is not ±.
    """
    operands = grid_cells(subject, split.ids)
    inside = (operands >= 0).all(1)
    if not inside.any():
        return None
    operands = operands[inside]
    answer = (operands[:, 0] + answer_sign(subject.task) * operands[:, 1]) % len(grid_rows(subject.task))
    return LabelledCells(subject.task.rows(split.ids[inside]), operands, answer, split.labels[inside])


def answering_neurons(
    subject: Subject, held: Shaped[Tensor, "example ..."], point: str
) -> Float[Tensor, "example neuron"]:
    """Return a view of a hook point's value at the output position.

    Args:
        subject: its role `output` names the position.
        held: the point's value.
        point: its name.

    Raises:
        ActivationError: the point does not hold (example, neuron) or (example, position, neuron).
    """
    if held.ndim not in (2, 3):
        raise ActivationError(f"{point!r} has shape {tuple(held.shape)}, whose axes are not (example, neuron)")
    return at_answer(subject, held, 2)


def grid_frequencies(subject: Subject, point: str) -> GridFrequencies:
    """Run the grid of pairs through the network and return the frequency content of the neurons at a point.

    Raises:
        MissingNeedError: the group is not cyclic, or a pair is missing.
        ActivationError: the point does not hold (example, neuron) or (example, position, neuron).
        NotFiniteError: a value is NaN or infinite.
    """
    rows = grid_rows(subject.task)
    n = len(rows)
    sums: GridFrequencies | None = None
    for part in blocks(n, block_rows(subject.model) // n):
        ids = subject.task.ids[rearrange(rows[part], "a b -> (a b)")]
        held = answering_neurons(subject, activations(subject, point, ids=ids)[point], point)
        check_finite(held, f"the values at {point!r}")
        if sums is None:
            sums = GridFrequencies(n, held.shape[1])
        sums.add(rearrange(full_precision(held), "(a b) neuron -> a b neuron", b=n), part.start)
    return GridFrequencies(n, 0) if sums is None else sums
