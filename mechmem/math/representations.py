"""Geometry of features: linear centred kernel alignment, dimension and radius of clouds, and cosines between views."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.math.blocks import blocks

FEWEST_EXAMPLES = {True: 4, False: 2}
"""Smallest number of examples, by whether the estimate is debiased."""
_NOTHING = 1e-12
"""Norm of a centred matrix, relative to the uncentred one, below which it is rounding."""
QUANTITIES = ("dimension", "corrected_dimension", "radius")
FEWEST_POINTS = 4
"""Smallest number of examples in a cloud for the corrected dimension."""
_AT_ONCE = 2**24
"""Number of coordinates held in float64 at once."""


def centred_gram(
    features: Float[Tensor, "*batch example feature"], *, debiased: bool = True, columns: int = 4096
) -> Float[Tensor, "*batch example other"]:
    """Return the centred inner products of examples, in float64; exactly 0 if all examples are equal.

    Args:
        features: one row per example; at least 4 rows, or 2 if biased.
        debiased: whether to leave out each example's product with itself and centre the others so that the product of
            two such matrices, summed and divided by n(n − 3), is the unbiased estimate of HSIC (Song et al. 2012,
            eq. 5; in this form Székely & Rizzo 2014). Otherwise rows and columns have mean 0.
        columns: number of features processed at once, to avoid a float64 copy of all of them.

    Raises:
        ValueError: there are too few examples.
    """
    n = features.shape[-2]
    if n < FEWEST_EXAMPLES[debiased]:
        raise ValueError(f"expected at least {FEWEST_EXAMPLES[debiased]} examples, got {n}")
    gram = torch.zeros(*features.shape[:-1], n, dtype=torch.float64)
    raw = torch.zeros(features.shape[:-2], dtype=torch.float64)
    for block in blocks(features.shape[-1], columns):
        part = features[..., block].double()
        raw += reduce(part.square(), "... example feature -> ...", "sum")
        part = part - reduce(part, "... example feature -> ... 1 feature", "mean")
        gram += einsum(part, part, "... example feature, ... other feature -> ... example other")
    # The trace is the sum of squares of the centred features.
    alike = gram.diagonal(dim1=-2, dim2=-1).sum(-1) <= _NOTHING**2 * raw
    centred = _without_own(gram) if debiased else gram
    nothing = alike | (_norm(centred) <= _NOTHING * _norm(gram))
    return centred.masked_fill(rearrange(nothing, "... -> ... 1 1"), 0)


def cka_of_grams(
    left: Sequence[Float[Tensor, "example example"]], right: Sequence[Float[Tensor, "example example"]]
) -> Float[Tensor, "left right"]:
    """Return the alignment HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) of every pair of centred matrices, in float64.

    It is 1 for features that differ by a rotation, a shift and a scale. The biased estimate is between 0 and 1 and
    grows with the number of features per example even for unrelated features; the debiased one (see `centred_gram`) is
    0 on average for these, and may be negative. NaN if one of the two is 0, since for constant features similarity is
    undefined.

    Source: Kornblith et al. 2019, arXiv 1905.00414; debiased as in Nguyen et al. 2021, arXiv 2010.15327.
    """
    of_left, of_right = (torch.stack([_norm(gram) for gram in side]) for side in (left, right))
    products = torch.stack([torch.stack([torch.dot(a.flatten(), b.flatten()) for b in right]) for a in left])
    return products / einsum(of_left, of_right, "left, right -> left right")


def participation_ratio(points: Float[Tensor, "cloud example feature"]) -> Float[Tensor, " cloud"]:
    """Return (Σλ)² / Σλ² of each cloud's covariance, in float64; NaN for a cloud whose points coincide.

    It is d for a spherical cloud in d dimensions, and at most n − 1 for n points. No eigenvalues are computed: both
    sums are traces, over products of points or of coordinates, whichever are fewer.
    """
    centred = points.double() - reduce(points.double(), "cloud example feature -> cloud 1 feature", "mean")
    few = points.shape[1] <= points.shape[2]
    pattern = "cloud {}, cloud {} -> cloud {}".format(*(
        ("example feature", "other feature", "example other") if few
        else ("example feature", "example other", "feature other")
    ))  # fmt: skip
    moments = einsum(centred, centred, pattern)
    trace = moments.diagonal(dim1=1, dim2=2).sum(1)
    # A single point minus its mean leaves only rounding.
    trace = torch.where(trace <= 1e-24 * reduce(points.double().square(), "cloud a b -> cloud", "sum"), 0, trace)
    return trace**2 / torch.where(trace > 0, reduce(moments.square(), "cloud a b -> cloud", "sum"), 0)


def corrected_participation_ratio(points: Float[Tensor, "cloud example feature"]) -> Float[Tensor, " cloud"]:
    """Return (Σλ)² / Σλ² corrected for the number of points, in float64; NaN if it cannot be estimated.

    Numerator and denominator are unbiased (averages over distinct points), and so is their ratio for many points. With
    few points in many dimensions the estimate varies widely, and unlike `participation_ratio` it may exceed their
    number.

    Raises:
        ValueError: there are fewer than 4 points.
    """
    n = points.shape[1]
    gram = centred_gram(points, debiased=False)
    unbiased = centred_gram(points)
    squares = reduce(unbiased.square(), "cloud example other -> cloud", "sum") / (n * (n - 3))
    own = gram.diagonal(dim1=1, dim2=2)
    # Half the squared distance between two points is the trace of the covariance, on average.
    half = (rearrange(own, "cloud example -> cloud example 1") + rearrange(own, "cloud other -> cloud 1 other")) / 2
    half = half - gram
    whole = reduce(half, "cloud example other -> cloud", "sum") ** 2
    sharing_one = reduce(
        reduce(half, "cloud example other -> cloud example", "sum").square(), "cloud a -> cloud", "sum"
    )
    sharing_two = reduce(half.square(), "cloud example other -> cloud", "sum")
    distinct = whole - 4 * sharing_one + 2 * sharing_two
    # If all points but one or two coincide, no four distinct points exist, and the rest is rounding.
    known = (squares > 0) & (distinct > 1e-10 * whole)
    return torch.where(known, distinct / (n * (n - 1) * (n - 2) * (n - 3)) / squares, torch.nan)


def cloud_geometry(
    features: Float[Tensor, "example feature"], members: Int[Tensor, "cloud member"]
) -> Float[Tensor, "quantity cloud"]:
    """Return each cloud's dimension, corrected dimension and radius (`QUANTITIES`), in float64.

    The radius is √Σλ (covariance with n − 1) over the distance of the cloud's centre from the mean of all centres:
    below 1, clouds are separated. Clouds of n points with equal true centres have `radius_of_chance`. NaN for a single
    cloud.

    Args:
        features: one row per example.
        members: rows of each cloud's points, at least 4 and equally many for every cloud.

    Raises:
        ValueError: there are fewer than 4 points.
    """
    n = members.shape[1]
    found, centres, spreads = [], [], []
    for block in blocks(len(members), _AT_ONCE // max(1, n * features.shape[1])):
        points = features[members[block]].double()
        found.append(torch.stack([participation_ratio(points), corrected_participation_ratio(points)]))
        centres.append(reduce(points, "cloud example feature -> cloud feature", "mean"))
        spreads.append(points.var(1).sum(1))
    centre, spread = torch.cat(centres), torch.cat(spreads)
    apart = (centre - reduce(centre, "cloud feature -> 1 feature", "mean")).square().sum(1)
    radius = (spread / apart).sqrt() if len(members) > 1 else torch.full_like(spread, torch.nan)
    return torch.cat([torch.cat(found, 1), rearrange(radius, "cloud -> 1 cloud")])


def radius_of_chance(points: int, clouds: int) -> float:
    """Return the radius of clouds with one true centre, √(n C / (C − 1)): their means differ only by sampling.

    This holds exactly for the mean of the inverse squares, apart from the sampling error of the spread.
    """
    return float("nan") if clouds < 2 else (points * clouds / (clouds - 1)) ** 0.5


class ViewCosines:
    """Mean cosines between views of the same example and of different examples, accumulated block by block.

    A view of length 0 has cosine 0 with every other view.
    """

    def __init__(self):
        self._same: list[Float[Tensor, " example"]] = []
        self._total: Float[Tensor, " feature"] | None = None
        self._squares, self._views = 0.0, 0

    def add(self, held: Float[Tensor, "view example feature"]) -> None:
        """Add some examples, with all of their views (at least two).

        Raises:
            ValueError: there is only one view, or the number of views has changed.
        """
        views = len(held)
        if views < 2 or self._views not in (0, views):
            raise ValueError(f"expected the same number of views, at least 2; got {views} after {self._views}")
        values = held.double()
        lengths = rearrange(torch.linalg.vector_norm(values, dim=2), "view example -> view example 1")
        unit = torch.where(lengths > 0, values / lengths.clamp_min(1e-300), 0)
        sums = reduce(unit, "view example feature -> example feature", "sum")
        squares = reduce(sums.square(), "example feature -> example", "sum")
        # Pairs exclude a view with itself, whose cosine is 1, or 0 for a view of length 0.
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
        """Mean cosine over pairs of views of different examples; NaN with a single example."""
        n = len(self.same)
        if n < 2 or self._total is None:
            return float("nan")
        return (float(self._total.square().sum()) - self._squares) / (self._views**2 * n * (n - 1))


def _without_own(gram: Float[Tensor, "*batch example other"]) -> Float[Tensor, "*batch example other"]:
    n = gram.shape[-1]
    own = torch.eye(n, dtype=torch.bool)
    others = gram.masked_fill(own, 0)
    row = reduce(others, "... example other -> ... example 1", "sum") / (n - 2)
    column = rearrange(row, "... example 1 -> ... 1 example")
    whole = reduce(others, "... example other -> ... 1 1", "sum") / ((n - 1) * (n - 2))
    return (others - row - column + whole).masked_fill(own, 0)


def _norm(matrix: Float[Tensor, "*batch example other"]) -> Float[Tensor, "*batch"]:
    return reduce(matrix.square(), "... example other -> ...", "sum").sqrt()
