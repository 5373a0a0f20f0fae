"""Families of finite groups: elements, products and irreducible characters, all from closed formulas."""

from __future__ import annotations

import cmath
import dataclasses
import itertools
import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Complex, Int
from torch import Tensor

from mechmem.math.irreps import conjugate_partition, diagonal_hooks, partitions, symmetric_character


@dataclasses.dataclass(frozen=True, eq=False)
class GroupTable:
    """Tables of a finite group. Element 0 is the identity, character 0 the trivial one.

    Attributes:
        names: names of the elements.
        product: position of a·b for every a and b. Shape (element, element).
        irreps: names of the irreducible representations over the complex numbers.
        characters: their traces at every element. Shape (irrep, element).
    """

    names: tuple[str, ...]
    product: Int[Tensor, "element element"]
    irreps: tuple[str, ...]
    characters: Complex[Tensor, "irrep element"]


def cyclic(n: int) -> GroupTable:
    """Residues mod n under addition, in order; representation k is j ↦ exp(2πi kj/n)."""
    residue = torch.arange(n)
    names = tuple(map(str, range(n)))
    # (k · j) mod n keeps the angle small, so that the roots of unity are exact to the last bit.
    turns = torch.outer(residue, residue) % n
    return GroupTable(names, (rearrange(residue, "a -> a 1") + residue) % n, names, _roots(turns, n))


