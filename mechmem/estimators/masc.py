"""The minimum angle subspace classifier."""

from __future__ import annotations

from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int
from sklearn.utils._param_validation import Interval

from mechmem.estimators.class_scores import SubspaceScores, unit_rows


class MinimumAngleSubspaces(SubspaceScores):
    """Choose the class whose subspace makes the smallest angle with an example.

    A class's subspace goes through the origin and is spanned by the first principal components of its training
    examples, uncentred. The score is the squared cosine of the angle, ‖P_cᵀx‖² / ‖x‖², in [0, 1]; an example of zeros
    scores 0 everywhere.

    Args:
        variance: τ; as many components are kept as carry no more than this share of the class's energy, and one more.
            At most as many as the class's examples span.
        components: a fixed number of components instead, as far as there are as many.

    Attributes:
        subspaces_: an orthonormal basis per class. Shape (component, feature) each.

    Source: Ketha & Ramaswamy 2025, arXiv 2501.14687.
    """

    _parameter_constraints: ClassVar[dict] = {
        "variance": [Interval(Real, 0, 1, closed="both")],
        "components": [Interval(Integral, 1, None, closed="left"), None],
    }
    subspaces_: list[Float[np.ndarray, "component feature"]]

    def __init__(self, variance: float = 0.99, components: int | None = None):
        self.variance = variance
        self.components = components

    def _fit(self, X: Float[np.ndarray, "example feature"], index: Int[np.ndarray, " example"]) -> None:
        self._validate_params()
        self.subspaces_ = [self._subspace(X[index == each]) for each in range(len(self.classes_))]

    def _subspace(self, X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "component feature"]:
        _, singular, components = scipy.linalg.svd(X, full_matrices=False, check_finite=False)
        rank = int((singular > singular[0] * max(X.shape) * np.finfo(X.dtype).eps).sum())
        if self.components is not None:
            return components[: min(self.components, rank)]
        energy = np.cumsum(singular[:rank] ** 2)
        kept = int((energy <= self.variance * energy[-1]).sum()) + 1 if rank else 0
        return components[: min(kept, rank)]

    def _scores(self, X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example class"]:
        unit = unit_rows(X)
        return np.stack([np.square(unit @ basis.T).sum(1) for basis in self.subspaces_], 1)
