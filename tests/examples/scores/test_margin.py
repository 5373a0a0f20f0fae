"""Margins of planted logits."""

import numpy as np
import pytest
import torch
from held_layers import held
from plugin_names import example_score

from mechmem.errors import UnknownNameError

LOGITS = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [7.0, 7.0, 0.0], [9.0, 0.0, 0.0]])
GIVEN = torch.tensor([0, 2, 1, 0])
TRAIN = torch.tensor([True, True, True, False])


@pytest.fixture
def subject():
    return held(GIVEN, GIVEN, TRAIN, torch.zeros(4, 1), logits=LOGITS)


def test_the_given_label_against_the_best_of_the_others(subject):
    found = example_score("margin")(subject)
    assert found.values.tolist() == [1, -4, 0] and found.ids.tolist() == [0, 1, 2]
    assert found.suspect == "low" and found.most(1).tolist() == [1]


def test_of_probabilities(subject):
    chances = np.exp(LOGITS.double().numpy()[:3])
    chances /= chances.sum(1, keepdims=True)
    wanted = [chances[0, 0] - chances[0, 2], chances[1, 2] - chances[1, 1], 0]
    np.testing.assert_allclose(example_score("margin(of=probabilities)")(subject).values, wanted, atol=1e-15)
    with pytest.raises(UnknownNameError, match="logits"):
        example_score("margin(of=logit)")
