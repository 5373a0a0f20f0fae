"""Weight norms against numpy, layer by layer."""

import dataclasses

import numpy as np
import pytest
import torch
from plugin_names import score

import mechmem as mm
from mechmem.errors import MissingNeedError, RoleError, UnknownNameError
from mechmem.models.networks.mlp import HookedMLP


@pytest.fixture(scope="module")
def subject():
    task = mm.ModularTask(mm.ModularConfig(p=7, train_fraction=0.5))
    model = HookedMLP(mm.MLPConfig(width=9), 7).double()
    return mm.Subject(model, task, model.roles)


def test_equals_numpy(subject):
    u, v = subject.model.W_in.detach().numpy().reshape(2, 7, -1)
    vectors = {"u": u, "v": v, "w": subject.model.W_out.detach().numpy().T}
    for name, vector in vectors.items():
        assert np.allclose(score(f"weight_norm(of={name})")(subject).values, np.linalg.norm(vector, axis=0))
    wanted = np.sqrt(sum((vector**2).sum(0) for vector in vectors.values()))
    assert np.allclose(score("weight_norm")(subject).values, wanted)


def test_only_the_role_of_a_named_vector_is_needed(subject):
    roles = dataclasses.replace(subject.roles, input_embedding=None)
    bare = mm.Subject(subject.model, subject.task, roles)
    found = score("weight_norm(w)")(bare)
    assert torch.equal(found.values, score("weight_norm(w)")(subject).values) and found.point == "hook_hidden"
    for name in ("weight_norm", "weight_norm(u)"):
        with pytest.raises(MissingNeedError, match="role:input_embedding"):
            score(name)(bare)


def test_a_layer_has_its_own_vectors_only(subject):
    roles = dataclasses.replace(subject.roles, hidden=("hook_pre", "hook_hidden"))
    layers = mm.Subject(subject.model, subject.task, roles)
    assert torch.equal(score("weight_norm")(layers).values, score("weight_norm(w)")(subject).values)
    with pytest.raises(MissingNeedError, match="has the vectors w, not 'u'"):
        score("weight_norm(u)")(layers)
    with pytest.raises(UnknownNameError, match="hook_pre"):
        score("weight_norm(point=hook_prev)")(layers)
    middle = dataclasses.replace(roles, hidden=("hook_pre", "hook_hidden", "hook_logits"))
    with pytest.raises(MissingNeedError, match="neither an input vector"):
        score("weight_norm(point=hook_hidden)")(mm.Subject(subject.model, subject.task, middle))


def test_a_role_of_another_shape_is_refused(subject):
    readout = mm.Role("W_out", "neuron classes -> classes neuron")
    roles = dataclasses.replace(subject.roles, readout=readout)
    with pytest.raises(RoleError, match=r"must read as \(9, classes\)"):
        score("weight_norm")(mm.Subject(subject.model, subject.task, roles))
    embedding = mm.Role("W_in", "row neuron -> row neuron")
    roles = dataclasses.replace(subject.roles, input_embedding=embedding)
    with pytest.raises(RoleError, match="must read as"):
        score("weight_norm")(mm.Subject(subject.model, subject.task, roles))
