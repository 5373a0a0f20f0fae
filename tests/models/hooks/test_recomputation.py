"""Activation checkpointing: a module that runs again in the backward pass has not been called twice."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import mechmem as mm
from mechmem.errors import ActivationError

ROWS = torch.arange(60)


class Checkpointed(nn.Module):
    """Two calls of a block that is recomputed in the backward pass, behind a layer or on the inputs themselves."""

    def __init__(self, reentrant=False, behind=True):
        super().__init__()
        self.before = nn.Linear(8, 8) if behind else nn.Identity()
        self.a, self.r, self.b, self.reentrant = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3), reentrant

    def block(self, x):
        return self.r(self.a(x))

    def forward(self, x):
        x = self.before(x)
        for _ in range(2):
            x = checkpoint(self.block, x, use_reentrant=self.reentrant)
        return self.b(x)


class Loss(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, y):
        return F.cross_entropy(self.network(x), y, reduction="sum")


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


@pytest.fixture
def task():
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(1))
    return mm.ArrayTask(x, ROWS % 3, ROWS % 3, ROWS < 40)


def built(**kinds):
    torch.manual_seed(0)
    return Checkpointed(**kinds)


def by_hand(network, task):
    """Values and gradients at both calls of the first module of the block, without checkpoints."""
    x, y = task.batch(task.train_ids)
    values = [network.a(network.before(x)).detach().requires_grad_()]
    values.append(network.a(F.relu(values[0])))
    loss = F.cross_entropy(network.b(F.relu(values[1])), y, reduction="sum")
    return [value.detach() for value in values], torch.autograd.grad(loss, values)


@pytest.mark.parametrize("behind", [True, False])
@pytest.mark.parametrize("chunk", [None, 7])
def test_values_and_gradients_are_those_of_the_plain_network(task, behind, chunk):
    network = built(behind=behind)
    values, slopes = by_hand(network, task)
    held = mm.activations(mm.attach(network), "*", task=task, gradients=cross_entropy, chunk=chunk)
    for number in range(2):
        name = f"a.hook_out#{number}"
        torch.testing.assert_close(held[name], values[number])
        torch.testing.assert_close(held.gradients[name], slopes[number])


def test_a_cache_of_gradients_numbers_the_calls_only(task):
    network = built()
    values, slopes = by_hand(network, task)
    _, cache = mm.attach(Loss(network)).run_with_cache(*task.batch(task.train_ids), incl_bwd=True)
    for number in range(2):
        torch.testing.assert_close(cache[f"network.a.hook_out#{number}"], values[number])
        torch.testing.assert_close(cache[f"network.a.hook_out_grad#{number}"], slopes[number])
    assert "network.a.hook_out#2" not in cache


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpoints_are_named_where_they_give_no_gradient(task):
    hooked = mm.attach(built(reentrant=True))
    held = mm.activations(hooked, ["a.hook_out", "b.hook_out"], task=task, gradients=cross_entropy)
    assert "b.hook_out" in held.gradients
    with pytest.raises(ActivationError, match="checkpointing with use_reentrant=True"):
        held.gradients["a.hook_out#0"]
    with pytest.raises(ActivationError, match="checkpoint with use_reentrant=False"):
        mm.activations(hooked, ["before.hook_out"], task=task, gradients=cross_entropy)
