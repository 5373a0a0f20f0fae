"""Ends of the phases memorization, circuit formation and cleanup, found by rule from curves over training."""

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
"""Behaviour of each curve in each phase according to the paper (§5.2 and figure 7).

Curves that define the end of a phase are excluded: training and excluded loss fall in the first and test loss in the
last by definition, and test loss is constant in the second only until the drop that ends it."""
BOUNDARIES = {
    "memorization": "checkpoint with the lowest excluded loss before the test loss drops, if the training loss is "
    "below {fitted:g} of its first value there",
    "circuit formation": "first checkpoint from which the test loss stays below {dropped:g} of its highest value",
    "cleanup": "first checkpoint from which the test loss stays below {fitted:g} of its first value",
}
"""Definition of each phase's end."""
MOVED = 0.05
"""Smallest change that counts as a rise or fall, relative to the value at the phase's start."""
FLAT_LOSS, FLAT_GINI = 0.1, 0.05
"""Largest change of a flat curve: for a loss as a share of its value at step 0, for a Gini coefficient absolute."""


@record
@dataclasses.dataclass(frozen=True)
class PhaseEnd:
    """End of a phase.

    Attributes:
        phase: "memorization", "circuit formation" or "cleanup".
        definition: definition of its end.
        step: optimisation step of the checkpoint that ends it, or None.
        low: the checkpoint before it (the phase ends later than this), or None.
        high: the checkpoint by which it has ended; for a minimum the one after it; or None.
        reason: reason why there is no end, or "".
    """

    phase: str
    definition: str
    step: int | None
    low: int | None
    high: int | None
    reason: str = ""


def holds(expected: str, start: float, end: float, flat: float) -> bool:
    """Return whether a curve behaves as the paper says.

    Args:
        expected: "rises", "falls", "does not fall" or "flat".
        start: its value at the start of the phase.
        end: its value at the end of the phase.
        flat: largest change of a flat curve.
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
    """Find the end of each phase by the rules of `TrainingPhases`.

    Args:
        steps: optimisation step of each checkpoint, ascending.
        curves: "train_loss", "test_loss" and "excluded_loss" at each checkpoint.
        fitted: fraction of its first value below which a loss counts as fitted.
        dropped: fraction of its highest value below which the test loss counts as dropping.
    """
    train, test, excluded = (curves[name] for name in ("train_loss", "test_loss", "excluded_loss"))
    texts = {name: text.format(fitted=fitted, dropped=dropped) for name, text in BOUNDARIES.items()}

    def crossing(phase: str, below: np.ndarray, why: str) -> PhaseEnd:
        stays = np.logical_and.accumulate(below[::-1])[::-1]
        if not stays.any():
            return PhaseEnd(phase, texts[phase], None, None, None, why)
        first = int(stays.argmax())
        return PhaseEnd(phase, texts[phase], steps[first], steps[max(first - 1, 0)], steps[first])

    last = steps[-1]
    why = f"the test loss did not drop for good by step {last:,}: highest {test.max():.3g}, last {test[-1]:.3g}"
    drop = crossing("circuit formation", test < dropped * test.max(), why)
    why = f"the test loss did not stay below {fitted:g} of its first value of {test[0]:.3g} (last {test[-1]:.3g})"
    clean = crossing("cleanup", test < fitted * test[0], why)
    until = len(steps) if drop.step is None else steps.index(drop.step)
    lowest, phase = int(excluded[:until].argmin()) if until else 0, "memorization"
    if until and train[lowest] < fitted * train[0] and not (drop.step is None and lowest == len(steps) - 1):
        after = steps[min(lowest + 1, len(steps) - 1)]
        fit = PhaseEnd(phase, texts[phase], steps[lowest], steps[max(lowest - 1, 0)], after)
    elif not train[:until].size or train[:until].min() >= fitted * train[0]:
        reason = f"the training loss did not fall below {fitted:g} of its first value before the test loss dropped"
        fit = PhaseEnd(phase, texts[phase], None, None, None, reason)
    elif lowest == len(steps) - 1:
        fit = PhaseEnd(phase, texts[phase], None, None, None, f"the excluded loss was still falling at step {last:,}")
    else:
        reason = f"the excluded loss is lowest at step {steps[lowest]:,}, before the training labels are fitted"
        fit = PhaseEnd(phase, texts[phase], None, None, None, reason)
    return fit, drop, clean


def fitting_times(
    right: Bool[np.ndarray, "evaluation example"],
) -> tuple[Int[np.ndarray, " example"], Int[np.ndarray, " example"]]:
    """Return, per example, the first evaluation from which its prediction stays correct, and the first correct one.

    Each is −1 if there is no such evaluation.
    """
    stays = np.logical_and.accumulate(right[::-1], axis=0)[::-1]
    return _first_true(stays), _first_true(right)


def _first_true(table: Bool[np.ndarray, "evaluation example"]) -> Int[np.ndarray, " example"]:
    return np.where(table.any(0), table.argmax(0), -1)
