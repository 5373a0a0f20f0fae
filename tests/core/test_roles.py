import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mechmem as mm
from mechmem.core.roles import Output, Role, Roles
from mechmem.errors import RoleError


def module(**tensors):
    made = nn.Module()
    for name, tensor in tensors.items():
        made.register_parameter(name, nn.Parameter(tensor))
    return made


# (stored parameters, role, independent reading)
ROLES = {
    "as it stands": (dict(W=(3, 4)), mm.Role("W", "neuron class -> neuron class"), lambda W: W),
    "transposed, as in nn.Linear": (dict(W=(4, 3)), mm.Role("W", "class neuron -> neuron class"), lambda W: W.T),
    "one above the other": (
        dict(W=(10, 3)),
        mm.Role("W", "(operand p) neuron -> operand p neuron", {"operand": 2}),
        lambda W: np.stack([W[:5], W[5:]]),
    ),
    "side by side, transposed": (
        dict(W=(3, 10)),
        mm.Role("W", "neuron (operand p) -> operand p neuron", {"operand": 2}),
        lambda W: np.stack([W[:, :5].T, W[:, 5:].T]),
    ),
    "interleaved": (
        dict(W=(10, 3)),
        mm.Role("W", "(p operand) neuron -> operand p neuron", {"operand": 2}),
        lambda W: np.stack([W[0::2], W[1::2]]),
    ),
    "stacked from two": (
        dict(U=(5, 3), V=(5, 3)),
        mm.Role(("U", "V"), "operand p neuron -> operand p neuron"),
        lambda U, V: np.stack([U, V]),
    ),
    "stacked from two nn.Linear": (
        dict(U=(3, 5), V=(3, 5)),
        mm.Role(("U", "V"), "operand neuron p -> operand p neuron"),
        lambda U, V: np.stack([U.T, V.T]),
    ),
    "tied": (
        dict(W=(5, 3)),
        mm.Role("W", "p neuron -> operand p neuron", {"operand": 2}),
        lambda W: np.stack([W, W]),
    ),
}


@pytest.mark.parametrize("case", ROLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_roles_read_and_write_back(case, dtype, draw):
    shapes, role, reading = ROLES[case]
    model = module(**{name: torch.randn(shape, generator=draw, dtype=dtype) for name, shape in shapes.items()})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    value = role.read(model)
    np.testing.assert_array_equal(value.numpy(), reading(*(p.numpy() for p in before.values())))
    assert not value.requires_grad

    role.write(model, value.clone())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.data, before[name])
    role.write(model, 2 * value + 1)
    torch.testing.assert_close(role.read(model), 2 * reading_of(role, before, reading) + 1)


def reading_of(role, before, reading):
    return torch.as_tensor(reading(*(p.numpy() for p in before.values())))


def test_writing_to_tied_inputs_averages(draw):
    model = module(W=torch.zeros(5, 3))
    value = torch.randn(2, 5, 3, generator=draw)
    mm.Role("W", "p neuron -> operand p neuron", {"operand": 2}).write(model, value)
    torch.testing.assert_close(model.W.data, (value[0] + value[1]) / 2)


def test_one_parameter_under_two_names_can_be_stacked(draw):
    model = nn.Module()
    model.U = nn.Parameter(torch.randn(5, 3, generator=draw))
    model.V = model.U
    role = mm.Role(("U", "V"), "operand p neuron -> operand p neuron")
    torch.testing.assert_close(role.read(model), torch.stack([model.U, model.U]).detach())


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_reading_what_was_written(p, neuron, operand):
    model = module(W=torch.zeros(operand * p, neuron))
    role = mm.Role("W", "(operand p) neuron -> operand p neuron", {"operand": operand})
    value = torch.arange(operand * p * neuron, dtype=torch.float32).reshape(operand, p, neuron)
    role.write(model, value)
    assert torch.equal(role.read(model), value)


