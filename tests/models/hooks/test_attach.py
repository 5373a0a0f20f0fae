"""An attached network is the same network: names, weights, copies, transforms; and its points are TransformerLens'."""

import copy
import gc

import numpy as np
import pytest
import torch
from foreign_networks import Aliasing, ResNet, Shared, Tagger, seeded, sequential
from safetensors.torch import load_file, save_file
from torch import nn
from transformer_lens import HookedRootModule

import mechmem as mm
from mechmem.errors import ActivationError, ConfigError, UnknownNameError
from mechmem.models.hooks.points import hook_points

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(3))


def zero(value, hook):
    return torch.zeros_like(value)


def state(model):
    """Everything that every submodule holds, with the hooks by identity."""
    return {
        name: {key: list(value.items()) if isinstance(value, dict) else value for key, value in vars(module).items()}
        for name, module in model.named_modules()
    }


def images(n=4, seed=1):
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def hooks_on(attached):
    return sum(len(point._forward_hooks) + len(point._backward_hooks) for point in attached.hook_dict.values())


def test_the_network_keeps_its_names_and_its_values():
    model = seeded(ResNet)
    names = {key: getattr(model, key)() for key in ("named_parameters", "named_buffers", "named_children")}
    before = {key: list(value) for key, value in names.items()}
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    attached = mm.attach(model, inputs=True)
    assert isinstance(attached, HookedRootModule) and len(attached.hook_dict) == 2 * len(list(model.modules()))
    for net in (model, attached):
        for key, value in before.items():
            assert [(n, id(v)) for n, v in getattr(net, key)()] == [(n, id(v)) for n, v in value]
        assert list(net.state_dict()) == list(weights)
        assert all(torch.equal(net.state_dict()[key], value) for key, value in weights.items())
    assert [type(m).__name__ for m in model.modules()].count("HookPoint") == 0
    assert hook_points(attached) == attached.hook_dict


def test_state_dicts_load_both_ways_and_through_a_file(tmp_path):
    torch.manual_seed(1)
    other, attached = ResNet().eval(), mm.attach(seeded(ResNet))
    wrapped = nn.Sequential(mm.attach(ResNet()))  # inside another module the names are those of any submodule
    assert list(wrapped.state_dict()) == [f"0.{key}" for key in other.state_dict()]
    attached.load_state_dict(other.state_dict())
    assert torch.equal(attached(images()), other(images()))
    save_file(attached.state_dict(), tmp_path / "w.safetensors")
    torch.save(attached.state_dict(), tmp_path / "w.pt")
    for loaded in (load_file(tmp_path / "w.safetensors"), torch.load(tmp_path / "w.pt")):
        fresh = ResNet().eval()
        fresh.load_state_dict(loaded)
        assert torch.equal(fresh(images()), other(images()))
        mm.attach(fresh).load_state_dict(loaded)
    wrapped.load_state_dict({f"0.{key}": value for key, value in other.state_dict().items()})
    assert torch.equal(wrapped.eval()(images()), other(images()))


@pytest.mark.parametrize("make", [sequential, ResNet, Tagger, Shared])
def test_detach_leaves_no_trace(make):
    model = seeded(make)
    model.register_forward_hook(lambda *_: None)
    before = state(model)
    attached = mm.attach(model, inputs=True)
    with attached.hooks([(lambda name: True, zero)]):
        pass
    attached.add_perma_hook("hook_out", zero)
    assert state(model) != before
    assert attached.detach() is model and attached.detach() is model
    after = state(model)
    assert after.keys() == before.keys()
    for name, held in before.items():
        assert str(after[name]) == str(held)
    assert not attached.hook_dict
    for gone in (
        lambda: attached.run_with_cache(X),
        lambda: attached.add_hook("hook_out", zero),
        lambda: attached.hook_dict["hook_out"],
        lambda: hook_points(attached)["hook_out"],
    ):
        with pytest.raises(UnknownNameError, match=r"no hook point '.*': the network has none; mm.attach\(model\)"):
            gone()
    assert mm.attach(model, "").hook_dict


