"""Comparisons of proportions and means, with 95 % intervals."""

from __future__ import annotations

import math

import numpy as np
import scipy
import torch
from jaxtyping import Float, Int, Num
from scipy.special import stdtrit
from torch import Tensor

from mechmem.core.stats import Estimate, wilson

RESAMPLES = 2000


def paired_difference(first: int, second: int, both: int, n: int) -> Estimate | None:
    """Return the first minus the second of two accuracies on the same examples, or None without examples.

    The 95 % interval combines the two Wilson intervals with the correlation of correctness (method 10 of the source).

    Args:
        first: number of examples that the first predicts correctly.
        second: the same for the second.
        both: the same for both.
        n: number of examples.

    Source: Newcombe 1998, Statistics in Medicine 17, 2635.
    """
    one, other = wilson(first, n), wilson(second, n)
    if one is None or other is None:
        return None
    product = first * (n - first) * second * (n - second)
    excess = both * (n - first - second + both) - (first - both) * (second - both)
    if excess > 0:
        excess = max(excess - n / 2, 0)
    correlation = excess / math.sqrt(product) if product else 0.0
    found = one.value - other.value

    def reach(up: float, down: float) -> float:
        return math.sqrt(max(up**2 - 2 * correlation * up * down + down**2, 0))

    low = found - reach(one.value - one.low, other.high - other.value)
    high = found + reach(one.high - one.value, other.value - other.low)
    return Estimate(found, low, high, n)


def paired_ratio(first: int, second: int, both: int, n: int) -> Estimate | None:
    """Return the ratio of two accuracies on the same examples, or None if the second is 0.

    The 95 % interval combines two Wilson intervals over the examples that at least one predicts correctly: the others
    are irrelevant to the ratio.

    Args:
        first: number of examples that the first predicts correctly.
        second: the same for the second.
        both: the same for both.
        n: number of examples.

    Source: Bonett & Price 2006, Journal of Educational and Behavioral Statistics 31, 239 (hybrid interval).
    """
    if not second:
        return None
    either = first + second - both
    spread = math.sqrt((first + second - 2 * both + 2) / ((first + 1) * (second + 1)))
    single = [math.sqrt((1 - (count + 1) / (either + 2)) / (count + 1)) for count in (first, second)]
    z = float(scipy.stats.norm.ppf(0.975)) * spread / sum(single)
    (low, high), (other_low, other_high) = (_score_interval(count, either, z) for count in (first, second))
    return Estimate(first / second, low / other_high, high / other_low, n)


def precedence(first: Num[np.ndarray, " one"], second: Num[np.ndarray, " other"]) -> Estimate | None:
    """Return the probability that a value of the first group is lower than one of the second; ties count half.

    This is the Mann–Whitney statistic as a fraction, with the 95 % interval of `newcombe_interval`. None if a group is
    empty.
    """
    m, n = len(first), len(second)
    if not m or not n:
        return None
    share = float(scipy.stats.mannwhitneyu(second, first).statistic) / (m * n)
    return Estimate(share, *newcombe_interval(share, m, n), m + n)


def newcombe_interval(share: float, m: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a Mann–Whitney share (Newcombe 2006, Statistics in Medicine 25, method 5).

    Its ends are the values θ at 1.96 of their own standard deviations from the share, with Hanley and McNeil's variance
    at θ and both sample sizes replaced by their mean.
    """
    z, size = float(scipy.stats.norm.ppf(0.975)), (m + n) / 2 - 1

    def gap(theta: float) -> float:
        inflation = 1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (theta - share) ** 2 - z**2 * theta * (1 - theta) * inflation / (m * n)

    # A share of 0 or 1 is itself a root, but not the one sought.
    inner = min(max(share, 1e-12), 1 - 1e-12)
    low = 0.0 if share <= 0 else scipy.optimize.root_scalar(gap, bracket=(0.0, inner)).root
    high = 1.0 if share >= 1 else scipy.optimize.root_scalar(gap, bracket=(inner, 1.0)).root
    return float(low), float(high)


def ratio_of_means(top: Float[Tensor, " left"], bottom: Float[Tensor, " right"]) -> Estimate | None:
    """Return the ratio of the means of two samples of nonnegative numbers; None if one is empty or has mean 0.

    The 95 % interval is Welch's for the difference of the logarithms, by the delta method. It is infinite if a sample
    has a single number.

    Args:
        top: sample of the numerator.
        bottom: independent sample of the denominator.
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


def pooled_means(
    sums: Float[np.ndarray, "answer quantity"], counts: Int[np.ndarray, " answer"], *, seed: int = 0
) -> list[Estimate]:
    """Return means over examples with 95 % percentile intervals from resampling answers, jointly for all quantities.

    Args:
        sums: each quantity summed over the examples of an answer.
        counts: number of examples per answer; answers without examples are ignored.
        seed: seed of the resampling.

    Returns:
        one estimate per quantity; `n` is the number of examples, and the interval of a single answer is infinite.
    """
    sums, counts = sums[counts > 0], counts[counts > 0]
    n, units = int(counts.sum()), len(counts)
    means = sums.sum(0) / n
    if units < 2:
        return [Estimate(float(mean), -math.inf, math.inf, n) for mean in means]
    # A resample is determined by how often each answer is drawn.
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


def _score_interval(successes: int, n: int, z: float) -> tuple[float, float]:
    half = z * math.sqrt(z**2 + 4 * successes * (1 - successes / n))
    middle, whole = 2 * successes + z**2, 2 * (n + z**2)
    return (middle - half) / whole, (middle + half) / whole
