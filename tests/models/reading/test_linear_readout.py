"""The linear readout: what it accepts in every precision, and what it refuses."""

import dataclasses

import pytest
import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import NotLinearError, RoleError, UnknownNameError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.reading.linear_readout import linear_readout


def subject_of(dtype=torch.float32, p=7, width=40, **settings):
    task = mm.ModularTask(mm.ModularConfig(p=p, train_fraction=0.6))
    model = HookedMLP(mm.MLPConfig(width=width, **settings), p).to(dtype)
    if model.b_out is not None:
        with torch.no_grad():
            model.b_out.copy_(torch.randn(p, generator=torch.Generator().manual_seed(0)))
    return mm.Subject(model, task, model.roles)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ["relu", "quadratic"])
def test_the_networks_own_logits_in_every_precision(dtype, bias, activation):
    subject = subject_of(dtype, bias=bias, activation=activation)
    found = linear_readout(subject)
    assert found.point == "hook_hidden" and found.hidden.dtype == found.weights.dtype == found.logits.dtype
    assert found.hidden.dtype == torch.promote_types(dtype, torch.float32)
    offset = subject.model.b_out if bias else 0
    rounding = max(1e-5, 2 * torch.finfo(dtype).eps)
    rebuilt = found.hidden @ found.weights + offset
    assert torch.allclose(rebuilt, found.logits, atol=rounding * float(found.logits.abs().max()), rtol=0)


def test_it_is_read_once_and_again_after_a_change():
    subject = subject_of()
    found = linear_readout(subject)
    assert linear_readout(subject) is found
    with torch.no_grad():
        subject.model.W_out.mul_(2)
    assert torch.equal(linear_readout(subject).logits, 2 * found.logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_nonlinear_last_step_is_found_in_every_precision(dtype):
    """The tolerance of half precision does not let through what a network computes beside its readout."""

    class Bent(HookedMLP):
        def forward(self, pairs):
            logits = super().forward(pairs)
            return logits + 0.1 * logits.abs().amax(1, keepdim=True).expand_as(logits)

    task = mm.ModularTask(mm.ModularConfig(p=7, train_fraction=0.6))
    model = Bent(mm.MLPConfig(width=40), 7).to(dtype)
    with pytest.raises(NotLinearError, match="not linear in 'hook_hidden'"):
        linear_readout(mm.Subject(model, task, model.roles))


def test_a_bias_that_is_not_named_shows():
    subject = subject_of(bias=True)
    nameless = dataclasses.replace(subject, roles=dataclasses.replace(subject.roles, bias=None))
    with pytest.raises(NotLinearError, match="hidden · weights \\+ bias"):
        linear_readout(nameless)


def test_layers_of_different_precision():
    """A float32 body with a float64 head, as in losses computed in double precision."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            draw = torch.Generator().manual_seed(0)
            self.E = nn.Parameter(torch.randn(7, 6, generator=draw))
            self.W = nn.Parameter(torch.randn(6, 7, generator=draw, dtype=torch.float64))
            self.hook_hidden = HookPoint()

        def forward(self, pairs):
            return self.hook_hidden(self.E[pairs].sum(1)).double() @ self.W

    task = mm.ModularTask(mm.ModularConfig(p=7, train_fraction=0.6))
    roles = mm.Roles(readout=mm.Role("W", "neuron class -> neuron class"), hidden=("hook_hidden",))
    assert linear_readout(mm.Subject(Mixed(), task, roles)).hidden.dtype == torch.float64


def test_what_is_refused():
    subject = subject_of(bias=True)

    def with_roles(**changed):
        return dataclasses.replace(subject, roles=dataclasses.replace(subject.roles, **changed))

    for missing in ({"hidden": ()}, {"readout": None}):
        with pytest.raises(NotLinearError, match="needs the roles hidden and readout"):
            linear_readout(with_roles(**missing))
    with pytest.raises(UnknownNameError, match="no layer of neurons 'hook_pre'"):
        linear_readout(subject, "hook_pre")
    with pytest.raises(NotLinearError, match="not linear in 'hook_pre'"):
        linear_readout(with_roles(hidden=("hook_pre",)))
    with pytest.raises(NotLinearError, match=r"times a readout of shape \(7,\) does not give"):
        linear_readout(with_roles(readout=mm.Role("b_out", "class -> class")))
    with pytest.raises(RoleError, match=r"bias must read as \(7,\), but reads as \(40, 7\)"):
        linear_readout(with_roles(bias=mm.Role("W_out", "neuron class -> neuron class")))
    with torch.no_grad():
        subject.model.W_out[0, 0] = torch.nan
    with pytest.raises(NotLinearError, match="by up to nan"):
        linear_readout(subject)
