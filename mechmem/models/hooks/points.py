"""Hook points of any kind of hooked model, by name."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from mechmem.errors import ActivationError, ConfigError, UnknownNameError, unknown_name
from mechmem.models.hooks.lens import HookPoint

_OLD = ("unembed.hook_in", "unembed.hook_out")
_NEW = ("hook_unembed",)


def unknown_point(name: str, points: Iterable[str]) -> UnknownNameError:
    """Return the error for a name or pattern that matches no hook point of a network."""
    known = list(points)
    if not known:
        return UnknownNameError(f"no hook point {name!r}: the network has none; mm.attach(model) gives it some")
    return unknown_name("hook point", name, known)


class HookPoints(Mapping[str, HookPoint]):
    """A model's hook points by name, each listed once.

    A point with several names is listed under its `HookedTransformer` name, so that the same names work on every
    version of TransformerLens: "blocks.0.mlp.hook_post", not "blocks.0.mlp.out.hook_in". Lookups accept the other names
    too.

    Args:
        names: every name of every point; a point's first name is the one it is listed under.
        withheld: points that do not hold what their name says, with the reason.
        unknown: returns the error for an unknown name or pattern, given it and the known names.
        later: names that are not accepted because the module has an earlier one, each with the name of its point.
    """

    def __init__(
        self,
        names: Iterable[tuple[str, HookPoint]],
        withheld: Mapping[HookPoint, str],
        unknown: Callable[[str, Iterable[str]], UnknownNameError] = unknown_point,
        later: Mapping[str, str] | None = None,
    ):
        self._names: dict[HookPoint, list[str]] = {}
        for name, point in names:
            self._names.setdefault(point, []).append(name)
        self._points = {name: point for point, known in self._names.items() for name in known}
        self._withheld = withheld
        self._unknown = unknown
        self.later = dict(later or {})
        self._first = {known[0]: point for point, known in self._names.items() if point not in withheld}

    def __getitem__(self, name: str) -> HookPoint:
        if name not in self._points:
            raise self._unknown(name, self._first)
        point = self._points[name]
        if point in self._withheld:
            raise ActivationError(f"{name!r} {self._withheld[point]}")
        return point

    def get(self, key: str, default: Any = None) -> Any:
        """Return the point of this name, or the default if there is none."""
        return self[key] if key in self else default

    def __contains__(self, name: object) -> bool:
        return name in self._points and self._points[name] not in self._withheld  # type: ignore[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def names(self, name: str) -> tuple[str, ...]:
        """Return every name of a point.

        Raises:
            UnknownNameError: there is no such point.
        """
        return tuple(self._names[self[name]])

    def matching(self, pattern: str) -> tuple[dict[str, HookPoint], dict[str, str]]:
        """Return the points matched by a name or a pattern such as "blocks.*.hook_*", and the matching withheld points.

        A point is returned once, under its listed name if that matches, else under its first name that does.

        Returns:
            the points by name, and the reason by name for each match that does not hold what its name says.

        Raises:
            UnknownNameError: nothing matches.
            ActivationError: no matching point holds what its name says.
        """
        if pattern in self._points:
            return {pattern: self[pattern]}, {}
        found: dict[str, HookPoint] = {}
        withheld: dict[str, str] = {}
        for point, known in self._names.items():
            name = next((name for name in known if fnmatch.fnmatchcase(name, pattern)), None)
            if name is not None and point in self._withheld:
                withheld[name] = self._withheld[point]
            elif name is not None:
                found[name] = point
        if not found and not withheld:
            raise self._unknown(pattern, self._first)
        if not found:
            name, reason = next(iter(withheld.items()))
            raise ActivationError(f"{name!r} {reason}")
        return found, withheld


def hook_points(model: nn.Module) -> HookPoints:
    """Return the model's hook points by name.

    The model may be a `HookedRootModule`, a `HookedTransformer`, a `TransformerBridge` or a plain module that contains
    `HookPoint`s.

    Raises:
        ConfigError: the points lie in a module compiled by `torch.compile`, or there is such a module and no point at
            all. A compiled module runs what it traced at its first call and silently ignores hooks registered later.
    """
    _refuse_compiled(model)
    known = getattr(model, "hook_dict", None)
    if isinstance(known, Mapping):
        # In a bridge's module tree the points have names that nobody uses. A listed name that belongs to another point
        # in the tree is out of date: the point has been replaced since the model listed its points.
        tree = dict(_in_tree(model, twice=False))
        listed: dict[HookPoint, list[str]] = {}
        for name, point in known.items():
            if isinstance(point, HookPoint) and tree.get(name, point) is point:
                listed.setdefault(point, []).append(name)
        names = [(name, point) for point, own in listed.items() for name in sorted(own, key=_age)]
        names += [(name, point) for name, point in tree.items() if point not in listed]
    else:
        names = list(_in_tree(model, twice=True))
    later: Any = getattr(known, "later_names", dict)
    return HookPoints(names, _withheld(model), getattr(known, "unknown", unknown_point), later())


def _in_tree(model: nn.Module, *, twice: bool) -> Iterator[tuple[str, HookPoint]]:
    for name, module in model.named_modules(remove_duplicate=not twice):
        if isinstance(module, HookPoint):
            yield name, module


def _age(name: str) -> tuple[bool, int]:
    """Sort a name that `HookedTransformer` gave before those that the bridge gave the same point."""
    of_bridge = name.endswith(("hook_in", "hook_out")) and name not in _OLD
    return of_bridge or name in _NEW, name.count(".")


def _refuse_compiled(model: nn.Module) -> None:
    anywhere = next(_in_tree(model, twice=False), None) is not None
    for name, module in model.named_modules():
        wrapped = type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules
        if not wrapped and module._compiled_call_impl is None:
            continue
        if not anywhere or next(_in_tree(module, twice=False), None):
            shown = f"{name!r} of the model" if name else "the model"
            remedy = (
                f"pass {f'a model with {name}._orig_mod in its place' if name else 'model._orig_mod'}"
                if wrapped
                else "pass a model on which .compile() was not called"
            )
            raise ConfigError(
                f"{shown} is compiled by torch.compile, which ignores hooks registered after the first call; {remedy}"
            )


def _withheld(model: nn.Module) -> dict[HookPoint, str]:
    """Return the points that do not hold what their name says, with the reason."""
    found: dict[HookPoint, str] = {}
    for module in model.modules():
        point = module._modules.get("hook_attn_scores")
        if isinstance(point, HookPoint) and "_original_component" in module._modules and _delegates(module):
            found[point] = (
                "holds the attention pattern a second time, not the scores before the softmax: the wrapped module "
                "computes the scores internally. Ask for hook_pattern, hook_q and hook_k"
            )
    return found


def _delegates(module: nn.Module) -> bool:
    """Return whether a bridge's attention leaves the scores to the wrapped module and fires their point afterwards."""
    if "transformer_lens.model_bridge" not in sys.modules:  # slow to load, and then no module is of its classes
        return False
    from transformer_lens.model_bridge.generalized_components.attention import AttentionBridge

    if not isinstance(module, AttentionBridge) or module.requires_relative_position_bias:
        return False
    return type(module).forward is AttentionBridge.forward
