"""Classifiers that score every class: their base classes, nearest class mean, and principal directions."""

from __future__ import annotations

import abc
from typing import Any, ClassVar, Literal, Self

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import Tags
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

DECIMALS = 12
"""Scores that agree to this many decimals are equal, and the lowest class wins: for a vector in two subspaces, rounding
would decide otherwise."""
_AT_ONCE = 2**22
"""Numbers in the examples scored at once, which bounds the memory for their copies."""


class ClassScores(ClassifierMixin, BaseEstimator, abc.ABC):
    """Base of classifiers that give every class a score and choose the highest; ties go to the lowest class.

    Attributes:
        classes_: the labels, ascending. Shape (class).
        n_features_in_: number of features.
    """

    classes_: Shaped[np.ndarray, " class"]
    n_features_in_: int
    _dtypes: ClassVar[tuple[type, ...]] = (np.float64,)
    """Dtypes in which examples are passed on; other dtypes are converted to the first."""

    # Public methods take whatever scikit-learn converts to an array.
    def fit(self, X: Any, y: Any) -> Self:
        """Fit to examples, shape (example, feature), and their labels, shape (example).

        Raises:
            ValueError: the arrays differ in length, or hold something that is not a number.
        """
        X, y = validate_data(self, X, y, dtype=list(self._dtypes))
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        self._fit(X, index)
        return self

    def scores(self, X: Any) -> Float[np.ndarray, "example class"]:
        """Return each class's score on each example, whatever the number of classes.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: X has a different number of features.
        """
        check_is_fitted(self)
        checked: Any = validate_data(self, X, dtype=list(self._dtypes), reset=False)
        rows = max(1, _AT_ONCE // checked.shape[1])
        parts = [self._scores(checked[start : start + rows]) for start in range(0, len(checked), rows)]
        return np.concatenate(parts).round(DECIMALS)

    def decision_function(self, X: Any) -> Float[np.ndarray, "example *class"]:
        """Return the scores; for two classes, by scikit-learn's convention, the second's minus the first's."""
        scores = self.scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict(self, X: Any) -> Shaped[np.ndarray, " example"]:
        """Return the class with the highest score."""
        scores = self.scores(X)
        return self.classes_[scores.argmax(1)]

    @abc.abstractmethod
    def _fit(self, X: Float[np.ndarray, "example feature"], index: Int[np.ndarray, " example"]) -> None:
        """Fit to examples whose classes are numbered."""

    @abc.abstractmethod
    def _scores(self, X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example class"]:
        """Return the scores."""


class SubspaceScores(ClassScores):
    """Base of classifiers by subspaces through the origin, which cannot separate classes that fill the space."""

    def __sklearn_tags__(self) -> Tags:
        """Declare that the classifier does poorly on scikit-learn's two-dimensional test data."""
        tags: Any = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True
        return tags


def unit_rows(X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example feature"]:
    """Divide each row by its length; a row of zeros stays unchanged."""
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(length > 0, length, 1)


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


class PrincipalDirections(SubspaceScores):
    """Choose the class with the largest v_c · x, v_c being the class's first principal component, uncentred (VeLPIC).

    The sign of a component is arbitrary: v_c is oriented so that its mean over all training examples is not negative.
    On non-negative activations this is the subspace classifier with one component, and the directions can replace the
    last layer's weights. The score is the cosine, v_c · x / ‖x‖.

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
    # On the shorter side, which needs one eigenvector.
    wide = X.shape[0] < X.shape[1]
    gram = X @ X.T if wide else X.T @ X
    last = len(gram) - 1
    vector = scipy.linalg.eigh(gram, subset_by_index=(last, last), check_finite=False)[1][:, 0]
    vector = vector @ X if wide else vector
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else np.zeros(X.shape[1])
