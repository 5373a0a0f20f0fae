import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import ActivationError, UnknownNameError


class Loop(nn.Module):
    """A small network with a point in a loop, one that never fires, and work done in place after a point."""

    def __init__(self, times=3, dead=False):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.W = nn.Parameter(torch.randn(4, 4, generator=draw, dtype=torch.float64) / 2)
        self.dropout = nn.Dropout(0.5)
        self.hook_in, self.hook_state, self.hook_out = HookPoint(), HookPoint(), HookPoint()
        if dead:
            self.hook_dead = HookPoint()
        self.times = times
        self.fail = False

    def forward(self, x):
        state = self.hook_in(x @ self.W)
        state.mul_(2).relu_()
        for _ in range(self.times):
            state = self.hook_state(torch.tanh(self.dropout(state) @ self.W))
        if self.fail:
            raise RuntimeError("the model failed")
        return self.hook_out(state)


def array_task(n=23, width=4, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, width, generator=draw, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, 4, (n,), generator=draw)
    return mm.ArrayTask(inputs, labels, labels, torch.arange(n) < n - 5, n_classes=4)


def looped(times=3, **settings):
    return mm.Subject(Loop(times, **settings), array_task())


def reference(model, x):
    """The same network in numpy."""
    W, x = model.W.detach().numpy(), x.numpy()
    values = {"hook_in": x @ W}
    state = np.maximum(2 * values["hook_in"], 0)
    for time in range(model.times):
        state = np.tanh(state @ W)
        values[f"hook_state#{time}"] = state
    values["hook_out"] = state
    return values


def n_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


@pytest.mark.parametrize("chunk", [None, 1, 7, 18, 100])
def test_values_equal_numpy_whatever_the_chunk(chunk):
    subject = looped()
    found = mm.activations(subject, chunk=chunk)
    expected = reference(subject.model, subject.task.inputs[subject.task.train_ids])
    assert list(found) == ["hook_in", "hook_state#0", "hook_state#1", "hook_state#2", "hook_out"]
    assert len(found) == 5
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, atol=1e-14)


def test_ids_choose_the_rows_and_their_order():
    subject = looped()
    ids = torch.tensor([20, 3, 3, 22, 0])
    found = mm.activations(subject, "hook_out", ids, chunk=2)["hook_out"]
    np.testing.assert_allclose(found.numpy(), reference(subject.model, subject.task.inputs[ids])["hook_out"])


def test_a_point_that_fired_several_times_must_be_asked_for_by_number():
    found = mm.activations(looped(), "hook_state")
    assert "hook_state#2" in found and "hook_state#3" not in found
    with pytest.raises(ActivationError, match="'hook_state' fired 3 times; ask for one of hook_state#0, hook_state#1"):
        found["hook_state"]
    assert list(mm.activations(looped(times=1), "hook_state")) == ["hook_state"]


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UnknownNameError, match="no hook point 'hook_stat'. Did you mean 'hook_state'"):
        mm.activations(looped(), ["hook_in", "hook_stat"])
    with pytest.raises(UnknownNameError, match=r"no hook point 'blocks\.\*'"):
        mm.activations(looped(), "blocks.*")
    with pytest.raises(ActivationError, match="no cached activation 'hook_inn'. Did you mean 'hook_in'"):
        mm.activations(looped(), "hook_in")["hook_inn"]


@pytest.mark.parametrize("reduce", [None, mm.Mean])
def test_a_point_that_never_fires_is_an_error(reduce):
    subject = looped(dead=True)
    with pytest.raises(ActivationError, match="'hook_dead' did not fire"):
        mm.activations(subject, reduce=reduce)
    assert n_hooks(subject.model) == 0
    assert list(mm.activations(subject, "hook_in")) == ["hook_in"]


@pytest.mark.parametrize("reduce", [None, mm.Mean])
def test_a_point_that_fires_now_more_now_less_is_an_error(reduce):
    class Uneven(Loop):
        def forward(self, x):
            self.times = len(x)
            return super().forward(x)

    with pytest.raises(ActivationError, match="'hook_state' fired 4 times in one chunk and 7 in another"):
        mm.activations(mm.Subject(Uneven(), array_task()), reduce=reduce, chunk=7)


def test_patterns_choose_points():
    assert list(mm.activations(looped(), "hook_[io]*")) == ["hook_in", "hook_out"]
    assert list(mm.activations(looped(), ["hook_out", "hook_in"])) == ["hook_in", "hook_out"]


def test_values_are_detached_and_cloned():
    subject = looped()
    found = mm.activations(subject)
    before = {name: value.clone() for name, value in found.items()}
    assert not any(value.requires_grad for value in found.values())
    with torch.no_grad():
        subject.model.W.fill_(7.0)
    subject.task.inputs.fill_(1.0)
    subject.model(subject.task.inputs)
    for name, value in found.items():
        assert torch.equal(value, before[name])
    with pytest.raises(TypeError):
        found["hook_in"] = torch.zeros(1)


@pytest.mark.parametrize("chunk", [None, 5])
def test_a_point_that_passes_a_view_of_the_input_is_copied(chunk):
    class Through(nn.Module):
        def __init__(self):
            super().__init__()
            self.hook = HookPoint()

        def forward(self, x):
            return self.hook(x)

    subject = mm.Subject(Through(), array_task())
    found = mm.activations(subject, chunk=chunk)["hook"]
    subject.task.inputs.zero_()
    assert found.abs().sum() > 0


