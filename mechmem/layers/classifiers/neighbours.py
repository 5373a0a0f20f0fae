"""The classifier by nearest neighbours in angle."""

from __future__ import annotations

from numbers import Integral
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.utils._param_validation import Interval

from mechmem.layers.classifiers.class_means import DECIMALS, ClassScores, unit_rows

SPARE = 32
"""Neighbours beyond the k-th that are checked, in case rounding misplaced them."""
_AT_ONCE = 2**24
"""Cosines held in memory at once."""
NARROW = 256
"""Up to this many features float64 costs little, and is used throughout."""


class CosineNeighbours(ClassScores):
    """Choose the class with the most of the k training examples that make the smallest angle with an example.

    Ties go to the lowest class. Among training examples at the same angle (cosines that agree to 12 decimals) the first
    ones vote. The cosine with an example of zeros is 0. The predictions are those of float64: cosines of many features
    are computed in float32, and again in float64 wherever rounding could change the k neighbours.

    Args:
        k: number of neighbours that vote; all, if there are fewer.

    Attributes:
        examples_: the training examples. Shape (example, feature).
        labels_: number of each one's class in `classes_`. Shape (example).
    """

    _parameter_constraints: ClassVar[dict] = {"k": [Interval(Integral, 1, None, closed="left")]}
    _dtypes: ClassVar[tuple[type, ...]] = (np.float64, np.float32)
    examples_: Float[np.ndarray, "example feature"]
    labels_: Int[np.ndarray, " example"]

    def __init__(self, k: int = 20):
        self.k = k

    def _fit(self, X: Float[np.ndarray, "example feature"], index: Int[np.ndarray, " example"]) -> None:
        self._validate_params()
        self.examples_, self.labels_ = X, index
        self._unit = _unit(X)

    def _scores(self, X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example class"]:
        n = len(self.examples_)
        k, rows = min(self.k, n), max(1, _AT_ONCE // n)
        parts = [self._votes(X[start : start + rows], k) for start in range(0, len(X), rows)]
        return np.concatenate(parts) / k

    def _votes(self, X: Float[np.ndarray, "example feature"], k: int) -> Int[np.ndarray, "example class"]:
        labels = self.labels_[self._nearest(X, k)]
        places = labels + len(self.classes_) * np.arange(len(X))[:, None]
        return np.bincount(places.ravel(), minlength=len(X) * len(self.classes_)).reshape(len(X), -1)

    def _nearest(self, X: Float[np.ndarray, "example feature"], k: int) -> Int[np.ndarray, "example neighbour"]:
        """Return the indices of the k nearest training examples."""
        few = min(k + SPARE, len(self.examples_))
        found = torch.from_numpy(_unit(X) @ self._unit.T).topk(few, dim=1)
        top, places = found.values.numpy(), found.indices.numpy()
        nearest = places[:, :k].copy()
        if few == k:
            return nearest
        # Twice the rounding bound of an inner product of unit vectors, plus the tolerance for equal cosines.
        apart = (X.shape[1] + 8) * np.finfo(self._unit.dtype).eps + 2 * 10.0**-DECIMALS
        last = top[:, k - 1]
        beyond = (top[:, -1] >= last - apart) & (few < len(self.examples_))
        for row in np.flatnonzero(top[:, k] >= last - apart):
            sure = int((top[row] > last[row] + apart).sum())
            level = np.abs(top[row] - last[row]) <= apart
            others = places[row, level]
            if beyond[row]:
                others = np.setdiff1d(np.arange(len(self.examples_)), places[row, :sure])
            nearest[row, sure:] = self._first(X[row], others, k - sure)
        return nearest

    def _first(
        self, x: Float[np.ndarray, " feature"], places: Int[np.ndarray, " candidate"], count: int
    ) -> Int[np.ndarray, " neighbour"]:
        """Return the indices of the nearest of some training examples, the first among equals."""
        rows = max(1, _AT_ONCE // len(x))
        own = unit_rows(x[None].astype(float))[0]
        parts = (self.examples_[places[start : start + rows]] for start in range(0, len(places), rows))
        cosines = np.concatenate([unit_rows(part.astype(float)) @ own for part in parts]).round(DECIMALS)
        return places[np.lexsort((places, -cosines))[:count]]


def _unit(X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example feature"]:
    found = np.empty(X.shape, dtype=np.float64 if X.shape[1] <= NARROW else np.float32)
    rows = max(1, _AT_ONCE // X.shape[1])
    for start in range(0, len(X), rows):
        found[start : start + rows] = unit_rows(X[start : start + rows].astype(float))
    return found
