"""Running reductions over examples, and stores that keep or reduce activations chunk by chunk."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from mechmem.core.arguments import check_methods, checked
from mechmem.core.in_words import shown
from mechmem.errors import ActivationError, ConfigError
from mechmem.models.hooks.running import full_precision

T = TypeVar("T")


class Reduction(abc.ABC):
    """A running reduction over examples: memory does not grow with the data."""

    def __init_subclass__(cls) -> None:
        """Have methods refuse arguments of another type."""
        super().__init_subclass__()
        check_methods(cls)

    @abc.abstractmethod
    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Process one chunk of one point's activations. The tensor is the model's own: read it, never keep it."""

    @abc.abstractmethod
    def result(self) -> Tensor:
        """Return the reduced value."""


def _chunk(values: Tensor, one: Tensor | None = None) -> Tensor:
    """Return a chunk, or refuse it if it has no axis of examples, or its examples are not of the shape of `one`."""
    if not values.ndim:
        raise ActivationError("a chunk must have an axis of examples, got a single number")
    if one is not None and values.shape[1:] != one.shape:
        raise ActivationError(
            f"an example has shape {tuple(values.shape[1:])} in this chunk and {tuple(one.shape)} in those before"
        )
    return values


def made_reduction(make: Callable[[], Reduction]) -> Reduction:
    """Return a reduction without values.

    Raises:
        ConfigError: `make` cannot be called without arguments, or returns something else.
    """
    wanted = "reduce is called to create a reduction, like the class mm.Mean"
    try:
        made = make()
    except TypeError as error:
        raise ConfigError(f"{wanted}; got {shown(make)}") from error
    if not isinstance(made, Reduction):
        raise ConfigError(f"{wanted}; {shown(make)} returns {shown(made)}")
    return made


class Mean(Reduction):
    """Mean over examples; each chunk is summed in its own precision (at least float32), the chunks in float64."""

    @checked
    def __init__(self):
        self.n = 0
        self._sum: Tensor | None = None

    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Add a chunk."""
        total = _chunk(values, self._sum).sum(0).double()
        self._sum = total if self._sum is None else self._sum + total
        self.n += len(values)

    def result(self) -> Float[Tensor, ...]:
        """Return the mean."""
        if self._sum is None:
            raise ActivationError("no example was seen")
        return self._sum / self.n


class Variance(Reduction):
    """Population variance over examples, by pairwise merging of chunk moments (Chan et al. 1979), in float64."""

    @checked
    def __init__(self):
        self.n = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Merge a chunk."""
        chunk = _chunk(values, self._mean).double()
        n, mean = len(chunk), chunk.mean(0)
        squares = (chunk - mean).square().sum(0)
        if self._mean is None or self._squares is None:
            self.n, self._mean, self._squares = n, mean, squares
            return
        total = self.n + n
        shift = mean - self._mean
        self._squares = self._squares + squares + shift.square() * (self.n * n / total)
        self._mean = self._mean + shift * (n / total)
        self.n = total

    def result(self) -> Float[Tensor, ...]:
        """Return the variance."""
        if self._squares is None:
            raise ActivationError("no example was seen")
        return self._squares / self.n


