"""Hooks that would mislead are refused or reported."""

import copy
import functools
import sys
import warnings

import pytest
import torch
from hooked_models import Loop, array_task, looped, n_hooks
from torch import nn
from torch.nn.utils import prune
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import ActivationError, ConfigError, LeftoverHooksWarning, UnknownNameError
from mechmem.models.hooks.attach import attach
from mechmem.models.hooks.hooking import hooked, leftover_hooks
from mechmem.models.hooks.points import hook_points
from mechmem.models.reading.forward import all_logits, logits_of


class Rooted(HookedRootModule, Loop):
    def __init__(self):
        Loop.__init__(self)
        self.context_level, self.is_caching, self.hook_dict, self.mod_dict = 0, False, {}, {}
        self.setup()


def rooted():
    return mm.Subject(Rooted(), array_task())


def halve(value, hook):
    return value / 2


def left(model):
    return leftover_hooks(model, hook_points(model))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("in_place", [False, True])
def test_torch_compile_ignores_hooks_that_come_after_the_first_call(backend, in_place):
    torch._dynamo.reset()
    model, x = Loop(times=1).eval(), array_task().inputs
    compiled = torch.compile(model, backend=backend)
    if in_place:
        model.compile(backend=backend)
        compiled = model
    plain = compiled(x)
    handle = model.hook_out.register_forward_hook(lambda m, i, out: out * 0)
    assert torch.equal(compiled(x), plain) and model.forward(x).abs().sum() == 0
    handle.remove()


@pytest.mark.parametrize("part", ["whole", "whole in place", "part", "part in place"])
def test_compiled_models_are_refused(part):
    inner = Loop()
    if "in place" in part:
        inner.compile(backend="eager")
        compiled = inner
    else:
        compiled = torch.compile(inner, backend="eager")
    model = nn.Sequential(nn.Linear(4, 4).double(), compiled) if part.startswith("part") else compiled
    shown = "'1' of the model" if part.startswith("part") else "the model"
    match = f"{shown} is compiled by torch.compile, which ignores hooks registered after the first call; pass .*"
    match += "_orig_mod" if "in place" not in part else r"\.compile\(\) was not called"
    subject = mm.Subject(model, array_task())
    for call in (lambda: mm.activations(subject), lambda: hook_points(model)):
        with pytest.raises(ConfigError, match=match):
            call()
    if part == "whole":
        assert len(mm.activations(subject.with_model(model._orig_mod))) == 5


def test_a_compiled_part_without_points_is_no_matter():
    class Outside(Loop):
        def __init__(self):
            super().__init__()
            self.head = torch.compile(nn.Linear(4, 4).double(), backend="eager")

    assert len(mm.activations(mm.Subject(Outside(), array_task()))) == 5


def stranger(module, inputs, output):
    return None


@pytest.mark.parametrize(
    ("put_on", "where"),
    [
        (lambda m: m.add_hook("hook_in", halve), r"hook_in \(halve\)"),
        (lambda m: m.add_hook("hook_in", lambda g, hook: None, dir="bwd"), r"hook_in \(.*lambda"),
        (lambda m: m.hook_state.add_hook(functools.partial(halve)), r"hook_state \(halve\)"),
        (lambda m: m.hook_state.register_forward_hook(stranger), r"hook_state \(stranger\)"),
        (lambda m: m.dropout.register_forward_hook(stranger), r"dropout \(stranger\)"),
        (lambda m: m.dropout.register_forward_pre_hook(lambda m, i: None), r"dropout \(.*lambda"),
        (lambda m: m.register_forward_hook(stranger), r"the model itself \(stranger\)"),
        (lambda m: m.dropout.register_full_backward_hook(stranger), r"dropout \(stranger\)"),
    ],
)
def test_hooks_that_were_left_behind_are_reported(put_on, where):
    subject = rooted()
    assert left(subject.model) == ()
    put_on(subject.model)
    assert len(left(subject.model)) == 1
    with pytest.warns(
        LeftoverHooksWarning, match=f"left on it and act in every forward pass: {where}.*Remove them"
    ) as seen:
        mm.activations(subject, "hook_out")
    assert len(seen) == 1


def test_many_are_counted():
    subject = rooted()
    for _ in range(5):
        subject.model.add_hook("hook_in", halve)
    with pytest.warns(
        LeftoverHooksWarning, match=r"hook_in \(halve\), hook_in \(halve\), hook_in \(halve\) and 2 more"
    ):
        mm.activations(subject)


def test_an_open_context_is_meant_and_one_that_left_its_hooks_is_not():
    subject = rooted()
    plain = mm.activations(subject)["hook_in"]
    with subject.model.hooks(fwd_hooks=[("hook_in", halve)]):
        torch.testing.assert_close(mm.activations(subject)["hook_in"], plain / 2)
        with subject.model.hooks(fwd_hooks=[("hook_in", halve)]):
            torch.testing.assert_close(mm.activations(subject)["hook_in"], plain / 4)
    torch.testing.assert_close(mm.activations(subject)["hook_in"], plain)
    with subject.model.hooks(fwd_hooks=[("hook_in", halve)], reset_hooks_end=False):
        pass
    with pytest.warns(LeftoverHooksWarning):
        mm.activations(subject)


def test_a_context_of_a_part_of_the_model_is_meant_too():
    inner = Rooted()
    subject = mm.Subject(nn.Sequential(inner), array_task())
    with inner.hooks(fwd_hooks=[("hook_in", halve)]):
        assert left(subject.model) == ()


