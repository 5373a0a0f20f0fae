"""Memorization, circuit formation and cleanup: where curves over training say that each ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from mechmem.core.storage import record

EXPECTED = {
    "memorization": {
        "test_loss": "does not fall",
        "restricted_loss": "does not fall",
        "gini": "flat",
    },
    "circuit formation": {
        "excluded_loss": "rises",
        "restricted_loss": "falls",
        "squared_weights": "falls",
        "train_loss": "flat",
    },
    "cleanup": {
        "excluded_loss": "flat",
        "restricted_loss": "falls",
        "squared_weights": "falls",
        "gini": "rises",
    },
}
"""What each curve does in each phase according to the paper (§5.2, and its figure 7).

What decides where a phase ends is left out: training and excluded loss fall in the first, and test loss in the last, by
definition; and test loss stands still in the second only until the drop that ends it."""

BOUNDARIES = {
    "memorization": "the excluded loss is lowest, of all checkpoints before the test loss has dropped, and the "
    "training loss is below {fitted:g} of its first value there",
    "circuit formation": "first checkpoint from which the test loss is below {dropped:g} of its highest value to the "
    "end",
    "cleanup": "first checkpoint from which the test loss is below {fitted:g} of its first value to the end",
}
"""What ends each phase."""

MOVED = 0.05
"""Share of its value at a phase's start by which a curve rises or falls at least."""
FLAT_LOSS, FLAT_GINI = 0.1, 0.05
"""How far a flat curve may end from its start: a loss by this share of the network's first one, a Gini by this."""


@record
@dataclasses.dataclass(frozen=True)
class PhaseEnd:
    """Where a phase ends.

    Attributes:
        phase: "memorization", "circuit formation" or "cleanup".
        definition: what ends it.
        step: optimisation step of the checkpoint that ends it, or None where none does.
        low: the last checkpoint before it (the phase ends later than this), or None.
        high: the checkpoint by which it has ended; for a lowest value the one after it. None where none does.
        reason: why there is no end, or "".
    """

    phase: str
    definition: str
    step: int | None
    low: int | None
    high: int | None
    reason: str = ""


def holds(expected: str, start: float, end: float, flat: float) -> bool:
    """Tell whether a curve did what the paper says of it.

    Args:
        expected: "rises", "falls", "does not fall" or "flat".
        start: its value where the phase starts.
        end: its value where the phase ends.
        flat: how far from `start` a flat curve may end.
    """
    change = MOVED * abs(start)
    if expected == "flat":
        return abs(end - start) <= flat
    if expected == "rises":
        return end > start + change
    falls = end < start - change
    return falls if expected == "falls" else not falls


def phase_ends(
    steps: Sequence[int], curves: Mapping[str, Float[np.ndarray, " checkpoint"]], *, fitted: float, dropped: float
) -> tuple[PhaseEnd, ...]:
    """Apply the rules of `Phases` to curves.

    Args:
        steps: optimisation step of each checkpoint, ascending.
        curves: "train_loss", "test_loss" and "excluded_loss" at each.
        fitted: share of its first value below which a loss counts as fitted.
        dropped: share of its highest value below which the test loss counts as dropping.
    """
    train, test, excluded = (curves[name] for name in ("train_loss", "test_loss", "excluded_loss"))
    said = {name: text.format(fitted=fitted, dropped=dropped) for name, text in BOUNDARIES.items()}

    def crossing(phase: str, below: np.ndarray, why: str) -> PhaseEnd:
        stays = np.logical_and.accumulate(below[::-1])[::-1]
        if not stays.any():
            return PhaseEnd(phase, said[phase], None, None, None, why)
        first = int(stays.argmax())
        return PhaseEnd(phase, said[phase], steps[first], steps[max(first - 1, 0)], steps[first])

    last = steps[-1]
    why = f"the test loss did not drop for good by step {last:,}: highest {test.max():.3g}, last {test[-1]:.3g}"
    drop = crossing("circuit formation", test < dropped * test.max(), why)
    why = f"the test loss did not stay below {fitted:g} of its first value of {test[0]:.3g} (last {test[-1]:.3g})"
    clean = crossing("cleanup", test < fitted * test[0], why)
    until = len(steps) if drop.step is None else steps.index(drop.step)
    lowest, phase = int(excluded[:until].argmin()) if until else 0, "memorization"
    if until and train[lowest] < fitted * train[0] and not (drop.step is None and lowest == len(steps) - 1):
        after = steps[min(lowest + 1, len(steps) - 1)]
        fit = PhaseEnd(phase, said[phase], steps[lowest], steps[max(lowest - 1, 0)], after)
    elif not train[:until].size or train[:until].min() >= fitted * train[0]:
        reason = f"the training loss did not fall below {fitted:g} of its first value before the test loss dropped"
        fit = PhaseEnd(phase, said[phase], None, None, None, reason)
    elif lowest == len(steps) - 1:
        fit = PhaseEnd(phase, said[phase], None, None, None, f"the excluded loss still fell at step {last:,}")
    else:
        reason = f"the excluded loss is lowest at step {steps[lowest]:,}, before the training labels are fitted"
        fit = PhaseEnd(phase, said[phase], None, None, None, reason)
    return fit, drop, clean


def fitting_times(
    right: Bool[np.ndarray, "evaluation example"],
) -> tuple[Int[np.ndarray, " example"], Int[np.ndarray, " example"]]:
    """Return per example the first evaluation since which it is right at every one, and the first at which it is.

    Of an example for which there is none this is −1.
    """
    stays = np.logical_and.accumulate(right[::-1], axis=0)[::-1]
    return _first_true(stays), _first_true(right)


def _first_true(table: Bool[np.ndarray, "evaluation example"]) -> Int[np.ndarray, " example"]:
    return np.where(table.any(0), table.argmax(0), -1)
