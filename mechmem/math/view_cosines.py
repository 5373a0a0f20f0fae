"""How alike views of one thing are, and views of different things."""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor


class ViewCosines:
    """Mean cosines between views of one example and between views of two, added up block by block.

    A view of length 0 has the cosine 0 with every other.
    """

    def __init__(self):
        self._same: list[Float[Tensor, " example"]] = []
        self._total: Float[Tensor, " feature"] | None = None
        self._squares, self._views = 0.0, 0

    def add(self, held: Float[Tensor, "view example feature"]) -> None:
        """Take in some examples, with all of their views (at least two).

        Raises:
            ValueError: there is one view, or another number of them than before.
        """
        views = len(held)
        if views < 2 or self._views not in (0, views):
            raise ValueError(f"expected the same number of views, at least 2; got {views} after {self._views}")
        values = held.double()
        lengths = rearrange(torch.linalg.vector_norm(values, dim=2), "view example -> view example 1")
        unit = torch.where(lengths > 0, values / lengths.clamp_min(1e-300), 0)
        sums = reduce(unit, "view example feature -> example feature", "sum")
        squares = reduce(sums.square(), "example feature -> example", "sum")
        # A view's cosine with itself is 1 and no pair; that of a view of length 0 is 0.
        own = reduce((lengths > 0).double(), "view example 1 -> example", "sum")
        self._same.append((squares - own) / (views * (views - 1)))
        whole = reduce(sums, "example feature -> feature", "sum")
        self._total = whole if self._total is None else self._total + whole
        self._squares += float(squares.sum())
        self._views = views

    @property
    def same(self) -> Float[Tensor, " example"]:
        """Mean cosine over pairs of views of each example."""
        return torch.cat(self._same)

    @property
    def different(self) -> float:
        """Mean cosine over pairs of views of different examples; NaN where there is one example."""
        n = len(self.same)
        if n < 2 or self._total is None:
            return float("nan")
        return (float(self._total.square().sum()) - self._squares) / (self._views**2 * n * (n - 1))
