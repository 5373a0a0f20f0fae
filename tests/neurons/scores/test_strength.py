"""Strength against its formula, and what it refuses."""

import dataclasses

import numpy as np
import pytest
import torch
from plugin_names import score

import mechmem as mm
from mechmem.errors import MissingNeedError, RoleError
from mechmem.models.networks.mlp import HookedMLP

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "quadratic": np.square,
    "reverse_relu": lambda x: np.maximum(-x, 0),
}


def subject_of(p=7, **config):
    task = mm.ModularTask(mm.ModularConfig(p=p, train_fraction=0.5))
    model = HookedMLP(mm.MLPConfig(width=9, **config), p).double()
    return mm.Subject(model, task, model.roles)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equals_the_formula(activation):
    subject = subject_of(activation=activation)
    u, v = subject.model.W_in.detach().numpy().reshape(2, 7, -1)
    w = subject.model.W_out.detach().numpy()
    wanted = np.abs(w).max(1) * ACTIVATIONS[activation](np.abs(u).max(0) + np.abs(v).max(0))
    assert np.allclose(score("strength")(subject).values, wanted, rtol=1e-12)


def test_knows_of_pairs_alone_and_takes_any_names_of_the_activation():
    subject = subject_of()
    several = mm.Subject(subject.model, subject.task, dataclasses.replace(subject.roles, activation=("activation",)))
    assert torch.equal(score("strength")(several).values, score("strength")(subject).values)
    assert score("strength").told() == {"pairs"}
    tied = subject_of(tied=True)
    u = tied.model.W_in.detach().abs().amax(0)
    wanted = tied.model.W_out.detach().abs().amax(1) * torch.relu(2 * u)
    assert torch.allclose(score("strength")(tied).values, wanted)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"activation": None}, MissingNeedError, "role:activation"),
        ({"activation": "nothing"}, RoleError, "no submodule"),
        ({"activation": ("activation", "hook_pre")}, RoleError, "one layer"),
        ({"hidden": ("hook_pre", "hook_hidden")}, MissingNeedError, "input and output vectors"),
    ],
)
def test_refuses(change, error, message):
    subject = subject_of()
    with pytest.raises(error, match=message):
        score("strength")(mm.Subject(subject.model, subject.task, dataclasses.replace(subject.roles, **change)))


def test_says_so_where_the_activation_ranks_no_neuron_before_another():
    assert "0 for every neuron" in score("strength")(subject_of(activation="reverse_relu")).note
    assert not score("strength")(subject_of()).note
