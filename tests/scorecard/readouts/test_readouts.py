"""Every readout against a plain numpy version of what it says."""

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.scorecard.controls import LogitTable
from mechmem.tasks.grid import grid_rows

CASES = (
    [("add", p) for p in (3, 4, 5, 8, 9)] + [("subtract", p) for p in (4, 5, 8)] + [("multiply", p) for p in (3, 5, 7)]
)
cases = pytest.mark.parametrize("op, p", CASES)


def table_subject(op, p, seed=0, logits=None):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.6))
    if logits is None:
        logits = torch.randn(p * p, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mm.Subject(LogitTable(logits, task), task), logits.numpy()


def answers(op, pairs, p):
    a, b = pairs.T
    return {"add": a + b, "subtract": a - b, "multiply": a * b}[op] % p


def read(subject, name, ids=None):
    return mm.extractor(name)(subject)(subject.task.ids if ids is None else ids).double().numpy()


def test_logits_are_the_logits():
    subject, logits = table_subject("add", 5)
    np.testing.assert_array_equal(read(subject, "raw"), logits)
    np.testing.assert_array_equal(read(subject, "raw", torch.tensor([7, 2, 7])), logits[[7, 2, 7]])


def strongest(energy, count):
    """Modes (k₁, k₂) and conjugates with the most energy, none of them on the axes."""
    n = len(energy)
    pairs = {}
    for k1 in range(1, n):
        for k2 in range(1, n):
            both = frozenset([(k1, k2), (n - k1, n - k2)])
            pairs[both] = sum(energy[mode] for mode in both)
    return set().union(*sorted(pairs, key=pairs.get, reverse=True)[:count])


@cases
@pytest.mark.parametrize("modes", [0, 1, 2, 5, 10_000])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_energy_ranked_is_a_mask_on_numpy_s_spectrum(op, p, modes, seed):
    subject, logits = table_subject(op, p, seed)
    rows = grid_rows(subject.task).numpy()
    n = len(rows)
    spectrum = np.fft.fft2(logits[rows], axes=(0, 1))
    keep = strongest((np.abs(spectrum) ** 2).sum(-1), modes or n // 2)
    mask = np.zeros((n, n, 1))
    for mode in keep:
        mask[mode] = 1
    expected = np.fft.ifft2(spectrum * mask, axes=(0, 1))
    np.testing.assert_allclose(expected.imag, 0, atol=1e-12)
    found = read(subject, f"energy_ranked(modes={modes})")
    np.testing.assert_allclose(found[rows], expected.real, atol=1e-12)
    # A cell with a factor of 0 has no place on the grid: nothing is rebuilt there.
    np.testing.assert_array_equal(np.delete(found, rows.ravel(), 0), np.delete(logits, rows.ravel(), 0))


@pytest.mark.parametrize("p", [4, 5])
def test_energy_ranked_of_an_additive_table_is_nothing(p):
    rows = torch.arange(float(p))[:, None] * torch.tensor([1.0, -2.0, 3.0, 0.5, 7.0])[:p]
    subject, _ = table_subject("add", p, logits=rows.repeat_interleave(p, 0).double())
    np.testing.assert_allclose(read(subject, "energy_ranked"), 0, atol=1e-12)


@cases
def test_diagonal_is_the_mean_over_the_cells_that_share_an_answer(op, p):
    subject, logits = table_subject(op, p)
    rows = grid_rows(subject.task).numpy().ravel()
    answer = answers(op, subject.task.operands.numpy(), p)
    inside = logits[rows]
    found = read(subject, "diagonal")
    for row in rows:
        same = answer[rows] == answer[row]
        np.testing.assert_allclose(found[row], inside[same].mean(0) - inside.mean(0), atol=1e-12)


def test_diagonal_reads_the_rule_out_of_noisy_labels():
    task = mm.ModularTask(mm.ModularConfig(op="subtract", p=23, noise=mm.LabelNoise(0.6)))
    one_hot = torch.nn.functional.one_hot(task.given(task.ids), 23).double()
    one_hot[task.test_ids] = 0
    subject = mm.Subject(LogitTable(one_hot, task), task)
    assert (read(subject, "diagonal").argmax(1) == task.true(task.ids).numpy()).mean() > 0.95


@cases
def test_additive_free_is_what_lstsq_leaves(op, p):
    subject, logits = table_subject(op, p)
    for ids in (subject.task.test_ids, subject.task.train_ids, subject.task.ids):
        pairs = subject.task.operands[ids].numpy()
        design = np.zeros((len(ids), 2 * p))
        design[np.arange(len(ids)), pairs[:, 0]] = 1
        design[np.arange(len(ids)), p + pairs[:, 1]] = 1
        centred = logits[ids.numpy()] - logits[ids.numpy()].mean(1, keepdims=True)
        expected = centred - design @ np.linalg.lstsq(design, centred, rcond=None)[0]
        np.testing.assert_allclose(read(subject, "additive_free", ids), expected, atol=1e-10)


def test_additive_free_reads_no_cell_but_those_predicted():
    subject, logits = table_subject("add", 7)
    changed = torch.from_numpy(logits).clone()
    changed[subject.task.train_ids] = 1e3 * changed[subject.task.train_ids].square()
    other, _ = table_subject("add", 7, logits=changed)
    test = subject.task.test_ids
    np.testing.assert_array_equal(read(subject, "additive_free", test), read(other, "additive_free", test))


@pytest.mark.parametrize("name", ["raw", "additive_free", "diagonal", "energy_ranked"])
def test_a_rule_in_the_open_is_read_by_all(name):
    for op, p in (("add", 8), ("subtract", 9), ("multiply", 7)):
        net = mm.planted_network(p, op=op)
        ids = grid_rows(net.subject.task).flatten() if op == "multiply" else net.subject.task.ids
        assert (read(net.subject, name, ids).argmax(1) == net.subject.task.true(ids).numpy()).mean() > 0.97


@pytest.mark.parametrize(
    "name", ["raw", "diagonal", "energy_ranked", "frequency+quadratic", "frequency+energy_ranked(modes=2)"]
)
def test_a_prediction_does_not_depend_on_the_company_it_is_made_in(name, planted):
    task = planted.subject.task
    predict = mm.extractor(name)(planted.subject)
    everything = predict(task.ids)
    for ids in (task.train_ids, task.test_ids.flip(0), task.ids[:1]):
        torch.testing.assert_close(predict(ids), everything[task.rows(ids)])


def test_two_settings_of_a_readout_do_not_share_their_memory(planted):
    one, two = (read(planted.subject, f"energy_ranked(modes={modes})") for modes in (1, 2))
    assert np.abs(one - two).max() > 1e-6
