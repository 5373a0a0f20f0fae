"""Means over examples that are not independent of each other, because they share an answer."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from mechmem.stats import Estimate

RESAMPLES = 2000


def pooled_means(
    sums: Float[np.ndarray, "answer quantity"], counts: Int[np.ndarray, " answer"], *, seed: int = 0
) -> list[Estimate]:
    """Return means over examples with 95 % percentile intervals from resampling whole answers, quantities together.

    Args:
        sums: each quantity summed over the examples of an answer.
        counts: how many examples each answer has; answers without any do not take part.
        seed: seed of the resampling.

    Returns:
        one estimate per quantity, its `n` counting examples; the interval of a single answer is infinite.
    """
    sums, counts = sums[counts > 0], counts[counts > 0]
    n, units = int(counts.sum()), len(counts)
    means = sums.sum(0) / n
    if units < 2:
        return [Estimate(float(mean), -math.inf, math.inf, n) for mean in means]
    # How often each answer is drawn is all that a resample is.
    drawn = np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), RESAMPLES)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts)[:, None], (0.025, 0.975), axis=0)
    ends = zip(means.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Estimate(mean, least, most, n) for mean, least, most in ends]


def means_over_answers(
    values: Float[np.ndarray, "quantity example"], answer: Int[np.ndarray, " example"], *, seed: int = 0
) -> list[Estimate]:
    """Return the mean of each quantity over examples, with 95 % intervals that resample whole answers.

    Args:
        values: one row per quantity.
        answer: the true answer of each example, from 0.
        seed: seed of the resampling.
    """
    sums = np.stack([np.bincount(answer, weights=row) for row in values], axis=1)
    return pooled_means(sums, np.bincount(answer), seed=seed)
