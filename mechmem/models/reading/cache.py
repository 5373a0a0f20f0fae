"""Read-only mapping of activations by point name, the result of `activations`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from mechmem.core.arguments import check
from mechmem.errors import ActivationError, unknown_name


class Activations(Mapping[str, Tensor]):
    """Read-only activations by point name, in the order in which the points first fired.

    A point that fires n times in one forward pass is kept as `name#0 … name#n−1`; asking for it unnumbered is an error.
    A point is listed under the name by which it was asked for; its other names work too. A point that a pattern matched
    but that has no value (it never fired, say) is left out, and asking for it is an error that gives the reason.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        *,
        other_names: Mapping[str, str] | None = None,
        absent: Mapping[str, str] | None = None,
        gradients: Activations | None = None,
    ):
        self._values = dict(values)
        self._other_names = dict(other_names or {})
        self._absent = dict(absent or {})
        self._gradients = gradients

    @property
    def gradients(self) -> Activations:
        """Gradients of the summed loss with respect to each point's value, under the same names and in the same shapes.

        Raises:
            ActivationError: none were asked for.
        """
        if self._gradients is None:
            raise ActivationError("no gradients were cached; ask for them with activations(..., gradients=function)")
        return self._gradients

    @property
    def nbytes(self) -> int:
        """Memory of the values and gradients in bytes; storage shared by several of them counts once."""
        held = [*self._values.values(), *(self._gradients.values() if self._gradients is not None else ())]
        return sum({value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in held}.values())

    def __getitem__(self, name: str) -> Tensor:
        key = self._key(name)
        if key in self._values:
            return self._values[key]
        if key in self._absent:
            raise ActivationError(f"{name!r} {self._absent[key]}")
        numbered = [known for known in self._values if known.rpartition("#")[0] == key]
        if numbered:
            raise ActivationError(f"{name!r} fired {len(numbered)} times; ask for one of {', '.join(numbered)}")
        raise ActivationError(str(unknown_name("cached activation", name, self._values)))

    def _key(self, name: str) -> str:
        check("name", name, str)
        base, numbered, number = name.rpartition("#")
        if numbered and base in self._other_names:
            return f"{self._other_names[base]}#{number}"
        return self._other_names.get(name, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._key(name) in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.items())
        return f"Activations({shapes})"
