import warnings

import pytest
import torch
from hooked_models import Loop, array_task, looped, n_hooks
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import ActivationError, DiscardedEditError, UnknownNameError
from mechmem.interventions.reach import check_edit


class Shows(Loop):
    """Points that only show something, beside those that matter."""

    def __init__(self):
        super().__init__(times=2)
        self.hook_shown, self.hook_flat, self.hook_symbol, self.hook_numpy = (HookPoint() for _ in range(4))
        self.table = nn.Parameter(torch.eye(4, dtype=torch.float64))

    def forward(self, x):
        out = super().forward(x)
        self.hook_shown(out + 1)
        symbol = self.hook_symbol(x.argmax(1))
        outside = torch.from_numpy(self.hook_numpy(x).detach().numpy().copy())
        return out + self.table[symbol] + outside + 0 * self.hook_flat(x).relu()


@pytest.fixture
def shows():
    return mm.Subject(Shows(), array_task())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize(
    "point", ["hook_in", "hook_state#0", "hook_state#1", "hook_out", "hook_flat", "hook_symbol", "hook_numpy"]
)
def test_an_edit_that_reaches_the_logits_is_fine(shows, point, mode):
    with mode():
        check_edit(shows, point)


def test_an_edit_of_what_is_only_shown_is_an_error(shows):
    with pytest.raises(
        DiscardedEditError, match="an edit at 'hook_shown' has no effect: in this model the logits do not depend on"
    ):
        check_edit(shows, "hook_shown")


def test_other_errors_come_through(shows):
    with pytest.raises(UnknownNameError, match="Did you mean 'hook_shown'"):
        check_edit(shows, "hook_show")
    with pytest.raises(ActivationError, match="'hook_in#1' did not fire"):
        check_edit(shows, "hook_in#1")


def test_it_is_found_out_once_until_the_model_changes(shows):
    calls = []
    handle = shows.model.register_forward_hook(lambda *_: calls.append(1))
    check_edit(shows, "hook_in")
    once = len(calls)
    check_edit(shows, "hook_in")
    assert len(calls) == once > 0
    with torch.no_grad():
        shows.model.W.mul_(2)
    check_edit(shows, "hook_in")
    assert len(calls) == 2 * once
    handle.remove()


@pytest.mark.parametrize("point", ["hook_in", "hook_shown"])
def test_nothing_is_left_behind(shows, point):
    shows.model.train()
    shows.model.W.grad = torch.ones_like(shows.model.W)
    before = [parameter.clone() for parameter in shows.model.parameters()]
    try:
        check_edit(shows, point)
    except DiscardedEditError:
        assert point == "hook_shown"
    assert n_hooks(shows.model) == 0 and shows.model.training and torch.is_grad_enabled()
    assert torch.equal(shows.model.W.grad, torch.ones_like(shows.model.W)) and shows.model.table.grad is None
    assert all(torch.equal(new, old) for new, old in zip(shows.model.parameters(), before, strict=True))
    assert not shows.task.inputs.requires_grad


def test_a_model_that_fails_fails(shows):
    shows.model.fail = True
    with pytest.raises(RuntimeError, match="the model failed"):
        check_edit(shows, "hook_in")
    assert n_hooks(shows.model) == 0


def test_frozen_networks_are_tried_too():
    subject = looped()
    subject.model.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_edit(subject, "hook_in")


class Undifferentiable(Loop):
    """A network that is only ever run without gradients, and goes through numpy."""

    def forward(self, x):
        return torch.from_numpy(super().forward(x).numpy().copy())


def test_a_network_that_cannot_be_differentiated_is_tried_with_other_values():
    subject = mm.Subject(Undifferentiable(), array_task())
    check_edit(subject, "hook_in")
    assert n_hooks(subject.model) == 0
