"""Held-out structure on networks whose answer is known."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import mechmem as mm
from mechmem.core.subject import Subject
from mechmem.models.networks.planted import planted_network
from mechmem.scorecard.controls import LogitTable, label_grid
from mechmem.scorecard.evidence import standardised_residual, statistics
from mechmem.scorecard.structure import held_out_structure
from mechmem.tasks.arrays import ArrayTask
from mechmem.tasks.config import GroupConfig, LabelNoise, ModularConfig
from mechmem.tasks.grid_tasks import GroupTask, ModularTask

P = 13


def task_of(p=P, noise=0.3, op="add", fraction=0.6):
    return ModularTask(ModularConfig(op=op, p=p, train_fraction=fraction, noise=LabelNoise(noise)))


def structure_of(logits, task):
    return held_out_structure(Subject(LogitTable(logits, task), task))


def truth_logits(task):
    return F.one_hot(task.true(task.ids), task.n_classes).double()


def additive_logits(task, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rows, columns = torch.randn(2, task.symbols, task.n_classes, generator=draw, dtype=torch.float64)
    return rows[task.operands[:, 0]] + columns[task.operands[:, 1]]


# Under multiplication the cells with a factor of 0 share an answer along a row and a column: an additive part of truth.
@pytest.mark.parametrize(("op", "least"), [("add", 0.97), ("subtract", 0.97), ("multiply", 0.93)])
def test_a_perfect_network_reads_one(op, least):
    task = task_of(p=31, op=op, fraction=0.2)
    found = structure_of(truth_logits(task), task)
    # Not exactly 1: row and column effects fitted to a finite sample take a little of the truth with them.
    assert found.kappa.value > least and found.S.value > least**2
    assert found.heldout_vote.value == 1 and found.Z > 25 and found.verdict == "rule"


def test_a_perfect_network_on_a_full_design_reads_exactly_one():
    """With every cell held out but a diagonal's worth, effects vanish and the values approach 1."""
    z = standardised_residual(truth_logits(task_of()), task_of().operands, P)
    kappa, pairs, Z, vote = statistics(z.numpy(), task_of().true(task_of().ids).numpy(), 0)
    assert kappa.value == pytest.approx(1) and pairs.value == pytest.approx(1) and vote.value == 1


def test_anti_truth_reads_minus_one():
    task = task_of()
    z = standardised_residual(-truth_logits(task), task.operands, P)
    kappa, pairs, Z, vote = statistics(z.numpy(), task.true(task.ids).numpy(), 0)
    assert kappa.value == pytest.approx(-1) and pairs.value == pytest.approx(1) and Z < -3 and vote.value == 0
    # Which answer is right can be read from such logits, though none is given.
    assert structure_of(-truth_logits(task), task).verdict == "another_rule"


@pytest.mark.parametrize("build", [label_grid, additive_logits, lambda task: torch.full((P * P, P), 3.0)])
def test_labels_constants_and_additive_networks_read_zero(build):
    task = task_of()
    found = structure_of(build(task), task)
    assert found.S.value == found.kappa.value == found.Z == found.heldout_vote.value == 0
    assert found.verdict == "labels_only"


def test_noise_reads_about_zero():
    task = task_of(p=23)
    z_scores = []
    for seed in range(20):
        logits = torch.randn(len(task.ids), 23, generator=torch.Generator().manual_seed(seed))
        found = structure_of(logits, task)
        assert abs(found.S.value) < 0.05 and abs(found.kappa.value) < 0.1
        z_scores.append(found.Z)
    assert abs(np.mean(z_scores)) < 1 and 0.5 < np.std(z_scores) < 1.6


@settings(max_examples=25)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 10**6))
def test_unchanged_by_scaling_and_row_shifts(scale, seed):
    task = task_of(p=7, fraction=0.4)
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(49, 7, generator=draw, dtype=torch.float64) + truth_logits(task)
    shifts = torch.randn(49, 1, generator=draw, dtype=torch.float64)
    before, after = structure_of(logits, task), structure_of(scale * logits + shifts, task)
    assert after.S.value == pytest.approx(before.S.value, abs=1e-9)
    assert after.kappa.value == pytest.approx(before.kappa.value, abs=1e-9)
    assert after.Z == pytest.approx(before.Z, rel=1e-6, abs=1e-6)


