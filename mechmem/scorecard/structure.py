"""Held-out structure: evidence that a network computes the rule on inputs whose labels it never saw.

Only logits of held-out inputs are read. Effects of a single operand are subtracted first, fitted on held-out cells
only; a fit that saw training cells would carry their labels over.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mechmem.core.stats import Estimate
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.math.additive import additive_part
from mechmem.math.logits import all_finite
from mechmem.models.reading.forward import raw_logits
from mechmem.scorecard.evidence import (
    SameAnswer,
    shift_margin,
    standardised_residual,
    statistics,
    summed_by,
    unexplained_z_score,
)
from mechmem.scorecard.given_away import GivenAway, given_away
from mechmem.scorecard.verdict import Z_THRESHOLD, Evidence, Verdict, judge
from mechmem.tasks.other_answers import other_answers, shift_name, shifts

MOST_SYMBOLS = 2048
"""Most symbols of an operand: the fit of row and column effects inverts a matrix of twice as many rows."""

LEAST_CELLS_PER_SYMBOL = 4
"""Fewest held-out cells in units of p: with fewer, row and column effects absorb most of the signal."""

MOST_ADDITIVE = 0.5
"""If row and column effects alone give more of the right answers, what is left without them is not the rule."""


@record
@dataclasses.dataclass(frozen=True)
class Structure:
    """How much of the rule a network shows on inputs whose labels it never saw.

    All figures are of held-out cells whose answer was not given in training to a copy or to the mirror image (b, a).

    Attributes:
        S: mean of ⟨z_i, z_j⟩ / classes over pairs of held-out cells with the same true answer, mirror images left out:
            1 for any function of the answer, 0 for none. None if refused. Biased by about .0005, so not used for
            detection.
        kappa: mean z at the true class over √(classes − 1), in [−1, 1]; 1 for one-hot truth.
        Z: κ in standard deviations of its distribution over all renamings of the classes.
        heldout_vote: share of the answers for which the summed z of their held-out cells is highest at the answer.
        verdict: "rule", "trace", "another_rule", "labels_only" or "refused"; "mixed" if pooled runs differ.
        reason: why the verdict was refused, or what explains the figures instead of the rule, or "".
        reference_kappa: κ of the training labels themselves on training cells, 1 − ξ·p/(p − 1); None if unknown.
        n_test: number of held-out cells.
        n_left_out: number of held-out cells that were left out, as their copy or mirror image gave the answer away.
        Z_unexplained: Z of what is left of the logits after what a network shows that excludes the classes that it was
            given in the cell's row and column. None if refused, or if Z is not above its threshold.
        margin: distance of κ from the largest κ at another shift of the true answers, in standard deviations of Z.
        largest_other_S: largest S of another partition of the cells (a + j·b of another slope in a cyclic group).
    """

    S: Estimate | None
    kappa: Estimate | None
    Z: float | None
    heldout_vote: Estimate | None
    verdict: Verdict
    reason: str = ""
    reference_kappa: float | None = None
    n_test: int = 0
    n_left_out: int = 0
    Z_unexplained: float | None = None
    margin: float | None = None
    largest_other_S: float | None = None


def held_out_structure(subject: Subject, seed: int = 0) -> Structure:
    """Measure a subject's held-out structure.

    Args:
        subject: its task must have pairs as inputs, at least 4 held-out cells per symbol, and one per symbol without
            those whose answer a copy or a mirror image gave away; otherwise refused. So are answers most of which
            follow from what each operand adds alone, such as those that depend on one operand. With fewer than 11
            classes there are figures, but no verdict.
        seed: seed of the bootstrap over answers.
    """
    task = subject.task
    if task.operands is None:
        return _refused(task, "the inputs are not pairs, so row and column effects have no meaning")
    if task.n_classes < 2:
        return _refused(task, "there is one class, so every answer is right")
    if task.symbols > MOST_SYMBOLS:
        return _refused(task, f"operands take {task.symbols:,} symbols, more than the {MOST_SYMBOLS:,} of a fit")
    cells = given_away(task)
    n_left_out = len(task.test_ids) - int(cells.unseen.sum())
    reason = _too_few(task, cells)
    if reason:
        return _refused(task, reason, n_left_out)
    alone = _additive_share(task)
    if alone > MOST_ADDITIVE:
        why = f"what each operand adds alone gives {alone:.0%} of the answers, and structure is measured without it"
        return _refused(task, why, n_left_out)
    logits = raw_logits(subject)[task.rows(cells.ids)]
    if not all_finite(logits):
        return _refused(task, "the held-out logits are not finite", n_left_out)
    seen = _evidence(task, cells, logits, seed)
    verdict, reason = judge(seen, task.n_classes)
    return Structure(
        S=seen.S,
        kappa=seen.kappa,
        Z=seen.Z,
        heldout_vote=seen.heldout_vote,
        verdict=verdict,
        reason=reason,
        reference_kappa=label_kappa(subject),
        n_test=len(task.test_ids),
        n_left_out=n_left_out,
        Z_unexplained=seen.Z_unexplained,
        margin=seen.margin,
        largest_other_S=seen.largest_other_S,
    )


def _too_few(task: Task, cells: GivenAway) -> str:
    """Return why there are too few held-out cells, or ""."""
    n, n_test, unseen = len(cells.ids), len(task.test_ids), int(cells.unseen.sum())
    if n < (needed := LEAST_CELLS_PER_SYMBOL * task.symbols):
        copies = "" if n == n_test else f" without the {n_test - n} that copy training inputs"
        return f"{n} held-out cells are too few{copies}; at least 4p = {needed} are needed"
    if unseen < task.symbols:
        return (
            f"for all but {unseen} of {n} held-out cells the right answer was given to the mirror image in training; "
            f"at least p = {task.symbols} are needed"
        )
    return ""


def _additive_share(task: Task) -> float:
    """Return the share of the answers that the row and column effects of the right answers give; 0 for an operation.

    In an operation's table every class occurs once in each row and column, so that there are no such effects.
    """
    truth = None if task.operation is not None else task.true(task.ids)
    if truth is None or task.operands is None:
        return 0.0
    table = F.one_hot(truth, task.n_classes).float()
    return float((additive_part(table, task.operands, task.symbols).argmax(1) == truth).double().mean())


def _evidence(task: Task, cells: GivenAway, logits: Float[Tensor, "cell class"], seed: int) -> Evidence:
    """Measure what the logits of held-out cells show where no mirror image gave the answer away."""
    kept = cells.unseen.numpy()
    z = _residual(logits, cells, task.symbols)[kept]
    truth, pairs = cells.truth.numpy()[kept], cells.pairs.numpy()[kept]
    kappa, S, Z, vote = statistics(z, truth, seed, pairs)
    unexplained = None
    if Z > Z_THRESHOLD:
        excluding = [_residual(cells.excluded(either), cells, task.symbols)[kept] for either in (False, True)]
        unexplained = unexplained_z_score(z, truth, excluding)
    margin, best, moved = shift_margin(summed_by(z, truth, task.n_classes), len(truth), shifts(task).numpy())
    same, rows = SameAnswer.of(z, pairs), task.rows(cells.ids[cells.unseen])
    return Evidence(
        S=S,
        kappa=kappa,
        Z=Z,
        heldout_vote=vote,
        Z_unexplained=unexplained,
        margin=margin,
        largest_other_S=max(same.value(answer) for answer in other_answers(task)[:, rows].numpy()),
        best_shift=None if best is None else (shift_name(task, best), moved),
    )


def _residual(logits: Float[Tensor, "cell class"], cells: GivenAway, symbols: int) -> Float[np.ndarray, "cell class"]:
    """Return standardised residuals in which the labels of mirror images are not read."""
    return standardised_residual(logits, cells.pairs, symbols, cells.mirrored).numpy()


def label_kappa(subject: Subject) -> float | None:
    """Return κ of the training labels on the training cells, 1 − ξ·p/(p − 1), which a perfect fit would have."""
    noisy = subject.task.noisy
    if noisy is None:
        return None
    p = subject.task.n_classes
    return 1 - float(noisy.double().mean()) * p / (p - 1)


def _refused(task: Task, reason: str, n_left_out: int = 0) -> Structure:
    n_test = len(task.test_ids)
    return Structure(None, None, None, None, "refused", reason, n_test=n_test, n_left_out=n_left_out)
