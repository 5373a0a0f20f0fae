import math

import pytest

from mechmem.plotting.style import log_axis


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.4, 3.0], "D2"),  # one tick per decade would leave it one
        ([0.0, math.nan, math.inf, 0.4, 3.0], "D2"),
        ([0.001, 3.0], 1),
        ([], "D2"),
    ],
)
def test_a_logarithmic_axis_has_ticks_and_no_crowd_of_them(values, ticks):
    look = log_axis(values)
    assert look["type"] == "log" and look["dtick"] == ticks