def test_only_held_out_logits_are_read():
    task = task_of()
    logits = torch.randn(P * P, P, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    changed = logits.clone()
    changed[task.train_ids] = truth_logits(task)[task.train_ids] * 100
    assert structure_of(changed, task) == structure_of(logits, task)


def test_statistics_agree_with_plain_loops():
    draw = np.random.default_rng(0)
    p, n = 5, 40
    truth = draw.integers(p, size=n)
    z = draw.normal(size=(n, p)) + 0.7 * np.eye(p)[truth]
    z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
    kappa, pairs, Z, vote = statistics(z, truth, 0)
    assert kappa.value == pytest.approx(np.mean([z[i, truth[i]] for i in range(n)]) / np.sqrt(p - 1))
    same = [z[i] @ z[j] / p for i, j in itertools.permutations(range(n), 2) if truth[i] == truth[j]]
    assert pairs.value == pytest.approx(np.mean(same))
    summed = np.stack([z[truth == a].sum(0) for a in range(p)])
    assert vote.value == np.mean(summed.argmax(1) == np.arange(p))
    null = [sum(summed[a, order[a]] for a in range(p)) for order in itertools.permutations(range(p))]
    assert Z == pytest.approx((np.trace(summed) - np.mean(null)) / np.std(null))


def test_the_residual_is_that_of_an_explicit_least_squares_fit():
    task = task_of(p=7, fraction=0.3)
    rows = task.test_ids
    logits = torch.randn(49, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)[rows].numpy()
    pairs = task.operands[rows].numpy()
    design = np.zeros((len(rows), 14))
    design[np.arange(len(rows)), pairs[:, 0]] = design[np.arange(len(rows)), 7 + pairs[:, 1]] = 1
    centred = logits - logits.mean(1, keepdims=True)
    residual = centred - design @ np.linalg.lstsq(design, centred, rcond=None)[0]
    expected = (residual - residual.mean(1, keepdims=True)) / residual.std(1, keepdims=True)
    ours = standardised_residual(torch.from_numpy(logits), task.operands[rows], 7)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-9)


def test_too_few_held_out_cells_are_refused():
    task = task_of(p=11, fraction=0.7)
    assert len(task.test_ids) < 44
    found = structure_of(truth_logits(task), task)
    assert found.verdict == "refused" and found.kappa is None and "too few" in found.reason


def test_more_symbols_than_can_be_fitted_are_refused():
    pairs = torch.stack([torch.arange(10_000), torch.arange(10_000).flip(0)], 1)
    answers = torch.arange(10_000) % 12
    task = ArrayTask(pairs, answers, answers, torch.arange(10_000) < 5_000)
    found = structure_of(torch.randn(10_000, 12), task)
    assert found.verdict == "refused" and "10,000 symbols" in found.reason


def test_a_memorizing_planted_network_computes_the_rule():
    planted = planted_network(P, memorized_fraction=0.4, train_fraction=0.6)
    found = held_out_structure(planted.subject)
    assert found.verdict == "rule" and found.kappa.value > 0.5
    assert found.reference_kappa == pytest.approx(1 - 0.4 * P / (P - 1), abs=0.02)


def test_answers_without_held_out_cells_do_not_count():
    task = ModularTask(ModularConfig(p=P, split="answers", train_fraction=0.5, noise=LabelNoise(0.2)))
    found = structure_of(truth_logits(task), task)
    assert found.heldout_vote.n == P - round(0.5 * P)


def mirrored_labels(task):
    """A table that repeats each training label at the mirror image of its cell, as a network with tied inputs does."""
    table = label_grid(task).reshape(task.symbols, task.symbols, -1)
    return (table + table.transpose(0, 1)).reshape(len(task.ids), -1)


@pytest.mark.parametrize("jitter", [0, 1e-5, 1e-3, 0.1])
@pytest.mark.parametrize(("noise", "fraction"), [(0.0, 0.5), (0.0, 0.8), (0.3, 0.8), (0.8, 0.8)])
def test_labels_of_mirror_cells_are_no_rule_nearly_symmetric_or_not(jitter, noise, fraction):
    """At half the cells and no noise, a fit of row and column effects that reads the mirrored labels sees Z = 14."""
    task = task_of(p=31, noise=noise, fraction=fraction)
    draw = torch.Generator().manual_seed(0)
    found = structure_of(mirrored_labels(task) + jitter * torch.randn(31 * 31, 31, generator=draw), task)
    assert found.verdict == "labels_only" and abs(found.Z) < 3
    given = torch.full((31, 31), -1)
    given[tuple(task.operands[task.train_ids].T)] = task.given(task.train_ids)
    a, b = task.operands[task.test_ids].T
    assert found.n_left_out == int((given[b, a] == (a + b) % 31).sum()) and found.n_test == len(task.test_ids)


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("fraction", [0.5, 0.8])
def test_a_symmetric_network_that_computes_the_rule_still_does(noise, fraction):
    task = task_of(p=31, noise=noise, fraction=fraction)
    found = structure_of(truth_logits(task), task)
    assert found.verdict == "rule" and found.reason == "" and found.Z_unexplained > 3 and found.margin > 3


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("either", [False, True])
def test_excluding_the_labels_of_row_and_column_is_no_rule(noise, either):
    task = task_of(p=31, noise=noise, fraction=0.8)
    used = torch.zeros(2, 31, 31, dtype=torch.bool)
    a, b = task.operands[task.train_ids].T
    used[0, a, task.given(task.train_ids)] = used[1, b, task.given(task.train_ids)] = True
    row, column = (used.any(0), used.any(0)) if either else used
    a, b = task.operands.T
    found = structure_of((~(row[a] | column[b])).double(), task)
    assert found.Z > 3 and abs(found.Z_unexplained) < 1e-6
    assert found.verdict == "labels_only" and "excluding" in found.reason


