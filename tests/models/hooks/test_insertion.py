"""What a hook sees is what the module returned, whatever is done in place around it; what it returns goes on."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from foreign_networks import Aliasing, ResNet, Tagger, seeded, sequential
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import mechmem as mm
from mechmem.errors import ActivationError


def images(n=4, seed=1):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def zero(value, hook):
    return torch.zeros_like(value)


def block_by_hand(block, x):
    """The same block without anything in place; every value by the name of its module, in the order of calls."""
    values = {}
    values["conv1"] = F.conv2d(x, block.conv1.weight, stride=block.conv1.stride, padding=1)
    values["bn1"] = block.bn1(values["conv1"])
    values["relu#0"] = values["bn1"].clamp(min=0)
    values["conv2"] = F.conv2d(values["relu#0"], block.conv2.weight, padding=1)
    values["bn2"] = block.bn2(values["conv2"])
    shortcut = x
    if block.downsample is not None:
        norm = block.downsample[1]
        values["downsample.0"] = F.conv2d(x, block.downsample[0].weight, stride=2)
        values["downsample.1"] = shortcut = norm(values["downsample.0"])
    values["relu#1"] = (values["bn2"] + shortcut).clamp(min=0)
    return values


def resnet_by_hand(model, x):
    values = {"conv1": F.conv2d(x, model.conv1.weight, padding=1)}
    values["bn1"] = model.bn1(values["conv1"])
    values["relu"] = x = values["bn1"].clamp(min=0)
    for stage in (1, 2):
        for place, block in enumerate(getattr(model, f"layer{stage}")):
            inside = block_by_hand(block, x)
            values |= {f"layer{stage}.{place}.{name}": value for name, value in inside.items()}
            values[f"layer{stage}.{place}"] = x = inside["relu#1"]
        values[f"layer{stage}"] = x
    values["avgpool"] = x.mean((2, 3), keepdim=True)
    values["fc"] = values[""] = F.linear(values["avgpool"][:, :, 0, 0], model.fc.weight, model.fc.bias)
    hooked = {}
    for name, value in values.items():
        module, mark, firing = name.partition("#")
        module = module.removesuffix(".downsample.1") + ".downsample" if name.endswith("downsample.1") else module
        for each in {name.partition("#")[0], module}:
            hooked[f"{each}.hook_out".lstrip(".") + mark + firing] = value
    return hooked


@pytest.mark.parametrize("grad", [False, True])
def test_every_value_of_a_network_full_of_in_place_work_is_right(grad):
    model, x = seeded(ResNet), images()
    with torch.no_grad():
        expected, plain = resnet_by_hand(model, x.clone()), model(x.clone())
    attached = mm.attach(model)
    with torch.set_grad_enabled(grad):
        out, cache = attached.run_with_cache(x)
    assert torch.equal(out, plain)
    assert set(cache) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(cache[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_inputs_of_in_place_modules_are_kept_as_they_came():
    model, x = seeded(ResNet), images()
    expected = resnet_by_hand(model, x.clone())
    _, cache = mm.attach(model, "bn1", "relu", "layer1.0.relu", inputs=True).run_with_cache(x)
    assert (cache["relu.hook_in"] < 0).any()
    torch.testing.assert_close(cache["relu.hook_in"], expected["bn1.hook_out"])
    torch.testing.assert_close(cache["relu.hook_out"], expected["relu.hook_out"])
    torch.testing.assert_close(cache["layer1.0.relu.hook_in#0"], expected["layer1.0.bn1.hook_out"])
    assert torch.equal(cache["bn1.hook_in"], F.conv2d(x, model.conv1.weight, padding=1))


@pytest.mark.parametrize("inputs", [False, True])
def test_looking_changes_nothing_even_where_in_place_work_is_seen_elsewhere(inputs):
    model, x = seeded(Aliasing), images()[:, :, 0, 0]
    with torch.no_grad():
        linear, plain = F.linear(x, model.linear.weight, model.linear.bias), model(x)
        torch.testing.assert_close(plain, 11 * linear.clamp(min=0))
        out, cache = mm.attach(model, inputs=inputs).run_with_cache(x)
    assert torch.equal(out, plain)
    # The identity hands on the very tensor that the ReLU then overwrites.
    assert torch.equal(cache["same.hook_out"], linear) and (linear < 0).any()


@given(st.lists(st.sampled_from(["0", "1", "2", "3", "4"]), unique=True), st.booleans(), st.integers(0, 20))
def test_observed_or_not_outputs_and_gradients_are_the_same(names, inputs, seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(True), nn.Identity(), nn.Dropout(0.5, True), nn.Linear(4, 2)).eval()
    x = torch.randn(5, 3)
    (plain := model(x)).square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    attached = mm.attach(model, *names, inputs=inputs)
    (out := attached.run_with_cache(x)[0]).square().sum().backward()
    assert torch.equal(out, plain)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), expected, strict=True))


def in_place(value, hook):
    value[:, 1] = 7.0


def in_place_and_returned(value, hook):
    value[:, 1] = 7.0
    return value


def replaced(value, hook):
    return torch.cat([value[:, :1], torch.full_like(value[:, 1:2], 7.0), value[:, 2:]], 1)


@pytest.mark.parametrize("grad", ["no_grad", "enable_grad", "inference_mode"])
@pytest.mark.parametrize("edit", [in_place, in_place_and_returned, replaced])
def test_an_edit_takes_effect_however_it_is_made(edit, grad):
    model = seeded(sequential)
    first, relu, last = model
    x = torch.randn(5, 3)
    hidden = replaced(first(x), None)
    attached = mm.attach(model, "0", "2.hook_in")
    with getattr(torch, grad)():
        out = attached.run_with_hooks(x, fwd_hooks=[("0.hook_out", edit)])
        through_input = attached.run_with_hooks(x, fwd_hooks=[("2.hook_in", edit)])
    torch.testing.assert_close(out, last(hidden.clamp(min=0)))
    torch.testing.assert_close(through_input, last(replaced(first(x).clamp(min=0), None)))


def test_what_a_hook_puts_in_is_not_changed_by_the_network():
    kept = torch.full((5, 4), -1.0)
    mm.attach(sequential()).run_with_hooks(torch.randn(5, 3), fwd_hooks=[("0.hook_out", lambda value, hook: kept)])
    assert (kept == -1).all()


def test_gradients_reach_hooks_and_pass_through_them():
    model, x = seeded(sequential), torch.randn(5, 3)
    attached, seen = mm.attach(model), []
    plain = torch.autograd.grad(model(x).sum(), model[0].weight)[0]
    with attached.hooks(
        fwd_hooks=[("0.hook_out", lambda value, hook: seen.append(value))],
        bwd_hooks=[("0.hook_out", lambda grad, hook: seen.append(grad))],
    ):
        loss = attached(x).sum()
        (kept,) = torch.autograd.grad(loss, seen[0], retain_graph=True)
        loss.backward()
    expected = (model[0](x) > 0) * model[2].weight.sum(0)
    torch.testing.assert_close(kept, expected)
    torch.testing.assert_close(seen[-1], expected)
    torch.testing.assert_close(model[0].weight.grad, plain)


def test_elements_of_tuples_and_dicts_are_hooked_where_they_stand():
    model, ids = seeded(Tagger), torch.randint(7, (2, 6))
    out, (state, cell) = model.lstm(model.embed(ids))
    attached = mm.attach(model, "lstm:0", "lstm:1.0", "lstm.hook_in:input", ":logits", "lstm.hook_in")
    returned, cache = attached.run_with_cache(ids)
    torch.testing.assert_close(cache["lstm.hook_out.0"], out)
    torch.testing.assert_close(cache["lstm.hook_out.1.0"], state)
    torch.testing.assert_close(cache["lstm.hook_in.input"], model.embed(ids))
    torch.testing.assert_close(cache["lstm.hook_in"], model.embed(ids))  # the only tensor among the arguments
    torch.testing.assert_close(cache["hook_out.logits"], returned["logits"])
    edited = attached.run_with_hooks(ids, fwd_hooks=[("lstm.hook_out.0", zero), ("lstm.hook_out.1.0", zero)])
    torch.testing.assert_close(edited["logits"], model.heads["tag"].bias.expand(2, 6, 3))
    assert not edited["state"].any()
    edited = attached.run_with_hooks(ids, fwd_hooks=[("lstm.hook_in.input", zero)])
    torch.testing.assert_close(edited["state"], model.lstm(torch.zeros(2, 6, 4))[1][0])


@dataclasses.dataclass
class Found:
    logits: torch.Tensor
    weights: torch.Tensor | None = None


class Returns(nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, make):
        super().__init__()
        self.inner = nn.Linear(3, 2)
        self.make = make

    def forward(self, x):
        return self.make(self.inner(x))


@pytest.mark.parametrize("make", [lambda x: (x,), lambda x: {"y": x}, lambda x: (None, [x]), lambda x: Found(x)])
def test_the_only_tensor_needs_no_path(make):
    attached = mm.attach(Returns(make), "")
    x = torch.randn(4, 3)
    out, cache = attached.run_with_cache(x)
    torch.testing.assert_close(cache["hook_out"], attached.inner(x))
    edited = attached.run_with_hooks(x, fwd_hooks=[("hook_out", zero)])
    assert type(edited) is type(out)
    assert str(edited) == str(make(torch.zeros(4, 2))).replace("grad_fn=<CloneBackward0>", "")


NOT_FOUND = {
    "two": (
        lambda x: (x, x),
        "",
        "'hook_out' finds not one tensor: the model returned a tuple; name one of ':0', ':1'",
    ),
    "nested": (lambda x: Found(x, x), "", "returned a Found; name one of ':logits', ':weights'"),
    "none": (lambda x: None, "", "'hook_out' finds no tensor: the model returned a NoneType"),
    "no such path": (lambda x: (x, x), ":2", "'hook_out.2' finds no tensor '2': .* name one of ':0', ':1'"),
    "no such key": (lambda x: {"y": x}, ":z", "'hook_out.z' finds no tensor 'z': .* name one of ':y'"),
    "a path into a tensor": (lambda x: x, ":0", "'hook_out.0' finds no tensor '0': the model returned a Tensor"),
    "not a tensor there": (lambda x: Found(x), ":weights", "no tensor 'weights': .* name one of ':logits'"),
}


@pytest.mark.parametrize("case", NOT_FOUND)
def test_a_tensor_that_is_not_there_is_an_error_in_the_first_forward_pass(case):
    make, point, message = NOT_FOUND[case]
    attached = mm.attach(Returns(make), point)
    for run in (attached, attached.run_with_cache):
        with pytest.raises(ActivationError, match=message):
            run(torch.randn(4, 3))


def test_a_point_that_was_not_named_complains_only_when_it_is_hooked():
    attached = mm.attach(Tagger())
    ids = torch.randint(7, (2, 6))
    attached(ids)
    assert list(attached.run_with_cache(ids, names_filter="embed.hook_out")[1]) == ["embed.hook_out"]
    with pytest.raises(ActivationError, match="lstm returned a tuple; name one of 'lstm:0', 'lstm:1.0', 'lstm:1.1'"):
        attached.run_with_cache(ids)


def test_inputs_that_are_not_clear_name_the_arguments():
    class Adds(nn.Module):
        def forward(self, x, y=0.0):
            return x + y

    attached = mm.attach(Adds(), "hook_in")
    one = torch.ones(2)
    assert torch.equal(attached.run_with_hooks(one, y=one, fwd_hooks=[("hook_in", zero)]), one)
    with pytest.raises(ActivationError, match="called with x, y; name one of 'hook_in:x', 'hook_in:y'"):
        attached.run_with_hooks(x=one, y=one, fwd_hooks=[("hook_in", zero)])
    attached.detach()
    with pytest.raises(ActivationError, match="no tensor 'z': the model was called with 0; name one of 'hook_in:0'"):
        mm.attach(attached._model, "hook_in:z")(one)


def test_a_hook_that_returns_no_tensor_is_named():
    attached = mm.attach(sequential())
    with pytest.raises(ActivationError, match="a hook at '1.hook_out' returned a str, not a tensor"):
        attached.run_with_hooks(torch.randn(5, 3), fwd_hooks=[("1.hook_out", lambda value, hook: "no")])


@pytest.mark.parametrize("point", ["0.hook_out", "2.hook_in"])
@pytest.mark.parametrize(
    ("edit", "left"), [(lambda value, hook: value[0], (4,)), (lambda value, hook: value.mean(0, True), (1, 4))]
)
def test_a_hook_that_changes_the_shape_is_named_with_both(point, edit, left):
    attached = mm.attach(sequential(), "0", "2.hook_in")
    with pytest.raises(ActivationError) as caught:
        attached.run_with_hooks(torch.randn(5, 3), fwd_hooks=[(point, edit)])
    assert str(caught.value) == f"'{point}' holds shape (5, 4), and a hook there left shape {left}"


class Recurrent(nn.Module):
    """Two modules that return tuples, one of them called twice, and what it returns itself is a dict."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.LSTM(3, 3, batch_first=True), nn.GRU(3, 3, batch_first=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        hidden, (state, _) = self.a(self.a(x)[0])
        return {"logits": self.head(self.b(hidden)[0][:, -1]), "state": state}


