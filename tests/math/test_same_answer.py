"""The search for cells that share an answer, against the same thing written down plainly."""

import numpy as np
import pytest
import torch

from mechmem.math import same_answer
from mechmem.math.same_answer import same_answer_scores, standardised
from mechmem.math.small_groups import dihedral, symmetric


def plainly(table, rank):
    """The rearranged matrix, made entry by entry and decomposed."""
    n, _, classes = table.shape
    cells = table.reshape(n * n, classes)
    alike = cells @ cells.T / classes
    np.fill_diagonal(alike, 0)
    rearranged = alike.reshape(n, n, n, n).transpose(0, 2, 1, 3).reshape(n * n, n * n)
    u, s, v = np.linalg.svd(rearranged)
    rank = min(rank, int((s > 1e-4 * s[0]).sum()))
    kept = u[:, :rank] @ v[:rank]
    kept = kept.reshape(n, n, n, n).transpose(0, 2, 1, 3).reshape(n * n, n * n)
    np.fill_diagonal(kept, 0)
    return (kept @ cells).reshape(table.shape)


def planted(answers, kappa, seed=0, classes=None):
    """Standardised scores whose correlation with the one-hot answers is about κ."""
    answers = torch.as_tensor(answers)
    classes = classes or len(answers)
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(*answers.shape, classes, generator=draw, dtype=torch.float64)
    rule = torch.nn.functional.one_hot(answers, classes).double() * classes**0.5
    cells = kappa * rule + (1 - kappa**2) ** 0.5 * noise
    return standardised(cells.flatten(0, 1), 0).reshape(*answers.shape, classes)


def isotope(table, seed=0):
    """A group's table with rows, columns and answers renamed independently."""
    draw, n = np.random.default_rng(seed), len(table)
    return draw.permutation(n)[np.asarray(table)[draw.permutation(n)][:, draw.permutation(n)]]


def cyclic(n):
    return np.add.outer(np.arange(n), np.arange(n)) % n


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize(("n", "classes", "rank"), [(7, 7, 7), (7, 4, 5), (2, 3, 3), (3, 5, 9), (1, 2, 1)])
def test_scores_are_those_of_the_matrix_itself(n, classes, rank, searched, monkeypatch):
    table = planted(np.arange(n * n).reshape(n, n) % classes, 0.5, classes=classes)
    if searched:
        monkeypatch.setattr(same_answer, "DENSE", 0)
        monkeypatch.setattr(same_answer, "GROWTH", 1e-7)
    found = same_answer_scores(table, rank).numpy()
    expected = plainly(table.numpy(), rank)
    np.testing.assert_allclose(found, expected, atol=(1e-3 if searched else 1e-12) * (1 + np.abs(expected).max()))


def test_the_search_finds_what_the_matrix_holds_where_it_is_used():
    table = planted(isotope(cyclic(23)), 0.55)
    expected = plainly(table.numpy(), 23)
    np.testing.assert_allclose(same_answer_scores(table, 23), expected, atol=1e-2 * np.abs(expected).max())


@pytest.mark.parametrize("kappa", [0.7, 1])
@pytest.mark.parametrize("rule", [cyclic(31), symmetric(4).product, dihedral(13).product], ids=["Z31", "S4", "D13"])
def test_the_operation_of_a_group_is_recovered_under_any_names(rule, kappa):
    answers = torch.as_tensor(isotope(rule))
    n = len(answers)
    table = planted(answers, kappa)
    hidden = torch.rand(n, n, generator=torch.Generator().manual_seed(3)) < 0.2
    table[hidden] = 0
    found = same_answer_scores(table, n)
    assert (found.argmax(2) == answers).double().mean() > 0.98
    assert (found.argmax(2) == answers)[hidden].double().mean() > 0.98


def test_every_copy_of_a_repeated_singular_value_is_found():
    """A residual does not show that some are missing; this is a table without noise."""
    answers = torch.as_tensor(cyclic(31))
    assert (same_answer_scores(planted(answers, 1.0), 31).argmax(2) == answers).all()


def test_a_table_of_noise_holds_no_answers():
    answers = torch.as_tensor(cyclic(31))
    found = same_answer_scores(planted(answers, 0.0), 31)
    assert (found.argmax(2) == answers).double().mean() < 3 / 31


@pytest.mark.parametrize("n", [9, 23])
def test_names_do_not_matter(n):
    table = planted(cyclic(n), 0.5)
    draw = torch.Generator().manual_seed(5)
    left, right, names = (torch.randperm(n, generator=draw) for _ in range(3))
    moved = table[left][:, right][..., names]
    found, again = same_answer_scores(table, n), same_answer_scores(moved, n)
    torch.testing.assert_close(again, found[left][:, right][..., names], rtol=0, atol=1e-3 * float(found.abs().max()))
    assert torch.equal(same_answer_scores(table, n), found)


@pytest.mark.parametrize("n", [5, 23])
def test_nothing_in_common_is_no_score(n):
    table = torch.zeros(n, n, n, dtype=torch.float64)
    assert not same_answer_scores(table, n).any()
    table[0, 0, 0] = 1
    assert same_answer_scores(table, n).abs().max() < 1e-6


def test_scores_are_standardised_at_any_scale():
    values = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (values - values.mean(1, keepdim=True)) / values.std(1, correction=0, keepdim=True)
    for scale in (1e-200, 1, 1e200):
        torch.testing.assert_close(standardised(values * scale, 0), expected)
    assert not standardised(values, 10).any() and not standardised(torch.full((2, 3), 0.1), 0).any()
