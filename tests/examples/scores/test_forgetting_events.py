"""Runs whose predictions are planted evaluation by evaluation."""

import numpy as np
import torch
from planted_runs import planted_run
from plugin_names import example_score


def test_every_fall_from_right_to_wrong_counts_and_never_right_is_infinite():
    right = torch.tensor(
        [[0, 1, 0, 1, 0, 0], [1, 0, 0, 1, 0, 0], [0, 1, 0, 1, 0, 1], [1, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 0]]
    )
    found = example_score("forgetting_events")(planted_run((0, 1, 3, 4, 8), right.bool(), test=(5,)))
    assert found.values.tolist() == [2, 2, np.inf, 0, 0] and found.suspect == "high"
    assert found.note == "counted over 5 evaluations, a lower bound"
    assert found.most(3).tolist() == [2, 0, 1]