@pytest.mark.parametrize(
    "role, message",
    [
        (mm.Role("w", "a b -> a b"), "no parameter 'w'. Did you mean 'W'"),
        (mm.Role("W", "a b c -> a b c"), r"pattern 'a b c -> a b c' does not fit 'W' of shape \[\(4, 3\)\]"),
        (mm.Role("W", "(operand p) n -> operand p n", {"operand": 3}), "does not fit 'W'"),
        (mm.Role(("W", "V"), "o p n -> o p n"), r"does not fit \('W', 'V'\) of shape \[\(4, 3\), \(2, 3\)\]"),
    ],
)
def test_roles_that_do_not_fit(role, message):
    with pytest.raises(RoleError, match=message):
        role.read(module(W=torch.zeros(4, 3), V=torch.zeros(2, 3)))


@pytest.mark.parametrize("shape", [(3, 4), (1, 3), (4, 3, 1), (4, 6)])
def test_writing_a_value_of_another_shape_is_refused(shape):
    model = module(W=torch.ones(4, 3))
    with pytest.raises(RoleError, match="W"):
        mm.Role("W", "p neuron -> p neuron").write(model, torch.zeros(shape))
    assert torch.equal(model.W.data, torch.ones(4, 3))


@pytest.mark.parametrize(
    "output, returned",
    [
        (Output(), torch.arange(12.0).reshape(4, 3)),
        (Output("logits"), {"loss": None, "logits": torch.arange(12.0).reshape(4, 3)}),
        (Output(position=-1), torch.stack([torch.zeros(4, 3), torch.arange(12.0).reshape(4, 3)], 1)),
        (Output("0", position=0, classes=3), (torch.arange(20.0).reshape(4, 1, 5), None)),
    ],
)
def test_an_output_finds_the_logits(output, returned):
    found = output.read(returned)
    assert found.shape == (4, 3)
    assert output.classes or torch.equal(found, torch.arange(12.0).reshape(4, 3))


@pytest.mark.parametrize(
    "output, returned, message",
    [
        (Output(), (torch.zeros(4, 3), None), "a tuple, not logits; .*one of '0'"),
        (Output("logit"), {"logits": torch.zeros(4, 3)}, "Did you mean 'logits'"),
        (Output(), torch.zeros(4, 2, 3), r"shape \(example, class\), but have \(4, 2, 3\)"),
        (Output(position=2), torch.zeros(4, 2, 3), r"with a position 2, but have \(4, 2, 3\)"),
        (Output(position=-1), torch.zeros(4, 3), r"position -1, but have \(4, 3\)"),
        (Output("0"), (None,), "a NoneType, not logits; .*no tensor"),
    ],
)
def test_an_output_that_does_not_fit_says_what_was_found(output, returned, message):
    with pytest.raises(RoleError, match=message):
        output.read(returned)


def test_only_the_first_rows_of_a_vocabulary_are_read_and_written():
    model = nn.Embedding(7, 3)
    before = model.weight.detach().clone()
    role = Role("weight", "p neuron -> operand p neuron", {"operand": 2}, first=5)
    assert role.read(model).shape == (2, 5, 3)
    role.write(model, torch.zeros(2, 5, 3))
    assert not model.weight[:5].any() and torch.equal(model.weight[5:], before[5:])


def test_gradients_are_arranged_like_the_rows_they_belong_to():
    role = Role("weight", "p neuron -> p neuron", first=5)
    stored = torch.arange(21.0).reshape(7, 3)
    assert torch.equal(role.arrange([stored]), stored[:5])


def test_a_single_point_is_its_name():
    roles = Roles(hidden="2.hook_out", residual=["a", "b"])
    assert roles.hidden == ("2.hook_out",) and roles.residual == ("a", "b") and roles.heads == ()
    assert roles == Roles(hidden=("2.hook_out",), residual=("a", "b")) and hash(roles) is not None


def test_axes_that_are_joined_to_be_read_are_split_to_be_written():
    """Only the parameter itself says how long its axes are."""
    model = nn.Module()
    model.W = nn.Parameter(torch.arange(24.0).reshape(2, 3, 4))
    role = mm.Role("W", "s class neuron -> neuron (s class)")
    value = role.read(model)
    role.write(model, value + 1)
    assert torch.equal(model.W, torch.arange(24.0).reshape(2, 3, 4) + 1)
