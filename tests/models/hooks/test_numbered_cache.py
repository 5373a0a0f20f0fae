"""A point that fires several times keeps every value and every gradient, each under its number."""

import importlib.metadata

import pytest
import torch
from foreign_networks import seeded
from torch import nn

import mechmem as mm
from mechmem.errors import ActivationError


class Loop(nn.Module):
    """Runs one layer so many times."""

    def __init__(self, times=3):
        super().__init__()
        self.layer, self.times = nn.Linear(3, 3), times

    def forward(self, x):
        for _ in range(self.times):
            x = torch.tanh(self.layer(x))
        return x.square().sum()


X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def by_hand(model, x):
    """Values of the layer, and the loss's gradients with respect to them."""
    values = []
    for _ in range(model.times):
        values.append(model.layer(x))
        values[-1].retain_grad()
        x = torch.tanh(values[-1])
    x.square().sum().backward()
    return [value.detach() for value in values], [value.grad for value in values]


def test_values_and_gradients_are_numbered_in_the_order_of_the_forward_pass():
    model = seeded(Loop)
    values, gradients = by_hand(model, X)
    attached = mm.attach(model)
    _, cache = attached.run_with_cache(X, incl_bwd=True)
    assert set(cache) == {
        *(f"layer.hook_out{end}#{i}" for end in ("", "_grad") for i in range(3)),
        *("hook_out", "hook_out_grad"),
    }
    for i in range(3):
        torch.testing.assert_close(cache[f"layer.hook_out#{i}"], values[i])
        torch.testing.assert_close(cache[f"layer.hook_out_grad#{i}"], gradients[i])
    for name in ("layer.hook_out", "layer.hook_out_grad"):
        with pytest.raises(ActivationError, match=f"'{name}' fired 3 times; ask for one of {name}#0, {name}#1"):
            cache[name]
    assert cache["hook_out_grad"] == 1


@pytest.mark.parametrize("times", [1, 2])
def test_gradients_equal_those_of_backward_hooks(times):
    attached = mm.attach(seeded(Loop, times))
    seen = []
    with attached.hooks(bwd_hooks=[("layer.hook_out", lambda grad, hook: seen.append(grad.clone()))]):
        attached(X).backward()
    _, cache = attached.run_with_cache(X, incl_bwd=True, names_filter="layer.hook_out")
    if times == 1:
        torch.testing.assert_close(cache["layer.hook_out_grad"], seen[0])
    else:
        torch.testing.assert_close([cache["layer.hook_out_grad#1"], cache["layer.hook_out_grad#0"]], seen)


def test_a_new_forward_pass_begins_anew():
    attached = mm.attach(seeded(Loop))
    cache = attached.add_caching_hooks("layer.hook_out")
    attached(X)
    attached.times = 1
    attached(2 * X)
    assert list(cache) == ["layer.hook_out"]
    torch.testing.assert_close(cache["layer.hook_out"], attached.layer(2 * X).detach())
    mine = {"of mine": X}
    attached.reset_hooks()
    attached.times = 2
    attached.add_caching_hooks("layer.hook_out", cache=mine)
    attached(X)
    assert list(mine) == ["of mine", "layer.hook_out#0", "layer.hook_out#1"]


@pytest.mark.skipif(
    importlib.metadata.version("transformer_lens") < "4", reason="3.9 slices a position axis that is not there"
)
def test_transformer_lens_options_still_work():
    attached = mm.attach(seeded(Loop))
    _, cache = attached.run_with_cache(X[:1], remove_batch_dim=True, names_filter=lambda name: "layer" in name)
    assert list(cache) == [f"layer.hook_out#{i}" for i in range(3)] and cache["layer.hook_out#0"].shape == (3,)
    with pytest.raises(ActivationError, match="no cached activation 'hook_out'"):
        cache["hook_out"]
