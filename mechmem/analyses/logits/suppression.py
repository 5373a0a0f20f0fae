"""Suppression of the rule in the logits by row and column effects or memorization, and the effect of removing each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import pandas as pd
import plotly.graph_objects as go
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.stats import Estimate, proportion
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import MissingNeedError
from mechmem.math.additive import ROWS, additive_effects, centre_classes, clear_rounding, rounding
from mechmem.math.comparisons import means_over_answers
from mechmem.math.grid_parts import GridParts
from mechmem.math.logits import at_label, strongest_rival
from mechmem.math.logits import margins as margins_of
from mechmem.models.reading.forward import all_logits
from mechmem.models.reading.grid import grid_cells, logit_parts
from mechmem.plotting.logits import suppression_figure
from mechmem.tasks.grid import answer_sign
from mechmem.tasks.splits import labelled_splits

PARTS = ("row and column effects", "rule", "remainder")
"""The parts of the logits, which sum to them."""

LOCAL = "without row and column effects, fitted on these cells only"

REMOVALS: Mapping[str, tuple[float, float, float]] = {
    "total": (1, 1, 1),
    **{f"without {part}": tuple(float(i != j) for j in range(3)) for i, part in enumerate(PARTS)},
    **{f"only {part}": tuple(float(i == j) for j in range(3)) for i, part in enumerate(PARTS)},
}  # pyright: ignore[reportAssignmentType]
"""Weights of the three parts of the logits after each removal; `LOCAL` is one more removal."""


@record
@dataclasses.dataclass(frozen=True)
class MarginParts:
    """Mean margin of the label over the strongest rival of the full logits on one split, and its parts, in logits.

    Attributes:
        split: one of the four splits; "train_noisy" has the given label's margin, the others the true label's.
        row_column: contribution of the row and column effects.
        rule: contribution of the mean over cells that share an answer.
        remainder: contribution of the rest.
        total: the margin itself, the sum of the three.
        n_outside: cells of the split with an operand outside the group (0 under multiplication), which are not counted.
    """

    split: str
    row_column: Estimate
    rule: Estimate
    remainder: Estimate
    total: Estimate
    n_outside: int


@record
@dataclasses.dataclass(frozen=True)
class Removal:
    """Accuracy and margin on one split after parts of the logits are removed.

    Attributes:
        split: one of the four splits.
        part: what was removed or kept; "total" for the full logits.
        accuracy: share of the cells where the label has the highest logit, with a Wilson interval.
        margin: mean margin of the label over the strongest rival in the remaining logits.
    """

    split: str
    part: str
    accuracy: Estimate
    margin: Estimate


@record
@dataclasses.dataclass(frozen=True, eq=False)
class SuppressionResult(Result):
    """Margins with their parts, and the effect of removing each part, per split that has cells on the grid.

    Attributes:
        margins: one per split. Intervals are 95 % bootstrap intervals over answers, since cells with the same answer
            share the rule's part.
        removals: one per split and removal, the full logits ("total") first; intervals of margins as above.
        chance: accuracy of a blind guess.
    """

    margins: tuple[MarginParts, ...]
    removals: tuple[Removal, ...]
    chance: float

    @property
    def suppressing(self) -> dict[str, tuple[str, ...]]:
        """Per split, the parts that lower the label's margin: those whose interval lies below 0, worst first."""
        found = {}
        for margin in self.margins:
            parts = sorted(_parts(margin).items(), key=lambda item: item[1].value)
            found[margin.split] = tuple(name for name, each in parts if name != "total" and each.high < 0)
        return found

    def to_frame(self) -> pd.DataFrame:
        """Return one row per number: quantity ("margin" in logits, "accuracy"), split, part, value, low, high, n.

        A part's own name marks its contribution to the margin over the rival of the full logits, "total" their sum;
        "without …" and "only …" are removals, whose margins are over the rival in the remaining logits.
        """
        rows = [
            {"quantity": "margin", "split": margin.split, "part": part, **dataclasses.asdict(estimate)}
            for margin in self.margins
            for part, estimate in _parts(margin).items()
        ]
        for each in self.removals:
            found = {"margin": each.margin, "accuracy": each.accuracy}
            rows += [
                {"quantity": quantity, "split": each.split, "part": each.part, **dataclasses.asdict(estimate)}
                for quantity, estimate in found.items()
                # The margin of the full logits is already among the parts.
                if (quantity, each.part) != ("margin", "total")
            ]
        return pd.DataFrame(rows, columns=["quantity", "split", "part", "value", "low", "high", "n"])

    def plot(self) -> go.Figure:
        """Return the margins as stacked bars, their total marked; below, the accuracies after each removal."""
        outside = {margin.split: margin.n_outside for margin in self.margins}
        return suppression_figure(self.to_frame(), outside, self.chance)


def _parts(margin: MarginParts) -> dict[str, Estimate]:
    return dict(zip((*PARTS, "total"), (margin.row_column, margin.rule, margin.remainder, margin.total), strict=True))


