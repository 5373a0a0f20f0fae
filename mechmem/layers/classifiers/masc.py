"""The minimum angle subspace classifier."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int
from sklearn.utils._param_validation import Interval
from threadpoolctl import ThreadpoolController

from mechmem.layers.classifiers.class_means import SubspaceScores, unit_rows

RESOLVED = 1e-7
"""A Gram matrix resolves components whose energy is at least this share of the largest; below, the examples themselves
are decomposed, which takes several times as long."""
LEVEL = 1e-12
"""Largest difference between shares of the energy that count as equal."""
_product: Any = scipy.linalg.get_blas_funcs("syrk", dtype=np.float64)


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


class MinimumAngleSubspaces(SubspaceScores):
    """Choose the class whose subspace makes the smallest angle with an example.

    A class's subspace goes through the origin and is spanned by the first principal components of its training
    examples, uncentred. The score is the squared cosine of the angle, ‖P_cᵀx‖² / ‖x‖², in [0, 1]; an example of zeros
    scores 0 everywhere. Everything is computed in float64, whatever the dtype of the examples.

    Args:
        variance: τ; keeps as many components as carry no more than this share of the class's energy, and one more, at
            most as many as the class's examples span.
        components: a fixed number of components instead, at most as many as there are.

    Attributes:
        subspaces_: an orthonormal basis per class. Shape (component, feature) each.

    Source: Ketha & Ramaswamy 2025, arXiv 2501.14687.
    """

    _parameter_constraints: ClassVar[dict] = {
        "variance": [Interval(Real, 0, 1, closed="both")],
        "components": [Interval(Integral, 1, None, closed="left"), None],
    }
    _dtypes: ClassVar[tuple[type, ...]] = (np.float64, np.float32)
    subspaces_: list[Float[np.ndarray, "component feature"]]

    def __init__(self, variance: float = 0.99, components: int | None = None):
        self.variance = variance
        self.components = components

    def _fit(self, X: Float[np.ndarray, "example feature"], index: Int[np.ndarray, " example"]) -> None:
        self._validate_params()
        # Classes in parallel: a single decomposition is hardly faster on several threads, and a small one slower.
        threads = max([1, *(library["num_threads"] for library in _libraries().info())])
        workers = min(threads, len(self.classes_))
        with _libraries().limit(limits=threads // workers), ThreadPoolExecutor(workers) as pool:
            found = pool.map(lambda each: self._subspace(X[index == each].astype(float)), range(len(self.classes_)))
            self.subspaces_ = list(found)

    def _subspace(self, X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "component feature"]:
        # On the shorter side, from which the other follows by one product.
        wide = X.shape[0] < X.shape[1]
        # Half of the Gram matrix is all that is needed.
        gram = _product(1.0, X.T, trans=wide)
        energy, vectors = scipy.linalg.eigh(gram, lower=False, overwrite_a=True, check_finite=False, driver="evr")
        energy, vectors = energy[::-1], vectors[:, ::-1]
        kept = self._kept(energy)
        # Written so that NaN energies, after an overflow, take the exact path.
        if not (kept <= len(energy) and energy[kept - 1] > RESOLVED * energy[0]):
            return self._exactly(X)
        return (vectors[:, :kept] / np.sqrt(energy[:kept])).T @ X if wide else vectors[:, :kept].T.copy()

    def _exactly(self, X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "component feature"]:
        _, singular, components = scipy.linalg.svd(X, full_matrices=False, check_finite=False)
        rank = int((singular > singular[0] * max(X.shape) * np.finfo(float).eps).sum())
        return components[: min(self._kept(singular[:rank] ** 2), rank)]

    def _kept(self, energy: Float[np.ndarray, " component"]) -> int:
        if self.components is not None:
            return self.components
        carried = np.cumsum(energy)
        return int((carried <= (self.variance + LEVEL) * carried[-1:]).sum()) + 1

    def _scores(self, X: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example class"]:
        unit = unit_rows(X.astype(float))
        return np.stack([np.square(unit @ basis.T).sum(1) for basis in self.subspaces_], 1)
