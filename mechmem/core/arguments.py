"""Checks of arguments and settings against their annotations. Imports no torch.

`checked` is for functions and `Checked` for frozen dataclasses; both refuse a value of another type before anything is
done with it, by the name of the argument. What an annotation cannot say (ranges, names, shapes) is checked where the
value is used.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from mechmem.core.in_words import classes, said, shown
from mechmem.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

GREATEST_WHOLE = 2**63 - 1
"""Greatest whole number that fits in a tensor."""

ELEMENTS = 1000
"""Most elements of a list that are looked at here; what uses them looks at all."""


OPERATORS = ("__getitem__", "__and__", "__or__", "__sub__")
"""Operators of Python that public classes define."""


class Checked:
    """Base class of frozen dataclasses whose fields are checked against their annotations before anything else."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the fields before a `__post_init__` of the subclass's own."""
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("__post_init__")
        if own is not None:

            @functools.wraps(own)
            def checked_first(self: Any) -> None:
                check_fields(self)
                own(self)

            cls.__post_init__ = checked_first

    def __post_init__(self) -> None:
        check_fields(self)


def check_fields(made: Any) -> None:
    """Refuse a dataclass with a field of another type than annotated, and turn numpy's numbers into Python's.

    Raises:
        ConfigError: a field has a value of another type.
    """
    cls = type(made)
    for name, hint in _field_hints(cls):
        value = getattr(made, name)
        check(name, value, hint, cls.__name__)
        plain = _plain(value)
        if plain is not value:
            object.__setattr__(made, name, plain)


def checked(function: F) -> F:
    """Decorator: refuse arguments of another type than annotated.

    The decorated function raises `ConfigError` with the name of the argument, what it may be and what was given.
    """
    return checked_but()(function)


def checked_but(*own: str) -> Callable[[F], F]:
    """`checked`, but for the arguments of these names, which the function checks itself with words of its own."""
    return functools.partial(_checked, frozenset(own))


def check_methods(cls: type[Any]) -> None:
    """Have a class's own public methods and operators refuse arguments of another type, as `checked` does."""
    for name, method in list(vars(cls).items()):
        public = not name.startswith("_") or name in OPERATORS
        if public and inspect.isfunction(method) and len(inspect.signature(method).parameters) > 1:
            setattr(cls, name, checked(method))


