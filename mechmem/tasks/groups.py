"""Groups of symbols and their frequencies: cyclic groups, and finite ones by irreducible representations."""

from __future__ import annotations

import dataclasses
import functools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.group import Group
from mechmem.errors import ConfigError
from mechmem.math import fourier, irreps
from mechmem.math.small_groups import GroupTable, alternating, cyclic, dihedral, direct_product, symmetric
from mechmem.tasks.config import is_prime
from mechmem.tasks.group_names import factors, modulus

_FAMILIES = {
    "S": symmetric,
    "A": alternating,
    "Z": cyclic,
    "D": dihedral,
    "Q": lambda n: dihedral(n // 2, n // 4),
}


@dataclasses.dataclass(frozen=True)
class CyclicGroup:
    """A cyclic group on the residues mod p: all of them under addition, the nonzero ones under multiplication.

    Attributes:
        p: the modulus, which is the number of symbols.
        multiplicative: whether the group is (Z/p)*, in the order of the powers of its smallest generator.

    Raises:
        ConfigError: p is not prime, so not all nonzero residues have an inverse.
    """

    p: int
    multiplicative: bool = False

    def __post_init__(self) -> None:
        if self.multiplicative and not is_prime(self.p):
            raise ConfigError(f"nonzero residues mod p form a multiplicative group only for prime p, got {self.p}")

    @functools.cached_property
    def elements(self) -> torch.Tensor:
        """Residues in the order of the group: the generator's i-th multiple (or power) is at position i."""
        if not self.multiplicative:
            return torch.arange(self.p)
        from sympy.ntheory import primitive_root  # slow to load, and only products of residues need it

        root = primitive_root(self.p)
        assert root is not None
        return torch.tensor([pow(int(root), i, self.p) for i in range(self.p - 1)])

    @property
    def outside(self) -> torch.Tensor:
        """Residues outside the group: 0 under multiplication, none under addition."""
        return torch.arange(1) if self.multiplicative else torch.arange(0)

    @functools.cached_property
    def logarithm(self) -> torch.Tensor:
        """Position of each residue in the group; −1 for residues outside."""
        positions = torch.full((self.p,), -1)
        positions[self.elements] = torch.arange(len(self.elements))
        return positions

    @property
    def n_frequencies(self) -> int:
        """Frequencies 1 … n // 2 for a group of n elements."""
        return len(self.elements) // 2

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the frequencies (their numbers)."""
        return tuple(str(k) for k in range(1, self.n_frequencies + 1))

    def power(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector at each frequency (see `fourier.power`), ignoring symbols outside the group."""
        return fourier.power(self._ordered(vectors))

    def spectrum(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector's constant, then at each frequency, ignoring symbols outside the group."""
        ordered = self._ordered(vectors)
        constant = ordered.sum(0, keepdim=True).square() / len(ordered)
        return torch.cat([constant, fourier.power(ordered)])

    @property
    def multiplicity(self) -> Int[Tensor, " freq"]:
        """1 for the constant, 2 for a frequency (a cosine and a sine), 1 for the Nyquist frequency of an even order."""
        n = len(self.elements)
        k = torch.arange(self.n_frequencies + 1)
        return torch.where((2 * k) % n == 0, 1, 2)

    def keep(
        self, vectors: Float[Tensor, "symbol neuron"], freq: Int[Tensor, " neuron"]
    ) -> Float[Tensor, "symbol neuron"]:
        """Each vector's part at its own frequency; zero on symbols outside the group."""
        kept = fourier.keep_frequency(self._ordered(vectors), freq)
        if not self.multiplicative:
            return kept
        scattered = torch.zeros_like(vectors)
        scattered[self.elements.to(vectors.device)] = kept
        return scattered

    def phase(self, vectors: Float[Tensor, "symbol neuron"], freq: Int[Tensor, " neuron"]) -> Float[Tensor, " neuron"]:
        """Phase of each vector at its own frequency, in radians."""
        return fourier.phase_at(self._ordered(vectors), freq)

    def _ordered(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " element *rest"]:
        """Return the symbols in the group's order; under addition they already are, and nothing is copied."""
        return vectors[self.elements.to(vectors.device)] if self.multiplicative else vectors


@dataclasses.dataclass(frozen=True)
class FiniteGroup:
    """A finite group, in which a frequency is an irreducible representation.

    Frequency k is the k-th nontrivial irreducible representation over the real numbers: a complex one and its conjugate
    count as one, like a cosine and a sine. They are numbered by the degree of the complex representation, then in the
    order of the family (S and A: partitions in reverse lexicographic order; D and Q: A1, A2, B1, B2, E1, E2, …; Z: k;
    products: by their first factor, then the next). The part of a vector at a frequency is its projection onto the span
    of the representation's matrix elements. The projection is the same whether symbols represent elements or their
    inverses, and commutes with multiplication of all symbols from the left or right: one projection serves the three
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
        """Names of the elements: cycles of the symbols 1 … n, words in r and s, residues."""
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
        """Symbols in the order of the group, which is their usual order."""
        return torch.arange(len(self.product))

    @property
    def outside(self) -> Int[Tensor, " none"]:
        """Symbols outside the group: none."""
        return torch.arange(0)

    @property
    def n_frequencies(self) -> int:
        """Number of nontrivial irreducible representations over the real numbers."""
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
        """Dimension of each part, the constant's first: d² at degree d, or 2d² if two conjugates form one part."""
        return torch.bincount(self._parts[2])

    def power(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector in each nontrivial representation; with the constant they sum to its squared norm."""
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
    """Return the group of a name: a `CyclicGroup`, whose frequencies have phases, for "Zn"; otherwise a `FiniteGroup`.

    Raises:
        ConfigError: there is no group of this name.
    """
    n = modulus(name)
    return FiniteGroup(name) if n is None else CyclicGroup(n)
