"""What mechmem asks of the group that a task's symbols form."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Group(Protocol):
    """The group that a task's symbols form; what "frequency" means is its business (an irrep, in general)."""

    @property
    def n_frequencies(self) -> int:
        """How many nontrivial frequencies a real vector over the symbols has; numbered from 1."""
        ...

    def power(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector at frequencies 1 … n_frequencies."""
        ...

    def spectrum(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector's constant (row 0), then at frequencies 1 … n_frequencies."""
        ...

    @property
    def multiplicity(self) -> Int[Tensor, " freq"]:
        """How many coefficients of the transform make up the constant (1) and each frequency (2, or 1 at Nyquist).

        Of an irrep of degree d these are d², and 2d² of two complex conjugates together.
        """
        ...

    def keep(
        self, vectors: Float[Tensor, "symbol neuron"], freq: Int[Tensor, " neuron"]
    ) -> Float[Tensor, "symbol neuron"]:
        """Each vector's part at its own frequency, 1 … n_frequencies (0 would be the trivial one)."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """What the frequencies 1 … n_frequencies are called: their numbers, or names of representations."""
        ...

    @property
    def outside(self) -> Int[Tensor, " symbol"]:
        """Symbols that have no place in the group (0 under multiplication)."""
        ...