class Gram(Reduction):
    """Uncentred second moments Σ h hᵀ over examples, of activations flattened to (example, feature), in float64."""

    @checked
    def __init__(self):
        self._sum: Tensor | None = None

    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Add a chunk."""
        first = None if self._sum is None else torch.empty(len(self._sum))
        kept = _chunk(values)
        flat = _chunk(kept.reshape(len(kept), -1), first).double()
        gram = flat.T @ flat
        self._sum = gram if self._sum is None else self._sum + gram

    def result(self) -> Float[Tensor, "feature feature"]:
        """Return the matrix."""
        if self._sum is None:
            raise ActivationError("no example was seen")
        return self._sum


class Firings:
    """Counts how often each point fires in a chunk, and checks that the count is the same in every chunk."""

    def __init__(self):
        self._fired: dict[str, int] = {}
        self._expected: dict[str, int] | None = None

    def start(self) -> None:
        """Begin a chunk."""
        self._fired = {}

    def count(self, name: str) -> str:
        """Record a firing of a point and return its numbered name, `name#i`."""
        times = self._fired.get(name, 0)
        self._fired[name] = times + 1
        return f"{name}#{times}"

    def end(self) -> None:
        """Finish a chunk.

        Raises:
            ActivationError: a point fired more or less often than before.
        """
        before = self._fired if self._expected is None else self._expected
        changed = [name for name in {**before, **self._fired} if self._fired.get(name, 0) != before.get(name, 0)]
        if changed:
            name = changed[0]
            raise ActivationError(
                f"{name!r} fired {self._fired.get(name, 0)} times in one chunk and {before.get(name, 0)} in another"
            )
        self._expected = self._fired

    def __contains__(self, name: str) -> bool:
        return name in self._fired

    def of(self, names: Iterable[str]) -> list[str]:
        """Return the firings of some points, numbered if a point fired several times."""
        times = {name: self._fired.get(name, 0) for name in names}
        return list(self.numbered({f"{name}#{i}": None for name, n in times.items() for i in range(n)}))

    def numbered(self, values: Mapping[str, T]) -> dict[str, T]:
        """Drop the number from the names of points that fired once."""
        once = {name for name, times in (self._expected or {}).items() if times == 1}
        plain = ((key.rpartition("#")[0], key) for key in values)
        return {name if name in once else key: values[key] for name, key in plain}


class Store(abc.ABC):
    """Store that receives values chunk by chunk.

    Args:
        device: device of the results.
        dtype: dtype to which floating-point results are cast; None to leave them unchanged.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype | None):
        self._device = device
        self._dtype = dtype

    def _cast(self, value: Tensor) -> torch.dtype:
        return self._dtype if self._dtype is not None and value.is_floating_point() else value.dtype

    @abc.abstractmethod
    def put(self, key: str, block: slice, value: Tensor) -> None:
        """Add one chunk of one firing, one value per example. The tensor is the model's own."""

    @abc.abstractmethod
    def nbytes(self) -> int:
        """Return the size of the results in bytes, estimated from the first chunk."""

    @abc.abstractmethod
    def settle(self) -> None:
        """Allocate memory for every example, once the first chunk has shown the shapes."""

    @abc.abstractmethod
    def results(self) -> dict[str, Tensor]:
        """Return the results by firing."""


class Keeping(Store):
    """Copies every chunk into one tensor per firing.

    Args:
        n: number of examples.
        device: device of the tensors.
        dtype: dtype to which floating-point values are cast; None to leave them unchanged.
    """

    def __init__(self, n: int, device: torch.device, dtype: torch.dtype | None):
        super().__init__(device, dtype)
        self._n = n
        self._values: dict[str, Tensor] = {}
        self._settled = False

    def put(self, key: str, block: slice, value: Tensor) -> None:
        """Copy the chunk."""
        if not self._settled:
            self._values[key] = self._empty(block.stop - block.start, value)
        # A firing beyond those of the first chunk has no tensor; it is an error at the end of this chunk.
        if key in self._values:
            self._values[key][block].copy_(value)

    def _empty(self, rows: int, like: Tensor) -> Tensor:
        return torch.empty((rows, *like.shape[1:]), dtype=self._cast(like), device=self._device)

    def nbytes(self) -> int:
        """Return the size of all examples in bytes."""
        return sum(value[:1].numel() * value.element_size() for value in self._values.values()) * self._n

    def settle(self) -> None:
        """Allocate memory for all examples; a first chunk that is the only one stays as it is."""
        for key, first in self._values.items():
            if len(first) < self._n:
                self._values[key] = self._empty(self._n, first)
                self._values[key][: len(first)] = first
        self._settled = True

    def results(self) -> dict[str, Tensor]:
        """Return the tensors."""
        return self._values


class Reducing(Store):
    """Feeds every chunk to a reduction per firing.

    Args:
        make: creates a reduction.
        device: device of its result.
        dtype: dtype to which a floating-point result is cast; None to leave it unchanged.
    """

    def __init__(self, make: Callable[[], Reduction], device: torch.device, dtype: torch.dtype | None):
        super().__init__(device, dtype)
        self._make = make
        self._running: dict[str, Reduction] = {}

    def put(self, key: str, block: slice, value: Tensor) -> None:
        """Update the reduction."""
        if key not in self._running:
            self._running[key] = made_reduction(self._make)
        self._running[key].update(full_precision(value) if value.is_floating_point() else value)

    def nbytes(self) -> int:
        """Return the size of the reduced values in bytes."""
        return sum(value.numel() * value.element_size() for _, value in self._reduced())

    def settle(self) -> None:
        """Do nothing: the reduced values do not grow."""

    def results(self) -> dict[str, Tensor]:
        """Return the reduced values."""
        return dict(self._reduced())

    def _reduced(self) -> Iterator[tuple[str, Tensor]]:
        for key, running in self._running.items():
            value = running.result()
            if not isinstance(value, Tensor):
                raise ActivationError(f"result of {type(running).__name__} must return a tensor, got {shown(value)}")
            yield key, value.to(self._device, self._cast(value))
