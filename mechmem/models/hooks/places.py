"""Choice of the modules that get hook points, from names, patterns and classes."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from mechmem.errors import ConfigError, UnknownNameError, unknown_name
from mechmem.models.hooks.hooking import firing
from mechmem.models.hooks.insertion import AtInput, AtOutput, Insertion, Unclear, insertions
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.hooks.points import unknown_point

Point = str | type[nn.Module]
"""A module's name, a pattern or a class of modules, as `attach` takes them."""

_HOOK_NAME = re.compile(r"(?:(?P<module>.*)\.)?(?P<side>hook_in|hook_out)(?:[.:](?P<path>.+))?")


@dataclasses.dataclass(frozen=True)
class Attachment:
    """Module, side and path of one hook point.

    Attributes:
        side: output or input of the module.
        module: the module's first name ("" for the root).
        path: path of an element of the output or input; "" for the only tensor.
        eager: whether an ambiguous or missing tensor is an error even without a hook.
        named: whether the point was asked for by its own name or with a path, not only by a pattern or class. A module
            that a pattern matches may return or take no tensor (a parametrization, say); its point never fires then.
    """

    side: type[Insertion]
    module: str
    path: str = ""
    eager: bool = True
    named: bool = False

    @property
    def name(self) -> str:
        """The hook point's name."""
        return self.side.name(self.module, self.path)


def check_attachable(model: object) -> None:
    """Refuse a model to which hook points cannot be attached; remove points that nobody can reach any more.

    Raises:
        ConfigError: the model is not a module, has hook points already, or never runs torch's hooks.
    """
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise ConfigError(f"attach takes a network, not its class: {model.__name__}() makes one")
    if not isinstance(model, nn.Module):
        raise ConfigError(f"attach takes a torch.nn.Module, got {type(model).__name__}")
    present = insertions(model)
    for each in present:
        owner = each.owner() if each.owner is not None else None
        if owner is model or (owner is not None and vars(owner)["_model"] is model):
            raise ConfigError(
                "this network has points attached already; detach() what attach returned, then attach all at once"
            )
        if owner is not None:
            raise ConfigError(
                f"the {type(model).__name__} shares a module with a {type(vars(owner)['_model']).__name__} that has "
                f"points attached, at {each.point.name!r} there: detach() the latter, or attach to a copy"
            )
    for module in model.modules():
        if isinstance(module, HookPoint):
            raise ConfigError(f"{type(model).__name__} has hook points of its own and needs no attaching")
        if isinstance(module, torch.jit.ScriptModule):
            raise ConfigError("TorchScript ignores hooks; attach to the module that it was made from")
        if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None:
            raise ConfigError("a compiled network may ignore hooks; attach to the uncompiled one")
    for each in present:
        each.remove()


def chosen_attachments(model: nn.Module, points: Sequence[Point], inputs: bool) -> tuple[Attachment, ...]:
    """Return the places of the given points, in the order of the modules.

    Raises:
        ConfigError: a point is neither a string nor a class of modules, or nothing in the network is ever called.
        UnknownNameError: a point matches no module that is called.
    """
    called = {name: module for name, module in model.named_modules() if _is_called(module)}
    if not called:
        raise ConfigError(f"nothing to attach to: no module of this {type(model).__name__} has a forward")
    chosen: dict[str, Attachment] = {}
    exact: set[str] = set()
    for point in points or ("*",):
        if isinstance(point, str):
            pattern, path, sides = _read(point, inputs)
            names = _matching(model, called, pattern)
        else:
            pattern, path, sides, names = None, "", _sides(inputs), _instances(called, point)
        for name in names:
            for side in sides:
                place = Attachment(side, name, path, eager=point != "*" and bool(points))
                chosen.setdefault(place.name, place)
                if name == pattern or path:
                    exact.add(place.name)
    with_path = {(place.side, place.module) for place in chosen.values() if place.path}
    kept = [
        dataclasses.replace(place, named=place.name in exact)
        for place in chosen.values()
        if place.path or place.name in exact or (place.side, place.module) not in with_path
    ]
    order = {name: rank for rank, name in enumerate(called)}
    return tuple(sorted(kept, key=lambda place: (order[place.module], place.side is AtOutput)))


