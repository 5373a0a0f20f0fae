"""Dimension and radius of clouds of points, by second moments."""

from __future__ import annotations

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.math.blocks import blocks
from mechmem.math.similarity import centred_gram

QUANTITIES = ("dimension", "corrected_dimension", "radius")

FEWEST = 4
"""Points of a cloud below which its dimension cannot be corrected."""

_AT_ONCE = 2**24
"""Coordinates that are held in float64 at once."""


def participation_ratio(points: Float[Tensor, "cloud example feature"]) -> Float[Tensor, " cloud"]:
    """Return (Σλ)² / Σλ² of each cloud's covariance, in float64; NaN for a cloud whose points are one.

    It is d for a round cloud in d dimensions, of n points at most n − 1. The eigenvalues are not worked out: both sums
    are a trace, of the products of points or of coordinates, whichever are fewer.
    """
    centred = points.double() - reduce(points.double(), "cloud example feature -> cloud 1 feature", "mean")
    few = points.shape[1] <= points.shape[2]
    pattern = "cloud {}, cloud {} -> cloud {}".format(*(
        ("example feature", "other feature", "example other") if few
        else ("example feature", "example other", "feature other")
    ))  # fmt: skip
    moments = einsum(centred, centred, pattern)
    trace = moments.diagonal(dim1=1, dim2=2).sum(1)
    # What is left of a single point after its mean is rounding.
    trace = torch.where(trace <= 1e-24 * reduce(points.double().square(), "cloud a b -> cloud", "sum"), 0, trace)
    return trace**2 / torch.where(trace > 0, reduce(moments.square(), "cloud a b -> cloud", "sum"), 0)


def corrected_participation_ratio(points: Float[Tensor, "cloud example feature"]) -> Float[Tensor, " cloud"]:
    """Return (Σλ)² / Σλ² with the number of points corrected for, in float64; NaN where it cannot be told.

    Numerator and denominator are unbiased (averages over distinct points), their ratio is so for many points. Few
    points of a cloud of many dimensions scatter widely; unlike `participation_ratio` it may exceed their number.

    Raises:
        ValueError: there are fewer than 4 points.
    """
    n = points.shape[1]
    gram = centred_gram(points, debiased=False)
    unbiased = centred_gram(points)
    squares = reduce(unbiased.square(), "cloud example other -> cloud", "sum") / (n * (n - 3))
    own = gram.diagonal(dim1=1, dim2=2)
    # Half the squared distance of two points is the trace of the covariance, on average.
    half = (rearrange(own, "cloud example -> cloud example 1") + rearrange(own, "cloud other -> cloud 1 other")) / 2
    half = half - gram
    whole = reduce(half, "cloud example other -> cloud", "sum") ** 2
    sharing_one = reduce(
        reduce(half, "cloud example other -> cloud example", "sum").square(), "cloud a -> cloud", "sum"
    )
    sharing_two = reduce(half.square(), "cloud example other -> cloud", "sum")
    distinct = whole - 4 * sharing_one + 2 * sharing_two
    # Where all points but one or two are the same no four tell anything, and what is left is rounding.
    told = (squares > 0) & (distinct > 1e-10 * whole)
    return torch.where(told, distinct / (n * (n - 1) * (n - 2) * (n - 3)) / squares, torch.nan)


def cloud_geometry(
    features: Float[Tensor, "example feature"], members: Int[Tensor, "cloud member"]
) -> Float[Tensor, "quantity cloud"]:
    """Return each cloud's dimension, corrected dimension and radius (`QUANTITIES`), in float64.

    The radius is √Σλ, of the covariance with n − 1, over the distance of the cloud's centre from the mean of all
    centres: below 1 clouds lie apart. Clouds of n points whose true centres are one have `radius_of_chance`. NaN for a
    single cloud.

    Args:
        features: one row per example.
        members: rows of each cloud's points, of which there are at least 4 and of every cloud as many.

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
    """Return the radius of clouds that share one centre, √(n C / (C − 1)): their means differ by sampling alone.

    Exactly so is the mean of the inverse squares, but for the sampling error of the spread.
    """
    return float("nan") if clouds < 2 else (points * clouds / (clouds - 1)) ** 0.5
