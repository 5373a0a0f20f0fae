"""Grouped products and the shortcut for argmax against whole products, numpy's argmax and scipy's log-sum-exp."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from mechmem.math import ablation as single_ablation
from mechmem.math.ablation import cumulative_ablation, mean_loss_changes, outcomes, single_ablation_flips


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 9), st.booleans())
def test_outcomes_equal_argmax_and_cross_entropy(seed, classes, examples, tied):
    rng = np.random.default_rng(seed)
    # Small whole numbers are full of ties.
    logits = (
        rng.integers(-1, 2, (classes, examples)).astype(float) if tied else 30 * rng.normal(size=(classes, examples))
    )
    labels = rng.integers(0, classes, examples)
    given_logits = torch.tensor(logits)
    correct, loss = outcomes(given_logits, torch.tensor(labels))
    assert (given_logits.numpy() == logits).all()
    assert (correct.numpy() == (logits.argmax(0) == labels)).all()
    wanted = logsumexp(logits, axis=0) - logits[labels, np.arange(examples)]
    np.testing.assert_allclose(loss.numpy(), wanted, rtol=1e-9, atol=1e-12)
    again, none = outcomes(given_logits, torch.tensor(labels), losses=False)
    assert none is None and torch.equal(again, correct)


def test_a_loss_far_below_the_rounding_of_the_logit_is_kept():
    logits = torch.tensor([[40.0], [0.0], [0.0]])
    _, loss = outcomes(logits, torch.tensor([0]))
    assert float(loss) == pytest.approx(2 * np.exp(-40), rel=1e-5)


@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 5))
def test_points_equal_the_product_of_what_is_left(seed, neurons, steps):
    draw = torch.Generator().manual_seed(seed)
    change = torch.randn(neurons, 7, generator=draw, dtype=torch.float64)
    weights = torch.randn(neurons, 4, generator=draw, dtype=torch.float64)
    emptied = torch.randn(4, 7, generator=draw, dtype=torch.float64)
    orders = torch.stack([torch.randperm(neurons, generator=draw) for _ in range(2)])
    removed = torch.unique((torch.arange(steps + 1) * neurons / steps).round().long())
    labels = torch.randint(4, (2, 7), generator=draw)
    full = emptied + weights.T @ change
    correct, loss = cumulative_ablation(change, weights[orders], orders, removed, emptied, full, labels)
    for curve, order in enumerate(orders):
        for point, count in enumerate(removed):
            left = order[count:]
            logits = (emptied + weights[left].T @ change[left]).numpy()
            for row, label in enumerate(labels.numpy()):
                assert correct[curve, point, row] == (logits.argmax(0) == label).sum()
                nats = (logsumexp(logits, axis=0) - logits[label, np.arange(7)]).sum()
                assert float(loss[curve, point, row]) == pytest.approx(nats, rel=1e-9)


def network(seed, examples, neurons, classes, *, whole, signed=True, ties=0):
    """Random activations, weights, bias, labels; whole numbers make ties frequent and float sums exact."""
    draw = np.random.default_rng(seed)
    if whole:
        hidden, weights = draw.integers(-2 * signed, 3, (examples, neurons)), draw.integers(-2, 3, (neurons, classes))
        bias = draw.integers(-1, 2, classes)
    else:
        hidden, weights = draw.normal(size=(examples, neurons)), draw.normal(size=(neurons, classes))
        bias = draw.normal(size=classes)
    hidden, weights = hidden.astype(float), weights.astype(float)
    hidden[:, : ties % neurons] = 0
    logits = hidden @ weights + bias
    if ties:
        logits[:] = 0
    return hidden, weights, logits, draw.integers(0, classes, examples), draw.integers(-1, 2, neurons).astype(float)


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def without_each(hidden, weights, logits, value):
    """The reference: logits without neuron m, for every m. Shape (neuron, example, class)."""
    return [logits - np.outer(hidden[:, m] - value[m], weights[m]) for m in range(len(weights))]


@given(
    seed=st.integers(0, 10**6),
    examples=st.integers(1, 12),
    neurons=st.integers(1, 9),
    classes=st.integers(1, 6),
    whole=st.booleans(),
    signed=st.booleans(),
    ties=st.integers(0, 2),
    replaced=st.booleans(),
)
def test_equals_a_loop(seed, examples, neurons, classes, whole, signed, ties, replaced):
    made = network(seed, examples, neurons, classes, whole=whole, signed=signed, ties=ties)
    hidden, weights, logits, labels, value = made
    value = value if replaced else np.zeros(neurons)
    after = [each.argmax(1) for each in without_each(hidden, weights, logits, value)]
    before = logits.argmax(1)
    among = np.arange(examples) % 2 == 0
    flips = single_ablation_flips(
        *tensors(hidden, weights, logits), value=torch.from_numpy(value) if replaced else None
    )
    wanted = {(m, i, int(after[m][i])) for m in range(neurons) for i in range(examples) if after[m][i] != before[i]}
    found = list(zip(flips.neuron.tolist(), flips.example.tolist(), flips.prediction.tolist(), strict=True))
    assert set(found) == wanted and len(found) == len(wanted)
    change = [int(((a == labels) & among).sum()) - int(((before == labels) & among).sum()) for a in after]
    assert flips.change(*tensors(labels, among)).tolist() == change
    lost, gained = flips.lost(torch.from_numpy(labels)), flips.gained(torch.from_numpy(labels))
    assert int(gained.sum()) - int(lost.sum()) == sum(
        int((a == labels).sum() - (before == labels).sum()) for a in after
    )


@given(seed=st.integers(0, 10**6), neurons=st.integers(1, 9), classes=st.integers(1, 6), replaced=st.booleans())
def test_loss_changes_equal_a_loop(seed, neurons, classes, replaced):
    hidden, weights, logits, labels, value = network(seed, 7, neurons, classes, whole=False)
    value = value if replaced else np.zeros(neurons)

    def loss(table):
        return np.mean(np.log(np.exp(table).sum(1)) - table[np.arange(7), labels])

    wanted = [loss(each) - loss(logits) for each in without_each(hidden, weights, logits, value)]
    arguments = tensors(hidden, weights, logits, labels, value)
    found = mean_loss_changes(*arguments[:4], value=arguments[4] if replaced else None)
    assert np.allclose(found.numpy(), wanted, rtol=1e-9, atol=1e-12)


def test_blocks_of_any_size_give_the_same(monkeypatch):
    hidden, weights, logits, labels, _ = tensors(*network(3, 40, 11, 5, whole=True))
    whole, losses = single_ablation_flips(hidden, weights, logits), mean_loss_changes(hidden, weights, logits, labels)
    assert len(whole.neuron)
    for bound, exact in ((1, 1), (30, 7), (100, 64)):
        monkeypatch.setattr(single_ablation, "BOUND_ELEMENTS", bound)
        monkeypatch.setattr(single_ablation, "EXACT_ELEMENTS", exact)
        again = single_ablation_flips(hidden, weights, logits)
        for name in ("neuron", "example", "prediction"):
            assert torch.equal(getattr(again, name), getattr(whole, name))
        assert torch.allclose(mean_loss_changes(hidden, weights, logits, labels), losses)


def test_the_bound_spares_nearly_all_work(monkeypatch):
    """A confident network with many small neurons is decided without a single argmax over classes."""
    draw = torch.Generator().manual_seed(0)
    hidden, weights = torch.rand(50, 200, generator=draw), 1e-3 * torch.randn(200, 7, generator=draw)
    logits = hidden @ weights + 5 * torch.nn.functional.one_hot(torch.arange(50) % 7, 7)

    def refuse(*_):
        raise AssertionError("a pair survived the bound")

    blocks = single_ablation.blocks
    monkeypatch.setattr(single_ablation, "blocks", lambda n, size: refuse() if n not in (0, 50) else blocks(n, size))
    assert not len(single_ablation_flips(hidden, weights, logits).neuron)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tie_that_opens_goes_to_the_lowest_class(dtype):
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]], dtype=dtype)
    hidden = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=dtype)
    weights = torch.tensor([[1.0, 0.0, 0.0], [9.0, -9.0, 0.0]], dtype=dtype)
    flips = single_ablation_flips(hidden, weights, logits)
    assert flips.predicted.tolist() == [0, 1]
    assert (flips.neuron.tolist(), flips.example.tolist(), flips.prediction.tolist()) == ([0], [0], [1])
    # Brought to a tie with a lower class, the prediction moves there; with a higher one it stays.
    down = single_ablation_flips(
        torch.ones(2, 1, dtype=dtype),
        torch.tensor([[-1.0, 0.0, 1.0]], dtype=dtype),
        torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 3.0]], dtype=dtype),
    )
    assert down.predicted.tolist() == [1, 2]
    assert (down.example.tolist(), down.prediction.tolist()) == ([0, 1], [0, 0])


def test_nothing_to_remove_and_nothing_to_predict():
    empty = single_ablation_flips(torch.zeros(0, 3), torch.zeros(3, 4), torch.zeros(0, 4))
    assert not len(empty.neuron) and empty.change(torch.zeros(0).long(), torch.zeros(0).bool()).tolist() == [0, 0, 0]
    one_class = single_ablation_flips(torch.rand(5, 3), torch.rand(3, 1), torch.rand(5, 1))
    assert not len(one_class.neuron) and one_class.width == 3
