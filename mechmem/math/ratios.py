"""Ratios of means, with their intervals."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from mechmem.stats import Estimate


def ratio_of_means(top: Float[Tensor, " left"], bottom: Float[Tensor, " right"]) -> Estimate | None:
    """Return the ratio of the means of two samples of nonnegative numbers; None where one is empty or its mean is 0.

    The 95 % interval is Welch's, of the difference of the two logarithms, by the delta method. It is infinitely wide
    where a sample has one number.

    Args:
        top: the numerator's sample.
        bottom: the denominator's, independent of it.
    """
    samples = [top.double(), bottom.double()]
    sizes = [len(values) for values in samples]
    if not min(sizes) or min(float(values.mean()) for values in samples) <= 0:
        return None
    ratio, n = float(samples[0].mean() / samples[1].mean()), sum(sizes)
    if min(sizes) < 2:
        return Estimate(ratio, 0.0, math.inf, n)
    errors = torch.stack([values.var() / (len(values) * values.mean() ** 2) for values in samples])
    if float(errors.sum()) == 0:
        return Estimate(ratio, ratio, ratio, n)
    freedom = errors.sum() ** 2 / (errors**2 / (torch.tensor(sizes) - 1)).sum()
    half = float(stdtrit(float(freedom), 0.975) * errors.sum().sqrt())
    return Estimate(ratio, ratio * math.exp(-half), ratio * math.exp(half), n)