def _checked(own: frozenset[str], function: F) -> F:
    signature, hints = inspect.signature(function), _Hints(function)
    where = function.__qualname__.rpartition("<locals>.")[2].removesuffix(".__init__")

    @functools.wraps(function)
    def checking(*args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # which says what is missing or too much
        for name in [each for each in given if each not in own]:
            for argument, each in _each(signature.parameters[name], given[name]):
                check(argument, each, hints.of(name), where)
        return function(*args, **kwargs)

    return typing.cast(F, checking)


def check(name: str, value: Any, hint: Any, where: str = "") -> None:
    """Refuse a value of another type than a hint, or a number that is too large to compute with.

    Raises:
        ConfigError: `name` must be something else, or closer to 0.
    """
    place = f"{where}: " if where else ""
    if not fits(value, hint):
        raise ConfigError(f"{place}{name} must be {said(hint)}, got {shown(value)}")
    for number in value if isinstance(value, tuple | list) and len(value) <= ELEMENTS else (value,):
        if isinstance(number, Integral) and abs(int(number)) > GREATEST_WHOLE:
            raise ConfigError(f"{place}{name} must be at most {GREATEST_WHOLE:,}, got {shown(number)}")


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of an annotated type; elements of containers are looked into."""
    if hint in (Any, object, inspect.Parameter.empty) or isinstance(hint, TypeVar | str):
        return True
    if hint is None or hint is type(None):
        return value is None
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        arrays = any(hasattr(part, "array_type") for part in parts)
        return any(fits(value, (get_origin(part) or part) if arrays else part) for part in parts)
    if origin is Literal:
        # Only the type: whoever knows what is chosen suggests the nearest name.
        return any(type(value) is type(part) for part in parts)
    if origin is typing.Annotated:
        return fits(value, parts[0])
    if hasattr(hint, "array_type"):
        return isinstance(value, classes(hint.array_type))
    if origin is not None:
        return _fits_container(value, origin, parts)
    return _fits_class(value, hint)


def _fits_class(value: Any, hint: Any) -> bool:
    if hint is bool:
        return isinstance(value, bool) or _is_numpy_bool(value)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool) and _is_in_range(value)
    if hint is Path or hint is os.PathLike:
        return isinstance(value, os.PathLike)
    if hint in (collections.abc.Sequence, collections.abc.Iterable):
        return _is_list(value) or (hint is collections.abc.Iterable and isinstance(value, hint))
    if not isinstance(hint, type) or (getattr(hint, "_is_protocol", False) and not hint._is_runtime_protocol):
        return True
    return isinstance(value, hint)


def _fits_container(value: Any, origin: Any, parts: tuple[Any, ...]) -> bool:
    if origin is collections.abc.Callable:
        return callable(value) and _takes(value, parts)
    if origin is type:
        return isinstance(value, type)
    if origin is tuple:
        if not isinstance(value, tuple) or (Ellipsis not in parts and len(value) != len(parts)):
            return False
        wanted = [parts[0]] * len(value) if Ellipsis in parts else parts
        return all(fits(each, part) for each, part in zip(value, wanted, strict=True))
    if issubclass(origin, collections.abc.Mapping):
        return isinstance(value, collections.abc.Mapping) and all(
            fits(key, parts[0]) and fits(held, parts[1]) for key, held in list(value.items())[:ELEMENTS]
        )
    if issubclass(origin, collections.abc.Iterable) and len(parts) == 1:
        if not (_is_list(value) or (origin is not collections.abc.Sequence and isinstance(value, origin))):
            return False
        inside = value[:ELEMENTS] if isinstance(value, tuple | list) else ()
        return not isinstance(value, str) and all(fits(each, parts[0]) for each in inside)
    return _fits_class(value, origin)


def _takes(function: Any, parts: tuple[Any, ...]) -> bool:
    """Return whether a function can be called with the arguments that a hint says, if that can be told."""
    if not parts or not isinstance(parts[0], list):
        return True
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a builtin
        return True
    try:
        signature.bind(*parts[0])
    except TypeError:
        return False
    return True


def _is_list(value: Any) -> bool:
    """Return whether a value is a sequence other than a string, or an array with at least one axis."""
    if isinstance(value, str | bytes):
        return False
    return isinstance(value, collections.abc.Sequence) or (hasattr(value, "__array__") and bool(len(value.shape)))


def _is_numpy_bool(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_")


def _is_in_range(value: Any) -> bool:
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _plain(value: Any) -> Any:
    """Return numpy's numbers as Python's, which JSON takes; everything else as it is."""
    if isinstance(value, tuple) and type(value) is tuple:
        inside = tuple(_plain(each) for each in value)
        return value if all(a is b for a, b in zip(inside, value, strict=True)) else inside
    if _is_numpy_bool(value):
        return bool(value)
    if isinstance(value, Integral) and not isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, Real) and not isinstance(value, int | float) else value


def _each(parameter: inspect.Parameter, value: Any) -> Iterator[tuple[str, Any]]:
    if parameter.kind is parameter.VAR_POSITIONAL:
        yield from ((parameter.name, each) for each in value)
    elif parameter.kind is parameter.VAR_KEYWORD:
        yield from value.items()
    else:
        yield parameter.name, value


class _Hints:
    """Resolved annotations of a function's parameters, looked up when they are first needed."""

    def __init__(self, function: Callable[..., Any]):
        self._function, self._found = inspect.unwrap(function), dict[str, Any]()

    def of(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = _resolved(self._function.__annotations__.get(name, Any), self._function.__globals__)
        return self._found[name]


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, names)["it"]
    except NameError:  # a name that only type checkers import
        return Any


@functools.cache
def _field_hints(cls: type[Any]) -> tuple[tuple[str, Any], ...]:
    owners = {name: owner for owner in reversed(cls.__mro__) for name in owner.__dict__.get("__annotations__", {})}
    return tuple(
        (field.name, _resolved(field.type, vars(sys.modules[owners[field.name].__module__])))
        for field in dataclasses.fields(cls)
        if field.init
    )
