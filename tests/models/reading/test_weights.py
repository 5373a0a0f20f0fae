"""Vectors of neurons by role: one layer, several, tied inputs, and what is refused."""

import dataclasses

import pytest
import torch
from torch import nn

import mechmem as mm
from mechmem.errors import MissingNeedError, RoleError, UnknownNameError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.reading.weights import neuron_point, neuron_vectors, neuron_weights


def subject_of(p=5, op="add", dtype=torch.float64, **settings):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.6))
    model = HookedMLP(mm.MLPConfig(width=6, **settings), p).to(dtype)
    return mm.Subject(model, task, model.roles)


def changed(subject, **roles):
    return dataclasses.replace(subject, roles=dataclasses.replace(subject.roles, **roles))


class Deep(nn.Module):
    def __init__(self, p=5):
        super().__init__()
        self.U, self.V = nn.Parameter(torch.randn(p, 4)), nn.Parameter(torch.randn(p, 4))
        self.W, self.W_out = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(p, 3))

    def forward(self, pairs):
        return (self.U[pairs[:, 0]] + self.V[pairs[:, 1]]) @ self.W @ self.W_out.T


DEEP = mm.Roles(
    input_embedding=mm.Role(("U", "V"), "operand p neuron -> operand p neuron"),
    readout=mm.Role("W_out", "class neuron -> neuron class"),
    hidden=("first", "middle", "last"),
)


@pytest.mark.parametrize("p", [2, 5, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_layer_has_all_three(p, dtype):
    subject = subject_of(p, dtype=dtype)
    found = neuron_vectors(subject)
    assert (found.names, found.point, found.group) == (("u", "v", "w"), "hook_hidden", subject.task.group)
    wanted = subject.model.W_in[:p], subject.model.W_in[p:], subject.model.W_out.T
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found.vectors, wanted, strict=True))
    group, embedding, readout = neuron_weights(subject)
    assert group is subject.task.group and embedding.shape == (2, p, 6)
    assert torch.equal(readout, subject.model.W_out)


def test_tied_inputs_are_the_same_vector_twice():
    subject = subject_of(tied=True)
    u, v, _ = neuron_vectors(subject).vectors
    assert torch.equal(u, v) and torch.equal(u, subject.model.W_in)


def test_layers_have_the_vectors_that_reach_the_symbols():
    subject = mm.Subject(Deep(), subject_of().task, DEEP)
    first, last = neuron_vectors(subject, "first"), neuron_vectors(subject)
    assert first.names == ("u", "v") and torch.equal(first.vectors[1], subject.model.V)
    assert last.names == ("w",) and last.point == "last" and torch.equal(last.vectors[0], subject.model.W_out)
    with pytest.raises(MissingNeedError, match="'middle' lies between two others"):
        neuron_vectors(subject, "middle")
    with pytest.raises(MissingNeedError, match=r"one layer of neurons .* not several \(first, middle, last\)"):
        neuron_weights(subject)


def test_another_models_weights_are_read_on_request():
    subject, other = subject_of(), subject_of()
    with torch.no_grad():
        other.model.W_in.zero_()
    assert not neuron_vectors(subject, model=other.model).vectors[0].any()
    assert not neuron_weights(subject, other.model)[1].any()


def test_points():
    subject = subject_of()
    assert neuron_point(subject) == neuron_point(subject, "hook_hidden") == "hook_hidden"
    assert neuron_point(changed(subject, hidden=())) == ""
    assert neuron_vectors(changed(subject, hidden=())).names == ("u", "v", "w")
    with pytest.raises(UnknownNameError, match="no layer of neurons 'hook_hid'. Did you mean 'hook_hidden'"):
        neuron_point(subject, "hook_hid")


def test_what_is_missing():
    subject = subject_of()
    for roles in ({"input_embedding": None}, {"readout": None}):
        with pytest.raises(MissingNeedError, match="need a group and the roles"):
            neuron_vectors(changed(subject, **roles))
    with pytest.raises(MissingNeedError, match="need a group"):
        neuron_vectors(subject_of(6, "multiply"))
    with pytest.raises(MissingNeedError, match="one element, and so no frequency"):
        neuron_vectors(subject_of(2, "multiply"))


def test_roles_that_do_not_fit():
    subject = subject_of(bias=True)
    with pytest.raises(RoleError, match=r"input_embedding must read as \(2, 5, neurons\), but reads as \(10, 6\)"):
        neuron_vectors(changed(subject, input_embedding=mm.Role("W_in", "p neuron -> p neuron")))
    for pattern, shape in (
        ("neuron class -> class neuron", r"\(5, 6\)"),
        ("neuron class -> 1 neuron class", r"\(1, 6, 5\)"),
    ):
        with pytest.raises(RoleError, match=rf"readout must read as \(6, 5\), but reads as {shape}"):
            neuron_vectors(changed(subject, readout=mm.Role("W_out", pattern)))
    # The last of several layers brings its own width.
    deep = Deep()
    deep.scalar = nn.Parameter(torch.tensor(0.0))
    with pytest.raises(RoleError, match=r"readout must read as \(neurons, 5\), but reads as \(\)"):
        neuron_vectors(mm.Subject(deep, subject.task, dataclasses.replace(DEEP, readout=mm.Role("scalar", "->"))))
