"""Functions with gradients of their own against torch's gradients of the same sums and squares."""

import inspect

import pytest
import torch
import torch.nn.functional as F

import mechmem as mm
from mechmem.models.networks.differentiable import FEW, RowSums, Square, row_sums
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.networks.nonlinearities import Quadratic

DRAW = torch.Generator().manual_seed(0)


def drawn(examples, p, width, dtype=torch.float32, k=2):
    table = torch.randn(k * p, width, generator=DRAW).to(dtype).requires_grad_()
    rows = torch.randint(p, (examples, k), generator=DRAW) + p * torch.arange(k)
    return table, rows, torch.randn(examples, width, generator=DRAW).to(dtype)


@pytest.mark.parametrize("examples, p, width", [(1, 3, 4), (39, 7, 16), (500, 97, 200), (2048, 59, 64)])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_gradients_of_sums_of_rows_have_the_bits_of_torch(examples, p, width, k):
    table, rows, gradient = drawn(examples, p, width, k=k)
    sums = F.embedding_bag(rows, table, mode="sum")
    (expected,) = torch.autograd.grad(sums, table, gradient)
    for found in (RowSums.apply(table, rows), row_sums(table, rows)):
        assert torch.equal(found, sums)
        assert torch.equal(torch.autograd.grad(found, table, gradient)[0], expected)


def test_rows_that_repeat_or_never_occur():
    table, _, gradient = drawn(3, 4, 5)
    rows = torch.tensor([[2, 2], [2, 6], [6, 0]])
    (found,) = torch.autograd.grad(RowSums.apply(table, rows), table, gradient)
    one_hot = F.one_hot(rows, 8).sum(1).float()
    torch.testing.assert_close(found, one_hot.T @ gradient)
    assert not found[[1, 3, 4, 5, 7]].any()


def test_in_bfloat16_sums_are_rounded_once():
    table, rows, gradient = drawn(3000, 13, 24, torch.bfloat16)
    (found,) = torch.autograd.grad(row_sums(table, rows), table, gradient)
    exact = torch.zeros(26, 24, dtype=torch.float64)
    exact.index_add_(0, rows.flatten(), gradient.double().repeat_interleave(2, 0))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-4)


# torch itself uses it in forward mode.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_second_derivatives():
    table, rows, _ = drawn(6, 3, 4, torch.float64)
    assert torch.autograd.gradcheck(lambda t: RowSums.apply(t, rows), table)
    assert torch.autograd.gradgradcheck(lambda t: RowSums.apply(t, rows).pow(3), table)
    x = torch.randn(4, 3, dtype=torch.float64, generator=DRAW, requires_grad=True)
    assert torch.autograd.gradcheck(Square.apply, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(Square.apply, x)


@pytest.mark.parametrize("shape", [(3, 5), (FEW // 8, 16)])
def test_squares_and_their_gradients_have_the_bits_of_torch(shape):
    x = torch.randn(shape, generator=DRAW, requires_grad=True)
    gradient = torch.randn(shape, generator=DRAW)
    found = Quadratic()(x)
    assert torch.equal(found, x * x)
    expected = torch.autograd.grad(x * x, x, gradient)[0]
    assert torch.equal(torch.autograd.grad(found, x, gradient)[0], expected)
    batched = torch.func.vmap(Square.apply)(x)
    assert torch.equal(torch.autograd.grad(batched, x, gradient)[0], expected)


def test_several_tables_at_once():
    tables = torch.randn(4, 6, 5, generator=DRAW, requires_grad=True)
    rows = torch.randint(6, (4, 10, 2), generator=DRAW)
    gradient = torch.randn(4, 10, 5, generator=DRAW)
    for axes, given in (((0, 0), rows), ((0, None), rows[0])):
        found = torch.func.vmap(RowSums.apply, axes)(tables, given)
        each = [F.embedding_bag(own, t, mode="sum") for t, own in zip(tables, given.expand(4, 10, 2), strict=True)]
        assert torch.equal(found, torch.stack(each))
        expected = torch.autograd.grad(torch.stack(each), tables, gradient)[0]
        # Their sums are taken in another order.
        torch.testing.assert_close(torch.autograd.grad(found, tables, gradient)[0], expected)


def test_signatures_are_noted_as_they_are():
    assert list(inspect.signature(RowSums.forward).parameters) == ["table", "rows"]


@pytest.mark.parametrize("p, width", [(7, 16), (31, 128)])
def test_values_and_gradients_at_hook_points_under_autocast(p, width):
    model = HookedMLP(mm.MLPConfig(width=width, activation="quadratic"), p, seed=1)
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    values, gradients = {}, {}

    def passed(low):
        values.clear(), gradients.clear()
        with model.hooks(
            fwd_hooks=[("*", lambda value, hook: values.__setitem__(hook.name, value))],
            bwd_hooks=[("*", lambda value, hook: gradients.__setitem__(hook.name, value))],
        ):
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                logits = model(pairs)
            model.zero_grad()
            logits.float().square().mean().backward()
        return dict(values), dict(gradients), model.W_in.grad

    exact, rounded = passed(False), passed(True)
    for one, other in zip(exact[:2], rounded[:2], strict=True):
        assert one.keys() == other.keys() == {"hook_pre", "hook_hidden", "hook_logits"}
        for name in one:
            assert other[name].dtype == torch.bfloat16
            close(other[name].float(), one[name])
    close(rounded[2], exact[2])


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02 * expected.detach().abs().max().item())
