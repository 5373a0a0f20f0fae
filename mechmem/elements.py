"""Where a tensor stands in what a module returns: in a tuple, a dict, a dataclass, or one inside another."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mechmem.errors import UnknownNameError, unknown_name


def pick(value: Any, path: str) -> Any:
    """Return the element at a path.

    Args:
        value: what a module returned, or was given.
        path: keys joined by dots, a position for a tuple or list: "0", "logits", "past_key_values.1"; "" for the value
            itself.

    Raises:
        UnknownNameError: there is no such element.
    """
    for key in path.split(".") if path else ():
        value = _elements(value, path)[_known(value, key, path)]
    return value


def put(value: Any, path: str, element: Any) -> Any:
    """Return a copy of the value, of its own type, that has another element at the path; the rest is shared.

    Raises:
        UnknownNameError: there is no such element.
    """
    if not path:
        return element
    key, further, rest = path.partition(".")
    known = _known(value, key, path)
    inside = _elements(value, path)[known]
    new = put(inside, rest or _known(inside, rest, path), element) if further else element
    # A HuggingFace output is a mapping and a dataclass; as a dataclass it keeps both in step.
    if _is_record(value):
        return dataclasses.replace(value, **{known: new})
    if isinstance(value, Mapping):  # copied, not rebuilt: a defaultdict is not made from its items
        copied = copy.copy(value)
        copied[next(own for own in value if str(own) == known)] = new  # pyright: ignore[reportIndexIssue]
        return copied
    if hasattr(value, "_replace"):
        return value._replace(**{value._fields[int(known)]: new})
    made: Any = type(value)
    return made(new if place == int(known) else old for place, old in enumerate(value))


def tensors(value: Any, path: str = "") -> dict[str, Tensor]:
    """Return every tensor in a value by its path, in order."""
    if isinstance(value, Tensor):
        return {path: value}
    found: dict[str, Tensor] = {}
    for key, element in (_elements(value, path) if _nested(value) else {}).items():
        found |= tensors(element, f"{path}.{key}" if path else str(key))
    return found


def _nested(value: Any) -> bool:
    return (
        _is_record(value) or isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str))
    )


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _elements(value: Any, path: str) -> dict[str, Any]:
    """Return the elements of a value by key; positions count for tuples and lists."""
    if isinstance(value, Mapping):
        return {str(key): element for key, element in value.items()}
    if _is_record(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {str(place): element for place, element in enumerate(value)}
    raise UnknownNameError(f"no element {path!r}: it is a {type(value).__name__}, not a tuple, list, dict or dataclass")


def _known(value: Any, key: str, path: str) -> str:
    elements = _elements(value, path)
    if key not in elements:
        raise unknown_name("element", key, elements)
    return key
