"""TransformerLens' hook methods with checked names, which may be patterns."""

from __future__ import annotations

import contextlib
import fnmatch
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from torch import Tensor, nn

from mechmem.core.in_words import shown
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.models.hooks.lens import HookedRootModule
from mechmem.models.hooks.numbered_cache import Cache
from mechmem.models.hooks.points import unknown_point


class CheckedHooks(HookedRootModule):
    """A network with hook points that refuses hooks which would have no effect or could not be called.

    Wherever TransformerLens takes the name of a point, or a function that chooses names, a pattern such as "blocks.*"
    works too. A name, pattern or function that matches no point is an error, and so is a hook that cannot be called
    as `hook(value, hook=point)`. An unknown name in a cache is an error that suggests the nearest.
    """

    _caching = False

    def matching(self, choice: str | Callable[[str], object]) -> list[str]:
        """Return the names of the points that a name, a pattern or a function chooses; at least one.

        Raises:
            UnknownNameError: no point is chosen.
            ConfigError: the choice is none of these.
        """
        if isinstance(choice, str):
            if choice in self.hook_dict:
                return [choice]
            found = [name for name in self.hook_dict if fnmatch.fnmatchcase(name, choice)]
            if not found:
                raise self._unknown(choice)
            return found
        if not callable(choice):
            raise ConfigError(f"hook points are chosen by name, pattern or function, got a {type(choice).__name__}")
        found = [name for name in self.hook_dict if choice(name)]
        if not found and self.hook_dict:
            shown = ", ".join(list(self.hook_dict)[:40]) + (", …" if len(self.hook_dict) > 40 else "")
            raise UnknownNameError(f"the function {_named(choice)} chooses no hook point. One of: {shown}")
        if not found:
            raise self._unknown(_named(choice))
        return found

    def _unknown(self, name: str) -> UnknownNameError:
        return unknown_point(name, self.hook_dict)

    @contextlib.contextmanager
    def hooks(
        self,
        fwd_hooks: Iterable[tuple[Any, Any]] = (),
        bwd_hooks: Iterable[tuple[Any, Any]] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator[Self]:
        """Register hooks for the duration of a `with`.

        Args:
            fwd_hooks: pairs of a point's name, a pattern, or a function that chooses names, and a hook
                `(value, hook) -> value`.
            bwd_hooks: the same for gradients.
            reset_hooks_end: whether the hooks are removed at the end, also after an error.
            clear_contexts: whether the points' `ctx` is emptied at the end.

        Raises:
            UnknownNameError: there is no such point.
            ConfigError: a hook cannot be called as `hook(value, hook=point)`.
        """
        forward, backward = self._spelt_out(fwd_hooks), self._spelt_out(bwd_hooks)
        with super().hooks(forward, backward, reset_hooks_end, clear_contexts):
            yield self

    def add_hook(self, name: Any, hook: Any, *args: Any, **kwargs: Any) -> None:
        """Register a hook until hooks are reset (TransformerLens' arguments).

        Raises:
            UnknownNameError: there is no such point.
            ConfigError: the hook cannot be called as `hook(value, hook=point)`.
        """
        for each in self._to_be_hooked(name, hook):
            super().add_hook(each, hook, *args, **kwargs)

    def _spelt_out(self, hooks: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        return [(name, hook) for choice, hook in hook_pairs(hooks) for name in self._to_be_hooked(choice, hook)]

    def _to_be_hooked(self, choice: Any, hook: Any) -> list[str]:
        if not self._caching:
            _check_hook(hook)
        return self.matching(choice)

    def run_with_cache(self, *model_args: Any, incl_bwd: bool = False, **model_kwargs: Any) -> Any:
        """Run the network; return its output and a cache by point name (TransformerLens' arguments).

        Raises:
            UnknownNameError: a name in `names_filter` is not a point.
            ConfigError: gradients are requested and the network does not return a single number.
        """
        self._caching = True
        check = self.register_forward_hook(_check_differentiable) if incl_bwd else None
        try:
            return super().run_with_cache(*model_args, incl_bwd=incl_bwd, **model_kwargs)
        finally:
            self._caching = False
            if check is not None:
                check.remove()

    def get_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: Any = None,
        remove_batch_dim: bool = False,
        cache: dict[str, Any] | None = None,
        pos_slice: Any = None,
    ) -> tuple[dict[str, Any], list[Any], list[Any]]:
        """Return a cache and the hooks that fill it (TransformerLens' arguments).

        Args:
            names_filter: a name, a pattern, several of them, or a function that chooses names; None for all.
            incl_bwd: whether gradients are cached too.
            device: device to move values to.
            remove_batch_dim: whether to drop a batch axis of length 1.
            cache: the cache to fill; by default a new one.
            pos_slice: the positions to keep; a value with fewer than three axes, (example, …), has none and is kept
                whole.

        Raises:
            UnknownNameError: a name in `names_filter` is not a point.
        """
        names, cache = self._filtered(names_filter), Cache() if cache is None else cache
        sliced = super().get_caching_hooks(names, incl_bwd, device, remove_batch_dim, cache, pos_slice)
        if pos_slice is None:
            return sliced
        # TransformerLens slices the second axis from the end, which without positions is that of the examples.
        whole = super().get_caching_hooks(names, incl_bwd, device, remove_batch_dim, cache)
        forward, backward = (
            [(name, _by_axes(save, save_whole)) for (name, save), (_, save_whole) in zip(some, every, strict=True)]
            for some, every in zip(sliced[1:], whole[1:], strict=True)
        )
        return cache, forward, backward

    def add_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: Any = None,
        remove_batch_dim: bool = False,
        cache: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Register hooks that fill a cache in every forward pass, until hooks are reset; return the cache."""
        names = self._filtered(names_filter)
        return super().add_caching_hooks(names, incl_bwd, device, remove_batch_dim, Cache() if cache is None else cache)

    def _filtered(self, names_filter: Any) -> list[str]:
        """Return the point names that TransformerLens' argument `names_filter` selects."""
        if names_filter is None:
            names_filter = "*"
        if isinstance(names_filter, str) or callable(names_filter):
            return self.matching(names_filter)
        if not isinstance(names_filter, Iterable):
            raise ConfigError(f"names_filter is a name, names or a function, got a {type(names_filter).__name__}")
        return [name for each in names_filter for name in self.matching(each)]


def hook_pairs(hooks: Any) -> list[tuple[Any, Any]]:
    """Return hooks as a list of pairs of a choice of points and a hook.

    Raises:
        ConfigError: they are anything else.
    """
    pairs = list(hooks) if isinstance(hooks, Iterable) and not isinstance(hooks, str) else [hooks]
    for each in pairs:
        if not isinstance(each, tuple | list) or len(each) != 2:
            raise ConfigError(f"hooks are a list of pairs (name, hook), got {shown(each)} in it")
    return [(choice, hook) for choice, hook in pairs]


def _by_axes(save: Callable[..., Any], save_whole: Callable[..., Any]) -> Callable[..., Any]:
    """Return a caching hook that calls the first for values with positions, and the second for those without."""

    def either(tensor: Tensor, hook: Any) -> Any:
        return (save if tensor.ndim > 2 else save_whole)(tensor, hook=hook)

    return either


def _check_hook(hook: Any) -> None:
    if not callable(hook):
        raise ConfigError(f"a hook is a function (value, hook), got a {type(hook).__name__}")
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # some C functions have no signature
        return
    try:
        signature.bind(None, hook=None)
    except TypeError as error:
        raise ConfigError(
            f"the hook {_named(hook)}{signature} cannot be called as hook(value, hook=point): its second parameter "
            "must be named 'hook'"
        ) from error


def _named(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__).rpartition("<locals>.")[2]


def _check_differentiable(module: nn.Module, args: Any, returned: Any) -> None:
    """Torch forward hook that refuses an output on which `backward` cannot be called."""
    if isinstance(returned, Tensor) and returned.numel() == 1 and returned.requires_grad:
        return
    shape = f"shape {tuple(returned.shape)}" if isinstance(returned, Tensor) else f"type {type(returned).__name__}"
    seen = "no gradient" if isinstance(returned, Tensor) and returned.numel() == 1 else shape
    raise ConfigError(
        f"incl_bwd=True differentiates the network's output, which must be a single number with a gradient; it has "
        f"{seen}. Call backward() on a loss inside `with model.hooks(bwd_hooks=...)`, or use "
        "mm.activations(..., gradients=loss)"
    )
