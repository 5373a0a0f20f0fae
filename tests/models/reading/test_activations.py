import gc
import weakref

import numpy as np
import pytest
import torch
from hooked_models import Loop, array_task, looped, n_hooks
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import ActivationError, ConfigError, LeftoverHooksWarning, RoleError, UnknownNameError
from mechmem.models.reading.cache import Activations


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
def test_a_named_point_that_never_fires_is_an_error(reduce):
    subject = looped(dead=True)
    with pytest.raises(ActivationError, match="hook point 'hook_dead' did not fire in the forward pass"):
        mm.activations(subject, ["hook_in", "hook_dead"], reduce=reduce)
    with pytest.raises(ActivationError, match=r"no hook point matching 'hook_d\*' fired in the forward pass"):
        mm.activations(subject, ["hook_in", "hook_d*"], reduce=reduce)
    assert n_hooks(subject.model) == 0


@pytest.mark.parametrize("points", ["*", ["hook_in", "hook_*"]])
def test_a_point_of_a_pattern_that_never_fires_is_left_out_and_says_so(points):
    found = mm.activations(looped(times=1, dead=True), points)
    assert list(found) == ["hook_in", "hook_state", "hook_out"] and "hook_dead" not in found
    with pytest.raises(ActivationError, match="'hook_dead' did not fire in the forward pass"):
        found["hook_dead"]


@pytest.mark.parametrize("at", [0, 1])
def test_a_point_that_fires_in_some_chunks_only_is_an_error(at):
    class Sometimes(Loop):
        calls = 0

        def forward(self, x):
            out = super().forward(x)
            self.calls += 1
            return self.hook_dead(out) if self.calls % 2 == at else out

    with pytest.raises(ActivationError, match=r"'hook_dead' fired \d times in one chunk and \d in another"):
        mm.activations(mm.Subject(Sometimes(dead=True), array_task()), chunk=7)


@pytest.mark.parametrize("reduce", [None, mm.Mean])
def test_a_point_that_fires_now_more_now_less_is_an_error(reduce):
    class Uneven(Loop):
        def forward(self, x):
            for _ in x[1:]:
                self.hook_state(x)
            return super().forward(x)

    with pytest.raises(ActivationError, match="'hook_state' fired 6 times in one chunk and 9 in another"):
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
    with pytest.raises(ConfigError, match="the model failed"):
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
    with pytest.warns(LeftoverHooksWarning):
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
    except ConfigError:
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


def test_a_value_without_examples_cannot_be_kept():
    class Sums(Loop):
        def forward(self, x):
            return self.hook_in(x.sum())

    with pytest.raises(ActivationError, match=r"'hook_in' has shape \(\); its first axis is not the 18 examples"):
        mm.activations(mm.Subject(Sums(), array_task()), "hook_in")


def test_on_the_hooked_network(planted):
    subject = planted.subject
    found = mm.activations(subject, ids=subject.task.ids)
    assert list(found) == ["hook_pre", "hook_hidden", "hook_logits"]
    torch.testing.assert_close(found["hook_hidden"], found["hook_pre"].square())
    torch.testing.assert_close(found["hook_logits"], mm.extractor("raw")(subject)(subject.task.ids))


@pytest.mark.parametrize("reduce", [None, mm.Mean])
@pytest.mark.parametrize("chunk", [5, None])
def test_values_are_cast_where_they_are_kept(reduce, chunk):
    class Mixed(Loop):
        def forward(self, x):
            self.hook_out(super().forward(x).argmax(1))
            return x

    subject = mm.Subject(Mixed(), array_task())
    whole = mm.activations(subject, ["hook_in", "hook_out"], reduce=reduce)
    found = mm.activations(subject, ["hook_in", "hook_out"], reduce=reduce, chunk=chunk, dtype=torch.float16)
    assert found["hook_in"].dtype == torch.float16
    assert torch.equal(found["hook_in"], whole["hook_in"].half())
    if reduce is None:
        assert found["hook_out#1"].dtype == torch.int64
    with pytest.raises(ConfigError, match="dtype is a floating-point type such as torch.float16, got torch.int32"):
        mm.activations(subject, dtype=torch.int32)


