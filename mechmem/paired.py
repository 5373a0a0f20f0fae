"""Two classifiers on the same examples: how far apart their accuracies are."""

from __future__ import annotations

import math

from scipy import stats as scipy_stats

from mechmem.stats import Estimate, wilson


def paired_difference(first: int, second: int, both: int, n: int) -> Estimate | None:
    """Return how much higher the first of two accuracies on the same examples is, or None where there is no example.

    The 95 % interval joins the two Wilson intervals, with the correlation of the answers (method 10 of the source).

    Args:
        first: how many the first answers rightly.
        second: how many the second does.
        both: how many both do.
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
    """Return the ratio of two accuracies on the same examples, or None where the second answers none rightly.

    The 95 % interval joins two Wilson intervals among the examples that at least one answers rightly: the others say
    nothing about the ratio.

    Args:
        first: how many the first answers rightly.
        second: how many the second does.
        both: how many both do.
        n: number of examples.

    Source: Bonett & Price 2006, Journal of Educational and Behavioral Statistics 31, 239 (hybrid interval).
    """
    if not second:
        return None
    either = first + second - both
    spread = math.sqrt((first + second - 2 * both + 2) / ((first + 1) * (second + 1)))
    single = [math.sqrt((1 - (count + 1) / (either + 2)) / (count + 1)) for count in (first, second)]
    z = float(scipy_stats.norm.ppf(0.975)) * spread / sum(single)
    (low, high), (other_low, other_high) = (_score_interval(count, either, z) for count in (first, second))
    return Estimate(first / second, low / other_high, high / other_low, n)


def _score_interval(successes: int, n: int, z: float) -> tuple[float, float]:
    half = z * math.sqrt(z**2 + 4 * successes * (1 - successes / n))
    middle, whole = 2 * successes + z**2, 2 * (n + z**2)
    return (middle - half) / whole, (middle + half) / whole
