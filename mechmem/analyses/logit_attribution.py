"""What the margin of a label is made of: row and column effects, the rule, the remainder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.contracts import Subject, Task
from mechmem.errors import MissingNeedError
from mechmem.math.additive import centre_classes
from mechmem.models.forward import all_logits
from mechmem.plotting.bars import stacked_bars
from mechmem.plugins import Analysis, Result
from mechmem.stats import Estimate, bootstrap
from mechmem.storage import record
from mechmem.tasks.grid import grid_rows

if TYPE_CHECKING:
    import plotly.graph_objects as go

PARTS = {"row and column effects": "#999999", "rule": "#E69F00", "remainder": "#56B4E9"}
"""The parts in the order of stacking, and their colours."""

TITLES = {
    "train_clean": "train, clean<br>true label",
    "train_noisy": "train, noisy<br>given label",
    "train_noisy_true": "train, noisy<br>true label",
    "test": "test<br>true label",
}


@record
@dataclasses.dataclass(frozen=True)
class Margin:
    """Mean margin of one label on one split, and its parts; all in logit units.

    Attributes:
        split: one of the four splits; "train_noisy" is the given label's margin, the others the true label's.
        row_column: part of the row and column effects.
        rule: part of the mean over cells that share an answer.
        remainder: what is left.
        total: the margin itself, the sum of the three.
        n_outside: cells of the split with an operand that has no place in the group (0 under multiplication); they are
            not on the grid and not counted.
    """

    split: str
    row_column: Estimate
    rule: Estimate
    remainder: Estimate
    total: Estimate
    n_outside: int


@record
@dataclasses.dataclass(frozen=True, eq=False)
class LogitAttributionResult(Result):
    """Margins and their parts, per split.

    Attributes:
        margins: one per split that has cells on the grid and known labels. Intervals are 95 % bootstrap intervals over
            answers, since cells of one answer share the rule's part.
    """

    margins: tuple[Margin, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per split and part ("total" among them): value, low, high in logits, n, n_outside."""
        return pd.DataFrame(
            [
                {"split": margin.split, "part": part, **dataclasses.asdict(estimate), "n_outside": margin.n_outside}
                for margin in self.margins
                for part, estimate in _estimates(margin)
            ],
            columns=["split", "part", "value", "low", "high", "n", "n_outside"],
        )

    def plot(self) -> go.Figure:
        """Return stacked bars, the total marked."""
        frame = self.to_frame()
        bars = {margin.split: _bar(margin) for margin in self.margins}
        frame["bar"] = [bars[split] for split in frame["split"]]
        return stacked_bars(frame, PARTS, y_title="mean margin over the strongest rival (logits)")


def _bar(margin: Margin) -> str:
    outside = f"<br>({margin.n_outside:,} outside the group)" if margin.n_outside else ""
    return f"{TITLES[margin.split]}<br>n = {margin.total.n:,}{outside}"


def _estimates(margin: Margin) -> Iterator[tuple[str, Estimate]]:
    yield from zip((*PARTS, "total"), (margin.row_column, margin.rule, margin.remainder, margin.total), strict=True)


