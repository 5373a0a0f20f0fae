"""Since when predictions are right."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int


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
