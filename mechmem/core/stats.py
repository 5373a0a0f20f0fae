"""Statistics of one number: intervals, rank correlation, and a null for matched classes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy
from jaxtyping import Bool, Float, Num
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.storage import record

MOST_RESAMPLES = 10**6
"""Most resamples of a bootstrap."""


@record
@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes:
        value: the point estimate.
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of independent outcomes behind it (examples, answers or runs).
    """

    value: float
    low: float
    high: float
    n: int


UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)
"""In a table, in the place of an estimate that there is none of."""


def wilson(successes: int, n: int) -> Estimate | None:
    """Return a proportion with its Wilson score interval, or None if n is 0."""
    if n == 0:
        return None
    interval = scipy.stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def proportion(outcomes: Bool[Tensor | np.ndarray, " outcome"]) -> Estimate | None:
    """Return the share of true outcomes with its Wilson score interval, or None if there are none."""
    return wilson(int(outcomes.sum()), len(outcomes))


def across_runs(values: Sequence[float], level: float = 0.95) -> Estimate | None:
    """Pool one figure over runs: mean with its Student interval (infinitely wide for a single run)."""
    if not values:
        return None
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean, -math.inf, math.inf, 1)
    half = float(scipy.stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half, len(values))


def check_resamples(resamples: int) -> None:
    """Refuse a number of resamples that gives no interval, or would take for ever.

    Raises:
        ConfigError: it is below 2, or above `MOST_RESAMPLES`.
    """
    check_whole("resamples", resamples, 2, MOST_RESAMPLES)


def bootstrap(
    statistic: Callable[..., Float[np.ndarray, ...]],
    columns: Sequence[Num[np.ndarray, " unit"]],
    *,
    seed: int,
    resamples: int = 2000,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Return a statistic with its percentile bootstrap interval over units; columns are resampled together.

    Resamples of units that all agree show no spread, which does not mean that there is none. The interval of a mean
    within `bounds` is then the range that units at a bound would give it if their share were the largest that n units
    without one allow (95 %; Hanley & Lippman-Hand 1983); that of other statistics has no width.

    Args:
        statistic: function of the columns and `axis=-1` that reduces this axis.
        columns: one array per argument of the statistic, all of the same length.
        seed: seed of the resampling.
        resamples: number of bootstrap resamples.
        bounds: least and largest possible value of a mean; None for other statistics.
    """
    check_whole("seed", seed, 0)
    check_resamples(resamples)
    value = float(statistic(*columns, axis=-1))
    n = len(columns[0])
    if n < 2:
        return Estimate(value, -math.inf, math.inf, n) if bounds is None else _without_spread(value, n, bounds)
    if math.isnan(value):
        return Estimate(value, math.nan, math.nan, n)
    result = scipy.stats.bootstrap(
        tuple(columns),
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = (float(end) for end in result.confidence_interval)
    if bounds is not None and high - low <= 1e-12 * max(abs(value), 1):
        return _without_spread(value, n, bounds)
    return Estimate(value, low, high, n)


def _without_spread(value: float, n: int, bounds: tuple[float, float]) -> Estimate:
    """Return a mean of n units that all agree, with the interval that they allow."""
    if n == 0:
        return Estimate(value, *bounds, n)
    unseen = 1 - 0.05 ** (1 / n)
    return Estimate(value, value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value), n)


def rank_correlation(
    left: Float[np.ndarray, "*resample unit"], right: Float[np.ndarray, "*resample unit"], axis: int = -1
) -> Float[np.ndarray, "*resample"]:
    """Return Spearman's rank correlation along an axis, ties at their mean rank; 0 if one of the two is constant.

    Suitable for `bootstrap`, unlike scipy's own, which does not accept batches of resamples.
    """
    ranks = [scipy.stats.rankdata(values, axis=axis) for values in (left, right)]
    a, b = (rank - rank.mean(axis, keepdims=True) for rank in ranks)
    scale = np.sqrt((a * a).sum(axis) * (b * b).sum(axis))
    return np.asarray((a * b).sum(axis) / np.where(scale > 0, scale, np.inf))


def rank_correlations(values: Float[np.ndarray, "series unit"]) -> Float[np.ndarray, "series series"]:
    """Return Spearman's rank correlation of every pair of series; NaN if one of the two is constant."""
    found = np.array([[rank_correlation(left, right) for right in values] for left in values], dtype=float)
    constant = (values == values[:, :1]).all(1)
    return np.where(constant[:, None] | constant, np.nan, found.reshape(len(values), len(values)))


def matching_z_score(scores: Float[np.ndarray, "answer class"]) -> float:
    """Return the z-score of a matrix's diagonal sum among all permutations of its columns.

    The null permutes class names. Its mean and variance are known in closed form (Hoeffding 1951, eq. 10), so the value
    has no Monte Carlo error.

    Args:
        scores: entry [a, c] is the evidence for class c summed over the cells whose true answer is a; rows of
            answers without cells are zero.

    Returns:
        (diagonal sum − mean) / standard deviation; 0 if every permutation gives the same sum.
    """
    n = len(scores)
    if scores.shape != (n, n):
        raise ValueError(f"expected a square answer × class matrix, got {scores.shape}")
    centred = scores - scores.mean(0, keepdims=True) - scores.mean(1, keepdims=True) + scores.mean()
    deviation = math.sqrt(float((centred**2).sum()) / max(n - 1, 1))
    scale = float(np.abs(scores).sum())
    if deviation <= 1e-12 * max(scale, 1e-300):
        return 0.0
    return float(np.trace(centred)) / deviation
