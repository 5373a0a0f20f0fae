"""The nearest class mean."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils._param_validation import StrOptions

from mechmem.estimators.class_scores import ClassScores, unit_rows


class NearestClassMean(ClassScores):
    """Choose the class whose mean is nearest.

    Args:
        metric: "cosine", by angle: the score is the cosine, and 0 for an example of zeros; or "euclidean": the score is
            minus the distance.

    Attributes:
        means_: mean of each class. Shape (class, feature).
    """

    _parameter_constraints: ClassVar[dict] = {"metric": [StrOptions({"cosine", "euclidean"})]}
    means_: Float[np.ndarray, "class feature"]

    def __init__(self, metric: Literal["cosine", "euclidean"] = "cosine"):
        self.metric = metric

    def _fit(self, X: Float[np.ndarray, "example feature"], index: Int[np.ndarray, " example"]) -> None:
        self._validate_params()
        self.means_ = np.stack([X[index == each].mean(0) for each in range(len(self.classes_))])

    def _scores(self, X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example class"]:
        if self.metric == "euclidean":
            return -euclidean_distances(X, self.means_)
        return unit_rows(X) @ unit_rows(self.means_).T