def test_attaching_twice_is_an_error_and_lost_points_are_taken_off():
    model = sequential()
    attached = mm.attach(model, "0")
    for again in (attached, model):
        with pytest.raises(ConfigError, match=r"this network has points attached already; detach\(\)"):
            mm.attach(again)
    for other in (model[0], nn.Sequential(model), nn.Sequential(nn.Tanh(), model[0])):
        shares = f"the {type(other).__name__} shares a module with a Sequential that has points .* '0.hook_out' there"
        with pytest.raises(ConfigError, match=shares):
            mm.attach(other)
    copied = copy.deepcopy(model)  # its points belong to nobody
    assert list(mm.attach(copied, "1").hook_dict) == ["1.hook_out"] and not copied[0]._forward_hooks
    del attached
    gc.collect()
    kept = mm.attach(model, "1")
    assert not model[0]._forward_hooks and list(kept.hook_dict) == ["1.hook_out"]


def test_a_copy_has_weights_and_points_of_its_own():
    attached = mm.attach(seeded(sequential))
    copied = copy.deepcopy(attached)
    plain = attached(X)
    assert copied(X).equal(plain) and list(copied.hook_dict) == list(attached.hook_dict)
    with copied.hooks([("0.hook_out", zero)]):
        assert not copied(X).equal(plain) and attached(X).equal(plain)
    with attached.hooks([("0.hook_out", zero)]):
        assert not attached(X).equal(plain) and copied(X).equal(plain)
    with torch.no_grad():
        copied[0].weight.zero_()
    assert attached(X).equal(plain) and not copied(X).equal(plain)
    with pytest.raises(ConfigError, match="this network has points attached already"):
        mm.attach(copied)
    bare = copied.detach()
    assert not hook_points(bare) and not bare[0]._forward_hooks
    assert attached.run_with_cache(X)[1].keys() == attached.hook_dict.keys()


@pytest.mark.parametrize("make", [ResNet, Aliasing])
@pytest.mark.parametrize("hooked", [False, True])
def test_functional_call_and_vmap_equal_the_loop(make, hooked):
    x = images() if make is ResNet else X
    nets = []
    for seed in range(3):
        torch.manual_seed(seed)
        nets.append(mm.attach(make().eval()))
    point = "conv1.hook_out" if make is ResNet else "linear.hook_out"
    edits = [(point, lambda value, hook: value * 2 + 1)] if hooked else []
    expected = torch.stack([net.run_with_hooks(x, fwd_hooks=edits) for net in nets])
    own = nets[0]
    before = {key: value.clone() for key, value in own.state_dict().items()}
    with own.hooks(edits):
        one_by_one = [
            torch.func.functional_call(own, dict(net.named_parameters()) | dict(net.named_buffers()), (x,))
            for net in nets
        ]
        stacked = torch.func.stack_module_state(nets)
        batched = torch.func.vmap(lambda *held: torch.func.functional_call(own, held, (x,)), (0, 0))(*stacked)
    torch.testing.assert_close(torch.stack(one_by_one), expected)
    torch.testing.assert_close(batched, expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())


def test_mode_dtype_and_gradients_are_the_network_s_own():
    model = seeded(ResNet)
    attached = mm.attach(model)
    assert not attached.training and attached.train() is attached and attached.training and model.bn1.training
    model.eval()
    assert not attached.training
    assert attached.double() is attached and model.conv1.weight.dtype is torch.float64
    assert attached(images().double()).dtype is torch.float64
    attached.requires_grad_(False)
    assert not any(p.requires_grad for p in model.parameters())
    visited = []
    assert attached.apply(lambda module: visited.append(type(module).__name__)) is attached
    assert "HookPoint" not in visited and visited[-1] == "ResNet" and "Attached" not in visited


def test_attributes_are_the_network_s_own():
    model = sequential()
    attached = mm.attach(model)
    assert attached[0] is model[0] and len(attached) == 3 and list(attached) == list(model) and attached
    attached.note, attached.extra = "mine", nn.Linear(2, 2)
    assert model.note == "mine" and model.extra is attached.extra and "extra.weight" in attached.state_dict()
    del attached.note
    assert not hasattr(model, "note") and "extra" in dir(attached) and repr(attached).startswith("Attached(4 hook")
    with pytest.raises(AttributeError, match="'Sequential' object has no attribute 'nothing'"):
        _ = attached.nothing
    with pytest.raises(TypeError, match="'Tagger' object is not iterable"):
        iter(mm.attach(Tagger()))


def test_hooks_registered_on_either_run_once_with_whole_backward_semantics():
    model, calls = sequential(), []
    attached = mm.attach(model)
    attached.register_forward_hook(lambda *_: calls.append("attached"))
    model.register_forward_hook(lambda *_: calls.append("bare"))
    attached.register_full_backward_hook(lambda *_: calls.append("gradient"))
    attached.run_with_hooks(X.clone().requires_grad_()).sum().backward()
    assert calls == ["attached", "bare", "gradient"]


