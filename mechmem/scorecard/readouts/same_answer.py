"""Logits pooled over the cells that seem to share an answer."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.plugins import Readout
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor
from mechmem.errors import MissingNeedError
from mechmem.math.additive import additive_residual
from mechmem.math.same_answer import same_answer_scores, standardised
from mechmem.models.reading.forward import all_logits

ROUNDING = 16
"""A residual of fewer units in the last place of the largest logit is taken for rounding."""

MOST_ENTRIES = 2**24
"""Most scores of a table, over all pairs of symbols and all classes: about 250 of each, some twenty minutes."""


@dataclasses.dataclass(frozen=True)
class SameAnswer(Readout):
    """Find out from the logits which cells share an answer, and predict from the logits of all of them.

    Each cell's logits without their row and column effects, standardised over classes, are compared with those of every
    other cell. What two cells have in common is kept as far as it depends on how a goes with a′ and b with b′, not on
    the four symbols one by one (see `math.same_answer`); a cell's prediction sums the others' logits by that likeness.
    Neither the group nor the operation is used, and any renaming of the operands or of the classes gives the same
    answers. The rule may be a group's operation, or any other with as few ways for two cells to agree.

    All cells are read, training cells too, so that this readout finds the rule in the grid of the labels as well, up to
    a share of wrong labels of about one half: the controls beside it say so. Cells that are not among the task's count
    as nothing. Factors of 0 under multiplication, whose answer is always 0, stay in; they fit no group and cost some
    accuracy.

    Attributes:
        rank: number of singular vectors to keep; 0 for as many as there are classes, which is what a group has.
    """

    name: ClassVar[str] = "same_answer"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "test_inputs"})
    cites: ClassVar[str] = "mechmem"

    rank: int = 0

    def __post_init__(self) -> None:
        check_whole("rank", self.rank, 0)

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor.

        Raises:
            MissingNeedError: inputs are not pairs, or there are too many symbols.
        """
        self.require(subject)
        task = subject.task
        entries = task.symbols**2 * task.n_classes
        if entries > MOST_ENTRIES:
            raise MissingNeedError(
                f"{self.name!r} needs at most {MOST_ENTRIES:,} scores of all pairs of symbols; "
                f"{task.symbols} symbols and {task.n_classes} classes make {entries:,}"
            )

        def scores() -> Float[Tensor, "example class"]:
            logits, pairs = all_logits(subject), task.operands
            assert pairs is not None
            residual = additive_residual(logits, pairs, task.symbols)
            smallest = ROUNDING * torch.finfo(logits.dtype).eps * float(logits.abs().max())
            table = torch.zeros(task.symbols, task.symbols, task.n_classes, dtype=torch.float64)
            table[pairs[:, 0], pairs[:, 1]] = standardised(residual, smallest)
            return same_answer_scores(table, self.rank or task.n_classes)[pairs[:, 0], pairs[:, 1]]

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            return subject.memo(self.label(), scores)[task.rows(ids)]

        return predict
