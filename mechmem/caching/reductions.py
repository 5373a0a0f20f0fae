"""Running reductions over examples, for caches whose memory does not grow with the data."""

from __future__ import annotations

import abc

from jaxtyping import Float, Shaped
from torch import Tensor

from mechmem.errors import ActivationError


class Reduction(abc.ABC):
    """A running reduction over examples: memory does not grow with the data."""

    @abc.abstractmethod
    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Take in one chunk of one point's activations. The tensor is the model's own: read it, never keep it."""

    @abc.abstractmethod
    def result(self) -> Tensor:
        """Return the reduced value."""


class Mean(Reduction):
    """Mean over examples; a chunk is summed in its own precision (at least float32), chunks in float64."""

    def __init__(self):
        self.n = 0
        self._sum: Tensor | None = None

    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Add a chunk."""
        total = values.sum(0).double()
        self._sum = total if self._sum is None else self._sum + total
        self.n += len(values)

    def result(self) -> Float[Tensor, ...]:
        """Return the mean."""
        if self._sum is None:
            raise ActivationError("no example was seen")
        return self._sum / self.n


class Variance(Reduction):
    """Population variance over examples, by pairwise merging of chunk moments (Chan et al. 1979), in float64."""

    def __init__(self):
        self.n = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Merge a chunk."""
        chunk = values.double()
        n, mean = len(chunk), chunk.mean(0)
        squares = (chunk - mean).square().sum(0)
        if self._mean is None or self._squares is None:
            self.n, self._mean, self._squares = n, mean, squares
            return
        total = self.n + n
        shift = mean - self._mean
        self._squares = self._squares + squares + shift.square() * (self.n * n / total)
        self._mean = self._mean + shift * (n / total)
        self.n = total

    def result(self) -> Float[Tensor, ...]:
        """Return the variance."""
        if self._squares is None:
            raise ActivationError("no example was seen")
        return self._squares / self.n


class Gram(Reduction):
    """Uncentred second moments Σ h hᵀ over examples, of activations flattened to (example, feature), in float64."""

    def __init__(self):
        self._sum: Tensor | None = None

    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Add a chunk."""
        flat = values.flatten(1).double()
        gram = flat.T @ flat
        self._sum = gram if self._sum is None else self._sum + gram

    def result(self) -> Float[Tensor, "feature feature"]:
        """Return the matrix."""
        if self._sum is None:
            raise ActivationError("no example was seen")
        return self._sum
