"""Irreducible representations of finite groups for filtration: characters and isotypic projections.

The functions on a group split into one part per irreducible representation ρ, spanned by the matrix elements of ρ. The
projection onto it is the convolution with e(g) = (d/|G|) χ_ρ(g). Because e is a class function, characters suffice, and
the projection commutes with multiplication of the argument from either side: there are no separate left and right
versions. A representation and its complex conjugate form one part of the real functions, as a cosine and a sine do, and
that part is the same for f(g) and f(g⁻¹).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import torch
from einops import rearrange
from jaxtyping import Complex, Float, Int
from torch import Tensor


def partitions(n: int, largest: int | None = None) -> Iterator[tuple[int, ...]]:
    """Yield the partitions of n in reverse lexicographic order: (n), (n − 1, 1), …, (1, …, 1)."""
    if n == 0:
        yield ()
    for first in range(min(n, n if largest is None else largest), 0, -1):
        for rest in partitions(n - first, first):
            yield (first, *rest)


def conjugate_partition(partition: Sequence[int]) -> tuple[int, ...]:
    """Return the partition with the transposed Young diagram."""
    return tuple(sum(part > row for part in partition) for row in range(partition[0]))


def diagonal_hooks(partition: Sequence[int]) -> tuple[int, ...]:
    """Return the hook lengths on the diagonal of a Young diagram."""
    mirrored = conjugate_partition(partition)
    return tuple(part + mirrored[row] - 2 * row - 1 for row, part in enumerate(partition) if part > row)


def symmetric_character(partition: Sequence[int], cycles: Sequence[int]) -> int:
    """Return the character of the symmetric group's representation [partition] at permutations of this cycle type.

    It uses the Murnaghan–Nakayama rule: rim hooks as long as the cycles are removed from the Young diagram in turn.
    """
    rows = len(partition)
    # First-column hook lengths: removing a rim hook lowers one of them.
    return _hooks_removed(tuple(part + rows - 1 - row for row, part in enumerate(partition)), tuple(cycles))


@functools.cache
def _hooks_removed(column: tuple[int, ...], cycles: tuple[int, ...]) -> int:
    if not cycles:
        return 1
    total = 0
    for hook in column:
        lower = hook - cycles[0]
        if lower >= 0 and lower not in column:
            sign = (-1) ** sum(lower < other < hook for other in column)
            left = tuple(lower if other == hook else other for other in column)
            total += sign * _hooks_removed(left, cycles[1:])
    return total


def real_irreps(
    characters: Complex[Tensor, "irrep element"], identity: int = 0
) -> tuple[Int[Tensor, " freq"], Float[Tensor, "freq element"]]:
    """Join complex-conjugate irreducible characters, and return the projections onto the real parts.

    Args:
        characters: all irreducible characters, the trivial one first, at every element.
        identity: position of the identity element.

    Returns:
        - the first character of each real part, by degree and then by position, so that the trivial one comes first;
        - its central idempotent e(g): convolution with it projects real functions onto the part.
    """
    degree = characters[:, identity].real
    # Rows are orthogonal, so each overlaps with the conjugate of exactly one row.
    conjugate = (characters @ rearrange(characters, "irrep element -> element irrep")).abs().argmax(1)
    number = torch.arange(len(characters))
    first = number[number <= conjugate]
    first = first[torch.argsort(degree[first].round(), stable=True)]
    copies = torch.where(conjugate[first] == first, 1.0, 2.0).to(degree)
    weight = rearrange(copies * degree[first], "freq -> freq 1")
    return first, weight * characters[first].real / characters.shape[1]


def isotypic_basis(
    quotient: Int[Tensor, "element element"], idempotents: Float[Tensor, "freq element"]
) -> tuple[Float[Tensor, "row element"], Int[Tensor, " row"]]:
    """Return an orthonormal basis of the real functions on a group, split by representation.

    Args:
        quotient: position of a⁻¹·b for every a and b.
        idempotents: central idempotents of all real parts (see `real_irreps`), that of the constant first.

    Returns:
        - the basis, in rows, sorted by part; within a part the choice is arbitrary;
        - the part of each row.
    """
    number = torch.arange(len(idempotents), dtype=idempotents.dtype)
    # Eigenvalue k on the k-th part: integers, so that eigenspaces are well separated.
    values, vectors = torch.linalg.eigh(torch.einsum("k,kg->g", number, idempotents)[quotient])
    basis = rearrange(vectors, "element row -> row element").contiguous()
    # Trained vectors have large constants, whose rounding must not leak into other parts.
    basis[0] = len(basis) ** -0.5
    basis[1:] -= basis[1:].mean(1, keepdim=True)
    return basis, values.round().long()


def energy_by_part(
    basis: Float[Tensor, "row element"], part: Int[Tensor, " row"], vectors: Float[Tensor, " element *rest"]
) -> Float[Tensor, " freq *rest"]:
    """Return each vector's energy in each part; the sum over parts is its squared norm."""
    squared = torch.tensordot(basis, vectors, dims=1).square_()
    found = squared.new_zeros(int(part.max()) + 1, *vectors.shape[1:])
    return found.index_add_(0, part, squared)


def keep_part(
    basis: Float[Tensor, "row element"],
    part: Int[Tensor, " row"],
    vectors: Float[Tensor, "element neuron"],
    wanted: Int[Tensor, " neuron"],
) -> Float[Tensor, "element neuron"]:
    """Project each vector onto its own part."""
    own = rearrange(part, "row -> row 1") == wanted
    return basis.T @ (basis @ vectors).mul_(own)
