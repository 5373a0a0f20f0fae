"""Held-out structure: is the rule computed on inputs whose labels the network never saw?

Only logits of held-out inputs are read. What depends on one operand alone is taken out first, on held-out cells only;
a fit that saw training cells would carry their labels over.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.contracts import Subject
from mechmem.math.additive import additive_part, centre_classes
from mechmem.models.forward import all_logits
from mechmem.stats import Estimate, bootstrap, matching_z_score
from mechmem.storage import record

Verdict = Literal["rule", "labels_only", "refused"]

Z_THRESHOLD = 3.0
"""Z above which κ is more than a renaming of the classes gives by chance."""

LEAST_CELLS_PER_SYMBOL = 4
"""With fewer held-out cells than this times p, row and column effects take up most of what there is to see."""

NEGLIGIBLE = 1e-10
"""Share of the energy below which a residual is rounding error."""


@record
@dataclasses.dataclass(frozen=True)
class Structure:
    """How much of the rule a network shows on inputs whose labels it never saw.

    Attributes:
        S: mean over pairs of held-out cells with one true answer of ⟨z_i, z_j⟩ / classes: 1 for any function of the
            answer, 0 for none. None where refused. Biased by about .0005, so not used for detection.
        kappa: mean z at the true class over √(classes − 1), in [−1, 1]; 1 for one-hot truth.
        Z: κ in standard deviations of its distribution over all renamings of the classes.
        heldout_vote: share of the answers whose held-out cells together name them.
        verdict: "rule", "labels_only" or "refused".
        reason: why the verdict was refused, or "".
        reference_kappa: κ that the training labels themselves have on training cells, 1 − ξ·p/(p − 1); None if unknown.
        n_test: number of held-out cells.
    """

    S: Estimate | None
    kappa: Estimate | None
    Z: float | None
    heldout_vote: Estimate | None
    verdict: Verdict
    reason: str = ""
    reference_kappa: float | None = None
    n_test: int = 0


def held_out_structure(subject: Subject, seed: int = 0) -> Structure:
    """Measure a subject's held-out structure.

    Args:
        subject: its task needs inputs that are pairs, and at least 4 held-out cells per symbol; otherwise refused.
        seed: seed of the bootstrap over answers.
    """
    task = subject.task
    n_test = len(task.test_ids)
    if task.operands is None:
        return _refused("the inputs are not pairs, so row and column effects have no meaning", n_test)
    if n_test < LEAST_CELLS_PER_SYMBOL * task.symbols:
        needed = LEAST_CELLS_PER_SYMBOL * task.symbols
        return _refused(f"{n_test} held-out cells are too few; at least 4p = {needed} are needed", n_test)
    rows = task.rows(task.test_ids)
    truth = task.true(task.test_ids)
    assert truth is not None
    z = standardised_residual(all_logits(subject)[rows], task.operands[rows], task.symbols)
    kappa, pairs, Z, vote = statistics(z.numpy(), truth.numpy(), seed)
    chance = 1 / task.n_classes
    verdict: Verdict = "rule" if Z > Z_THRESHOLD and vote.low > chance else "labels_only"
    return Structure(pairs, kappa, Z, vote, verdict, "", label_kappa(subject), n_test)


def standardised_residual(
    logits: Float[Tensor, "cell class"], pairs: Int[Tensor, "cell 2"], symbols: int
) -> Float[Tensor, "cell class"]:
    """Take row and column effects out of the logits and z-score each cell over classes (0 where nothing is left)."""
    centred = centre_classes(logits)
    residual = centred - additive_part(centred, pairs, symbols)
    if float(residual.square().sum()) <= NEGLIGIBLE * float(logits.double().square().sum()):
        return residual * 0
    residual = centre_classes(residual)
    spread = residual.square().mean(1, keepdim=True).sqrt()
    return residual / spread.where(spread > 0, 1.0)


def statistics(
    z: Float[np.ndarray, "cell class"], truth: Int[np.ndarray, " cell"], seed: int
) -> tuple[Estimate, Estimate, float, Estimate]:
    """Return κ, S, Z and the held-out vote of standardised residuals; intervals bootstrap over answers.

    Cells that share an answer are not independent, so the outcomes are the answers, not the cells.
    """
    n_classes = z.shape[1]
    summed = np.zeros((n_classes, n_classes))
    np.add.at(summed, truth, z)
    count = np.bincount(truth, minlength=n_classes).astype(float)
    squared = np.bincount(truth, np.square(z).sum(1), minlength=n_classes)
    present = count > 0
    at_truth = np.diagonal(summed)
    pair_sum = (np.square(summed).sum(1) - squared) / n_classes
    pair_count = count * (count - 1)
    named = np.where(np.abs(summed).max(1) > 0, summed.argmax(1) == np.arange(n_classes), False)

    scale = np.sqrt(max(n_classes - 1, 1))
    kappa = bootstrap(
        lambda total, n, axis: total.sum(axis) / (np.maximum(n.sum(axis), 1) * scale),
        [at_truth[present], count[present]],
        seed=seed,
    )
    pairs = bootstrap(
        lambda total, n, axis: total.sum(axis) / np.maximum(n.sum(axis), 1),
        [pair_sum[present], pair_count[present]],
        seed=seed,
    )
    vote = bootstrap(lambda hit, axis: hit.mean(axis), [named[present].astype(float)], seed=seed)
    return kappa, pairs, matching_z_score(summed), vote


def label_kappa(subject: Subject) -> float | None:
    """Return κ of the training labels on the training cells, 1 − ξ·p/(p − 1): what a perfect fit of them would show."""
    noisy = subject.task.noisy
    if noisy is None:
        return None
    p = subject.task.n_classes
    return 1 - float(noisy.double().mean()) * p / (p - 1)


def _refused(reason: str, n_test: int) -> Structure:
    return Structure(None, None, None, None, "refused", reason, None, n_test)