def same_modules(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return every name of each module that has several, in order, by each name but the first."""
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    return {name: tuple(known) for known in names.values() for name in known[1:]}


def same_module(names: Sequence[str], point: str = "") -> str:
    """Return a phrase that explains a module's later name, and how its calls are numbered at a point."""
    first = names[0]
    point = point or AtOutput.name(first, "")
    numbered = ", ".join(repr(f"{point}#{number}") for number in range(len(names)))
    return f"is the same module as {first!r}, whose point {point!r} fires at every call: {numbered}"


class Points(dict[str, HookPoint]):
    """Hook points by name; `again` holds the names of modules that have several.

    Raises:
        UnknownNameError: there is no such point; the message suggests the nearest.
    """

    again: Mapping[str, tuple[str, ...]] = {}

    def __missing__(self, name: str) -> HookPoint:
        raise self.unknown(name)

    def unknown(self, name: str, known: Iterable[str] | None = None) -> UnknownNameError:
        """Return the error for an unknown name."""
        again = self.said_again(name)
        return unknown_point(name, self if known is None else known) if again is None else again

    def said_again(self, name: str) -> UnknownNameError | None:
        """Return the error for a name or pattern of points by a module's later name, or None if it is none."""
        base = firing(name)[0]
        for later, point in self.later_names().items():
            if fnmatch.fnmatchcase(later, base):
                module = later.rpartition(".hook_")[0]
                return UnknownNameError(f"no hook point {name!r}: {module!r} {same_module(self.again[module], point)}")
        return None

    def later_names(self) -> dict[str, str]:
        """Return the points of modules with several names, by the names they would have under each later one."""
        return {
            module + point[len(names[0]) :]: point
            for module, names in self.again.items()
            for point in self
            if point.startswith(f"{names[0]}.hook_")
        }


def clear_call(model: nn.Module, points: Sequence[Point], inputs: bool, unclear: Sequence[Unclear]) -> str:
    """Return the call of `attach` that takes the first tensor wherever the tensor was ambiguous.

    Args:
        model: the network.
        points: the points that were asked for.
        inputs: whether inputs were asked for.
        unclear: the ambiguous values.
    """
    first = {each.name: each.choices[0] for each in unclear}
    wanted: list[Point] = []
    for point in points or ("*",):
        if any(place.name in first for place in chosen_attachments(model, (point, *first.values()), inputs)):
            # The point was named without a path: list its places one by one.
            wanted += [first.get(place.name, place.name) for place in chosen_attachments(model, (point,), inputs)]
        else:
            wanted.append(point)
    shown = [_shown(each) for each in (*wanted, *first.values())]
    return f"mm.attach(model, {', '.join(dict.fromkeys(shown))}{', inputs=True' if inputs else ''})"


def _shown(point: Point) -> str:
    if isinstance(point, str):
        return repr(point)
    return f"nn.{point.__name__}" if getattr(nn, point.__name__, None) is point else point.__name__


def _is_called(module: nn.Module) -> bool:
    """Return whether a module has a forward (a ModuleList has none)."""
    return "forward" in vars(module) or type(module).forward is not nn.Module.forward


def _sides(inputs: bool) -> tuple[type[Insertion], ...]:
    return (AtInput, AtOutput) if inputs else (AtOutput,)


def _read(point: str, inputs: bool) -> tuple[str, str, tuple[type[Insertion], ...]]:
    """Split a point into a name or pattern of modules, a path and sides."""
    named = _HOOK_NAME.fullmatch(point)
    if named:
        return named["module"] or "", named["path"] or "", (AtInput if named["side"] == "hook_in" else AtOutput,)
    pattern, colon, path = point.partition(":")
    if colon and not path:
        raise ConfigError(f"point {point!r} has no path after its colon")
    return pattern, path, (AtOutput,) if path else _sides(inputs)


def _matching(model: nn.Module, called: dict[str, nn.Module], pattern: str) -> Iterator[str]:
    """Return the names of called modules that match a name or pattern."""
    found = [pattern] if pattern in called else [name for name in called if fnmatch.fnmatchcase(name, pattern)]
    if found:
        return iter(found)
    for name, module in model.named_modules(remove_duplicate=False):
        if not fnmatch.fnmatchcase(name, pattern):
            continue
        if name in (again := same_modules(model)):
            raise UnknownNameError(f"{name!r} {same_module(again[name])}; name it {again[name][0]!r}")
        raise UnknownNameError(f"module {name!r} is a {type(module).__name__}, which is never called: name its modules")
    raise unknown_name("module", pattern, filter(None, called))


def _instances(called: dict[str, nn.Module], kind: object) -> list[str]:
    """Return the names of the modules of a class."""
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        hint = "; give points one by one: attach(model, 'a', 'b')" if isinstance(kind, list | tuple) else ""
        raise ConfigError(f"a point is a module's name, a pattern or a class of modules, got {kind!r}{hint}")
    found = [name for name, module in called.items() if isinstance(module, kind)]
    if not found:
        raise unknown_name("module of class", kind.__name__, {type(module).__name__ for module in called.values()})
    return found