@dataclasses.dataclass(frozen=True)
class LogitAttribution(Analysis):
    """Split the margin L_y − L_rival into three parts of the logits that sum to it exactly.

    The logits on the grid, each cell's mean over classes taken out, are the sum of (1) row and column effects per
    class; (2) the rule: per class the mean, over the cells that share an answer, of what is left, which is the same as
    its modes (k, k), or (−k, k) for subtraction; and (3) the remainder. The rival is the strongest other class of the
    full logits. Both means run over training cells too, so a table of the labels has a part that looks like the rule:
    this shows what the margins are made of, not that the rule is computed on inputs whose labels were never seen.
    """

    name: ClassVar[str] = "logit_attribution"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "operation"})
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "input_group", "operation", "test_inputs", "given_labels", "true_train_labels", "noise_mask"}
        | {"test_labels"}
    )
    cites: ClassVar[str] = "mechmem"

    def __call__(self, subject: Subject) -> LogitAttributionResult:
        """Return the margins.

        Raises:
            MissingNeedError: the subject lacks something, or no split has a cell on the grid.
        """
        self.require(subject)
        task = subject.task
        rows = grid_rows(task)
        answer = answers(len(rows), task.operation)
        parts = split_logits(centre_classes(all_logits(subject))[rows], answer)
        cell_of = torch.full((len(task.ids),), -1)
        cell_of[rearrange(rows, "a b -> (a b)")] = torch.arange(rows.numel())
        parts = rearrange(parts, "part a b classes -> part (a b) classes")
        answer = rearrange(answer, "a b -> (a b)")
        margins = []
        for split, ids, labels in _labelled(task):
            cell = cell_of[task.rows(ids)]
            inside = cell >= 0
            if inside.any():
                found = margin_parts(parts[:, cell[inside]], labels[inside])
                margins.append(_margin(split, found, answer[cell[inside]], int((~inside).sum())))
        if not margins:
            raise MissingNeedError(f"{self.name!r} needs a split with known labels on the grid of the group")
        return LogitAttributionResult(tuple(margins))


def answers(n: int, operation: str | None) -> Int[Tensor, "n n"]:
    """Return each cell's answer as a position in the group."""
    a, b = torch.arange(n)[:, None], torch.arange(n)[None, :]
    return (a - b if operation == "subtract" else a + b) % n


def split_logits(logits: Float[Tensor, "n n class"], answer: Int[Tensor, "n n"]) -> Float[Tensor, "part n n class"]:
    """Split a table into row and column effects, the mean of the rest by answer, and the remainder."""
    logits = logits.double()
    row, column = (
        reduce(logits, "a b classes -> a 1 classes", "mean"),
        reduce(logits, "a b classes -> 1 b classes", "mean"),
    )
    additive = row + column - reduce(logits, "a b classes -> 1 1 classes", "mean")
    rest = logits - additive
    flat = rearrange(answer, "a b -> (a b)")
    sums = torch.zeros(len(answer), logits.shape[-1], dtype=torch.float64)
    sums.index_add_(0, flat, rearrange(rest, "a b classes -> (a b) classes"))
    # Every answer has n cells, one per row.
    rule = (sums / len(answer))[answer]
    return torch.stack([additive, rule, rest - rule])


def margin_parts(parts: Float[Tensor, "part cell class"], labels: Int[Tensor, " cell"]) -> Float[Tensor, "part cell"]:
    """Return each part's share of the label's margin over the strongest other class of the parts' sum."""
    own = labels[:, None]
    rival = parts.sum(0).scatter(1, own, -math.inf).argmax(1, keepdim=True)
    picked = [part.gather(1, own) - part.gather(1, rival) for part in parts]
    return rearrange(torch.stack(picked), "part cell 1 -> part cell")


def _labelled(task: Task) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (split, ids, labels) where there are any."""
    for name, split in (
        ("train_clean", "train_clean"),
        ("train_noisy", "train_noisy"),
        ("train_noisy_true", "train_noisy"),
        ("test", "test"),
    ):
        ids = task.splits[split]
        if ids is None or not len(ids):
            continue
        labels = task.given(ids) if name == "train_noisy" else task.true(ids)
        if labels is not None:
            yield name, ids, labels


def _margin(split: str, parts: Float[Tensor, "part cell"], answer: Int[Tensor, " cell"], n_outside: int) -> Margin:
    values, unit = parts.numpy(), answer.numpy()
    counts = np.bincount(unit)
    kept = counts > 0

    def estimate(row: Float[np.ndarray, " cell"]) -> Estimate:
        sums = np.bincount(unit, weights=row)[kept]
        pooled = bootstrap(lambda s, m, axis: s.sum(axis) / m.sum(axis), (sums, counts[kept].astype(float)), seed=0)
        return dataclasses.replace(pooled, n=len(row))

    row_column, rule, remainder = (estimate(row) for row in values)
    return Margin(split, row_column, rule, remainder, estimate(values.sum(0)), n_outside)