def test_permanent_hooks_and_those_of_libraries_are_no_leftovers():
    model = Rooted()
    model.add_perma_hook("hook_in", halve)
    model.hook_out.add_perma_hook(halve)
    prune.identity(model, "W")
    assert model._forward_pre_hooks and left(model) == ()
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).double()
    attached = attach(network, "1")
    assert left(attached) == () and left(nn.Sequential(network)) == ()
    attached.add_hook("1.hook_out", halve)
    assert left(attached) == ("1.hook_out (halve)",)


def test_a_function_put_on_for_a_while_is_no_leftover_and_goes():
    subject = rooted()
    plain = mm.activations(subject)
    with hooked(subject.model, "hook_state#1", lambda value: value * 0):
        assert left(subject.model) == ()
        found = mm.activations(subject)
    assert torch.equal(found["hook_state#0"], plain["hook_state#0"])
    assert found["hook_state#1"].abs().sum() == 0 and found["hook_out"].abs().sum() == 0
    assert n_hooks(subject.model) == 0


def test_hooked_says_what_did_not_fire_and_cleans_up():
    subject = looped(dead=True)
    x = subject.task.inputs
    for point, error in (
        ("hook_dead", ActivationError),
        ("hook_state#3", ActivationError),
        ("hook_n", UnknownNameError),
    ):
        with pytest.raises(error), hooked(subject.model, point, lambda value: None):
            subject.model(x)
    with pytest.raises(ZeroDivisionError), hooked(subject.model, "hook_dead", lambda value: None):
        raise ZeroDivisionError
    assert n_hooks(subject.model) == 0


def test_hooks_taken_off_by_somebody_else_meanwhile_are_no_matter():
    subject = rooted()
    with hooked(subject.model, "hook_in", lambda value: None):
        subject.model(subject.task.inputs)
        subject.model.reset_hooks()
    assert n_hooks(subject.model) == 0


def test_an_edit_of_the_users_function_cannot_change_the_cache():
    subject = looped(times=1)
    before = mm.activations(subject)["hook_in"]

    class Spoils(Loop):
        def forward(self, x):
            out = super().forward(x)
            self.seen.zero_()
            return out

    model = Spoils(times=1)
    with hooked(model, "hook_in", lambda value: setattr(model, "seen", value)):
        assert torch.equal(mm.activations(mm.Subject(model, subject.task))["hook_in"], before)


def test_replaced_points_are_found_where_they_are():
    model = Rooted()
    surgery = copy.deepcopy(model)
    surgery.hook_in = HookPoint()
    subject = mm.Subject(surgery, array_task())
    assert hook_points(surgery)["hook_in"] is surgery.hook_in
    assert set(hook_points(surgery)) == set(hook_points(model)) == {"hook_in", "hook_state", "hook_out"}
    assert len(mm.activations(subject)) == 5


def test_nothing_warns_where_nothing_was_left():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mm.activations(rooted())


def warned(call):
    """The warnings of a call, every one of them."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    assert {each.category for each in seen} <= {LeftoverHooksWarning}
    return seen


CALLS = {
    "activations": mm.activations,
    "audit": lambda subject: mm.audit(subject, ["raw"]),
    "ablate": lambda subject: mm.ablate(subject, order="random", points=2),
    "patch": lambda subject: mm.patch(subject, units="neuron"),
    "intervene": lambda subject: mm.intervene(subject, mm.Edit("hook_hidden", neurons=0)),
    "logits": lambda subject: logits_of(subject.model, subject.task, subject.task.ids),
    "all logits": all_logits,
}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_that_runs_a_network_with_hooks_left_on_it_says_so_once_where_it_is_made(name):
    subject = mm.planted_network(5, memorized_fraction=0.2).subject
    clean = mm.Subject(subject.copy_model(), subject.task, subject.roles)
    subject.model.add_hook("hook_hidden", halve)
    here = []

    def call():
        here.append(sys._getframe().f_lineno + 1)
        CALLS[name](subject)

    for _ in range(2):
        seen = warned(call)
        # What is known already is not run again.
        assert len(seen) == 1 or (name == "ablate" and not seen and len(here) == 2)
        for each in seen:
            line = CALLS[name].__code__.co_firstlineno if CALLS[name].__module__ == __name__ else here[-1]
            assert (each.filename, each.lineno) == (__file__, line)
    subject.model.reset_hooks()
    assert not warned(lambda: CALLS[name](subject)) and not warned(lambda: CALLS[name](clean))


def test_two_networks_with_hooks_left_on_them_are_both_reported():
    networks = [mm.planted_network(5, memorized_fraction=0.2).subject for _ in range(2)]
    for subject, point in zip(networks, ("hook_hidden", "hook_pre"), strict=True):
        subject.model.add_hook(point, halve)
    seen = warned(lambda: mm.patch(*networks, at="hook_hidden"))
    assert [str(each.message).partition("pass: ")[2].partition(" ")[0] for each in seen] == ["hook_hidden", "hook_pre"]


def test_a_compiled_network_can_be_run_though_not_hooked():
    model = nn.Linear(4, 4).double()
    subject = mm.Subject(torch.compile(model, backend="eager"), array_task())
    assert torch.equal(all_logits(subject), model(subject.task.inputs))
    with pytest.raises(ConfigError, match="the model is compiled by torch.compile"):
        mm.activations(subject, "hook_out")