@dataclasses.dataclass(frozen=True)
class Suppression(Analysis):
    """Find the part of the logits that lowers a label's margin L_y − L_rival, and the effect of removing each part.

    The logits on the grid, less each cell's mean over classes, are exactly the sum of (1) row and column effects per
    class; (2) the rule: per class, the mean of the rest over the cells that share an answer, which equals its modes
    (k, k), or (−k, k) for subtraction; and (3) the remainder.

    All means run over training cells too. So even a table of the labels has a part that looks like the rule, and its
    "only rule" accuracy on held-out cells is a vote of the labels: the parts show how the margins are composed, not
    that the network computes the rule on held-out inputs. For that, use "without row and column effects, fitted on
    these cells only": effects fitted by least squares on the held-out cells for the test split (on all training cells
    for the others), so that no label leaks. The readout `additive_free` predicts the same.
    """

    name: ClassVar[str] = "suppression"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "operation"})
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "input_group", "slopes", "operation", "test_inputs", "given_labels", "true_train_labels"}
        | {"noise_mask", "test_labels"}
    )
    cites: ClassVar[str] = "mechmem"

    def __call__(self, subject: Subject) -> SuppressionResult:
        """Return the margins and removals.

        Raises:
            MissingNeedError: the subject lacks something, or no split has a cell on the grid.
        """
        self.require(subject)
        task = subject.task
        logits, parts, sign = all_logits(subject), logit_parts(subject).centred(), answer_sign(task)
        local = {True: _effects(task, logits, task.test_ids), False: _effects(task, logits, task.train_ids)}
        margins, removals = [], []
        for split in labelled_splits(task):
            cells = grid_cells(subject, split.ids)
            inside = (cells >= 0).all(1)
            if not inside.any():
                continue
            rows, labels = task.rows(split.ids[inside]), split.labels[inside]
            found = _measure(task, logits, rows, cells[inside], labels, parts, sign, local[split.name == "test"])
            truth = split.truth[inside].numpy()
            row_column, rule, remainder, total = means_over_answers(found.shares.numpy(), truth)
            margins.append(MarginParts(split.name, row_column, rule, remainder, total, int((~inside).sum())))
            left = means_over_answers(found.margin.numpy(), truth)
            for part, margin, hit in zip((*REMOVALS, LOCAL), left, found.hit, strict=True):
                accuracy = proportion(hit)
                assert accuracy is not None
                removals.append(Removal(split.name, part, accuracy, margin))
        if not margins:
            raise MissingNeedError(f"{self.name!r} needs a split with known labels on the grid of the group")
        return SuppressionResult(tuple(margins), tuple(removals), 1 / task.n_classes)


@dataclasses.dataclass(frozen=True, eq=False)
class _Measured:
    """Per cell: shares of the margin (three parts and their sum), and margin and hit of each removal."""

    shares: Float[Tensor, "4 cell"]
    margin: Float[Tensor, "removal cell"]
    hit: Bool[Tensor, "removal cell"]


def _effects(
    task: Task, logits: Float[Tensor, "example class"], ids: Int[Tensor, " cell"]
) -> tuple[Float[Tensor, "effect class"], Float[Tensor, " class"]]:
    """Row and column effects on these cells alone, less their mean over classes, and what of a rest may be rounding."""
    assert task.operands is not None
    rows = task.rows(ids)
    effects = centre_classes(additive_effects(logits[rows], task.operands[rows], task.symbols))
    return effects, rounding(logits[rows])


def _measure(
    task: Task,
    logits: Float[Tensor, "example class"],
    rows: Int[Tensor, " cell"],
    cells: Int[Tensor, "cell 2"],
    labels: Int[Tensor, " cell"],
    parts: GridParts,
    sign: int,
    local: tuple[Float[Tensor, "effect class"], Float[Tensor, " class"]],
) -> _Measured:
    assert task.operands is not None
    (effects, smallest), shares, margins, hits = local, [], [], []
    for row, place, label in zip(rows.split(ROWS), cells.split(ROWS), labels.split(ROWS), strict=True):
        a, b = place.unbind(1)
        full = centre_classes(logits[row])
        additive, rule = parts.row[a] + parts.column[b], parts.rule[(a + sign * b) % len(parts.rule)]
        every = (additive, rule, full - additive - rule)
        rival = strongest_rival(full, label)
        own = [at_label(part, label) - at_label(part, rival) for part in every]
        shares.append(torch.stack([*own, at_label(full, label) - at_label(full, rival)]))
        pairs = task.operands[row]
        free = full - effects[pairs[:, 0]] - effects[pairs[:, 1] + task.symbols]
        clear_rounding(free, smallest)
        left = [full, *(_weighted(every, weights) for name, weights in REMOVALS.items() if name != "total"), free]
        margins.append(torch.stack([margins_of(each, label) for each in left]))
        hits.append(torch.stack([each.argmax(1) == label for each in left]))
    return _Measured(torch.cat(shares, 1), torch.cat(margins, 1), torch.cat(hits, 1))


def _weighted(parts: tuple[Tensor, Tensor, Tensor], weights: tuple[float, float, float]) -> Float[Tensor, "cell class"]:
    kept = [part for part, weight in zip(parts, weights, strict=True) if weight]
    return kept[0] if len(kept) == 1 else kept[0] + kept[1]
