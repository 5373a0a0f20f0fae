import itertools
import math

import numpy as np
import pytest
import torch
import young
from hypothesis import given
from hypothesis import strategies as st

from mechmem.math.irreps import (
    conjugate_partition,
    diagonal_hooks,
    energy_by_part,
    isotypic_basis,
    keep_part,
    partitions,
    real_irreps,
    symmetric_character,
)
from mechmem.math.small_groups import alternating, cycle_type, cyclic, dihedral, direct_product, symmetric

GOLDEN = (1 + 5**0.5) / 2
GROUPS = {
    "S2": lambda: symmetric(2),
    "S4": lambda: symmetric(4),
    "A3": lambda: alternating(3),
    "A4": lambda: alternating(4),
    "A5": lambda: alternating(5),
    "Z7": lambda: cyclic(7),
    "Z12": lambda: cyclic(12),
    "D3": lambda: dihedral(3),
    "D8": lambda: dihedral(8),
    "Q8": lambda: dihedral(4, 2),
    "Q12": lambda: dihedral(6, 3),
    "Z3xZ5": lambda: direct_product(cyclic(3), cyclic(5)),
    "S3xZ4": lambda: direct_product(symmetric(3), cyclic(4)),
    "A4xZ3": lambda: direct_product(alternating(4), cyclic(3)),
}
every_group = pytest.mark.parametrize("name", GROUPS)


def inverses(product):
    return (product == 0).long().argmax(1)


def classes(product):
    """Conjugacy classes as frozen sets of positions."""
    inverse = inverses(product)
    return {frozenset(product[product[:, g], inverse].tolist()) for g in range(len(product))}


def test_partitions_come_in_reverse_lexicographic_order():
    assert list(partitions(4)) == [(4,), (3, 1), (2, 2), (2, 1, 1), (1, 1, 1, 1)]
    # Euler's numbers.
    assert [len(list(partitions(n))) for n in range(1, 11)] == [1, 2, 3, 5, 7, 11, 15, 22, 30, 42]


@given(st.integers(1, 9).flatmap(lambda n: st.sampled_from(list(partitions(n)))))
def test_mirrored_diagrams(shape):
    mirrored = conjugate_partition(shape)
    cells = {(row, column) for row, length in enumerate(shape) for column in range(length)}
    assert {(row, column) for row, length in enumerate(mirrored) for column in range(length)} == {
        (column, row) for row, column in cells
    }
    hooks = [sum((r == i and c >= i) or (c == i and r > i) for r, c in cells) for i in range(9) if (i, i) in cells]
    assert list(diagonal_hooks(shape)) == hooks


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_characters_are_the_traces_of_youngs_matrices(n):
    types = [cycle_type(p) for p in itertools.permutations(range(n))]
    for shape in partitions(n):
        traces = np.trace(young.matrices(shape), axis1=1, axis2=2)
        np.testing.assert_allclose([symmetric_character(shape, each) for each in types], traces, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 1), (2, 2), (2, 1, 1)])
def test_youngs_matrices_are_a_representation_in_the_order_of_the_group(shape):
    rho, product = young.matrices(shape), symmetric(4).product.numpy()
    np.testing.assert_allclose(np.einsum("aij,bjk->abik", rho, rho), rho[product], atol=1e-12)


@every_group
def test_products_are_those_of_a_group(name):
    product = GROUPS[name]().product
    n = len(product)
    assert torch.equal(product[0], torch.arange(n)) and torch.equal(product[:, 0], torch.arange(n))
    assert all(sorted(row) == list(range(n)) for row in (*product.tolist(), *product.T.tolist()))
    draw = torch.Generator().manual_seed(0)
    a, b, c = torch.randint(n, (3, 500), generator=draw)
    assert torch.equal(product[product[a, b], c], product[a, product[b, c]])


@every_group
def test_characters_are_orthonormal_and_constant_on_classes(name):
    table = GROUPS[name]()
    chi = table.characters
    n = chi.shape[1]
    assert chi.dtype == torch.complex128 and len(chi) == len(classes(table.product)) == len(set(table.irreps))
    torch.testing.assert_close(chi @ chi.conj().T / n, torch.eye(len(chi)).to(chi), atol=1e-12, rtol=0)
    for members in classes(table.product):
        torch.testing.assert_close(chi[:, list(members)], chi[:, [min(members)]].expand(-1, len(members)))
    assert torch.equal(chi[0], torch.ones_like(chi[0]))


@every_group
def test_characters_are_homomorphisms_of_the_class_algebra(name):
    """Characters, unlike other orthonormal class functions: χ(a) χ(b) = d · mean over g of χ(a g b g⁻¹)."""
    table = GROUPS[name]()
    chi, product = table.characters, table.product
    inverse = inverses(product)
    draw = torch.Generator().manual_seed(1)
    for a, b in torch.randint(len(product), (20, 2), generator=draw).tolist():
        conjugated = product[product[:, b], inverse]
        found = chi[:, 0] * chi[:, product[a, conjugated]].mean(1)
        torch.testing.assert_close(found, chi[:, a] * chi[:, b], atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # By class: identity, (1 2)(3 4), (1 2 3), and the two of 5-cycles.
        ("A5", {(1, 1, 1, 1, 1), (3, -1, 0, GOLDEN, 1 - GOLDEN), (3, -1, 0, 1 - GOLDEN, GOLDEN), (4, 0, 1, -1, -1)}),
        # By class: 1, −1, ±i, ±j, ±k.
        ("Q8", {(1, 1, 1, 1, 1), (1, 1, 1, -1, -1), (1, 1, -1, 1, -1), (1, 1, -1, -1, 1), (2, -2, 0, 0, 0)}),
    ],
)
def test_known_tables(name, expected):
    table = GROUPS[name]()
    chi = table.characters
    if name == "A5":
        turn = table.names.index("(1 2 3 4 5)")
        place = [0, table.names.index("(1 2)(3 4)"), table.names.index("(1 2 3)"), turn, table.product[turn, turn]]
        expected = expected | {(5, 1, -1, 0, 0)}
    else:
        place = [table.names.index(each) for each in ("e", "r^2", "r", "s", "r s")]
    found = {tuple(round(value, 9) + 0.0 for value in row) for row in chi[:, place].real.tolist()}
    assert found == {tuple(round(value, 9) + 0.0 for value in row) for row in expected}
    assert chi.imag.abs().max() < 1e-12


