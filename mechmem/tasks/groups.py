"""The groups that a task's symbols form, and what a frequency is in them."""

from __future__ import annotations

import dataclasses
import functools

import sympy.ntheory
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.errors import ConfigError
from mechmem.math import fourier
from mechmem.tasks.config import is_prime


@dataclasses.dataclass(frozen=True)
class CyclicGroup:
    """A cyclic group on the residues mod p: all of them under addition, the nonzero ones under multiplication.

    Attributes:
        p: the modulus, which is the number of symbols.
        multiplicative: whether the group is (Z/p)*, in the order of the powers of its smallest generator.

    Raises:
        ConfigError: p is not prime, and so not all nonzero residues can be multiplied back.
    """

    p: int
    multiplicative: bool = False

    def __post_init__(self) -> None:
        """Validate."""
        if self.multiplicative and not is_prime(self.p):
            raise ConfigError(f"the nonzero residues mod p form a group under multiplication for prime p, got {self.p}")

    @functools.cached_property
    def elements(self) -> torch.Tensor:
        """Residues in the order of the group: position i holds the generator's i-th multiple (or power)."""
        if not self.multiplicative:
            return torch.arange(self.p)
        root = sympy.ntheory.primitive_root(self.p)
        assert root is not None
        return torch.tensor([pow(int(root), i, self.p) for i in range(self.p - 1)])

    @property
    def outside(self) -> torch.Tensor:
        """Residues with no place in the group: 0 under multiplication, none under addition."""
        return torch.arange(1) if self.multiplicative else torch.arange(0)

    @functools.cached_property
    def logarithm(self) -> torch.Tensor:
        """Position of each residue in the group; −1 for those outside."""
        positions = torch.full((self.p,), -1)
        positions[self.elements] = torch.arange(len(self.elements))
        return positions

    @property
    def n_frequencies(self) -> int:
        """Frequencies 1 … n // 2 for a group of n elements."""
        return len(self.elements) // 2

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the frequencies, which are their numbers."""
        return tuple(str(k) for k in range(1, self.n_frequencies + 1))

    def power(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector at each frequency (see `fourier.power`); symbols outside the group do not count."""
        return fourier.power(self._ordered(vectors))

    def spectrum(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector's constant, then at each frequency; symbols outside the group do not count."""
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
        """Bring the symbols into the group's order; under addition they stand in it, and nothing is copied."""
        return vectors[self.elements.to(vectors.device)] if self.multiplicative else vectors
