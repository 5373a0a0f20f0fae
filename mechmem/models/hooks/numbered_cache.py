"""Cache for TransformerLens' caching hooks that keeps every firing of a point in one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from typing import Any

from torch import Tensor

from mechmem.errors import ActivationError, unknown_name
from mechmem.models.hooks.running import recomputing


class Cache(dict[str, Tensor]):
    """Activations by point name; a point that fired n times is kept as `name#0 … name#n−1`.

    Args:
        about: returns what is known about a name that is not that of a point, or None.

    Raises:
        ActivationError: there is no such name.
    """

    def __init__(self, about: Callable[[str], Exception | None] = lambda name: None):
        super().__init__()
        self._about = about

    def __missing__(self, name: str) -> Tensor:
        numbers = sorted(int(key.rpartition("#")[2]) for key in self if key.rpartition("#")[0] == name)
        several = [f"{name}#{number}" for number in numbers]
        if several:
            raise ActivationError(f"{name!r} fired {len(several)} times; ask for one of {', '.join(several)}")
        raise ActivationError(str(self._about(name) or unknown_name("cached activation", name, self)))


class Numbering:
    """Numbers the values written under one name in one forward pass, instead of keeping only the last.

    TransformerLens' hooks write `cache[name] = value`, and gradients under `name_grad`.

    Args:
        cache: the cache to fill. Each forward pass removes what the previous one wrote.
        points: names of the hook points.
        passes: returns the number of the current forward pass.
    """

    def __init__(self, cache: dict[str, Tensor], points: Container[str], passes: Callable[[], int]):
        self._cache, self._points, self._passes = cache, points, passes
        self._pass = passes()
        self._fired: Counter[str] = Counter()
        self._written: set[str] = set()
        self._firing = 0

    def __setitem__(self, name: str, value: Tensor) -> None:
        if name not in self._points:  # the gradient of a firing
            several = self._fired[name.removesuffix("_grad")] > 1
            self._write(f"{name}#{self._firing}" if several else name, value)
            return
        if recomputing():
            return
        if self._pass != self._passes():
            for key in self._written:
                self._cache.pop(key, None)
            self._written.clear()
            self._fired.clear()
            self._pass = self._passes()
        times = self._fired[name]
        self._fired[name] += 1
        if times == 1 and name in self._cache:
            self._write(f"{name}#0", self._cache.pop(name))
        self._write(f"{name}#{times}" if times else name, value)

    def _write(self, key: str, value: Tensor) -> None:
        self._cache[key] = value
        self._written.add(key)

    def with_gradients(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., None]:
        """Return a forward hook that caches a value now, and its gradient when it is computed.

        A backward hook on the point cannot tell which firing a gradient belongs to; one on the tensor itself can.
        """

        def save(tensor: Tensor, hook: Any) -> None:
            forward(tensor, hook=hook)
            if recomputing() and self._fired[hook.name] > 1:
                return  # it is not known which of the firings is recomputed
            firing = self._fired[hook.name] - 1

            def save_gradient(gradient: Tensor) -> None:
                self._firing = firing
                backward(gradient, hook=hook)

            if tensor.requires_grad:
                tensor.register_hook(save_gradient)

        return save
