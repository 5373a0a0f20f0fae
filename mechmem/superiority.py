"""How often one of two groups comes before the other."""

from __future__ import annotations

import numpy as np
from jaxtyping import Num
from scipy import optimize as scipy_optimize
from scipy import stats as scipy_stats

from mechmem.stats import Estimate


def precedence(first: Num[np.ndarray, " one"], second: Num[np.ndarray, " other"]) -> Estimate | None:
    """Return the probability that one of the first group has a lower value than one of the second; a tie counts half.

    This is the Mann–Whitney statistic as a share, with the 95 % interval of `newcombe_interval`. None where a group is
    empty.
    """
    m, n = len(first), len(second)
    if not m or not n:
        return None
    share = float(scipy_stats.mannwhitneyu(second, first).statistic) / (m * n)
    return Estimate(share, *newcombe_interval(share, m, n), m + n)


def newcombe_interval(share: float, m: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a Mann–Whitney share (Newcombe 2006, Statistics in Medicine 25, method 5).

    Its ends are the values θ that lie 1.96 of their own standard deviations from the share, with Hanley and McNeil's
    variance at θ and both sample sizes replaced by their mean.
    """
    z, size = float(scipy_stats.norm.ppf(0.975)), (m + n) / 2 - 1

    def gap(theta: float) -> float:
        inflation = 1 + size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (theta - share) ** 2 - z**2 * theta * (1 - theta) * inflation / (m * n)

    # A share of 0 or 1 is a root itself, and not the one that is looked for.
    inner = min(max(share, 1e-12), 1 - 1e-12)
    low = 0.0 if share <= 0 else scipy_optimize.root_scalar(gap, bracket=(0.0, inner)).root
    high = 1.0 if share >= 1 else scipy_optimize.root_scalar(gap, bracket=(inner, 1.0)).root
    return float(low), float(high)
