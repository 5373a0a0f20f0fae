"""Recognition of groups from tables whose rows, columns and classes are bare numbers."""

import math

import pytest
import torch

from mechmem.tasks.group_names import described, factors, named_groups, order
from mechmem.tasks.groups import FiniteGroup
from mechmem.tasks.recognition import _by_chance, recognised
from tests.math.test_cayley_tables import LOOP, renamed, spoilt


@pytest.mark.parametrize(
    ("built", "name"),
    [
        ("Z7", "Z7"),
        ("Z2xZ3", "Z6"),
        ("D3", "S3"),
        ("S3xZ2", "D6"),
        ("Q12", "Q12"),
        ("A4", "A4"),
        ("Z2xZ4", "Z4xZ2"),
        ("S4", "S4"),
        ("A5xZ2", "A5xZ2"),
        ("S5", "S5"),
        ("Z59", "Z59"),
    ],
)
def test_a_renamed_group_is_named_and_mapped(built, name):
    table = renamed(FiniteGroup(built).product, seed=5)
    found = recognised(table, len(table))
    assert (found.kind, found.name, found.order, found.outvoted) == ("group", name, len(table), 0)
    assert torch.equal(found.table, table)
    product = FiniteGroup(found.name).product
    assert torch.equal(product[found.row_place[:, None], found.column_place], found.class_place[table])


def test_a_group_is_found_behind_mistakes():
    table = renamed(FiniteGroup("S4").product, seed=1)
    read = spoilt(table, 0.08)
    found = recognised(read, 24)
    assert found.name == "S4" and torch.equal(found.table, table)
    assert found.outvoted == int((read != table).sum()) > 0 and found.latin_rows < 1


def test_rows_set_apart_have_no_place():
    p, a = 11, torch.arange(11)
    found = recognised(a[:, None] * a % p, p)
    assert found.name == "Z10" and not found.rows[0] and not found.columns[0] and not found.classes[0]
    assert found.row_place[0] == found.column_place[0] == found.class_place[0] == -1
    assert found.row_place[1:].sort().values.tolist() == list(range(10))


def test_what_is_no_group():
    loop = recognised(renamed(LOOP), 5)
    assert (loop.kind, loop.name, loop.orders) == ("quasigroup", "", {})
    noise = torch.randint(31, (31, 31), generator=torch.Generator().manual_seed(2))
    assert recognised(noise, 31).kind == "none"
    maximum = torch.maximum(torch.arange(13)[:, None], torch.arange(13))
    assert recognised(maximum, 13).kind == "none"
    assert recognised(torch.zeros(1, 1, dtype=torch.long), 1).kind == "none"


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_small_tables_of_random_answers_are_no_groups(n):
    draw = torch.Generator().manual_seed(n)
    named = sum(recognised(torch.randint(n, (n, n), generator=draw), n).kind == "group" for _ in range(25))
    assert named <= 1
    assert recognised(renamed(FiniteGroup(f"Z{n}").product), n).kind == "group"


def test_agreement_counts_only_beyond_what_renaming_gives_random_answers():
    """The bound is n!³ · P(at least k of n² cells agree at 1/n each)."""
    by_hand = sum(math.comb(16, k) * 3 ** (16 - k) for k in range(12, 17)) / 4**16 * 24**3
    assert _by_chance(12, 4) == pytest.approx(by_hand) and by_hand > 0.05
    assert _by_chance(9, 4) == 1 and _by_chance(16, 4) < 1e-4
    assert _by_chance(9, 3) == pytest.approx(6**3 / 3**9) and _by_chance(2000, 59) < 1e-300


def test_a_group_without_a_name_is_a_group():
    """Z7 ⋊ Z3, of order 21: x ↦ 2x has order 3 mod 7."""
    pairs = torch.cartesian_prod(torch.arange(7), torch.arange(3))
    (x, k), (y, j) = pairs.T[:, :, None], pairs.T[:, None]
    product = ((x + 2**k * y) % 7) * 3 + (k + j) % 3
    found = recognised(renamed(product), 21)
    assert (found.kind, found.name, found.order) == ("group", "", 21)
    assert found.orders == {1: 1, 3: 14, 7: 6} and found.commuting == pytest.approx(5 / 21)


def test_names_of_an_order():
    assert named_groups(12)[0] == "Z12" and set(named_groups(12)) >= {"A4", "D6", "Q12", "Z6xZ2"}
    for n in (2, 6, 8, 24, 60, 120):
        assert all(order(name) == n and factors(name) for name in named_groups(n))
    assert described("Z59") == "the cyclic group of order 59 (Z59)"
    assert described("S5") == "the symmetric group of order 120 (S5)"
    assert described("Z4xZ2") == "the group Z4xZ2 of order 8, a direct product"


@pytest.mark.slow
def test_a_search_among_many_elements_alike_ends():
    """The semidirect product of Z4 with Z4, times Z4, has no name here, and many elements of each order."""
    elements = torch.cartesian_prod(*[torch.arange(4)] * 3)
    a, b, c = elements.T[:, :, None]
    first = (a + torch.where(b % 2 == 1, -1, 1) * a.T) % 4
    product = 16 * first + 4 * ((b + b.T) % 4) + (c + c.T) % 4
    found = recognised(product, 64)
    assert (found.kind, found.name, found.order) == ("group", "", 64)


def test_every_small_latin_square_is_a_group_s_and_too_small_to_tell():
    found = recognised(torch.tensor([[0, 1], [1, 0]]), 2)
    assert found.kind == "none" and found.order == 2


def test_a_cell_without_an_answer_is_not_outvoted():
    table = FiniteGroup("Z9").product.clone()
    table[2, 3] = table[5, 5] = -1
    table[7, 1] = 0
    found = recognised(table, 9)
    assert found.name == "Z9" and found.outvoted == 1 and torch.equal(found.table, FiniteGroup("Z9").product)


def test_lines_that_a_task_lacks_are_not_counted():
    table = torch.full((7, 7), -1)
    table[:5] = (torch.arange(5)[:, None] + torch.arange(7)) % 11
    found = recognised(table, 11)
    assert found.kind == "none" and (found.latin_rows, found.latin_columns) == (1, 1)
