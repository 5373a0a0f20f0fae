"""The random control is a fresh, reproducible order of all neurons."""

import torch
from plugin_names import score


def test_seeds_give_orders_of_their_own(planted):
    first, other = (
        score("random")(planted.subject),
        score("random(1)")(planted.subject),
    )
    assert torch.equal(first.values, score("random(seed=0)")(planted.subject).values)
    assert not torch.equal(first.order(), other.order())
    assert len(first.values) == len(planted.memorizing) == len(set(first.values.tolist()))
    assert 0 <= float(first.values.min()) and float(first.values.max()) < 1


def test_memorizing_neurons_stand_nowhere_in_particular(planted):
    """Over seeds, the mean score of the memorizing neurons is ½ within four standard errors."""
    means = torch.tensor(
        [float(score(f"random({s})")(planted.subject).values[planted.memorizing].mean()) for s in range(40)]
    )
    assert abs(float(means.mean()) - 0.5) < 4 * float(means.std()) / 40**0.5
