"""Tables of groups under other names: squares set apart, quadrangles, votes, and the group by its product alone."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechmem.math.cayley_tables import latin_shares, quadrangle_share, square_part, voted
from mechmem.math.group_products import group_facts, identity_of, is_group, isomorphism, loop_product
from mechmem.tasks.groups import FiniteGroup

LOOP = torch.tensor([[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]])
"""The smallest loop that is no group: every element is its own inverse."""


def renamed(product, seed=0):
    """A group's table with rows, columns and classes under other names."""
    draw = torch.Generator().manual_seed(seed)
    rows, columns, classes = (torch.randperm(len(product), generator=draw) for _ in range(3))
    return classes[product[rows][:, columns]]


def spoilt(table, share, seed=0):
    draw = torch.Generator().manual_seed(seed)
    bad = torch.rand(table.shape, generator=draw) < share
    return torch.where(bad, torch.randint(int(table.max()) + 1, table.shape, generator=draw), table)


def quadrangles_by_hand(table):
    """Share of all pairs of quadrangles with three equal corners whose fourth corners are equal."""
    n, fourth = len(table), {}
    for a, c, b, d in itertools.product(range(n), repeat=4):
        if a != c and b != d:
            corners = int(table[a, b]), int(table[a, d]), int(table[c, b])
            fourth.setdefault(corners, []).append(int(table[c, d]))
    pairs = [(x, y) for each in fourth.values() for x, y in itertools.permutations(each, 2)]
    return sum(x == y for x, y in pairs) / len(pairs)


@pytest.mark.parametrize("name", ["Z7", "S3", "Q8", "A4", "S4", "Z4xZ2"])
def test_a_group_meets_the_quadrangle_criterion(name):
    table = renamed(FiniteGroup(name).product)
    share, null = quadrangle_share(table, len(table), draws=4000)
    assert share == 1 and null == pytest.approx(1 / len(table), abs=0.03)
    assert latin_shares(table) == (1, 1)


def test_a_loop_that_is_no_group_does_not():
    share, _ = quadrangle_share(LOOP, 5, draws=20_000)
    assert 0.2 < share < 0.9 and share == pytest.approx(quadrangles_by_hand(LOOP), abs=0.1)
    product = loop_product(LOOP)
    assert identity_of(product) == 0 and not is_group(product, 0)


def test_latin_shares_count_lines_without_a_repeat():
    table = FiniteGroup("Z5").product.clone()
    table[1, 2] = table[1, 3]
    assert latin_shares(table) == (0.8, 0.8)
    table[0, 0] = -1
    assert latin_shares(table) == (0.6, 0.6)


@pytest.mark.parametrize("garbage", [False, True])
def test_the_zero_of_multiplication_is_set_apart(garbage):
    """Its row and column hold one class, or whatever a network answers there."""
    p, a = 23, torch.arange(23)
    table = a[:, None] * a % p
    if garbage:
        draw = torch.Generator().manual_seed(0)
        table[0], table[:, 0] = torch.randint(p, (2, p), generator=draw)
    order = torch.randperm(p, generator=torch.Generator().manual_seed(4))
    square = square_part(table[order][:, order.flip(0)], p)
    assert 0 not in order[square.rows] and 0 not in order.flip(0)[square.columns] and 0 not in square.classes
    assert len(square.cells) == p - 1 and latin_shares(square.cells) == (1, 1)
    assert torch.equal(square.classes[square.cells], table[order[square.rows]][:, order.flip(0)[square.columns]])


@pytest.mark.parametrize("surer", [5, 0])
def test_of_two_columns_that_are_one_the_surer_stays(surer):
    """A symbol without a place of its own in the rule is answered like another: 0 like 5, and its row like nothing."""
    p, a = 23, torch.arange(23)
    table = a[:, None] * a % p
    table[:, 0] = table[:, 5]
    table[0] = torch.randperm(p, generator=torch.Generator().manual_seed(0))
    margins = torch.ones(p, p)
    margins[:, surer] = 2.0
    square = square_part(table, p, margins=margins)
    assert square.columns.tolist() == [column for column in range(p) if column != 5 - surer]
    assert square.rows.tolist() == list(range(1, p)) and 0 not in square.classes
    assert latin_shares(square.cells) == (1, 1)


def test_a_random_table_holds_no_square():
    draw = torch.Generator().manual_seed(0)
    assert square_part(torch.zeros(9, 9, dtype=torch.long), 9) is None
    assert square_part(torch.full((9, 9), -1), 9) is None
    square = square_part(torch.randint(31, (31, 31), generator=draw), 31)
    assert square is None or quadrangle_share(square.cells, len(square.cells))[0] < 0.2


@pytest.mark.parametrize("name", ["Z31", "A4", "S4", "D8"])
def test_votes_mend_wrong_and_missing_cells(name):
    table = renamed(FiniteGroup(name).product, seed=3)
    holes = spoilt(table, 0.06)
    holes[torch.rand(table.shape, generator=torch.Generator().manual_seed(9)) < 0.05] = -1
    assert not torch.equal(holes, table) and torch.equal(voted(holes), table)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(["Z6", "S3", "Q8", "D4", "Z2xZ2xZ2", "A4", "D6", "S4"]), st.integers(0, 2**30))
def test_the_loop_of_a_renamed_group_is_the_group(name, seed):
    group = FiniteGroup(name)
    product = loop_product(renamed(group.product, seed))
    identity = identity_of(product)
    assert is_group(product, identity)
    facts, known = group_facts(product, identity), group_facts(group.product, 0)
    assert facts.order_counts == known.order_counts and facts.centre == known.centre
    mapped = isomorphism(facts, known)
    assert torch.equal(mapped[product], group.product[mapped[:, None], mapped])
    assert mapped.sort().values.tolist() == list(range(len(product)))


@pytest.mark.parametrize(("one", "other"), [("Z8", "Z4xZ2"), ("D4", "Q8"), ("D6", "A4"), ("Z9", "Z3xZ3"), ("D4", "Z8")])
def test_groups_of_one_order_are_told_apart(one, other):
    facts = [group_facts(FiniteGroup(name).product, 0) for name in (one, other)]
    assert isomorphism(*facts) is None


def test_groups_with_the_same_orders_of_elements_are_told_apart():
    """The Heisenberg group mod 3 and Z3³: 26 elements of order 3 each."""
    triples = torch.cartesian_prod(*[torch.arange(3)] * 3)
    x, y = triples[:, None], triples[None]
    third = x[..., 2] + y[..., 2] + x[..., 0] * y[..., 1]
    product = ((x[..., 0] + y[..., 0]) % 3) * 9 + ((x[..., 1] + y[..., 1]) % 3) * 3 + third % 3
    heisenberg, plain = group_facts(product, 0), group_facts(FiniteGroup("Z3xZ3xZ3").product, 0)
    assert is_group(product, 0) and heisenberg.order_counts == plain.order_counts == {1: 1, 3: 26}
    assert isomorphism(heisenberg, plain) is None and heisenberg.centre == 3


def test_facts_of_the_symmetric_group():
    facts = group_facts(FiniteGroup("S5").product, 0)
    assert facts.order_counts == {1: 1, 2: 25, 3: 20, 4: 30, 5: 24, 6: 20}
    assert facts.commuting == pytest.approx(7 / 120) and facts.centre == 1