UNCLEAR = {
    "everything": ((), {}, "'*', 'a:0', 'b:0', ':logits'", 4),
    "names": (("a", "head", "b.hook_out"), {}, "'a:0', 'head', 'b:0'", 3),
    "a class and a pattern": ((nn.LSTM, "b*"), {}, "nn.LSTM, 'b*', 'a:0', 'b:0'", 2),
    "paths that are not there": (("[ab]:7", "head"), {}, "'a:0', 'b:0', 'head'", 3),
    "inputs too": (("a", "b"), {"inputs": True}, "'a.hook_in', 'a:0', 'b.hook_in', 'b:0', inputs=True", 4),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_all_that_is_unclear_is_told_at_once_with_a_call_that_works(case):
    named, settings, call, n = UNCLEAR[case]
    x = torch.randn(4, 5, 3)
    attached = mm.attach(Recurrent(), *named, **settings)
    for _ in range(2):
        with pytest.raises(ActivationError) as caught:
            attached.run_with_cache(x)
        said = str(caught.value)
        assert said.endswith(f"All of it: detach(), then mm.attach(model, {call})")
        assert said.count("a returned a tuple; name one of 'a:0', 'a:1.0', 'a:1.1'") == 1
        assert said.count("b returned a tuple; name one of 'b:0', 'b:1'") == 1
    again = eval(said.rpartition("then ")[2], {"mm": mm, "nn": nn, "model": attached.detach()})
    cache = again.run_with_cache(x)[1]
    assert len({name.partition("#")[0] for name in cache}) == len(again.hook_dict) == n


def test_a_network_that_runs_without_its_points_fails_at_the_first_that_is_unclear():
    attached = mm.attach(Recurrent(), "a", "b")
    with pytest.raises(ActivationError, match=r"^'a.hook_out' finds not one tensor: .* 'a:1.1'$"):
        attached._model(torch.randn(4, 5, 3))
    assert attached._unclear is None
