"""The rules of the phases, on curves that are written down."""

import numpy as np
import pytest

from mechmem.math.training_phases import EXPECTED, holds, phase_ends

STEPS = [0, 10, 20, 40, 80, 160, 320, 640]


def ends(train, test, excluded, steps=STEPS, **settings):
    curves = {"train_loss": train, "test_loss": test, "excluded_loss": excluded}
    found = phase_ends(
        steps, {k: np.array(v, float) for k, v in curves.items()}, **{"fitted": 0.1, "dropped": 0.5} | settings
    )
    assert [each.phase for each in found] == list(EXPECTED)
    return found


GROKKED = {
    "train": [4, 2, 0.3, 0.1, 0.01, 0.01, 0.001, 0.001],
    "test": [4, 5, 8, 9, 9, 7, 3, 0.2],
    "excluded": [4, 2.5, 1, 0.8, 2, 3, 5, 5],
}


def test_a_run_that_groks_has_three_phases_in_their_order():
    memorized, formed, clean = ends(**GROKKED)
    assert (memorized.step, memorized.low, memorized.high) == (40, 20, 80)
    # Half of 9 is first undercut, for good, at 320; a tenth of 4 at 640.
    assert (formed.step, formed.low, formed.high) == (320, 160, 320)
    assert (clean.step, clean.low, clean.high) == (640, 320, 640)
    assert not any(each.reason for each in (memorized, formed, clean))


def test_a_drop_that_is_taken_back_does_not_count():
    test = [4, 5, 8, 1, 9, 7, 3, 0.2]
    assert ends(GROKKED["train"], test, GROKKED["excluded"])[1].step == 320


def test_the_settings_move_the_boundaries():
    assert ends(**GROKKED, dropped=0.9)[1].step == 160
    assert ends(**GROKKED, fitted=0.9)[2].step == 320


def test_a_run_that_never_generalizes_says_so():
    memorized, formed, clean = ends(GROKKED["train"], [4, 5, 8, 9, 9, 9, 9, 9], GROKKED["excluded"])
    assert memorized.step == 40 and formed.step is None and clean.step is None
    assert "highest 9, last 9" in formed.reason and "did not stay below 0.1" in clean.reason


def test_an_excluded_loss_that_still_falls_ends_no_phase():
    falling = [4, 3, 2, 1, 0.5, 0.3, 0.2, 0.1]
    memorized = ends(GROKKED["train"], [4, 5, 8, 9, 9, 9, 9, 9], falling)[0]
    assert memorized.step is None and "was still falling at step 640" in memorized.reason


@pytest.mark.parametrize(
    ("train", "excluded", "why"),
    [
        # Generalizes as it fits: the test loss has dropped before the training loss is small.
        ([4, 3, 2, 1, 0.9, 0.8, 0.1, 0.01], [4, 4.1, 4.2, 4.3, 4.4, 4.5, 5, 5], "did not fall below 0.1"),
        # What the key frequencies do not carry is at its best before anything is fitted.
        ([4, 3, 2, 1, 0.3, 0.1, 0.1, 0.01], [4, 3, 4.2, 4.3, 4.4, 4.5, 5, 5], "lowest at step 10, before"),
    ],
)
def test_a_run_without_memorization_says_why(train, excluded, why):
    memorized = ends(train, GROKKED["test"], excluded)[0]
    assert memorized.step is None and why in memorized.reason


@pytest.mark.parametrize(
    ("expected", "start", "end", "answer"),
    [
        ("falls", 1.0, 0.9, True),
        ("falls", 1.0, 0.96, False),
        ("does not fall", 1.0, 0.96, True),
        ("does not fall", 1.0, 0.9, False),
        ("rises", 1.0, 1.1, True),
        ("rises", 1.0, 1.04, False),
        ("flat", 1.0, 1.2, True),
        ("flat", 1.0, 0.7, False),
    ],
)
def test_what_counts_as_rising_falling_and_flat(expected, start, end, answer):
    assert holds(expected, start, end, 0.25) is answer
