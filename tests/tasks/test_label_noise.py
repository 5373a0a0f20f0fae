import numpy as np
import pytest
import scipy.stats
import sympy
import torch
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.tasks.label_noise import apply_noise, latin_square


def grid(p):
    return torch.cartesian_prod(torch.arange(p), torch.arange(p))


def legendre(d, p):
    power = pow(int(d) % p, (p - 1) // 2, p)
    return -1 if power == p - 1 else power


@given(st.integers(2, 12), st.floats(0, 1), st.integers(0, 300))
def test_wrong_labels_are_exactly_so_many_and_never_true(p, fraction, seed):
    true = grid(p).sum(1) % p
    given_labels = apply_noise(mm.LabelNoise(fraction, "wrong"), true, p, seed)
    assert int((given_labels != true).sum()) == round(fraction * p * p)
    assert ((0 <= given_labels) & (given_labels < p)).all()


def test_wrong_labels_are_uniform_over_the_wrong_classes():
    p = 7
    true = torch.arange(p).repeat(400)
    labels = apply_noise(mm.LabelNoise(1.0, "wrong"), true, p, seed=0)
    counts = np.bincount(((labels - true) % p).numpy(), minlength=p)
    assert counts[0] == 0
    assert scipy.stats.chisquare(counts[1:]).pvalue > 1e-3
    assert (
        scipy.stats.chi2_contingency(np.histogram2d(true, (labels - true) % p, [p, range(1, p + 1)])[0]).pvalue > 1e-3
    )


def test_any_label_hits_the_truth_as_often_as_chance():
    p, n = 5, 20_000
    true = torch.randint(0, p, (n,), generator=torch.Generator().manual_seed(1))
    labels = apply_noise(mm.LabelNoise(0.5, "any"), true, p, seed=0)
    hits = n // 2 - int((labels != true).sum())
    assert scipy.stats.binomtest(hits, n // 2, 1 / p).pvalue > 1e-3
    fully = apply_noise(mm.LabelNoise(1.0, "any"), true, p, seed=0)
    assert scipy.stats.chi2_contingency(np.histogram2d(true, fully, p)[0]).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["wrong", "any", "symmetric", "bijective"])
def test_no_noise_is_no_noise(kind):
    true = grid(7).sum(1) % 7
    assert torch.equal(apply_noise(mm.LabelNoise(0.0, kind), true, 7, 0, grid(7)), true)


@given(st.integers(2, 12), st.floats(0, 1), st.integers(0, 300))
def test_symmetric_pairs_are_replaced_alike(p, fraction, seed):
    pairs = grid(p)
    true = pairs.sum(1) % p
    labels = apply_noise(mm.LabelNoise(fraction, "symmetric"), true, p, seed, pairs)
    table = labels.reshape(p, p)
    assert torch.equal(table, table.T)
    replaced, wanted = int((labels != true).sum()), round(fraction * p * p)
    assert wanted <= replaced <= wanted + 1


def test_symmetric_noise_on_a_part_of_the_grid_and_on_subtraction():
    p = 11
    pairs = grid(p)[torch.randperm(p * p, generator=torch.Generator().manual_seed(0))[:70]]
    true = (pairs[:, 0] - pairs[:, 1]) % p
    labels = apply_noise(mm.LabelNoise(0.5, "symmetric"), true, p, 0, pairs)
    shift = {tuple(pair): int(s) for pair, s in zip(pairs.tolist(), (labels - true) % p, strict=True)}
    partners = [(a, b) for a, b in shift if a < b and (b, a) in shift]
    assert partners
    assert all(shift[a, b] == shift[b, a] for a, b in partners)
    assert sum(s != 0 for s in shift.values()) in (35, 36)


@pytest.mark.parametrize("p", [7, 11, 13, 17, 19, 23, 29, 31, 59, 61, 67, 97, 101, 113])
def test_bijective_labels_form_a_latin_square(p):
    square = latin_square(grid(p), p).reshape(p, p).numpy()
    for line in (*square, *square.T):
        assert set(line.tolist()) == set(range(p))


@pytest.mark.parametrize("p", [sympy.prime(i) for i in range(4, 60)])
def test_the_published_constants_are_used_wherever_they_work(p):
    published = np.array([[(x + (4 + legendre(y - x, p)) * (y - x)) % p for y in range(p)] for x in range(p)])
    lines = (*published, *published.T)
    works = all(len(set(line.tolist())) == p for line in lines)
    found = latin_square(grid(p), p).reshape(p, p).numpy()
    assert (found == published).all() == works
    if p == 113:
        assert works


def test_bijective_noise_replaces_by_the_square():
    task = mm.ModularTask(mm.ModularConfig(p=59, noise=mm.LabelNoise(0.4, "bijective")))
    noisy = task.splits["train_noisy"]
    assert torch.equal(task.given(noisy), latin_square(task.operands[noisy], 59))
    # The square meets the truth in about one cell of p.
    replaced = round(0.4 * len(task.train_ids))
    assert 0.9 * replaced < len(noisy) <= replaced


@pytest.mark.parametrize("p", [3, 5])
def test_primes_without_such_a_square_are_refused(p):
    with pytest.raises(ConfigError, match=f"no Latin square .* at p={p}"):
        latin_square(grid(p), p)


@pytest.mark.parametrize("kind", ["symmetric", "bijective"])
def test_noise_on_pairs_needs_pairs(kind):
    with pytest.raises(ConfigError, match=f"{kind} label noise needs inputs that are pairs"):
        apply_noise(mm.LabelNoise(0.5, kind), torch.arange(7), 7, 0)


@pytest.mark.parametrize("kind", ["wrong", "any", "symmetric", "bijective"])
def test_seeds_decide_which_and_what(kind):
    pairs = grid(13)
    true = pairs.sum(1) % 13
    one, same, other = (apply_noise(mm.LabelNoise(0.5, kind), true, 13, seed, pairs) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("kind", ["symmetric", "symmetric_any"])
def test_subtraction_has_no_symmetric_noise(kind):
    with pytest.raises(ConfigError, match="one label, and subtraction does not"):
        mm.ModularConfig(op="subtract", p=7, noise=mm.LabelNoise(0.3, kind))


def test_a_single_class_has_no_wrong_label():
    one = torch.zeros(8, dtype=torch.long)
    assert torch.equal(apply_noise(mm.LabelNoise(0.0), one, 1, seed=0), one)
    assert torch.equal(apply_noise(mm.LabelNoise(0.5, "any"), one, 1, seed=0), one)
    with pytest.raises(ConfigError, match="label noise 'wrong' needs at least two classes, and there is 1"):
        apply_noise(mm.LabelNoise(0.5), one, 1, seed=0)
    data = mm.ImageData.from_arrays(torch.arange(16 * 9).reshape(9, 4, 4).numpy().astype("uint8"), [0] * 9)
    mm.ImageTask(mm.ImageConfig(), data)
    with pytest.raises(ConfigError, match="needs at least two classes"):
        mm.ImageTask(mm.ImageConfig(noise=mm.LabelNoise(0.5)), data)
