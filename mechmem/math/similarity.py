"""How alike two sets of features of the same examples are: centred kernel alignment with the linear kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from mechmem.math.blocks import blocks

FEWEST = {True: 4, False: 2}
"""Examples below which there is nothing to measure, debiased or not."""

_NOTHING = 1e-12
"""Norm of a centred matrix, as a share of what it was centred from, that is rounding."""


def centred_gram(
    features: Float[Tensor, "*batch example feature"], *, debiased: bool = True, columns: int = 4096
) -> Float[Tensor, "*batch example other"]:
    """Return the inner products of examples, centred, in float64; exactly 0 where all examples are alike.

    Args:
        features: one row per example; at least 4 rows, or 2 where biased.
        debiased: whether to leave out each example's product with itself and centre the others so that the product of
            two such matrices, summed and divided by n(n − 3), is the unbiased estimate of HSIC (Song et al. 2012,
            eq. 5; in this form Székely & Rizzo 2014). Otherwise rows and columns have mean 0.
        columns: features taken at once, so that no copy of them all is made in float64.

    Raises:
        ValueError: there are too few examples.
    """
    n = features.shape[-2]
    if n < FEWEST[debiased]:
        raise ValueError(f"expected at least {FEWEST[debiased]} examples, got {n}")
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


def cka_of_grams(
    left: Sequence[Float[Tensor, "example example"]], right: Sequence[Float[Tensor, "example example"]]
) -> Float[Tensor, "left right"]:
    """Return the alignment of every pair of centred matrices (see `centred_gram`), in float64.

    It is at most 1; NaN where one of the two is 0, since features that are alike on all examples have no similarity.
    """
    of_left, of_right = (torch.stack([_norm(gram) for gram in side]) for side in (left, right))
    products = torch.stack([torch.stack([torch.dot(a.flatten(), b.flatten()) for b in right]) for a in left])
    return products / einsum(of_left, of_right, "left, right -> left right")


def linear_cka(
    left: Float[Tensor, "example feature"], right: Float[Tensor, "example other_feature"], *, debiased: bool = True
) -> float:
    """Return the centred kernel alignment of two sets of features, HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)).

    It is 1 for features that differ by a rotation, a shift and a scale. Biased, it is between 0 and 1 and grows with
    the number of features per example even for unrelated ones; debiased it is 0 on average for those, and may be
    negative.

    Args:
        left: one row per example.
        right: one row for each of the same examples.
        debiased: whether HSIC is its unbiased estimate.

    Raises:
        ValueError: there are too few examples (fewer than 4, or 2 where biased).

    Source: Kornblith et al. 2019, arXiv 1905.00414; debiased as in Nguyen et al. 2021, arXiv 2010.15327.
    """
    grams = [centred_gram(side, debiased=debiased) for side in (left, right)]
    return float(cka_of_grams(grams[:1], grams[1:]))
