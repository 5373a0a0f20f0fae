"""Held-out structure: evidence that a network computes the rule on inputs whose labels it never saw.

Only logits of held-out inputs are read. Effects of a single operand are subtracted first, fitted on held-out cells
only; a fit that saw training cells would carry their labels over.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.stats import Estimate, bootstrap, matching_z_score
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.math.additive import ROWS, additive_residual, centre_classes
from mechmem.models.reading.forward import all_logits

Verdict = Literal["rule", "labels_only", "refused", "mixed"]

Z_THRESHOLD = 3.0
"""Z above which κ exceeds what a random renaming of the classes gives."""

LEAST_CELLS_PER_SYMBOL = 4
"""Fewest held-out cells in units of p: with fewer, row and column effects absorb most of the signal."""

SYMMETRIC = "the network cannot tell (a, b) from (b, a)"

NEGLIGIBLE = 1e-10
"""Share of the energy below which a residual is rounding error."""


@record
@dataclasses.dataclass(frozen=True)
class Structure:
    """How much of the rule a network shows on inputs whose labels it never saw.

    Attributes:
        S: mean of ⟨z_i, z_j⟩ / classes over pairs of held-out cells with the same true answer: 1 for any function of
            the answer, 0 for none. None if refused. Biased by about .0005, so not used for detection.
        kappa: mean z at the true class over √(classes − 1), in [−1, 1]; 1 for one-hot truth.
        Z: κ in standard deviations of its distribution over all renamings of the classes.
        heldout_vote: share of the answers for which the summed z of their held-out cells is highest at the answer.
        verdict: "rule", "labels_only" or "refused"; "mixed" if pooled runs differ.
        reason: why the verdict was refused, or why the structure is not the rule, or "".
        reference_kappa: κ of the training labels themselves on training cells, 1 − ξ·p/(p − 1); None if unknown.
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
        subject: its task must have pairs as inputs and at least 4 held-out cells per symbol; otherwise refused.
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
    logits, truth = all_logits(subject)[rows], task.true(task.test_ids)
    # The extremes of a table with a NaN are NaN; testing every element would take several more tables of its size.
    if not all(bool(torch.isfinite(extreme)) for extreme in logits.aminmax()):
        return _refused("the held-out logits are not finite", n_test)
    assert truth is not None
    z = standardised_residual(logits, task.operands[rows], task.symbols)
    kappa, pairs, Z, vote = statistics(z.numpy(), truth.numpy(), seed)
    verdict: Verdict = "rule" if Z > Z_THRESHOLD and vote.low > 1 / task.n_classes else "labels_only"
    reason = ""
    if verdict == "rule" and symmetric_logits(logits, task.operands[rows]):
        # To such a network (a, b) and (b, a) are one input, whose label it has seen if either was trained on.
        unseen = ~answer_given_to_mirror(task)
        if not unseen.any():
            verdict, reason = "refused", f"{SYMMETRIC}, and every held-out answer was the label of a trained mirror"
        elif matching_z_score(_summed(z[unseen].numpy(), truth[unseen].numpy())) <= Z_THRESHOLD:
            verdict, reason = "labels_only", f"{SYMMETRIC}, and what shows is the labels of trained mirrors"
    return Structure(pairs, kappa, Z, vote, verdict, reason, label_kappa(subject), n_test)


def symmetric_logits(logits: Float[Tensor, "cell class"], pairs: Int[Tensor, "cell 2"]) -> bool:
    """Return whether the logits of (a, b) and (b, a) agree whenever both cells are given; False if there are no such.

    They agree in a network with tied inputs. Training on a symmetric rule makes them agree only nearly, which is not
    enough: only rounding errors are allowed.
    """
    n = int(pairs.max()) + 1
    place = torch.full((n, n), -1)
    place[pairs[:, 0], pairs[:, 1]] = torch.arange(len(pairs))
    mirror = place[pairs[:, 1], pairs[:, 0]]
    both = (mirror >= 0) & (pairs[:, 0] != pairs[:, 1])
    if not both.any():
        return False
    difference = total = 0.0
    for cell, other in zip(both.nonzero()[:, 0].split(ROWS), mirror[both].split(ROWS), strict=True):
        own = centre_classes(logits[cell])
        difference += float((own - centre_classes(logits[other])).square().sum())
        total += float(own.square().sum())
    return difference <= NEGLIGIBLE * total


def answer_given_to_mirror(task: Task) -> Bool[Tensor, " test"]:
    """Return whether the given label of the training cell (b, a) is the true answer of each held-out (a, b)."""
    assert task.operands is not None
    labels = torch.full((task.symbols, task.symbols), -1)
    labels[tuple(task.operands[task.rows(task.train_ids)].T)] = task.given(task.train_ids)
    a, b = task.operands[task.rows(task.test_ids)].T
    return labels[b, a] == task.true(task.test_ids)


def standardised_residual(
    logits: Float[Tensor, "cell class"], pairs: Int[Tensor, "cell 2"], symbols: int
) -> Float[Tensor, "cell class"]:
    """Subtract row and column effects from the logits and z-score each cell over classes (0 if nothing is left)."""
    residual = additive_residual(logits, pairs, symbols)
    if _energy(residual) <= NEGLIGIBLE * _energy(logits):
        return residual.zero_()
    for part in residual.split(ROWS):
        part.copy_(centre_classes(part))
        spread = part.square().mean(1, keepdim=True).sqrt()
        part.div_(spread.where(spread > 0, 1.0))
    return residual


def _energy(values: Float[Tensor, "cell class"]) -> float:
    return sum(float(part.double().square().sum()) for part in values.split(ROWS))


def statistics(
    z: Float[np.ndarray, "cell class"], truth: Int[np.ndarray, " cell"], seed: int
) -> tuple[Estimate, Estimate, float, Estimate]:
    """Return κ, S, Z and the held-out vote of standardised residuals; intervals bootstrap over answers.

    Cells that share an answer are not independent, so answers are resampled, not cells.
    """
    n_classes = z.shape[1]
    summed = _summed(z, truth)
    count = np.bincount(truth, minlength=n_classes).astype(float)
    squared = np.bincount(truth, np.einsum("ic,ic->i", z, z), minlength=n_classes)
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


def _summed(z: Float[np.ndarray, "cell class"], truth: Int[np.ndarray, " cell"]) -> Float[np.ndarray, "answer class"]:
    """Sum z over the cells of each true answer."""
    summed = torch.zeros(z.shape[1], z.shape[1], dtype=torch.float64)
    return summed.index_add_(0, torch.from_numpy(truth), torch.from_numpy(z)).numpy()


def label_kappa(subject: Subject) -> float | None:
    """Return κ of the training labels on the training cells, 1 − ξ·p/(p − 1), which a perfect fit would have."""
    noisy = subject.task.noisy
    if noisy is None:
        return None
    p = subject.task.n_classes
    return 1 - float(noisy.double().mean()) * p / (p - 1)


def _refused(reason: str, n_test: int) -> Structure:
    return Structure(None, None, None, None, "refused", reason, None, n_test)