def test_no_hooks_are_left_after_success_or_failure():
    subject = looped()
    mm.activations(subject)
    assert n_hooks(subject.model) == 0
    subject.model.fail = True
    with pytest.raises(RuntimeError, match="the model failed"):
        mm.activations(subject)
    assert n_hooks(subject.model) == 0

    class Broken(mm.Mean):
        def update(self, values):
            raise ZeroDivisionError

    subject.model.fail = False
    with pytest.raises(ZeroDivisionError):
        mm.activations(subject, reduce=Broken)
    assert n_hooks(subject.model) == 0


def test_hooks_of_the_user_stay_and_are_seen():
    subject = looped()
    handle = subject.model.hook_in.register_forward_hook(lambda _m, _i, out: out * 0)
    found = mm.activations(subject)
    assert n_hooks(subject.model) == 1
    assert found["hook_in"].abs().sum() == 0 and found["hook_out"].abs().sum() == 0
    handle.remove()


@pytest.mark.parametrize("fail", [False, True])
def test_every_module_gets_its_own_mode_back(fail):
    subject = looped()
    subject.model.train()
    subject.model.dropout.eval()
    subject.model.fail = fail
    modes = [module.training for module in subject.model.modules()]
    try:
        mm.activations(subject)
    except RuntimeError:
        assert fail
    assert [module.training for module in subject.model.modules()] == modes


def test_gradients_are_neither_made_nor_lost():
    subject = looped()
    subject.model.W.grad = torch.ones(4, 4, dtype=torch.float64)
    mm.activations(subject)
    assert torch.equal(subject.model.W.grad, torch.ones(4, 4, dtype=torch.float64))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("reduce", [None, mm.Mean])
def test_the_result_holds_no_model(reduce):
    subject = looped()
    model = weakref.ref(subject.model)
    found = mm.activations(subject, reduce=reduce)
    del subject
    gc.collect()
    assert model() is None
    assert len(found) == 5


def test_results_show_their_shapes():
    assert repr(mm.activations(looped(), "hook_in")) == "Activations(hook_in (18, 4))"


def numpy_moments(x):
    flat = x.reshape(len(x), -1)
    return {mm.Mean: x.mean(0), mm.Variance: x.var(0), mm.Gram: flat.T @ flat}


@pytest.mark.parametrize("reduction", [mm.Mean, mm.Variance, mm.Gram])
@given(
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    offset=st.sampled_from([0.0, 1e6]),
    shape=st.sampled_from([(), (3,), (2, 3)]),
)
def test_reductions_equal_numpy_with_uneven_chunks(reduction, chunks, offset, shape):
    x = np.random.default_rng(sum(chunks)).normal(size=(sum(chunks), *shape)) + offset
    running = reduction()
    if reduction is mm.Gram and not shape:
        x = x[:, None]
    for chunk in np.split(x, np.cumsum(chunks)[:-1]):
        running.update(torch.from_numpy(chunk.copy()))
    found = running.result()
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), numpy_moments(x)[reduction], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reduction", [mm.Mean, mm.Variance, mm.Gram])
def test_reductions_of_float32_lose_no_digits(reduction):
    x = (np.random.default_rng(0).normal(size=(5000, 2)) + 1000).astype(np.float32)
    running = reduction()
    for chunk in np.array_split(x, 37):
        running.update(torch.from_numpy(chunk.copy()))
    expected = numpy_moments(x.astype(np.float64))[reduction]
    # A mean sums each chunk in float32, which is as exact as the activations are; squares would lose digits that way.
    np.testing.assert_allclose(running.result().numpy(), expected, rtol=1e-6 if reduction is mm.Mean else 1e-10)


@pytest.mark.parametrize("reduction", [mm.Mean, mm.Variance, mm.Gram])
def test_a_reduction_of_nothing_is_an_error(reduction):
    with pytest.raises(ActivationError, match="no example was seen"):
        reduction().result()


@pytest.mark.parametrize("reduction", [mm.Mean, mm.Variance, mm.Gram])
@pytest.mark.parametrize("chunk", [1, 4, 18])
def test_streamed_reductions_equal_those_of_the_kept_values(reduction, chunk):
    subject = looped()
    kept = mm.activations(subject)
    reduced = mm.activations(subject, reduce=reduction, chunk=chunk)
    assert list(reduced) == list(kept)
    for name in kept:
        expected = numpy_moments(kept[name].numpy())[reduction]
        np.testing.assert_allclose(reduced[name].numpy(), expected, rtol=1e-12, atol=1e-14)


def test_a_reduction_of_half_precision_is_of_the_widened_values():
    class Half(Loop):
        def forward(self, x):
            return self.hook_in((x @ self.W).bfloat16())

    subject = mm.Subject(Half(), array_task())
    kept = mm.activations(subject, "hook_in")["hook_in"]
    assert kept.dtype == torch.bfloat16
    reduced = mm.activations(subject, "hook_in", reduce=mm.Gram, chunk=5)["hook_in"]
    np.testing.assert_allclose(reduced.numpy(), kept.double().T.numpy() @ kept.double().numpy(), rtol=1e-12)


def test_a_value_without_examples_cannot_be_kept():
    class Sums(Loop):
        def forward(self, x):
            return self.hook_in(x.sum())

    with pytest.raises(ActivationError, match=r"'hook_in#0' has shape \(\); its first axis is not the 18 examples"):
        mm.activations(mm.Subject(Sums(), array_task()), "hook_in")


def test_on_the_hooked_network(planted):
    subject = planted.subject
    found = mm.activations(subject, ids=subject.task.ids)
    assert list(found) == ["hook_pre", "hook_hidden", "hook_logits"]
    torch.testing.assert_close(found["hook_hidden"], found["hook_pre"].square())
    torch.testing.assert_close(found["hook_logits"], mm.extractor("raw")(subject)(subject.task.ids))
