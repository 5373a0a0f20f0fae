"""What the training labels give away about held-out cells, to a network that knows no rule.

A network that cannot tell (a, b) from (b, a), exactly or nearly, answers a held-out cell as it was told for its mirror
image. One that has learned that no class occurs twice in a row or column can exclude the classes it has seen there.
"""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.task import Task
from mechmem.math.additive import ROWS


@dataclasses.dataclass(frozen=True)
class GivenAway:
    """Held-out cells of a task of pairs, and what the training labels say of them.

    Attributes:
        pairs: operands of each held-out cell that is no copy of a training cell.
        ids: ids of these cells.
        truth: their right answers.
        mirrored: for each the label given to the training cell (b, a); −1 if that is not in the training set.
        used: whether a class was given in the row of a symbol (first plane) and in its column (second plane).
    """

    pairs: Int[Tensor, "cell 2"]
    ids: Int[Tensor, " cell"]
    truth: Int[Tensor, " cell"]
    mirrored: Int[Tensor, " cell"]
    used: Bool[Tensor, "2 symbol class"]

    @property
    def unseen(self) -> Bool[Tensor, " cell"]:
        """Which cells have an answer that no mirror image was given."""
        return self.mirrored != self.truth

    def excluded(self, either: bool) -> Float[Tensor, "cell class"]:
        """Return the logits of a network that excludes classes: 1 where a class is still open, 0 elsewhere.

        Args:
            either: whether a class is excluded by the mirror images of a row and a column as well.
        """
        row, column = (self.used[0] | self.used[1],) * 2 if either else self.used
        a, b = self.pairs.T
        logits = torch.empty(len(a), row.shape[1])
        for kept, left, right in zip(logits.split(ROWS), a.split(ROWS), b.split(ROWS), strict=True):
            kept.copy_(~(row[left] | column[right]))
        return logits


def given_away(task: Task) -> GivenAway:
    """Return the held-out cells of a task of pairs that are no copies of training cells, and what labels say of them.

    Raises:
        MissingNeedError: the inputs are not pairs.
    """
    n = task.symbols
    assert task.operands is not None
    trained, given = task.operands[task.rows(task.train_ids)], task.given(task.train_ids)
    labels = torch.full((n, n), -1)
    labels[trained[:, 0], trained[:, 1]] = given
    ids = task.test_ids
    a, b = task.operands[task.rows(ids)].T
    ids = ids[labels[a, b] < 0]
    pairs = task.operands[task.rows(ids)]
    used = torch.zeros(2, n, task.n_classes, dtype=torch.bool)
    used[rearrange(torch.arange(2), "side -> side 1"), trained.T, given] = True
    truth = task.true(ids)
    assert truth is not None
    return GivenAway(pairs, ids, truth, labels[pairs[:, 1], pairs[:, 0]], used)
