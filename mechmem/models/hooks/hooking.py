"""Temporary hooks on hook points, and detection of hooks that were left behind."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from mechmem.errors import ActivationError, ConfigError, LeftoverHooksWarning
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.hooks.points import hook_points

Act = Callable[[Tensor], Tensor | None]
"""Receives the value of a point and returns its replacement, or None to keep it."""
_LIBRARIES = {"torch", "transformer_lens", "transformers", "accelerate", "mechmem"}
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_WARNED = "__mechmem_warned_of__"


@contextlib.contextmanager
def on_point(point: HookPoint, act: Act) -> Iterator[None]:
    """Let a function see and replace the value of a hook point each time it fires.

    The function is registered through TransformerLens, not as a plain torch hook: only to such hooks does a bridge show
    its points in the layout that their names promise, and some of its points do not fire without one.
    """
    point.add_hook(lambda value, hook: act(value))  # type: ignore[arg-type]
    handle = point.fwd_hooks[-1]
    try:
        yield
    finally:
        handle.hook.remove()
        point.fwd_hooks = [other for other in point.fwd_hooks if other is not handle]


@contextlib.contextmanager
def hooked(model: nn.Module, point: str, act: Act) -> Iterator[None]:
    """Let a function see and replace the value of a point at one firing of a forward pass.

    Args:
        model: a model with that point.
        point: name of a hook point; `name#i` for firing i of a point that fires several times, by default the first.
        act: called with the value, (example, …); its result replaces the value, None keeps it.

    Raises:
        UnknownNameError: there is no such point.
        ActivationError: the point did not fire that often.
        ConfigError: the model is compiled.
    """
    base, number = firing(point)
    fired = 0

    def once(value: Tensor) -> Tensor | None:
        nonlocal fired
        fired += 1
        return act(value) if fired == number + 1 else None

    with on_point(hook_points(model)[base], once):
        yield
    if fired <= number:
        raise ActivationError(f"hook point {point!r} did not fire in the forward pass")


def firing(point: str) -> tuple[str, int]:
    """Return the point name and the number of a firing: ("hook_state", 2) for "hook_state#2"; 0 without a number."""
    base, numbered, number = point.rpartition("#")
    return (base, int(number)) if numbered and number.isdigit() else (point, 0)


def warn_of_leftovers(model: nn.Module) -> None:
    """Warn of hooks that were left on a model, once per call of mechmem from outside.

    Warns:
        LeftoverHooksWarning: at the line of that call.
    """
    try:
        points: Mapping[str, HookPoint] = hook_points(model)
    except ConfigError:  # compiled: it can be run, though not hooked
        points = {}
    left = leftover_hooks(model, points)
    if not left:
        return
    message = _about(left)
    entry, caller = _entry()
    # Kept in the frame of the call itself, so that it is forgotten when the call returns.
    warned = entry.f_locals.setdefault(_WARNED, set())
    if message not in warned:
        warned.add(message)
        warnings.warn(message, LeftoverHooksWarning, stacklevel=caller)


def leftover_hooks(model: nn.Module, points: Mapping[str, HookPoint]) -> tuple[str, ...]:
    """Return the hooks that were left on a model without being declared permanent.

    Not counted are permanent TransformerLens hooks (`add_perma_hook`), those of a `with model.hooks(...)` that is still
    open, and those registered by torch, transformers, accelerate, TransformerLens or mechmem itself.

    Args:
        model: the model.
        points: its hook points, for their names.

    Returns:
        the module or point of each hook and the hook's name: "hook_hidden (double)".
    """
    modules = dict(model.named_modules())
    names = {module: name for name, module in modules.items()} | {point: name for name, point in points.items()}
    level = max((module.__dict__.get("context_level", 0) for module in names), default=0)
    found: list[str] = []
    for module, name in names.items():
        known: set[int] = set()
        if isinstance(module, HookPoint):
            for handle in (*module.fwd_hooks, *module.bwd_hooks):
                known.add(handle.hook.id)
                opened = handle.context_level is not None and 0 < handle.context_level <= level
                if not handle.is_permanent and not opened and not _of_a_library(handle.user_hook):
                    found.append(_described(name, handle.user_hook))
        for kind in _HOOKS:
            loose = (function for key, function in getattr(module, kind).items() if key not in known)
            found += [_described(name, function) for function in loose if not _of_a_library(function)]
    return tuple(found)


@contextlib.contextmanager
def replaced(
    model: nn.Module,
    point: str,
    value: Shaped[Tensor, ...],
    mask: Bool[Tensor, ...] | None = None,
) -> Iterator[None]:
    """Replace the value of a point during one forward pass; the hook is removed afterwards, also after an error.

    Args:
        model: the network.
        point: name of a hook point; `name#i` for firing i of a point that fires several times.
        value: the new value: (example, …), or one for all examples (…), or a single number.
        mask: which elements of an example's value to replace, broadcastable to its shape; by default all.

    Raises:
        UnknownNameError: there is no such point.
        ActivationError: the point has another shape, or did not fire.
    """

    def put(output: Tensor) -> Tensor:
        shape = tuple(output.shape)
        if value.ndim and tuple(value.shape) not in (shape, shape[1:]):
            raise ActivationError(f"{point!r} holds shape {shape}; it cannot be given {tuple(value.shape)}")
        new = value.to(output)
        # A copy: the network may change it in place.
        return new.expand_as(output).clone() if mask is None else torch.where(mask.to(output.device), new, output)

    with hooked(model, point, put):
        yield


@contextlib.contextmanager
def recorded(model: nn.Module, point: str, held: dict[str, Tensor]) -> Iterator[None]:
    """Record the value of a point during one forward pass, before hooks registered later replace it.

    Raises:
        UnknownNameError: there is no such point.
        ActivationError: the point did not fire.
    """

    def keep(output: Tensor) -> None:
        held[point] = output.clone()

    with hooked(model, point, keep):
        yield


def _entry() -> tuple[FrameType, int]:
    """Return the frame of the mechmem function that outside code called, and the stack level of that code.

    The outermost mechmem frame counts: code between two mechmem frames (torch, a type checker) is not the caller.
    """
    frame = entry = sys._getframe(1)
    level = caller = 1
    while frame is not None:
        level += 1
        if str(frame.f_globals.get("__name__")).partition(".")[0] == "mechmem":
            entry, caller = frame, level
        frame = frame.f_back
    return entry, caller


def _about(left: Sequence[str]) -> str:
    shown = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
    return (
        f"the model has hooks that were left on it and act in every forward pass: {shown}. Remove them "
        f"(model.reset_hooks(), handle.remove()), use `with model.hooks(...)`, or declare them with add_perma_hook"
    )


def _of_a_library(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__module__", "")).partition(".")[0] in _LIBRARIES


def _described(name: str, function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return f"{name or 'the model itself'} ({getattr(function, '__qualname__', type(function).__qualname__)})"
