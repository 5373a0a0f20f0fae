"""Rules of the verdict, on figures at both sides of every threshold."""

import dataclasses
import math

import pytest

from mechmem.core.stats import Estimate
from mechmem.scorecard.verdict import (
    LEAST_CLASSES,
    LEAST_MARGIN,
    LEAST_UNEXPLAINED,
    MOST_ANSWERS,
    OTHER_PARTITIONS,
    SAME_ANSWER,
    Z_THRESHOLD,
    Evidence,
    judge,
)


def share(value, low):
    return Estimate(value, low, 1.0, 31)


RULE = Evidence(share(0.8, 0.7), share(0.9, 0.8), 20.0, share(0.9, 0.75), 19.0, 18.0, 0.01, None)
ABOVE = 1 + 1e-9


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "rule"),
        ({"heldout_vote": share(0.6, MOST_ANSWERS * ABOVE)}, "rule"),
        ({"heldout_vote": share(0.6, MOST_ANSWERS)}, "trace"),
        ({"Z": Z_THRESHOLD * ABOVE, "Z_unexplained": LEAST_UNEXPLAINED * ABOVE, "margin": LEAST_MARGIN}, "rule"),
        ({"Z_unexplained": LEAST_UNEXPLAINED}, "labels_only"),
        ({"largest_other_S": 1.0}, "rule"),
        ({"largest_other_S": 1.0 * ABOVE}, "trace"),
        ({"margin": LEAST_MARGIN - 1e-9}, "another_rule"),
        ({"margin": 0.0, "S": share(0.6, SAME_ANSWER)}, "labels_only"),
        ({"margin": 0.0, "largest_other_S": 0.8 / OTHER_PARTITIONS}, "labels_only"),
        ({"Z": Z_THRESHOLD, "Z_unexplained": 0.0}, "another_rule"),
        ({"Z": Z_THRESHOLD, "S": share(0.1, 0.05)}, "labels_only"),
    ],
)
def test_both_sides_of_every_threshold(changed, verdict):
    assert judge(dataclasses.replace(RULE, **changed), 31)[0] == verdict


@pytest.mark.parametrize(("classes", "verdict"), [(LEAST_CLASSES, "rule"), (LEAST_CLASSES - 1, "refused")])
def test_few_classes_give_no_verdict(classes, verdict):
    assert judge(RULE, classes)[0] == verdict
    assert math.sqrt(LEAST_CLASSES - 1) > Z_THRESHOLD >= math.sqrt(LEAST_CLASSES - 2)


def test_what_explains_the_figures_is_said():
    assert judge(RULE, 31)[1] == ""
    assert "same row and column" in judge(dataclasses.replace(RULE, Z_unexplained=0.5), 31)[1]
    assert "varies slowly" in judge(dataclasses.replace(RULE, margin=-2.0, S=share(0.2, 0.1)), 31)[1]
    shifted = dataclasses.replace(RULE, Z=-1.0, margin=-20.0, best_shift=("the right answer + 1", 0.93))
    assert judge(shifted, 31) == ("another_rule", "κ is 0.93 at the right answer + 1")
    assert judge(dataclasses.replace(RULE, Z=1.0, S=share(0.1, 0.0)), 31) == ("labels_only", "")
