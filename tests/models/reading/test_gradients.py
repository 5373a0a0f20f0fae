import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hooked_models import Loop, array_task, lens_subject, looped, n_hooks
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.core.roles import Output
from mechmem.errors import ActivationError, ConfigError, RoleError
from mechmem.models.hooks.hooking import hooked


def summed(logits, given):
    return F.cross_entropy(logits, given, reduction="sum")


def each(logits, given):
    return F.cross_entropy(logits, given, reduction="none")


def by_hand(subject, ids):
    """Gradients of the loop's cross-entropy by its points, from the equations."""
    W = subject.model.W.detach().numpy()
    inputs, given = subject.task.batch(ids)
    pre = inputs.numpy() @ W
    states = [np.maximum(2 * pre, 0)]
    for _ in range(subject.model.times):
        states.append(np.tanh(states[-1] @ W))
    shifted = np.exp(states[-1] - states[-1].max(1, keepdims=True))
    slope = shifted / shifted.sum(1, keepdims=True) - np.eye(4)[given.numpy()]
    found = {"hook_out": slope}
    for time in reversed(range(subject.model.times)):
        found[f"hook_state#{time}"] = slope
        slope = (slope * (1 - states[time + 1] ** 2)) @ W.T
    return found | {"hook_in": slope * 2 * (pre > 0)}


@pytest.mark.parametrize("chunk", [None, 1, 5, 18])
@pytest.mark.parametrize("loss", [summed, each])
def test_gradients_equal_those_by_hand_whatever_the_chunk(chunk, loss):
    subject = looped()
    found = mm.activations(subject, gradients=loss, chunk=chunk)
    expected = by_hand(subject, subject.task.train_ids)
    assert list(found.gradients) == list(found) == list(mm.activations(subject))
    for name, value in expected.items():
        np.testing.assert_allclose(found.gradients[name], value, atol=1e-13)
        assert torch.equal(found[name], mm.activations(subject, chunk=chunk)[name])
        assert not found[name].requires_grad and not found.gradients[name].requires_grad


def test_gradients_are_those_of_autograd_in_a_transformer():
    subject = lens_subject()
    names = ["blocks.0.hook_resid_pre", "blocks.0.attn.hook_z", "blocks.0.mlp.hook_post"]
    found = mm.activations(subject, names, gradients=each)
    inputs, given = subject.task.batch(subject.task.train_ids)
    for name in names:
        zero = torch.zeros_like(found[name], requires_grad=True)
        with hooked(subject.model, name, lambda value, zero=zero: value + zero):
            loss = summed(subject.roles.output.read(subject.model(inputs)), given)
        slope = torch.autograd.grad(loss, zero)[0]
        assert slope.abs().max() > 1e-3
        torch.testing.assert_close(found.gradients[name], slope, atol=1e-13, rtol=1e-10)


def test_they_are_reduced_as_the_values_are():
    whole = mm.activations(looped(), gradients=each)
    mean = mm.activations(looped(), gradients=each, reduce=mm.Mean, chunk=5)
    for name in whole:
        torch.testing.assert_close(mean.gradients[name], whole.gradients[name].mean(0))
        torch.testing.assert_close(mean[name], whole[name].mean(0))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_they_need_neither_trainable_parameters_nor_the_callers_autograd(frozen, mode):
    subject = looped()
    subject.model.requires_grad_(not frozen)
    with mode():
        found = mm.activations(subject, gradients=summed).gradients
    np.testing.assert_allclose(found["hook_in"], by_hand(subject, subject.task.train_ids)["hook_in"], atol=1e-13)
    assert subject.model.W.requires_grad is not frozen


def test_a_value_changed_in_place_before_or_after_does_not_matter():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.hook = HookPoint()
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x):
            before = x * self.scale
            after = self.hook(before)
            before.mul_(5)
            after.mul_(3)
            return after.square()

    subject = mm.Subject(InPlace(), array_task())
    found = mm.activations(subject, gradients=lambda logits, given: logits.sum())
    torch.testing.assert_close(found.gradients["hook"], 18 * found["hook"])


@pytest.mark.parametrize(
    "loss", [lambda x, y: F.cross_entropy(x, y), lambda x, y: x.sum().square(), lambda x, y: x.max()]
)
def test_a_loss_that_is_not_a_sum_over_examples_is_refused(loss):
    with pytest.raises(ConfigError, match="must return a loss summed over examples: with every example twice it is"):
        mm.activations(looped(), gradients=loss)


@pytest.mark.parametrize(
    ("loss", "seen"),
    [(lambda x, y: x, r"shape \(18, 4\)"), (lambda x, y: 3.0, "float"), (lambda x, y: y.sum(), r"shape \(\)")],
)
def test_what_is_no_loss_is_refused(loss, seen):
    with pytest.raises(ConfigError, match=f"or one per example; got {seen}"):
        mm.activations(looped(), gradients=loss)


def test_a_loss_of_nothing_that_is_hooked_is_refused():
    subject = looped()
    with pytest.raises(ConfigError, match="does not depend on the values of the hook points"):
        mm.activations(subject, gradients=lambda logits, given: logits.detach().sum())


def test_a_point_without_gradient_says_why():
    class Odd(Loop):
        def __init__(self):
            super().__init__(dead=True)
            self.hook_show = HookPoint()

        def forward(self, x):
            out = super().forward(x)
            self.hook_dead(out.argmax(1))
            self.hook_show(out + 1)
            return out

    found = mm.activations(mm.Subject(Odd(), array_task()), gradients=each)
    assert {"hook_dead", "hook_show"} <= set(found) and not {"hook_dead", "hook_show"} & set(found.gradients)
    with pytest.raises(ActivationError, match="'hook_dead' has no gradient: it holds torch.int64"):
        found.gradients["hook_dead"]
    with pytest.raises(ActivationError, match="'hook_show' has no gradient: the logits do not depend on it"):
        found.gradients["hook_show"]


def test_they_have_to_be_asked_for():
    with pytest.raises(ActivationError, match=r"ask for them with activations\(\.\.\., gradients=function\)"):
        _ = mm.activations(looped()).gradients


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("at", ["none", "model", "loss", "output"])
def test_nothing_is_left_behind(at, frozen):
    subject = looped()
    subject.model.requires_grad_(not frozen).train()
    kept = torch.full((4, 4), 7.0, dtype=torch.float64)
    subject.model.W.grad = kept.clone()
    inputs = subject.task.inputs.clone()
    subject.model.fail = at == "model"
    roles = mm.Roles(output=Output(position=0)) if at == "output" else subject.roles

    def loss(logits, given):
        if at == "loss":
            raise ZeroDivisionError
        return logits.sum()

    subject = mm.Subject(subject.model, subject.task, roles)
    if at == "none":
        mm.activations(subject, gradients=loss)
    else:
        with pytest.raises((ConfigError, ZeroDivisionError, RoleError)):
            mm.activations(subject, gradients=loss)
    assert n_hooks(subject.model) == 0 and subject.model.training and torch.is_grad_enabled()
    assert subject.model.W.requires_grad is not frozen and torch.equal(subject.model.W.grad, kept)
    assert not inputs.requires_grad and not subject.task.inputs.requires_grad and subject.task.inputs.grad is None
    assert torch.equal(subject.task.inputs, inputs)
