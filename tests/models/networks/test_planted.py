import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.math.filtration import frequency_power, key_frequency
from mechmem.tasks.config import is_prime

MODULI = [*range(2, 14), 15, 16]
CASES = [(op, p) for p in MODULI for op in ("add", "subtract")] + [
    ("multiply", p) for p in MODULI if is_prime(p) and p > 2
]
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def predictions(net, ids):
    return mm.extractor("raw")(net.subject)(ids).argmax(1)


def vectors(net):
    """u, v, w of every neuron, on the elements of the group in its order."""
    roles, model = net.subject.roles, net.subject.model
    u, v = roles.input_embedding.read(model)
    return torch.stack([u, v, roles.readout.read(model).T])[:, net.subject.task.group.elements]


@pytest.mark.parametrize("op, p", CASES)
@pytest.mark.parametrize("memorized", [0.0, 0.4])
def test_it_predicts_given_labels_on_train_and_true_ones_on_test(op, p, memorized):
    for seed in range(3):
        net = mm.planted_network(p, op=op, memorized_fraction=memorized, train_fraction=0.6, seed=seed)
        task = net.subject.task
        assert torch.equal(predictions(net, task.train_ids), task.given(task.train_ids))
        assert torch.equal(predictions(net, task.test_ids), task.true(task.test_ids))
        assert len(net.cells) == round(memorized * len(task.train_ids))


@pytest.mark.parametrize("op, p", CASES)
@dtypes
def test_every_planted_frequency_is_found(op, p, dtype):
    net = mm.planted_network(p, op=op, memorized_fraction=0.2, train_fraction=0.6, dtype=dtype)
    task, roles, model = net.subject.task, net.subject.roles, net.subject.model
    share = frequency_power(task.group, roles.input_embedding.read(model), roles.readout.read(model))
    rule = net.frequency > 0
    assert torch.equal(key_frequency(task.group, share)[rule], net.frequency[rule])
    assert set(net.frequency[rule].tolist()) == set(range(1, task.group.n_frequencies + 1))
    assert share.max(0).values[rule].min() > 1 - 1e-5
    counts = torch.bincount(net.frequency[rule])[1:]
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("op, p", CASES)
def test_every_planted_phase_is_found_and_aligned(op, p):
    net = mm.planted_network(p, op=op, dtype=torch.float64)
    rule = net.frequency > 0
    group = net.subject.task.group
    n, k = len(group.elements), net.frequency[rule]
    spectrum = np.fft.fft(vectors(net).numpy(), axis=1)[:, k, rule.nonzero()[:, 0]]
    apart = np.angle(spectrum * np.exp(-1j * net.phases[:, rule].numpy()))
    # A network of two symbols has a sign, not a phase; the tolerance is that of float64.
    np.testing.assert_allclose(apart, 0, atol=1e-9)
    sign = -1 if op == "subtract" else 1
    alignment = net.phases[0] + sign * net.phases[1] - net.phases[2]
    np.testing.assert_allclose(np.exp(1j * alignment[rule].numpy()), 1, atol=1e-9)
    assert torch.isnan(net.phases[:, ~rule]).all()
    amplitude = np.abs(spectrum) * np.where(2 * k.numpy() == n, 1, 2) / n
    expected = np.where(2 * k.numpy() == n, 0.5, 1) * (2 / rule.sum().item()) ** (1 / 3)
    np.testing.assert_allclose(amplitude, np.broadcast_to(expected, amplitude.shape), atol=1e-9)


def test_a_true_logit_is_one_in_a_wide_network():
    net = mm.planted_network(11, width=4000, dtype=torch.float64)
    logits = mm.extractor("raw")(net.subject)(net.subject.task.ids)
    truth = net.subject.task.true(net.subject.task.ids)
    right = logits.gather(1, truth[:, None])
    assert right.mean().item() == pytest.approx(1, abs=0.05)
    assert logits.scatter(1, truth[:, None], -math.inf).max() < 0.3


@pytest.mark.parametrize("op", ["add", "subtract", "multiply"])
def test_memorizing_neurons_memorize_exactly_their_cells(op):
    net = mm.planted_network(7, op=op, memorized_fraction=0.3, train_fraction=0.7, dtype=torch.float64)
    task, model = net.subject.task, net.subject.model
    hidden = mm.activations(net.subject, "hook_hidden", task.ids)["hook_hidden"][:, net.memorizing]
    contribution = (hidden[:, :, None] * model.W_out.detach()[net.memorizing]).reshape(49, len(net.cells), 2, 7).sum(2)
    expected = torch.zeros(49, len(net.cells), 7, dtype=torch.float64)
    cell = torch.arange(len(net.cells))
    expected[net.cells, cell, task.given(net.cells)] = 2
    expected[net.cells, cell, task.true(net.cells)] = -2
    torch.testing.assert_close(contribution, expected)
    assert set(net.cells.tolist()) == set(task.splits["train_noisy"].tolist())

    without = net.subject.copy_model()
    with torch.no_grad():
        without.W_out[net.memorizing] = 0
    rule = mm.extractor("raw")(net.subject.with_model(without))(task.ids).argmax(1)
    assert torch.equal(rule, task.true(task.ids))


@dtypes
def test_the_weights_have_the_dtype_and_shapes_they_say(dtype):
    net = mm.planted_network(5, width=30, memorized_fraction=0.25, train_fraction=0.8, dtype=dtype)
    assert net.subject.model.W_in.dtype == dtype
    assert net.frequency.shape == net.memorizing.shape == (30 + 2 * 5,)
    assert net.phases.shape == (3, 40)
    assert net.memorizing.sum() == 10 and net.subject.model.config.width == 40


def test_no_global_state_is_touched_and_seeds_decide():
    before = torch.random.get_rng_state()
    first, again, other = (mm.planted_network(5, seed=seed).subject.model.W_in for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, again) and not torch.equal(first, other)


@given(st.integers(3, 20))
def test_too_narrow_a_network_is_refused(p):
    with pytest.raises(ConfigError, match="at least one neuron per frequency"):
        mm.planted_network(p, width=p // 2 - 1)


def test_what_cannot_be_planted_is_refused():
    with pytest.raises(ConfigError, match="mod 2"):
        mm.planted_network(2, op="multiply")
    with pytest.raises(ConfigError, match="prime"):
        mm.planted_network(9, op="multiply")
    with pytest.raises(ConfigError, match="at least 2"):
        mm.planted_network(1)


@pytest.mark.parametrize("short, op", [("sub", "subtract"), ("mul", "multiply")])
def test_a_short_name_of_an_operation_plants_the_same(short, op):
    planted, other = mm.planted_network(7, op=short), mm.planted_network(7, op=op)
    assert torch.equal(planted.subject.model.W_in, other.subject.model.W_in)
    assert planted.subject.name == f"planted {op} mod 7"
