"""Finite groups by name, and irreducible representations in the place of frequencies."""

from __future__ import annotations

import dataclasses
import functools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.group_contract import Group
from mechmem.math import irreps
from mechmem.math.small_groups import GroupTable, alternating, cyclic, dihedral, direct_product, symmetric
from mechmem.tasks.group_names import factors, modulus
from mechmem.tasks.groups import CyclicGroup

_FAMILIES = {
    "S": symmetric,
    "A": alternating,
    "Z": cyclic,
    "D": dihedral,
    "Q": lambda n: dihedral(n // 2, n // 4),
}


@dataclasses.dataclass(frozen=True)
class FiniteGroup:
    """A finite group, in which a frequency is an irreducible representation.

    Frequency k is the k-th nontrivial irreducible representation over the real numbers: a complex one and its conjugate
    count as one, as a cosine and a sine do. They are numbered by the degree of the complex representation, then in the
    order of the family (S and A: partitions in reverse lexicographic order; D and Q: A1, A2, B1, B2, E1, E2, …; Z: k;
    products: by their first factor, then the next). The part of a vector at a frequency is what lies in the span of the
    representation's matrix elements. It is the same whether the symbols stand for elements or for their inverses, and
    goes along when all of them are multiplied from the left or from the right: so one projection serves the three
    vectors of c = a·b (Chughtai et al. 2023, arXiv 2302.03025).

    Symbols are the elements in the order of `element_names`, the identity first: permutations in lexicographic order,
    r^k before r^k s in D and Q, pairs in the order of their first element.

    Attributes:
        name: a name as in `mechmem.tasks.group_names`, such as "S5" or "D5xZ2".

    Raises:
        ConfigError: there is no group of this name.
    """

    name: str

    def __post_init__(self) -> None:
        """Validate."""
        factors(self.name)

    def __str__(self) -> str:
        return self.name

    @functools.cached_property
    def _table(self) -> GroupTable:
        return functools.reduce(direct_product, (_FAMILIES[family](n) for family, n in factors(self.name)))

    @functools.cached_property
    def _parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """First character of each real representation; an orthonormal basis in rows; the representation of each row."""
        first, idempotents = irreps.real_irreps(self._table.characters)
        return first, *irreps.isotypic_basis(self.product[self.inverse], idempotents)

    @property
    def element_names(self) -> tuple[str, ...]:
        """What each element is called: cycles of the symbols 1 … n, words in r and s, residues."""
        return self._table.names

    @property
    def product(self) -> Int[Tensor, "element element"]:
        """Position of a·b for every a and b."""
        return self._table.product

    @functools.cached_property
    def inverse(self) -> torch.Tensor:
        """Position of every element's inverse."""
        return (self.product == 0).long().argmax(1)

    @property
    def elements(self) -> Int[Tensor, " element"]:
        """Symbols in the order of the group, which is their own."""
        return torch.arange(len(self.product))

    @property
    def outside(self) -> Int[Tensor, " none"]:
        """Symbols with no place in the group: none."""
        return torch.arange(0)

    @property
    def n_frequencies(self) -> int:
        """How many nontrivial irreducible representations there are over the real numbers."""
        return len(self._parts[0]) - 1

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the representations 1 … n_frequencies: [3,2] for permutations, E1 for D and Q, 2 for Z, [2,1]×1."""
        return tuple(self._table.irreps[first] for first in self._parts[0][1:])

    @property
    def degrees(self) -> Int[Tensor, " freq"]:
        """Degree of the complex representation at each frequency."""
        return self._table.characters[self._parts[0][1:], 0].real.round().long()

    @property
    def multiplicity(self) -> Int[Tensor, " freq"]:
        """Dimension of each part, the constant's first: d² at degree d, or 2d² where two conjugates make one part."""
        return torch.bincount(self._parts[2])

    def power(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector in each nontrivial representation; with the constant's they sum to its squared norm."""
        return self.spectrum(vectors)[1:]

    def spectrum(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector's constant, then in each nontrivial representation."""
        _, basis, part = self._parts
        return irreps.energy_by_part(basis.to(vectors), part.to(vectors.device), vectors)

    def keep(
        self, vectors: Float[Tensor, "symbol neuron"], freq: Int[Tensor, " neuron"]
    ) -> Float[Tensor, "symbol neuron"]:
        """Each vector's part in its own representation.

        Raises:
            ValueError: a frequency lies outside 1 … n_frequencies.
        """
        if len(freq) and not (1 <= int(freq.min()) and int(freq.max()) <= self.n_frequencies):
            raise ValueError(
                f"frequencies must lie in 1 … {self.n_frequencies}, got {int(freq.min())} … {int(freq.max())}"
            )
        _, basis, part = self._parts
        return irreps.keep_part(basis.to(vectors), part.to(vectors.device), vectors, freq.to(vectors.device))


def group_named(name: str) -> Group:
    """Return the group of a name: a `CyclicGroup` for "Zn" alone, where a frequency has a phase; else a `FiniteGroup`.

    Raises:
        ConfigError: there is no group of this name.
    """
    n = modulus(name)
    return FiniteGroup(name) if n is None else CyclicGroup(n)
