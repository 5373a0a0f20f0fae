"""Neurons that share subspaces rank above those of random vectors, and dead neurons come out as 0."""

import numpy as np
import pytest
import torch
from planted_subspaces import P, planted_subspaces
from plugin_names import score

import mechmem as mm
from mechmem.errors import MissingNeedError


@pytest.mark.parametrize("name", ["shared_energy", "shared_energy(clusters=6)", "shared_energy(strength=1)"])
def test_neurons_that_share_rank_above_random_ones(name):
    subject, labels = planted_subspaces(each=20, rest=30)
    values = score(name)(subject).values
    assert values[labels >= 0].min() > values[labels < 0].max()
    assert 0.6 < values[labels >= 0].min() and values.max() < 1


def test_equals_the_filter_of_the_other_neurons():
    """Against the definition, with each neuron's cluster and weights and the matrices in full."""
    subject, _ = planted_subspaces(each=20, rest=30)
    values = score("shared_energy(clusters=6)")(subject).values.numpy()
    found = mm.analyse(subject, "shared_structure", clusters=6)
    cluster, weight = found.cluster.numpy(), found.weight.numpy()
    tables = [*subject.model.W_in.detach().numpy().reshape(2, P, -1), subject.model.W_out.detach().numpy().T]
    wanted = np.zeros(len(values))
    for table in tables:
        units = table - table.mean(0)
        units /= np.linalg.norm(units, axis=0)
        for neuron, x in enumerate(units.T):
            others = (cluster == cluster[neuron]) & (np.arange(len(values)) != neuron)
            mean = (units[:, others] * weight[others]) @ units[:, others].T / weight[others].sum()
            kept = mean @ np.linalg.inv(mean + 2 / P * np.eye(P))
            wanted[neuron] += (x @ kept @ x - np.trace(kept) / P) / 3
    assert np.allclose(values, wanted, atol=1e-9)


def test_dead_neurons_score_0_and_are_counted():
    subject, labels = planted_subspaces(rest=10, dead=4)
    found = score("shared_energy")(subject)
    assert not found.values[labels == -2].any() and found.note == "4 dead neurons have the score 0"
    assert found.point == "hook_hidden" and not score("shared_energy")(planted_subspaces()[0]).note


def test_sets_and_curves_take_it():
    subject, labels = planted_subspaces(each=20, rest=20)
    kept = score("shared_energy(clusters=5)")(subject).take(0.8)
    assert torch.equal(kept.mask, labels >= 0)
    assert mm.ablate(subject, by="shared_energy", order=("low", "high")).width == 100


def test_refuses_a_layer_whose_neurons_are_too_few_to_share():
    with pytest.raises(MissingNeedError, match=f"at least {P} neurons"):
        score("shared_energy")(planted_subspaces(clusters=1, each=16)[0])
