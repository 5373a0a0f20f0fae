"""The first principal component of each class as its weight vector."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from mechmem.estimators.class_scores import SubspaceScores, unit_rows


class PrincipalDirections(SubspaceScores):
    """Choose the class with the largest v_c · x, v_c being the class's first principal component, uncentred (VeLPIC).

    A component has no sign of its own: v_c is turned so that its mean over all training examples is not negative. On
    activations that are nowhere negative this is the subspace classifier with one component, and the directions can
    take the place of a last layer's weights. The score is the cosine, v_c · x / ‖x‖.

    Attributes:
        directions_: a unit vector per class. Shape (class, feature).

    Source: Ketha & Ramaswamy 2025, arXiv 2501.14687.
    """

    directions_: Float[np.ndarray, "class feature"]

    def _fit(self, X: Float[np.ndarray, "example feature"], index: Int[np.ndarray, " example"]) -> None:
        found = [_first(X[index == each]) for each in range(len(self.classes_))]
        self.directions_ = np.stack([v if (X @ v).mean() >= 0 else -v for v in found])

    def _scores(self, X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example class"]:
        return unit_rows(X) @ self.directions_.T


def _first(X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, " feature"]:
    # On the shorter side, of which one eigenvector is asked for.
    wide = X.shape[0] < X.shape[1]
    gram = X @ X.T if wide else X.T @ X
    last = len(gram) - 1
    vector = scipy.linalg.eigh(gram, subset_by_index=(last, last), check_finite=False)[1][:, 0]
    vector = vector @ X if wide else vector
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else np.zeros(X.shape[1])
