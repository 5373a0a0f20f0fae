"""Statistics of held-out structure: κ, S, Z, the held-out vote, and what they are compared with."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.stats import Estimate, bootstrap, matching_z_score, wilson
from mechmem.math.additive import ROWS, additive_residual, centre_classes

NEGLIGIBLE = 1e-10
"""Share of the energy below which a residual is rounding error."""


def standardised_residual(
    logits: Float[Tensor, "cell class"],
    pairs: Int[Tensor, "cell 2"],
    symbols: int,
    missing: Int[Tensor, " cell"] | None = None,
) -> Float[Tensor, "cell class"]:
    """Subtract row and column effects from the logits and z-score each cell over classes (0 if nothing is left).

    Args:
        logits: one row per held-out cell.
        pairs: operands (a, b) of each cell.
        symbols: number of symbols an operand can take.
        missing: a class of each cell that is not read and has z = 0, or −1.
    """
    residual = additive_residual(logits, pairs, symbols, missing)
    if _energy(residual) <= NEGLIGIBLE * _energy(logits, missing):
        return residual.zero_()
    for part in residual.split(ROWS):
        if missing is None:
            part.copy_(centre_classes(part))
        spread = part.square().mean(1, keepdim=True).sqrt()
        part.div_(spread.where(spread > 0, 1.0))
    return residual


def _energy(values: Float[Tensor, "cell class"], missing: Int[Tensor, " cell"] | None = None) -> float:
    """Sum the squares of a table, without those of missing values."""
    total = 0.0
    for start in range(0, len(values), ROWS):
        squares = values[start : start + ROWS].double().square()
        if missing is not None:
            left_out = missing[start : start + ROWS]
            cell = (left_out >= 0).nonzero()[:, 0]
            squares[cell, left_out[cell]] = 0
        total += float(squares.sum())
    return total


def summed_by(
    z: Float[np.ndarray, "cell class"], answer: Int[np.ndarray, " cell"], answers: int
) -> Float[np.ndarray, "answer class"]:
    """Sum z over the cells of each answer."""
    summed = torch.zeros(answers, z.shape[1], dtype=torch.float64)
    return summed.index_add_(0, torch.from_numpy(answer), torch.from_numpy(z)).numpy()


@dataclasses.dataclass(frozen=True)
class SameAnswer:
    """Agreement S of cells with the same answer: mean of ⟨z_i, z_j⟩ / classes over pairs of distinct cells.

    Pairs of mirror images are left out: a network that cannot tell (a, b) from (b, a) agrees with itself there.

    Attributes:
        z: standardised residuals.
        mirror: position of each cell's mirror image among the cells; −1 if it is not among them, or is the cell itself.
    """

    z: Float[np.ndarray, "cell class"]
    mirror: Int[np.ndarray, " cell"]

    @classmethod
    def of(cls, z: Float[np.ndarray, "cell class"], pairs: Int[np.ndarray, "cell 2"]) -> SameAnswer:
        """Find the mirror images among cells with these operands."""
        n = int(pairs.max(initial=0)) + 1
        place = np.full((n, n), -1)
        place[pairs[:, 0], pairs[:, 1]] = np.arange(len(pairs))
        mirror = place[pairs[:, 1], pairs[:, 0]]
        return cls(z, np.where(pairs[:, 0] == pairs[:, 1], -1, mirror))

    @functools.cached_property
    def _squares(self) -> Float[np.ndarray, " cell"]:
        return np.einsum("ic,ic->i", self.z, self.z)

    @functools.cached_property
    def _with_mirror(self) -> Float[np.ndarray, " cell"]:
        return np.einsum("ic,ic->i", self.z, self.z[self.mirror])

    def sums(
        self, answer: Int[np.ndarray, " cell"], answers: int
    ) -> tuple[Float[np.ndarray, " answer"], Float[np.ndarray, " answer"]]:
        """Return the sum of ⟨z_i, z_j⟩ / classes over the pairs of each answer, and the number of these pairs.

        Args:
            answer: answer of each cell.
            answers: number of answers.
        """
        count = np.bincount(answer, minlength=answers).astype(float)
        both = (self.mirror >= 0) & (answer == answer[self.mirror])
        own = self._squares + np.where(both, self._with_mirror, 0)
        total = np.square(summed_by(self.z, answer, answers)).sum(1) - np.bincount(answer, own, minlength=answers)
        mirrored = np.bincount(answer[both], minlength=answers)
        return total / self.z.shape[1], count * (count - 1) - mirrored

    def value(self, answer: Int[np.ndarray, " cell"]) -> float:
        """Return S of a partition of the cells into answers; cells with the answer −1 are left out."""
        known = answer >= 0
        if not known.any():
            return 0.0
        # Few tasks leave answers unknown; the others are spared a copy of the residuals.
        cells = self if known.all() else self._among(known)
        total, number = cells.sums(answer[known], int(answer.max()) + 1)
        return float(total.sum() / max(number.sum(), 1))

    def _among(self, kept: Bool[np.ndarray, " cell"]) -> SameAnswer:
        place = np.cumsum(kept) - 1
        mirror = np.where((self.mirror >= 0) & kept[self.mirror], place[self.mirror], -1)
        return SameAnswer(self.z[kept], mirror[kept])


def statistics(
    z: Float[np.ndarray, "cell class"],
    truth: Int[np.ndarray, " cell"],
    seed: int,
    pairs: Int[np.ndarray, "cell 2"] | None = None,
) -> tuple[Estimate, Estimate, float, Estimate]:
    """Return κ, S, Z and the held-out vote of standardised residuals.

    Intervals of κ and S bootstrap over answers, because cells that share an answer are not independent; that of the
    vote is Wilson's, with one outcome per answer.

    Args:
        z: standardised residuals.
        truth: right answer of each cell.
        seed: seed of the bootstrap.
        pairs: operands of each cell, with which S leaves out pairs of mirror images.
    """
    n_classes = z.shape[1]
    summed = summed_by(z, truth, n_classes)
    count = np.bincount(truth, minlength=n_classes).astype(float)
    present = count > 0
    same = SameAnswer(z, np.full(len(z), -1)) if pairs is None else SameAnswer.of(z, pairs)
    pair_sum, pair_count = same.sums(truth, n_classes)
    named = np.where(np.abs(summed).max(1) > 0, summed.argmax(1) == np.arange(n_classes), False)

    scale = np.sqrt(max(n_classes - 1, 1))
    kappa = bootstrap(
        lambda total, n, axis: total.sum(axis) / (np.maximum(n.sum(axis), 1) * scale),
        [np.diagonal(summed)[present], count[present]],
        seed=seed,
        bounds=(-1.0, 1.0),
    )
    agreement = bootstrap(
        lambda total, n, axis: total.sum(axis) / np.maximum(n.sum(axis), 1),
        [pair_sum[present], pair_count[present]],
        seed=seed,
        bounds=(-1.0, 1.0),
    )
    vote = wilson(int(named[present].sum()), int(present.sum()))
    assert vote is not None
    return kappa, agreement, matching_z_score(summed), vote


def shift_margin(
    summed: Float[np.ndarray, "answer class"], cells: int, shifts: Int[np.ndarray, "shift class"]
) -> tuple[float, int | None, float]:
    """Compare κ at the true answers with κ at every shift of them.

    A smooth function of operands and class has no reason to prefer the truth to its neighbours.

    Args:
        summed: z summed over the cells of each answer.
        cells: number of these cells.
        shifts: the class to which each shift moves each class.

    Returns:
        The distance of κ at the true answers from the largest κ at a shift, in standard deviations of Z, negative if
        that is larger; the row of the shift with the larger κ, or None; and the largest κ.
    """
    n = len(summed)
    own = float(np.trace(summed))
    moved = summed[np.arange(n), shifts].sum(1) if len(shifts) else np.full(1, -np.inf)
    best, z = int(moved.argmax()), matching_z_score(summed)
    deviation = abs((own - float(summed.sum()) / n) / z) if z else np.inf
    highest = max(own, float(moved[best]))
    margin = float((own - moved[best]) / deviation) if len(shifts) else np.inf
    return margin, None if highest == own else best, highest / (max(cells, 1) * np.sqrt(max(n - 1, 1)))


def unexplained_z_score(
    z: Float[np.ndarray, "cell class"],
    truth: Int[np.ndarray, " cell"],
    explanations: list[Float[np.ndarray, "cell class"]],
) -> float:
    """Return Z of what is left of standardised residuals after least squares on those of other predictors.

    Args:
        z: standardised residuals of the network.
        truth: right answer of each cell.
        explanations: standardised residuals of the predictors, on the same cells.
    """
    wanted, others = torch.from_numpy(z), [torch.from_numpy(each) for each in explanations]
    gram = torch.stack([torch.stack([(left * right).sum() for right in others]) for left in others])
    weights = torch.linalg.pinv(gram, hermitian=True) @ torch.stack([(each * wanted).sum() for each in others])
    left = wanted.clone()
    for weight, each in zip(weights, others, strict=True):
        left.sub_(each, alpha=float(weight))
    if _energy(left) <= NEGLIGIBLE * _energy(wanted):
        return 0.0
    return matching_z_score(summed_by(left.numpy(), truth, z.shape[1]))
