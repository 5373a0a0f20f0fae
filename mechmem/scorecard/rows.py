"""Rows of the scorecard: one extractor, its cells and its controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from mechmem.core.stats import Estimate
from mechmem.core.storage import record


@record
@dataclasses.dataclass(frozen=True)
class Cell:
    """One figure of the scorecard.

    Attributes:
        estimate: accuracy with its interval, or None.
        reason: why there is none, or "".
    """

    estimate: Estimate | None
    reason: str = ""


@record
@dataclasses.dataclass(frozen=True)
class Row:
    """One extractor's row.

    Attributes:
        extractor: its name.
        knows: its prior knowledge, tokens of `needs.KNOWLEDGE`, sorted.
        cites: its source.
        splits: a cell for each of the four splits; and `test_in_group`, the test cells without a factor of 0, if some
            symbol is not in the task's group.
        controls: test accuracy of the same extractor on each control that applies to it.
        n_test: number of test examples; of several runs, the least.
    """

    extractor: str
    knows: tuple[str, ...]
    cites: str
    splits: Mapping[str, Cell]
    controls: Mapping[str, Cell]
    n_test: int


CONTROL_TITLES = {
    "untrained": "untrained",
    "one_step": "one-step",
    "noise_only": "noise-only",
    "random_choice": "random choice",
    "inputs": "inputs",
    "label_grid": "label grid",
    "kernel_ridge": "kernel ridge",
}
"""Titles of the controls, in display order."""
