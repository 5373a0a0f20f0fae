"""Outcome of each input pair: right, memorized or wrong."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.models.reading.forward import all_logits
from mechmem.plotting.matrices import grid_map
from mechmem.plotting.style import SPLIT_STYLES

if TYPE_CHECKING:
    import plotly.graph_objects as go

OUTCOMES = {
    "right": "#9ec9e2",
    "memorized": SPLIT_STYLES["train_noisy"].color,
    "wrong": "#3b3b3b",
    "unknown": "#d9d9d9",
}
"""Outcomes and their colours; memorized pairs have the colour of the noisy split."""

RIGHT, MEMORIZED, WRONG, UNKNOWN = range(4)
SPLITS = ("train", "test", "not used")


@record
@dataclasses.dataclass(frozen=True, eq=False)
class CellOutcomesResult(Result):
    """One entry per input pair, in the order of the task's ids.

    Attributes:
        operands: the pair (a, b). Shape (example, 2).
        given: the label given in training; −1 for pairs outside the training set. Shape (example).
        true: the true label; −1 where it is not known. Shape (example).
        predicted: the network's prediction. Shape (example).
        split: 0 trained on, 1 held out, 2 in neither set. Shape (example).
        symbols: number of symbols of an operand, the side of the grid.
    """

    operands: Int[Tensor, "example 2"]
    given: Int[Tensor, " example"]
    true: Int[Tensor, " example"]
    predicted: Int[Tensor, " example"]
    split: Int[Tensor, " example"]
    symbols: int

    @property
    def outcome(self) -> Int[Tensor, " example"]:
        """Outcome of each pair: 0 right, 1 memorized (its wrong given label predicted), 2 wrong, 3 truth not known."""
        outcome = torch.full_like(self.predicted, WRONG)
        outcome[self.predicted == self.given] = MEMORIZED
        outcome[self.predicted == self.true] = RIGHT
        outcome[self.true < 0] = UNKNOWN
        return outcome

    def to_frame(self) -> pd.DataFrame:
        """Return one row per pair: a, b, given, true, predicted (missing where there is none), split, outcome."""
        columns = {"a": self.operands[:, 0], "b": self.operands[:, 1], "given": self.given, "true": self.true}
        columns["predicted"] = self.predicted
        frame = pd.DataFrame({name: pd.array(values.numpy(), dtype="Int64") for name, values in columns.items()})
        frame[["given", "true"]] = frame[["given", "true"]].mask(frame[["given", "true"]] < 0)
        frame["split"] = np.array(SPLITS)[self.split]
        frame["outcome"] = np.array(list(OUTCOMES))[self.outcome]
        return frame

    def plot(self) -> go.Figure:
        """Return the grid of pairs coloured by outcome, held-out ones dotted; examples sharing a pair show the last."""
        a, b = self.operands.unbind(1)
        code = np.full((self.symbols, self.symbols), -1)
        held_out = np.zeros_like(code, dtype=bool)
        code[a, b], held_out[a, b] = self.outcome.numpy(), (self.split == 1).numpy()
        frame = self.to_frame()
        details = np.full((*code.shape, 5), "", dtype=object)
        details[a, b] = np.stack(
            [
                np.where(self.given < 0, "none", self.given.numpy().astype(str)),
                np.where(self.true < 0, "unknown", self.true.numpy().astype(str)),
                self.predicted.numpy().astype(str),
                frame["split"].to_numpy(str),
                frame["outcome"].to_numpy(str),
            ],
            axis=1,
        )
        return grid_map(
            code,
            OUTCOMES,
            held_out,
            details,
            mark_title="held out",
            hover="a = %{y}, b = %{x}<br>given %{customdata[0]}, true %{customdata[1]}<br>predicted %{customdata[2]}"
            "<extra>%{customdata[3]}: %{customdata[4]}</extra>",
        )


@dataclasses.dataclass(frozen=True)
class CellOutcomes(Analysis):
    """Compare the network's prediction on every input pair with the true and the given label.

    A training pair with a wrong label is memorized if the network predicts that label.
    """

    name: ClassVar[str] = "cell_outcomes"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs"})
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "given_labels", "true_train_labels", "noise_mask", "test_inputs", "test_labels"}
    )
    cites: ClassVar[str] = "mechmem"

    def __call__(self, subject: Subject) -> CellOutcomesResult:
        """Return the outcomes."""
        self.require(subject)
        task = subject.task
        assert task.operands is not None
        split = torch.full((len(task.ids),), 2)
        split[task.rows(task.train_ids)], split[task.rows(task.test_ids)] = 0, 1
        return CellOutcomesResult(
            operands=task.operands.clone(),
            given=task.given(task.ids).masked_fill(split != 0, -1),
            true=_known_truth(task),
            predicted=all_logits(subject).argmax(1),
            split=split,
            symbols=task.symbols,
        )


def _known_truth(task: Task) -> Int[Tensor, " example"]:
    """True label of every id, −1 where it is not known."""
    labels = task.true(task.ids)
    if labels is not None:
        return labels.clone()
    # A task returns labels for a set of ids only if it knows them all, so ask for each id alone.
    single = [task.true(task.ids[row : row + 1]) for row in range(len(task.ids))]
    return torch.tensor([-1 if label is None else int(label) for label in single])
