"""The one door into a model: names of hook points in, read-only activations out.

Values are detached and cloned, so that nothing the model does later can change them, and the result holds no model.
With a reduction the data streams through in chunks and only the reduced values are kept.
"""

from __future__ import annotations

import abc
import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechmem.contracts import Subject
from mechmem.errors import ActivationError, ConfigError, unknown_name
from mechmem.math.blocks import blocks
from mechmem.models.forward import block_rows, device_of, evaluating, full_precision


class Reduction(abc.ABC):
    """A running reduction over examples: memory does not grow with the data."""

    @abc.abstractmethod
    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Take in one chunk of one point's activations. The tensor is the model's own: read it, never keep it."""

    @abc.abstractmethod
    def result(self) -> Tensor:
        """Return the reduced value."""


class Mean(Reduction):
    """Mean over examples; a chunk is summed in its own precision (at least float32), chunks in float64."""

    def __init__(self):
        self.n = 0
        self._sum: Tensor | None = None

    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Add a chunk."""
        total = values.sum(0).double()
        self._sum = total if self._sum is None else self._sum + total
        self.n += len(values)

    def result(self) -> Float[Tensor, ...]:
        """Return the mean."""
        if self._sum is None:
            raise ActivationError("no example was seen")
        return self._sum / self.n


class Variance(Reduction):
    """Population variance over examples, by pairwise merging of chunk moments (Chan et al. 1979), in float64."""

    def __init__(self):
        self.n = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Merge a chunk."""
        chunk = values.double()
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

    def __init__(self):
        self._sum: Tensor | None = None

    def update(self, values: Shaped[Tensor, "example ..."]) -> None:
        """Add a chunk."""
        flat = values.flatten(1).double()
        gram = flat.T @ flat
        self._sum = gram if self._sum is None else self._sum + gram

    def result(self) -> Float[Tensor, "feature feature"]:
        """Return the matrix."""
        if self._sum is None:
            raise ActivationError("no example was seen")
        return self._sum


class Activations(Mapping[str, Tensor]):
    """Read-only activations by point name, in the order in which the points first fired.

    A point that fires n times in one forward pass is kept as `name#0 … name#n−1`; asking for it unnumbered is an error.
    """

    def __init__(self, values: Mapping[str, Tensor]):
        self._values = dict(values)

    def __getitem__(self, name: str) -> Tensor:
        if name in self._values:
            return self._values[name]
        numbered = [key for key in self._values if key.rpartition("#")[0] == name]
        if numbered:
            raise ActivationError(f"{name!r} fired {len(numbered)} times; ask for one of {', '.join(numbered)}")
        raise ActivationError(str(unknown_name("cached activation", name, self._values)))

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.items())
        return f"Activations({shapes})"


def activations(
    subject: Subject,
    points: str | Sequence[str] = "*",
    ids: Int[Tensor, " example"] | None = None,
    *,
    reduce: Callable[[], Reduction] | None = None,
    chunk: int | None = None,
) -> Activations:
    """Run a subject's model over examples and return what its hook points held.

    Args:
        subject: the model and its task. Any module with `HookPoint` submodules will do.
        points: names of hook points, or patterns such as "hook_*"; "*" for all.
        ids: which examples, in which order; the training set by default.
        reduce: makes a running reduction per point (`Mean`, `Variance`, `Gram`, or your own); without one every
            example's value is kept, on the CPU.
        chunk: examples per forward pass; by default as many as stay in cache.

    Raises:
        ConfigError: `ids` is not a list of ids.
        UnknownNameError: a name or pattern matches no hook point, or an id is not one of the task's.
        ActivationError: a point did not fire, or fired a different number of times from chunk to chunk.
    """
    model, task = subject.model, subject.task
    ids = task.train_ids if ids is None else ids
    if not isinstance(ids, Tensor) or ids.ndim != 1 or ids.dtype not in (torch.int64, torch.int32) or not len(ids):
        raise ConfigError("ids must be a tensor of at least one example id, in one dimension")
    task.rows(ids)
    hooks = _matching(model, [points] if isinstance(points, str) else points)
    sink = _Reducing(reduce) if reduce is not None else _Keeping(len(ids))
    device = device_of(model)
    handles = [hook.register_forward_hook(sink.hook(name)) for name, hook in hooks.items()]
    try:
        with torch.no_grad(), evaluating(model):
            for block in blocks(len(ids), chunk or block_rows(model)):
                sink.start(block)
                model(task.batch(ids[block])[0].to(device))
                sink.end(hooks)
    finally:
        for handle in handles:
            handle.remove()
    return Activations(sink.results())


def hook_points(model: nn.Module) -> dict[str, HookPoint]:
    """Return the model's hook points by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, HookPoint)}