@pytest.mark.parametrize("reduce", [None, mm.Mean])
def test_values_are_put_on_the_device(reduce):
    found = mm.activations(looped(), "hook_in", reduce=reduce, device=torch.device("cpu"))
    assert found["hook_in"].device.type == "cpu"
    with pytest.raises(ConfigError, match="device 'meta' cannot be used here"):
        mm.activations(looped(), "hook_in", reduce=reduce, device="meta")


def test_memory_of_shared_storage_counts_once():
    base = torch.zeros(10, 4)
    shared = Activations({"a": base, "b": base[:5], "c": base.T})
    assert shared.nbytes == 160
    slopes = Activations({"a": torch.zeros(10, 4)})
    assert Activations({"a": base, "b": base}, gradients=slopes).nbytes == 320
    found = mm.activations(looped())
    assert found.nbytes == 5 * 18 * 4 * 8


@pytest.mark.parametrize(("reduce", "size"), [(None, 5 * 18 * 4 * 8), (mm.Gram, 5 * 16 * 8)])
@pytest.mark.parametrize("chunk", [3, None])
def test_a_cache_can_be_capped(reduce, size, chunk, monkeypatch):
    subject = looped()
    exact = size / 2**20
    assert mm.activations(subject, reduce=reduce, chunk=chunk, limit_mb=exact).nbytes == size
    rows = []
    forward = subject.model.forward
    monkeypatch.setattr(subject.model, "forward", lambda x: rows.append(len(x)) or forward(x))
    message = f"{18} examples would take {exact:.4g} MB, and limit_mb is .*; ask for fewer points or ids"
    with pytest.raises(ActivationError, match=message):
        mm.activations(subject, reduce=reduce, chunk=chunk, limit_mb=exact * 0.99)
    assert rows == [chunk or 18] and n_hooks(subject.model) == 0
    half = mm.activations(subject, reduce=reduce, chunk=chunk, limit_mb=exact * 0.5, dtype=torch.float32)
    assert half.nbytes == size // 2


def test_the_cap_counts_gradients_too():
    def loss(logits, given):
        return logits[:, 0]

    size = 2 * 5 * 18 * 4 * 8 / 2**20
    mm.activations(looped(), gradients=loss, limit_mb=size)
    with pytest.raises(ActivationError, match="limit_mb"):
        mm.activations(looped(), gradients=loss, limit_mb=size * 0.99)


class Positions(Loop):
    """A point holds a table that is the same for every example, as an embedding of positions does."""

    def __init__(self, also=0):
        super().__init__()
        self.hook_table, self.also = HookPoint(), also

    def forward(self, x):
        out = super().forward(x) + self.hook_table(self.W[:1, None]).sum()
        for _ in range(self.also):
            out = self.hook_table(out)
        return out


REASON = r"'hook_table' has shape \(1, 1, 4\); its first axis is not the {} examples"


@pytest.mark.parametrize("chunk", [5, 17, None])
@pytest.mark.parametrize("reduce", [None, mm.Mean])
def test_a_point_that_holds_nothing_per_example_is_left_out_of_a_pattern(chunk, reduce):
    subject, plain = mm.Subject(Positions(), array_task()), looped()
    loss = lambda logits, given: logits.square().sum(1)  # noqa: E731
    found = mm.activations(subject, chunk=chunk, reduce=reduce, gradients=loss)
    expected = mm.activations(plain, chunk=chunk, reduce=reduce)
    assert list(found) == list(found.gradients) == list(expected) and "hook_table" not in found
    for name, value in expected.items():
        if name != "hook_out":
            torch.testing.assert_close(found[name], value)
    for held in (found, found.gradients):
        with pytest.raises(ActivationError, match=REASON.format(chunk or 18)):
            held["hook_table"]
    for named in ("hook_table", ["*", "hook_table"], "hook_t*"):
        with pytest.raises(ActivationError, match=REASON.format(chunk or 18)):
            mm.activations(subject, named, chunk=chunk, reduce=reduce)
    assert n_hooks(subject.model) == 0


