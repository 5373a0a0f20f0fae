"""Interface of the group that a task's symbols form."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Group(Protocol):
    """The group that a task's symbols form; it defines what a "frequency" is (in general an irrep)."""

    @property
    def n_frequencies(self) -> int:
        """Number of nontrivial frequencies of a real vector over the symbols; numbered from 1."""
        ...

    def power(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector at frequencies 1 … n_frequencies."""
        ...

    def spectrum(self, vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
        """Energy of each vector's constant (row 0), then at frequencies 1 … n_frequencies."""
        ...

    @property
    def multiplicity(self) -> Int[Tensor, " freq"]:
        """Number of transform coefficients of the constant (1) and of each frequency (2, or 1 at Nyquist).

        An irrep of degree d has d², two complex conjugate ones together 2d².
        """
        ...

    def keep(
        self, vectors: Float[Tensor, "symbol neuron"], freq: Int[Tensor, " neuron"]
    ) -> Float[Tensor, "symbol neuron"]:
        """Each vector's component at its own frequency, 1 … n_frequencies (0 would be the trivial one)."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the frequencies 1 … n_frequencies: their numbers, or names of representations."""
        ...

    @property
    def outside(self) -> Int[Tensor, " symbol"]:
        """Symbols that are not in the group (0 under multiplication)."""
        ...