def test_nothing_is_left_after_an_error_in_a_hook():
    attached = mm.attach(seeded(sequential))
    plain = attached(X)

    def fail(value, hook):
        raise RuntimeError("the hook failed")

    for run in (attached.run_with_hooks, attached.run_with_cache):
        extra = {"fwd_hooks": [("0.hook_out", fail)]} if run == attached.run_with_hooks else {}
        with attached.hooks([("0.hook_out", fail)]), pytest.raises(RuntimeError, match="the hook failed"):
            run(X, **extra)
        assert attached(X).equal(plain) and not hooks_on(attached)
    with attached.hooks([("0.hook_out", zero)]), pytest.raises(RuntimeError, match="the hook failed"):
        with attached.hooks([("1.hook_out", fail)]):
            attached(X)
    assert not hooks_on(attached) and attached.context_level == 0


def test_hooks_nest_filter_and_persist_as_with_transformer_lens():
    attached = mm.attach(seeded(sequential))
    seen = []
    with attached.hooks([(lambda name: name.startswith("1"), lambda value, hook: seen.append(hook.name))]):
        with attached.hooks([("0.hook_out", zero)]):
            attached(X)
        attached(X)
        assert seen == ["1.hook_out"] * 2
    attached.add_hook("0.hook_out", zero)
    assert attached(X).equal(attached[2].bias.expand(5, 2)) and hooks_on(attached) == 1
    attached.reset_hooks()
    assert hooks_on(attached) == 0


