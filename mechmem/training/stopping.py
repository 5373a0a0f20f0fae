"""Conditions that end training early, read from the evaluations so far. Imports no torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mechmem.errors import ConfigError
from mechmem.tasks.config import SPLITS

Rows = Sequence[Mapping[str, Any]]
"""Evaluations in the order of their steps, with `step` and the accuracy of every split (None if it is unknown)."""

STILL = 0.002
"""Largest change of an accuracy that has settled."""
FEWEST_STILL = 5
"""Fewest evaluations over which accuracies are compared."""

_THRESHOLD = re.compile(rf"({'|'.join(SPLITS)})\s*(>=|<=)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")


class StopCondition(Protocol):
    """Interface of conditions that end training."""

    def holds(self, rows: Rows, steps: int) -> bool:
        """Return whether training ends after the last of these evaluations.

        Args:
            rows: the evaluations so far, at least one.
            steps: number of steps of the whole run.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Condition that the accuracy of a split has reached a threshold; never for an unknown accuracy.

    Attributes:
        split: the split.
        comparison: ">=" or "<=".
        threshold: the accuracy, in [0, 1].
    """

    split: str
    comparison: str
    threshold: float

    def holds(self, rows: Rows, steps: int) -> bool:
        """Compare the last accuracy."""
        value = rows[-1][self.split]
        if value is None:
            return False
        return value >= self.threshold if self.comparison == ">=" else value <= self.threshold


@dataclasses.dataclass(frozen=True)
class Settled:
    """Condition that all accuracies stand still, after at least half of the run's steps.

    None may have moved by more than `STILL` over the evaluations of the last third of the steps taken, or over the last
    `FEWEST_STILL` if those are more. A long plateau looks the same: see `TrainConfig.stop_when`.
    """

    def holds(self, rows: Rows, steps: int) -> bool:
        """Compare the smallest and the largest accuracy of every split."""
        now = rows[-1]["step"]
        recent = sum(3 * row["step"] >= 2 * now for row in rows)
        window = rows[-max(recent, FEWEST_STILL) :]
        if 2 * now < steps or len(window) < FEWEST_STILL:
            return False
        known = [[row[split] for row in window] for split in SPLITS if window[-1][split] is not None]
        return all(max(values) - min(values) <= STILL for values in known)


def stop_condition(text: str) -> StopCondition | None:
    """Return the condition that a text describes: "settled", or like "test >= 0.99"; None for "".

    Raises:
        ConfigError: the text describes none.
    """
    if not text:
        return None
    if text.strip() == "settled":
        return Settled()
    match = _THRESHOLD.fullmatch(text.strip())
    if match is None:
        allowed = " or ".join(SPLITS)
        raise ConfigError(f"stop_when must be 'settled', or like 'test >= 0.99', with {allowed}; got {text!r}")
    threshold = float(match[3])
    if not 0 <= threshold <= 1:
        raise ConfigError(f"stop_when compares an accuracy, at least 0 and at most 1, got {text!r}")
    return Threshold(match[1], match[2], threshold)
