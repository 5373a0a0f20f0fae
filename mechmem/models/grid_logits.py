"""What a subject's logits on the grid of its group are made of, computed once per subject."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.contracts import Subject
from mechmem.math.grid_parts import GridParts, grid_energy, grid_parts
from mechmem.models.forward import all_logits
from mechmem.tasks.grid import answer_sign, grid_rows


def logit_parts(subject: Subject) -> GridParts:
    """Return row effects, column effects and rule of the logits on the grid, as they are (not centred over classes).

    Raises:
        MissingNeedError: the group is not cyclic, a pair is missing, or the operation is not ±.
    """
    rows, sign = grid_rows(subject.task), answer_sign(subject.task)
    return subject.memo("logit_parts", lambda: grid_parts(all_logits(subject), rows, sign))


def logit_energy(subject: Subject, *, centred: bool) -> Float[Tensor, "n half"]:
    """Return the energy of the logits' modes over both operands, summed over classes, in squared logit units.

    Args:
        subject: its task needs a cyclic group.
        centred: whether each cell's mean over classes, which no prediction depends on, is taken out first.

    Raises:
        MissingNeedError: the group is not cyclic, or a pair is missing.
    """
    rows = grid_rows(subject.task)
    key = f"logit_energy centred={centred}"
    return subject.memo(key, lambda: grid_energy(all_logits(subject), rows, centred=centred))


def grid_cells(subject: Subject, ids: Int[Tensor, " example"]) -> Int[Tensor, "example 2"]:
    """Return the positions in the group of each id's operands; (−1, −1) where one of them has none.

    Raises:
        MissingNeedError: the group is not cyclic, or a pair is missing.
    """
    rows = grid_rows(subject.task)
    n = len(rows)
    cell = torch.full((len(subject.task.ids), 2), -1)
    cell[rearrange(rows, "a b -> (a b)")] = torch.cartesian_prod(torch.arange(n), torch.arange(n))
    return cell[subject.task.rows(ids)]
