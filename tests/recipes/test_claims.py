"""Conditions and verdicts on measurements whose answer is known."""

import math

import pandas as pd
import pytest

from mechmem.errors import ConfigError
from mechmem.recipes.claims import COLUMNS, Claim
from mechmem.recipes.conditions import Condition, Difference, Value, at_least, at_most, close_to, more


def table(**quantities):
    """Measurements of one arm, a list of values per quantity, one per seed."""
    rows = [
        ("arm", seed, quantity, math.nan, value)
        for quantity, values in quantities.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


MEASURED = table(sure=[0.9, 0.91, 0.9], torn=[0.44, 0.56, 0.5], never=[1.0, math.nan, 1.0], alone=[0.9])


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        (at_least("sure", "arm", 0.8), "holds"),
        (at_least("sure", "arm", 0.95), "fails"),
        (at_least("torn", "arm", 0.45), "undecided"),
        (at_most("sure", "arm", 0.95), "holds"),
        (at_most("sure", "arm", 0.8), "fails"),
        (at_most("torn", "arm", 0.55), "undecided"),
        (close_to("sure", "arm", 0.91, 0.05), "holds"),
        (close_to("sure", "arm", 0.8, 0.05), "fails"),
        (close_to("sure", "arm", 0.9, 0.001), "undecided"),
        (at_least("never", "arm", 0.5), "undecided"),
        (at_least("alone", "arm", 0.5), "undecided"),
        (more("sure", "arm", "arm", 0.0, other="torn"), "holds"),
        (more("torn", "arm", "arm", 0.0, other="sure"), "fails"),
    ],
    ids=str,
)
def test_a_condition_holds_or_fails_with_its_whole_interval(condition, outcome):
    assert condition.judge(MEASURED).outcome == outcome


def test_runs_without_the_quantity_are_counted():
    assert at_least("never", "arm", 0.5).judge(MEASURED).reason == "not measured in 1 run"
    twice = table(never=[1.0, math.nan, math.nan])
    assert at_least("never", "arm", 0.5).judge(twice).reason == "not measured in 2 runs"


def test_the_interval_is_the_students_over_seeds():
    estimate = at_least("torn", "arm", 0.0).judge(MEASURED).estimate
    # Mean .5, sd .06, n 3: 4.302653 · .06 / √3.
    assert estimate.value == pytest.approx(0.5) and estimate.n == 3
    assert estimate.high - estimate.value == pytest.approx(0.149048, abs=1e-5)


def test_differences_pair_the_seeds():
    values = table(left=[1.0, 2.0, 3.0], right=[0.5, 1.5, 2.5])
    difference = Difference(Value("left", "arm"), Value("right", "arm")).per_seed(values)
    assert difference.tolist() == [0.5, 0.5, 0.5]
    # Paired, the difference is exact although each of the two varies.
    assert Condition(Difference(Value("left", "arm"), Value("right", "arm")), "≥", 0.4).judge(values).outcome == "holds"


def test_a_point_of_a_curve_is_picked_by_its_x():
    rows = [("arm", 0, "curve", x, value) for x, value in ((0.2, 1.0), (0.3, 0.5), (0.1 + 0.5, 0.25))]
    curve = pd.DataFrame(rows, columns=list(COLUMNS))
    assert Value("curve", "arm", 0.3).per_seed(curve).tolist() == [0.5]
    assert Value("curve", "arm", 0.6).per_seed(curve).tolist() == [0.25]
    with pytest.raises(ConfigError, match=r"no curve at 0.4 \[arm\] was measured"):
        Value("curve", "arm", 0.4).per_seed(curve)


def claim(**settings):
    return Claim("key", "It holds.", **settings)


@pytest.mark.parametrize(
    ("settings", "scale", "verdict", "reason"),
    [
        ({"conditions": [at_least("sure", "arm", 0.8)]}, "small", "reproduced", ""),
        ({"conditions": [at_least("sure", "arm", 0.8)]}, "smoke", "not judged", "smoke"),
        (
            {"conditions": [at_least("sure", "arm", 0.8), at_most("sure", "arm", 0.5)]},
            "small",
            "not reproduced",
            "fails: sure [arm] ≤ 0.5",
        ),
        ({"conditions": [at_least("torn", "arm", 0.45)]}, "small", "undecided", "undecided"),
        (
            {"conditions": [at_least("sure", "arm", 0.8)], "premises": [at_least("sure", "arm", 0.95)]},
            "small",
            "not at this scale",
            "premise fails: sure [arm] ≥ 0.95",
        ),
        (
            {"conditions": [at_least("sure", "arm", 0.8)], "premises": [at_least("torn", "arm", 0.45)]},
            "small",
            "undecided",
            "premise not shown: torn [arm] ≥ 0.45",
        ),
        (
            {"conditions": [at_most("sure", "arm", 0.5)], "scale_limit": "Runs are short."},
            "small",
            "not at this scale",
            "Runs are short.",
        ),
        (
            {"conditions": [at_most("sure", "arm", 0.5)], "scale_limit": "Runs are short."},
            "paper",
            "not reproduced",
            "fails",
        ),
        ({"pending": "needs a transformer"}, "small", "pending", "needs a transformer"),
    ],
)
def test_verdicts(settings, scale, verdict, reason):
    found, why, findings = claim(**settings).judge(MEASURED, scale)
    assert found == verdict and reason in why
    assert len(findings) == len(settings.get("conditions", ())) + len(settings.get("premises", ()))
