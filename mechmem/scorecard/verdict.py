"""Verdict on a network's held-out structure: fixed rules for the statistics of its held-out logits."""

from __future__ import annotations

import dataclasses
from typing import Literal

from mechmem.core.stats import Estimate

Verdict = Literal["rule", "trace", "another_rule", "labels_only", "refused", "mixed"]

Z_THRESHOLD = 3.0
"""Z above which κ exceeds what a random renaming of the classes gives."""

LEAST_UNEXPLAINED = 2.0
"""Z above which the exclusion of classes does not explain what shows; only asked where Z is above its threshold."""

LEAST_MARGIN = 0.5
"""Least distance, in standard deviations of Z, of κ at the true answers from κ at any shift of them.

Functions that vary slowly with operands and class often exceed the threshold of Z, and hardly ever this one."""

MOST_ANSWERS = 0.5
"""Share of the answers that the interval of the held-out vote must exceed where the rule is computed."""

SAME_ANSWER = 0.5
"""S that the interval of another rule must exceed: cells with one right answer share most of their energy."""

OTHER_PARTITIONS = 2.0
"""How many times the S of every other partition of the cells another rule must have."""

LEAST_CLASSES = 11
"""Fewest classes of which Z can exceed its threshold: for one-hot truth it is √(classes − 1)."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Statistics of the held-out cells whose answer no copy or mirror image gave away; see `Structure`.

    Attributes:
        S: agreement of cells with the same right answer.
        kappa: evidence at the right answers.
        Z: κ in standard deviations of its distribution over all renamings of the classes.
        heldout_vote: share of the answers that the summed evidence of their cells names.
        Z_unexplained: Z of what the exclusion of classes seen in the same row and column does not explain; None where Z
            is not above its threshold.
        margin: distance of κ from the largest κ at a shift of the right answers, in standard deviations of Z.
        largest_other_S: largest S of another partition of the cells.
        best_shift: the shift with the largest κ in words and that κ, if it is larger than at the right answers.
    """

    S: Estimate
    kappa: Estimate
    Z: float
    heldout_vote: Estimate
    Z_unexplained: float | None
    margin: float
    largest_other_S: float
    best_shift: tuple[str, float] | None


def judge(seen: Evidence, classes: int) -> tuple[Verdict, str]:
    """Return the verdict, and why it was refused or what explains the figures instead of the rule ("" otherwise)."""
    if classes < LEAST_CLASSES:
        return (
            "refused",
            f"renaming {classes} classes cannot tell a rule from chance; at least {LEAST_CLASSES} are needed",
        )
    if seen.Z > Z_THRESHOLD and (seen.Z_unexplained or 0.0) <= LEAST_UNEXPLAINED:
        return "labels_only", "what shows there can be had by excluding the labels given in the same row and column"
    if seen.Z > Z_THRESHOLD and seen.margin >= LEAST_MARGIN:
        if seen.largest_other_S > seen.S.high:
            return (
                "trace",
                f"S is {seen.largest_other_S:.2f} for another partition, {seen.S.value:.2f} for right answers",
            )
        return ("rule" if seen.heldout_vote.low > MOST_ANSWERS else "trace"), ""
    if seen.S.low > SAME_ANSWER and seen.S.value > OTHER_PARTITIONS * seen.largest_other_S:
        name, kappa = seen.best_shift or ("", 0.0)
        return "another_rule", f"κ is {kappa:.2f} at {name}" if kappa > SAME_ANSWER else ""
    if seen.Z > Z_THRESHOLD:
        return "labels_only", "answers next to the right ones fit as well, as they do any function that varies slowly"
    return "labels_only", ""