A, B = torch.cartesian_prod(torch.arange(31), torch.arange(31)).T
OTHER_RULES = {
    "a xor b": (A ^ B, "trace"),
    "a or b": (A | B, "trace"),
    "a + b + 1": ((A + B + 1) % 31, "another_rule"),
    "2(a + b)": (2 * (A + B) % 31, "another_rule"),
    "a + 2b": ((A + 2 * B) % 31, "labels_only"),
    "a − b": ((A - B) % 31, "labels_only"),
    "a · b": (A * B % 31, "labels_only"),
}


@pytest.mark.parametrize("name", OTHER_RULES)
def test_another_rule_is_not_the_rule(name):
    answer, verdict = OTHER_RULES[name]
    task = task_of(p=31, noise=0.3, fraction=0.5)
    found = structure_of(F.one_hot(answer.clamp(max=30), 31).double(), task)
    assert found.verdict == verdict
    if name == "a + b + 1":
        assert found.reason == f"κ is {found.S.value**0.5:.2f} at the right answer + 1"


def test_another_operation_of_the_group_is_not_the_rule():
    """In S4, where ten elements are their own inverse, a·b has many answers in common with a·b⁻¹."""
    task = GroupTask(GroupConfig(group="S4", op="subtract", train_fraction=0.6, noise=LabelNoise(0.3)))
    found = structure_of(F.one_hot(task.group.product.flatten(), 24).double(), task)
    assert found.Z > 10 and found.verdict == "trace" and "another partition" in found.reason


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_few_classes_are_refused_even_where_every_answer_is_right(classes):
    pairs = torch.cartesian_prod(torch.arange(20), torch.arange(20))
    answers = pairs.sum(1) % classes
    task = ArrayTask(pairs, answers, answers, torch.arange(400) % 3 == 0, n_classes=classes)
    found = structure_of(F.one_hot(answers, classes).double(), task)
    assert found.verdict == "refused" and ("one class" if classes == 1 else f"{classes} classes") in found.reason
    assert classes < 10 or found.heldout_vote.value == 1


def test_copies_of_training_cells_are_left_out():
    """A task of a user's own may hold a pair twice; a table of labels answers the copy as it was told."""
    base = task_of(p=31, noise=0.8, fraction=0.5)

    class Copied(type(base)):
        """The same task, with a quarter of the training cells held out as well."""

        def __init__(self):
            super().__init__(base.config)
            self.test_ids = torch.cat([self.test_ids, self.train_ids[::4]])

    task = Copied()
    found = structure_of(label_grid(task), task)
    assert found.verdict == "labels_only" and found.n_test == len(task.test_ids)
    assert found.n_left_out >= len(base.train_ids[::4])


def test_logits_that_are_not_numbers_are_refused():
    task = task_of()
    subject = Subject(LogitTable(truth_logits(task), task), task)
    subject.model.logits[task.test_ids[0], 0] = torch.nan
    assert held_out_structure(subject).verdict == "refused"


@pytest.mark.parametrize("answer", [lambda a, b: a, torch.maximum])
def test_what_one_operand_adds_alone_is_no_matter_of_structure(answer):
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    truth = answer(*pairs.T)
    train = torch.rand(P * P, generator=torch.Generator().manual_seed(0)) < 0.6
    task = ArrayTask(pairs, truth, truth, train)
    card = mm.audit_logits(F.one_hot(truth, P).float(), task, ["raw"])
    assert card.verdict == "refused" and "what each operand adds alone gives 100% of the answers" in card.sentence
    again = ArrayTask(pairs, truth := pairs.sum(1) % P, truth, train)
    card = mm.audit_logits(F.one_hot(truth, P).float(), again, ["raw"])
    assert card.verdict == "rule" and "given which inputs share an answer, gives 100%" in card.sentence