def dihedral(n: int, square: int = 0) -> GroupTable:
    """Products r^k s^j of a rotation with r^n = 1 and a second generator with s r s⁻¹ = r⁻¹ and s² = r^square.

    Square 0 gives the dihedral group of 2n elements, square n/2 the generalized quaternion group. Elements are r^k in
    the order of k, then r^k s. Representations of degree 1 are A1 and A2 (r ↦ 1) and, for an even n, B1 and B2
    (r ↦ −1); those of degree 2 are E1, E2, …, where E_k maps r to the rotation by 2πk/n.
    """
    k, j = torch.cartesian_prod(torch.arange(2), torch.arange(n)).flip(1).T
    left, right = rearrange(k, "a -> a 1"), rearrange(j, "a -> a 1")
    turned = (left + (1 - 2 * right) * k + square * right * j) % n
    product = turned + n * ((right + j) % 2)
    rotations = [f"r^{i}" if i > 1 else "r" * i for i in range(n)]
    names = tuple(["e", *rotations[1:], "s", *(f"{r} s" for r in rotations[1:])])

    irreps, rows = [], []
    for sign, letter in ((1, "A"), (-1, "B"))[: 1 + (n % 2 == 0)]:
        # The square of the image of s is the image of r^square.
        root = 1.0 if sign**square == 1 else 1j
        for number in (0, 1):
            irreps.append(f"{letter}{number + 1}")
            rows.append(((1 - 2 * number) * root) ** j.to(torch.complex128) * sign**k)
    for number in range(1, (n + 1) // 2):
        irreps.append(f"E{number}")
        rows.append(2 * _roots(number * k % n, n).real * (1 - j) + 0j)
    return GroupTable(names, product, tuple(irreps), torch.stack(rows))


def symmetric(n: int) -> GroupTable:
    """All permutations of n symbols, in lexicographic order; a·b applies b first.

    Representations are named by the partitions of n, in reverse lexicographic order: [n] is trivial, [n-1,1] acts on
    the vectors of n numbers with sum 0, and [1,…,1] is the sign.
    """
    elements = list(itertools.permutations(range(n)))
    types = [cycle_type(element) for element in elements]
    shapes = list(partitions(n))
    rows = [[symmetric_character(shape, each) for each in types] for shape in shapes]
    return _permutations(elements, tuple(map(_partition_name, shapes)), torch.tensor(rows, dtype=torch.complex128))


def alternating(n: int) -> GroupTable:
    """The even permutations of n symbols, in lexicographic order; a·b applies b first.

    Representations are those of the symmetric group, in which a partition and its conjugate coincide; self-conjugate
    partitions split into two, marked "+" and "-".
    """
    elements = [each for each in itertools.permutations(range(n)) if _is_even(each)]
    types = [cycle_type(element) for element in elements]
    names, rows = [], []
    for shape in partitions(n):
        mirrored = conjugate_partition(shape)
        row = torch.tensor([symmetric_character(shape, each) for each in types], dtype=torch.complex128)
        if shape > mirrored:
            names.append(_partition_name(shape))
            rows.append(row)
        elif shape == mirrored:
            hooks = diagonal_hooks(shape)
            # The two halves differ on one class of the symmetric group, which splits into two (Frobenius 1901).
            gap = cmath.sqrt((-1) ** ((n - len(hooks)) // 2) * math.prod(hooks))
            gaps = [_side(element) * gap if each == hooks else 0 for element, each in zip(elements, types, strict=True)]
            gaps = torch.tensor(gaps, dtype=torch.complex128)
            names += [f"{_partition_name(shape)}+", f"{_partition_name(shape)}-"]
            rows += [(row + gaps) / 2, (row - gaps) / 2]
    return _permutations(elements, tuple(names), torch.stack(rows))


def direct_product(first: GroupTable, second: GroupTable) -> GroupTable:
    """Pairs (g, h) in the order of g, then h, multiplied componentwise; likewise representations, named i×j."""
    n = len(second.names)
    product = rearrange(first.product, "a b -> a 1 b 1") * n + rearrange(second.product, "a b -> 1 a 1 b")
    characters = torch.einsum("ig,jh->ijgh", first.characters, second.characters)
    return GroupTable(
        tuple(f"{g}, {h}" for g in first.names for h in second.names),
        rearrange(product, "a c b d -> (a c) (b d)"),
        tuple(f"{i}×{j}" for i in first.irreps for j in second.irreps),
        rearrange(characters, "i j g h -> (i j) (g h)"),
    )


def cycles(permutation: Sequence[int]) -> list[list[int]]:
    """Return the cycles of a permutation of 0 … n − 1, longest first, including fixed symbols."""
    found, seen = [], set()
    for start in range(len(permutation)):
        cycle, symbol = [], start
        while symbol not in seen:
            seen.add(symbol)
            cycle.append(symbol)
            symbol = permutation[symbol]
        if cycle:
            found.append(cycle)
    return sorted(found, key=len, reverse=True)


def cycle_type(permutation: Sequence[int]) -> tuple[int, ...]:
    """Return the lengths of a permutation's cycles, longest first."""
    return tuple(map(len, cycles(permutation)))


def _permutations(
    elements: list[tuple[int, ...]], irreps: tuple[str, ...], characters: Complex[Tensor, "irrep element"]
) -> GroupTable:
    images = torch.tensor(elements)
    n = images.shape[1]
    # Read as digits, permutations in lexicographic order are ascending numbers.
    digits = n ** torch.arange(n - 1, -1, -1)
    # a·b takes x to a(b(x)).
    product = torch.searchsorted((images * digits).sum(1), (images[:, images] * digits).sum(-1))
    return GroupTable(tuple(map(_cycle_name, elements)), product, irreps, characters)


def _cycle_name(permutation: Sequence[int]) -> str:
    moved = [cycle for cycle in cycles(permutation) if len(cycle) > 1]
    return "".join("(" + " ".join(str(symbol + 1) for symbol in cycle) + ")" for cycle in moved) or "e"


def _partition_name(partition: Sequence[int]) -> str:
    return f"[{','.join(map(str, partition))}]"


def _is_even(permutation: Sequence[int]) -> bool:
    return (len(permutation) - len(cycles(permutation))) % 2 == 0


def _side(permutation: Sequence[int]) -> int:
    """Return the half of its class (1 or −1) of a permutation whose cycles have distinct odd lengths.

    Its cycles, concatenated, are the images of 0 … n − 1 under a permutation that conjugates a fixed member of the
    class into it. Rotating a cycle of odd length changes that permutation only by an even one.
    """
    return 1 if _is_even([symbol for cycle in cycles(permutation) for symbol in cycle]) else -1


def _roots(turns: Int[Tensor, " *place"], n: int) -> Complex[Tensor, " *place"]:
    """Return exp(2πi turns/n)."""
    angle = 2 * torch.pi * turns.double() / n
    return torch.complex(angle.cos(), angle.sin())