def _matching(model: nn.Module, points: Sequence[str]) -> dict[str, HookPoint]:
    found = hook_points(model)
    chosen: dict[str, HookPoint] = {}
    for point in points:
        matched = {name: hook for name, hook in found.items() if fnmatch.fnmatchcase(name, point)}
        if not matched:
            raise unknown_name("hook point", point, found)
        chosen.update(matched)
    return chosen


class _Sink:
    """Counts how often each point fires in a chunk, and checks that it is the same in every chunk."""

    def __init__(self):
        self._block = slice(0, 0)
        self._fired: dict[str, int] = {}
        self._expected: dict[str, int] | None = None

    def start(self, block: slice) -> None:
        """Begin a chunk."""
        self._block, self._fired = block, {}

    def hook(self, name: str) -> Callable[..., None]:
        """Return the torch forward hook of one point."""

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            times = self._fired.get(name, 0)
            self._fired[name] = times + 1
            self.take(f"{name}#{times}", output)

        return keep

    def end(self, hooks: Mapping[str, HookPoint]) -> None:
        """Finish a chunk."""
        silent = [name for name in hooks if name not in self._fired]
        if silent:
            raise ActivationError(f"hook point {silent[0]!r} did not fire in the forward pass")
        if self._expected is not None and self._fired != self._expected:
            changed = next(name for name in self._fired if self._fired[name] != self._expected[name])
            raise ActivationError(
                f"{changed!r} fired {self._fired[changed]} times in one chunk and {self._expected[changed]} in another"
            )
        self._expected = self._fired

    def take(self, key: str, value: Tensor) -> None:
        """Take in one chunk of one firing."""
        raise NotImplementedError

    def numbered(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Drop the number of points that fired once."""
        once = {name for name, times in (self._expected or {}).items() if times == 1}
        plain = ((key.rpartition("#")[0], key) for key in values)
        return {name if name in once else key: values[key] for name, key in plain}


class _Keeping(_Sink):
    """Copies every chunk into one tensor per point, allocated when the first chunk shows its shape."""

    def __init__(self, n: int):
        super().__init__()
        self._n = n
        self._values: dict[str, Tensor] = {}

    def take(self, key: str, value: Tensor) -> None:
        """Copy the chunk; a value whose first axis is not the examples cannot be stored by example."""
        rows = self._block.stop - self._block.start
        if not value.ndim or len(value) != rows:
            raise ActivationError(f"{key!r} has shape {tuple(value.shape)}; its first axis is not the {rows} examples")
        if key not in self._values:
            self._values[key] = torch.empty((self._n, *value.shape[1:]), dtype=value.dtype)
        self._values[key][self._block] = value.detach()

    def results(self) -> dict[str, Tensor]:
        """Return the tensors."""
        return self.numbered(self._values)


class _Reducing(_Sink):
    """Feeds every chunk to a reduction per point."""

    def __init__(self, make: Callable[[], Reduction]):
        super().__init__()
        self._make = make
        self._running: dict[str, Reduction] = {}

    def take(self, key: str, value: Tensor) -> None:
        """Update the point's reduction."""
        if key not in self._running:
            self._running[key] = self._make()
        self._running[key].update(full_precision(value.detach()))

    def results(self) -> dict[str, Tensor]:
        """Return the reduced values, on the CPU."""
        return self.numbered({key: running.result().cpu() for key, running in self._running.items()})
