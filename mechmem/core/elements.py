"""Paths to tensors inside what a module returns or is given: tuples, lists, mappings and dataclasses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from torch import Tensor

from mechmem.errors import UnknownNameError, unknown_name


def pick(value: Any, path: str) -> Any:
    """Return the element at a path.

    Args:
        value: output or input of a module.
        path: keys joined by dots, positions for tuples and lists: "0", "logits", "past_key_values.1"; "" for the value
            itself. A key may hold dots itself ("layer4.1"); where a path can be read in two ways, its longer keys win.

    Raises:
        UnknownNameError: there is no such element.
    """
    for key in _keys(value, path) if path else ():
        value = _elements(value, path)[key]
    return value


def put(value: Any, path: str, element: Any) -> Any:
    """Return a copy of the value, of the same type, with another element at the path; the rest is shared.

    The copy keeps every attribute of the value, also those that its constructor does not take.

    Raises:
        UnknownNameError: there is no such element.
    """
    return _put(value, _keys(value, path) if path else (), element)


def tensors(value: Any) -> dict[str, Tensor]:
    """Return every tensor in a value by its path, in order."""
    found: dict[str, Tensor] = {}
    for path, tensor in _tensors(value, ""):
        # Two elements that share a path (a key "a.b" beside a key "a" that holds "b"): the one that `pick` returns.
        found[path] = pick(value, path) if path in found else tensor
    return found


def _tensors(value: Any, path: str) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(path, value)]
    inside = _elements(value, path) if _nested(value) else {}
    return [
        each for key, element in inside.items() for each in _tensors(element, f"{path}.{key}" if path else str(key))
    ]


def _put(value: Any, keys: Sequence[str], element: Any) -> Any:
    if not keys:
        return element
    key, *further = keys
    new = _put(_elements(value, key)[key], further, element)
    if _is_record(value):
        copied = copy.copy(value)  # the constructor may take other arguments than the fields
        if isinstance(value, Mapping):  # a HuggingFace output, which keeps its items and attributes in step
            setattr(copied, key, new)
        else:
            object.__setattr__(copied, key, new)  # also in a frozen one
        return copied
    if isinstance(value, Mapping):
        own = _own_keys(value)[key]
        if not isinstance(value, MutableMapping):
            made: Any = type(value)
            return made({**value, own: new})
        copied = copy.copy(value)  # a defaultdict cannot be built from its items
        copied[own] = new
        return copied
    items = [new if place == int(key) else old for place, old in enumerate(value)]
    return _sequence(value, items)


def _sequence(value: Sequence[Any], items: list[Any]) -> Any:
    """Return a tuple or list of the same type and attributes with other items."""
    made: Any = type(value)
    if hasattr(value, "_make"):
        copied = made._make(items)
    elif isinstance(value, tuple) and not hasattr(made, "n_sequence_fields"):
        copied = tuple.__new__(made, items)
    elif isinstance(value, list):
        copied = copy.copy(value)
        copied[:] = items
    else:
        return made(items)
    if hasattr(value, "__dict__"):
        vars(copied).update(vars(value))
    return copied


def _nested(value: Any) -> bool:
    return (
        _is_record(value) or isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str))
    )


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _own_keys(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping's keys by their text; of two with the same text, the one that is text."""
    keys = {str(key): key for key in value}
    return keys | {key: key for key in value if isinstance(key, str)}


def _elements(value: Any, path: str) -> dict[str, Any]:
    """Return the elements of a value by key; for tuples and lists by position."""
    if isinstance(value, Mapping):
        return {text: value[key] for text, key in _own_keys(value).items()}
    if _is_record(value):
        names = (field.name for field in dataclasses.fields(value))
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {str(place): element for place, element in enumerate(value)}
    raise UnknownNameError(f"no element {path!r}: it is a {type(value).__name__}, not a tuple, list, dict or dataclass")


def _keys(value: Any, path: str) -> list[str]:
    """Split a path into the keys that lead to its element."""
    elements = _elements(value, path)
    failed: UnknownNameError | None = None
    for key in sorted((key for key in elements if f"{path}.".startswith(f"{key}.")), key=len, reverse=True):
        if key == path:
            return [key]
        try:
            return [key, *_keys(elements[key], path[len(key) + 1 :])]
        except UnknownNameError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    first = path if any("." in key for key in elements) else path.partition(".")[0]
    raise unknown_name("element", first, elements)