def test_the_table_of_s5():
    """Columns e, (1 2), (1 2)(3 4), (1 2 3), (1 2 3)(4 5), (1 2 3 4), (1 2 3 4 5), as in any textbook."""
    types = [(1,) * 5, (2, 1, 1, 1), (2, 2, 1), (3, 1, 1), (3, 2), (4, 1), (5,)]
    assert [[symmetric_character(shape, each) for each in types] for shape in partitions(5)] == [
        [1, 1, 1, 1, 1, 1, 1],
        [4, 2, 0, 1, -1, 0, -1],
        [5, 1, 1, -1, 1, -1, 0],
        [6, 0, -2, 0, 0, 0, 1],
        [5, -1, 1, -1, -1, 1, 0],
        [4, -2, 0, 1, 1, 0, -1],
        [1, -1, 1, 1, -1, -1, 1],
    ]


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_dihedral_characters_are_traces_of_plane_rotations_and_mirrors(n):
    table = dihedral(n)
    for k in range(1, (n + 1) // 2):
        angle = 2 * math.pi * k / n
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        mirror = np.diag([1.0, -1.0])
        rho = [np.linalg.matrix_power(turn, g % n) @ np.linalg.matrix_power(mirror, g // n) for g in range(2 * n)]
        np.testing.assert_allclose(np.einsum("aij,bjk->abik", rho, rho), np.stack(rho)[table.product], atol=1e-12)
        row = table.characters[table.irreps.index(f"E{k}")]
        np.testing.assert_allclose(row.numpy(), np.trace(rho, axis1=1, axis2=2), atol=1e-12)


@every_group
def test_parts_are_those_of_the_group_and_no_others(name):
    """As many central, orthogonal projections as there are classes of g or g⁻¹: there is one such family only."""
    table = GROUPS[name]()
    product = table.product
    n, inverse = len(product), inverses(product)
    _, idempotents = real_irreps(table.characters)
    basis, part = isotypic_basis(product[inverse], idempotents)
    torch.testing.assert_close(basis @ basis.T, torch.eye(n).to(basis), atol=1e-12, rtol=0)
    assert len(idempotents) == len({cls | {int(inverse[g]) for g in cls} for cls in classes(product)})
    for k, idempotent in enumerate(idempotents):
        projection = basis[part == k].T @ basis[part == k]
        torch.testing.assert_close(projection, idempotent[product[inverse]], atol=1e-10, rtol=0)
        assert round(n * float(idempotent[0])) == int((part == k).sum()) > 0
        for g in range(1, n, max(1, n // 7)):
            left, right = product[g], product[:, g]
            torch.testing.assert_close(projection[left][:, left], projection, atol=1e-10, rtol=0)
            torch.testing.assert_close(projection[right][:, right], projection, atol=1e-10, rtol=0)
        torch.testing.assert_close(projection[inverse][:, inverse], projection, atol=1e-10, rtol=0)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_parts_are_the_span_of_youngs_matrix_elements(n, draw):
    table = symmetric(n)
    first, idempotents = real_irreps(table.characters)
    basis, part = isotypic_basis(table.product[inverses(table.product)], idempotents)
    vectors = torch.randn(math.factorial(n), 3, generator=draw, dtype=torch.float64)
    power = energy_by_part(basis, part, vectors)
    for k, shape in enumerate(list(partitions(n))[index] for index in first):
        rho = young.matrices(shape)
        elements = rho.reshape(len(rho), -1) * np.sqrt(rho.shape[1] / len(rho))
        expected = elements @ (elements.T @ vectors.numpy())
        kept = keep_part(basis, part, vectors, torch.full((3,), k))
        np.testing.assert_allclose(kept.numpy(), expected, atol=1e-10)
        np.testing.assert_allclose(power[k].numpy(), np.square(expected).sum(0), atol=1e-10)


def test_conjugate_characters_are_joined():
    first, idempotents = real_irreps(alternating(4).characters)
    assert [alternating(4).irreps[index] for index in first] == ["[4]", "[2,2]+", "[3,1]"]
    assert [round(12 * float(value)) for value in idempotents[:, 0]] == [1, 2, 9]


def test_permutations_multiply_right_factor_first():
    table = symmetric(4)
    elements = list(itertools.permutations(range(4)))
    for a, b in itertools.product(range(24), range(24)):
        assert elements[table.product[a, b]] == tuple(elements[a][elements[b][x]] for x in range(4))
    assert table.names[:4] == ("e", "(3 4)", "(2 3)", "(2 3 4)")


@pytest.mark.parametrize(("name", "involutions"), [("Q8", 1), ("Q12", 1), ("D8", 9), ("D3", 3), ("A4", 3)])
def test_groups_with_one_character_table_are_told_apart(name, involutions):
    """Q8 and the dihedral group of eight elements differ in their elements of order 2 alone."""
    product = GROUPS[name]().product
    assert int((product.diagonal() == 0).sum()) - 1 == involutions
