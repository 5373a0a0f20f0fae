"""Hooks on mechmem's own networks and on attached ones: what cannot have been meant is an error, and patterns work."""

import functools

import pytest
import torch
from foreign_networks import seeded, sequential
from small_transformer import small_transformer

import mechmem as mm
from mechmem.errors import ActivationError, ConfigError, UnknownNameError


def mlp():
    subject = mm.planted_network(5).subject
    return subject.model, subject.task.batch(subject.task.train_ids)[0]


def transformer():
    subject = small_transformer(5, layers=2)
    return subject.model.eval(), subject.task.batch(subject.task.train_ids)[0]


def attached():
    return mm.attach(seeded(sequential)), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


NETWORKS = {
    "mlp": (mlp, "hook_hidden", "hook_hiden", "hook_[ph]*"),
    "transformer": (transformer, "blocks.0.mlp.hook_post", "blocks.0.mlp.hook_pots", "blocks.*.hook_resid_*"),
    "attached": (attached, "1.hook_out", "1.hook_ot", "[02].*"),
}
every = pytest.mark.parametrize("name", NETWORKS)


def zero(value, hook):
    return torch.zeros_like(value)


def hooks_on(model):
    return sum(len(point._forward_hooks) + len(point._backward_hooks) for point in model.hook_dict.values())


@every
def test_a_name_that_is_no_point_names_the_nearest(name):
    make, point, typo, _ = NETWORKS[name]
    model, x = make()
    message = f"no hook point '{typo}'. Did you mean '{point}'"
    for call in (
        lambda: model.run_with_hooks(x, fwd_hooks=[(typo, zero)]),
        lambda: model.run_with_hooks(x, bwd_hooks=[(typo, zero)], reset_hooks_end=False),
        lambda: model.add_hook(typo, zero),
        lambda: model.add_perma_hook(typo, zero),
        lambda: model.run_with_cache(x, names_filter=typo),
        lambda: model.run_with_cache(x, names_filter=[point, typo]),
        lambda: model.add_caching_hooks(typo),
    ):
        with pytest.raises(UnknownNameError, match=message):
            call()
    with pytest.raises(UnknownNameError, match=r"no hook point 'nothing\.\*'"):
        model.run_with_cache(x, names_filter="nothing.*")
    with pytest.raises(ActivationError, match=f"no cached activation '{typo}'. Did you mean '{point}'"):
        model.run_with_cache(x)[1][typo]
    assert hooks_on(model) == 0


@every
def test_a_function_that_chooses_nothing_is_an_error(name):
    make, point, _, _ = NETWORKS[name]
    model, x = make()

    def nowhere(name):
        return "nowhere" in name

    for call in (
        lambda: model.run_with_hooks(x, fwd_hooks=[(nowhere, zero)]),
        lambda: model.run_with_cache(x, names_filter=nowhere),
        lambda: model.add_hook(nowhere, zero),
        lambda: model.add_caching_hooks(nowhere),
    ):
        with pytest.raises(UnknownNameError, match=f"the function nowhere chooses no hook point. One of: .*{point}"):
            call()
    for other in (3, [3]):
        with pytest.raises(ConfigError, match="got a int"):
            model.run_with_cache(x, names_filter=other)


@every
def test_a_pattern_is_its_names(name):
    make, _, _, pattern = NETWORKS[name]
    model, x = make()
    names = model.matching(pattern)
    assert 1 < len(names) < len(model.hook_dict)
    whole = model.run_with_cache(x)[1]
    for chosen in (pattern, [pattern], tuple(names), lambda each: each in names):
        cache = model.run_with_cache(x, names_filter=chosen)[1]
        assert list(cache) == names
        torch.testing.assert_close(dict(cache), {each: whole[each] for each in names})
    assert not model.run_with_cache(x, names_filter=[])[1]
    seen = []
    note = lambda value, hook: seen.append(hook.name)  # noqa: E731
    model.run_with_hooks(x, fwd_hooks=[(pattern, note)])
    assert sorted(seen) == sorted(names)
    edited = model.run_with_hooks(x, fwd_hooks=[(pattern, zero)])
    assert edited.equal(model.run_with_hooks(x, fwd_hooks=[(each, zero) for each in names]))
    assert not edited.equal(model(x)) and hooks_on(model) == 0
    cache = model.add_caching_hooks(pattern)
    model(x)
    assert list(cache) == names
    model.reset_hooks()
    model.add_hook(pattern, zero)
    assert model(x).equal(edited) and hooks_on(model) == len(names)


@every
def test_gradients_of_a_pattern_are_passed_on(name):
    make, _, _, pattern = NETWORKS[name]
    model, x = make()
    seen = {}
    keep = lambda grad, hook: seen.__setitem__(hook.name, grad.clone())  # noqa: E731
    with model.hooks(bwd_hooks=[(pattern, keep)]):
        model(x).square().sum().backward()
    assert set(seen) == set(model.matching(pattern)) and all(each.abs().sum() > 0 for each in seen.values())


class Callable:
    def __call__(self, value, *, hook):
        return value * 0


@every
def test_a_hook_that_cannot_be_called_is_refused_before_the_network_runs(name):
    make, point, _, _ = NETWORKS[name]
    model, x = make()
    for wrong, shown in ((lambda value: value, "(value)"), (lambda value, point: value, "(value, point)")):
        for call in (
            lambda wrong=wrong: model.run_with_hooks(x, fwd_hooks=[(point, wrong)]),
            lambda wrong=wrong: model.add_hook(point, wrong),
        ):
            with pytest.raises(ConfigError) as caught:
                call()
            assert f"<lambda>{shown} cannot be called as hook(value, hook=point)" in str(caught.value)
    with pytest.raises(ConfigError, match=r"a hook is a function \(value, hook\), got a Tensor"):
        model.add_hook(point, torch.zeros(1))
    assert hooks_on(model) == 0
    edited = model.run_with_hooks(x, fwd_hooks=[(point, zero)])
    for right in (Callable(), functools.partial(lambda scale, value, hook: value * scale, 0)):
        assert model.run_with_hooks(x, fwd_hooks=[(point, right)]).equal(edited)


@every
def test_gradients_in_a_cache_need_one_number(name):
    make, point, _, _ = NETWORKS[name]
    model, x = make()
    with pytest.raises(ConfigError, match=r"must be a single number with a gradient; it has shape \(\d+, \d\)"):
        model.run_with_cache(x, incl_bwd=True)
    model.register_forward_hook(lambda module, args, out: out[0, 0])
    with torch.no_grad(), pytest.raises(ConfigError, match="it has no gradient"):
        model.run_with_cache(x, incl_bwd=True)
    out, cache = model.run_with_cache(x, incl_bwd=True)
    assert out.ndim == 0 and cache[f"{point}_grad"].shape == cache[point].shape
    assert hooks_on(model) == 0


@every
def test_positions_are_sliced_and_examples_never(name):
    make, *_ = NETWORKS[name]
    model, x = make()
    whole = model.run_with_cache(x)[1]
    for choice in (-1, [0], slice(0, 1)):
        sliced = model.run_with_cache(x, pos_slice=choice)[1]
        assert {point: len(value) for point, value in sliced.items()} == {point: len(x) for point in whole}
        for point in whole:
            assert whole[point].ndim > 2 or torch.equal(sliced[point], whole[point])
    if name == "transformer":
        last = model.run_with_cache(x, pos_slice=-1)[1]["blocks.1.hook_resid_post"]
        assert torch.equal(last[:, 0], whole["blocks.1.hook_resid_post"][:, -1])