def test_names_that_do_not_exist_are_errors_that_name_the_nearest():
    attached = mm.attach(sequential())
    message = r"no hook point '0.hook_ot'\. Did you mean '0.hook_out'\?"
    for wrong in (
        lambda: attached.run_with_hooks(X, fwd_hooks=[("0.hook_ot", zero)]),
        lambda: attached.add_hook("0.hook_ot", zero),
        lambda: attached.run_with_cache(X, names_filter="0.hook_ot"),
        lambda: attached.run_with_cache(X, names_filter=["0.hook_out", "0.hook_ot"]),
        lambda: attached.add_caching_hooks("0.hook_ot"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            wrong()
    with pytest.raises(UnknownNameError, match="no hook point '0'"):  # a module, and no point
        attached.add_hook("0", zero)
    assert not hooks_on(attached)


def test_a_hook_that_cannot_have_had_an_effect_is_an_error():
    model = Tagger()
    attached = mm.attach(model, "heads.*")
    ids = torch.randint(7, (2, 6))
    with pytest.raises(ActivationError, match="'heads.unused.hook_out' did not fire in the forward pass"):
        attached.run_with_hooks(ids, fwd_hooks=[("heads.tag.hook_out", zero), ("heads.unused.hook_out", zero)])
    for choice in ("heads.unused*", lambda name: "unused" in name):
        with pytest.raises(ActivationError, match="'heads.unused.hook_out' did not fire .* its hook had no effect"):
            attached.run_with_hooks(ids, fwd_hooks=[(choice, zero)])
    with attached.hooks([("heads.unused.hook_out", zero), (lambda name: True, zero)]):
        pass  # nothing ran
    for some in ("heads.*", lambda name: True):
        attached.run_with_hooks(ids, fwd_hooks=[(some, zero)])
    _, cache = attached.run_with_cache(ids)
    with pytest.raises(ActivationError, match="no cached activation 'heads.unused.hook_out'. Did you mean"):
        cache["heads.unused.hook_out"]


def test_tied_weights_and_shared_modules_stay_so():
    model, ids = seeded(Shared), torch.randint(5, (4, 3))
    attached = mm.attach(model)
    assert list(attached.state_dict()) == list(model.state_dict())
    assert len(list(attached.parameters())) == len(list(model.parameters())) == 3
    assert dict(attached.named_parameters(remove_duplicate=False)).keys() == model.state_dict().keys()
    copied = copy.deepcopy(attached)
    assert copied.readout.weight is copied.embed.weight and copied.again is copied.first
    _, cache = attached.run_with_cache(ids)
    first = model.first(model.embed(ids))
    torch.testing.assert_close(cache["first.hook_out#0"], first)
    torch.testing.assert_close(cache["first.hook_out#1"], model.first(torch.tanh(first)))
    assert not any(name.startswith("again") for name in attached.hook_dict)
    message = (
        "'again' is the same module as 'first', whose point 'first.hook_out' fires at every call: 'first.hook_out#0'"
    )
    subject = mm.Subject(attached, mm.ArrayTask(ids, ids[:, 0], ids[:, 0], torch.arange(4) < 3, n_classes=5))
    for call in (
        lambda: attached.run_with_hooks(ids, fwd_hooks=[("again.hook_out", zero)]),
        lambda: attached.run_with_cache(ids, names_filter="again.hook_out"),
        lambda: copied.add_hook("again.hook_out", zero),
        lambda: mm.activations(subject, "again.hook_out"),
    ):
        with pytest.raises(UnknownNameError, match=f"no hook point 'again.hook_out': {message}, 'first.hook_out#1'"):
            call()


def classified(n=12):
    """A residual network, and images labelled by what it answers itself."""
    model, x = seeded(ResNet), images(n)
    with torch.no_grad():
        model.fc.bias -= model(x).mean(0)
        labels = model(x).argmax(1)
    task = mm.ArrayTask(x, labels, labels, torch.arange(n) < n - 2, n_classes=3)
    return lambda *points, **settings: mm.Subject(mm.attach(model, *points), task, **settings)


def test_activations_number_the_firings_and_equal_run_with_cache():
    subject = classified(9)()
    _, cache = subject.model.run_with_cache(images(9)[:7])
    found = mm.activations(subject, "layer1.*", chunk=3)
    assert set(found) == {name for name in cache if name.startswith("layer1.")}
    for name, value in found.items():
        torch.testing.assert_close(value, cache[name], atol=1e-5, rtol=1e-5)
    with pytest.raises(ActivationError, match="fired 2 times; ask for one of layer1.0.relu.hook_out#0"):
        found["layer1.0.relu.hook_out"]


def test_ablation_through_hooks_equals_algebra():
    roles = mm.Roles(
        readout=mm.Role("fc.weight", "class neuron -> neuron class"),
        bias=mm.Role("fc.bias", "class -> class"),
        hidden=("fc.hook_in",),
    )
    subject = classified()("fc.hook_in", roles=roles)
    hooks, algebra = (
        mm.ablate(subject, order="random", points=4, draws=2, method=method) for method in ("hooks", "algebra")
    )
    assert (hooks.method, algebra.method, hooks.width) == ("hooks", "algebra", 8)
    assert hooks.accuracy[:, 0, 0].eq(1).all() and hooks.accuracy[:, -1, 0].lt(1).all()
    torch.testing.assert_close(hooks.accuracy, algebra.accuracy, equal_nan=True)


def test_patching_a_layer_carries_everything():
    subject = classified()("layer1", "layer2", "fc")
    labels = subject.task.given(subject.task.ids)
    ids, donors = ((labels == label).nonzero().squeeze(1)[:2] for label in labels.unique()[:2])
    frame = mm.patch(subject, ids=ids, donor_ids=donors, units="point").to_frame()
    assert set(frame["point"]) == {"layer1.hook_out", "layer2.hook_out", "fc.hook_out"}
    np.testing.assert_allclose(frame["effect"], 1, atol=1e-4)
    torch.manual_seed(1)
    other = mm.attach(ResNet().eval(), "layer1", "layer2", "fc")
    between = mm.patch(subject, other, at="fc.hook_out").to_frame()
    assert len(between) == 2 and not hooks_on(subject.model) + hooks_on(other)
    with pytest.raises(UnknownNameError, match="no hook point 'layer3.hook_out'. Did you mean 'layer2.hook_out'"):
        mm.patch(subject, other, at="layer3.hook_out")


def test_points_stay_where_a_module_is_replaced():
    attached = mm.attach(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    attached.set_submodule("1", nn.Tanh())
    copied = copy.deepcopy(attached)
    inputs = torch.randn(5, 3)
    for network in (attached, copied):
        _, cache = network.run_with_cache(inputs)
        torch.testing.assert_close(cache["1.hook_out"], torch.tanh(cache["0.hook_out"]))
    within = mm.attach(nn.Sequential(nn.Sequential(nn.ReLU())))
    with pytest.raises(ConfigError, match="a point within it, at '0.0'"):
        within.set_submodule("0", nn.Tanh())