def test_of_a_point_that_fires_often_what_holds_examples_stays():
    found = mm.activations(mm.Subject(Positions(also=2), array_task()))
    assert [name for name in found if "table" in name] == ["hook_table#1", "hook_table#2"]
    with pytest.raises(ActivationError, match=r"'hook_table#0' has shape \(1, 1, 4\)"):
        found["hook_table#0"]


def test_an_axis_that_is_the_examples_only_by_chance_is_found_out_by_the_last_chunk():
    class Chance(Loop):
        def forward(self, x):
            self.hook_out(self.W)  # four rows
            return super().forward(x)

    subject = mm.Subject(Chance(), array_task())
    found = mm.activations(subject, chunk=4)  # 18 examples
    assert "hook_out#1" in found and "hook_out#0" not in found
    with pytest.raises(ActivationError, match="'hook_out#0' has shape .* not the 2 examples"):
        mm.activations(subject, "hook_out", chunk=4)


WRONG = {
    "reduce, a word": (
        {"reduce": "mean"},
        "reduce is called to create a reduction, like the class mm.Mean; got 'mean'",
    ),
    "reduce, an instance": ({"reduce": mm.Mean()}, "reduce is called to create a reduction, like the class mm.Mean"),
    "gradients": ({"gradients": True}, "gradients is a function of logits and given labels .* got True"),
    "dtype": ({"dtype": "float16"}, "dtype is a floating-point type such as torch.float16, got 'float16'"),
    "chunk, a fraction": ({"chunk": 2.5}, "chunk must be a whole number of at least 1, got 2.5"),
    "chunk, none": ({"chunk": 0}, "chunk must be a whole number of at least 1, got 0"),
    "chunk, less": ({"chunk": -1}, "chunk must be a whole number of at least 1, got -1"),
    "limit_mb": ({"limit_mb": "1"}, "limit_mb must be finite and at least 0, got '1'"),
    "a class": ({"points": nn.Conv2d}, "points is a name, a pattern or a list of them, .* classes of modules are for"),
    "classes": ({"points": [nn.Conv2d]}, "points is a name, a pattern or a list of them"),
    "a mask": ({"ids": torch.ones(23).bool()}, r"ids must be whole numbers, got a mask of 23 values: task.ids\[mask\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_setting_of_the_wrong_kind_is_an_error_before_anything_runs(case, unchecked_shapes):
    settings, message = WRONG[case]
    subject = looped()
    subject.model.fail = True
    with pytest.raises(ConfigError, match=message):
        mm.activations(subject, **settings)


@pytest.mark.parametrize("make", [list, tuple, np.array, range, torch.tensor])
def test_ids_may_be_any_list_of_numbers(make):
    subject = looped()
    ids = make(range(3, 9)) if make in (list, tuple, np.array) else range(3, 9)
    ids = torch.tensor(list(ids)) if make is torch.tensor else ids
    found = mm.activations(subject, "hook_out", ids)["hook_out"]
    assert torch.equal(found, mm.activations(subject, "hook_out", torch.arange(3, 9))["hook_out"])


def test_a_bare_network_comes_with_its_task():
    subject = looped()
    expected = mm.activations(subject, "hook_out")["hook_out"]
    assert torch.equal(mm.activations(subject.model, "hook_out", task=subject.task)["hook_out"], expected)
    roles = mm.Roles(output=mm.Output("logits"))
    with pytest.raises(RoleError, match="logits"):
        mm.activations(subject.model, task=subject.task, roles=roles, gradients=lambda logits, given: logits[:, 0])
    with pytest.raises(ConfigError, match="got Loop and no task"):
        mm.activations(subject.model)
    with pytest.raises(ConfigError, match="its own task and roles"):
        mm.activations(subject, task=subject.task)
    with pytest.raises(UnknownNameError, match=r"no hook point '0': the network has none; mm.attach\(model\)"):
        mm.activations(nn.Linear(4, 4), "0", task=subject.task)
