"""What an argument may be and what was given, in words. Imports no torch."""

from __future__ import annotations

import collections.abc
import math
import os
import re
import textwrap
import types
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

SAID: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    type(None): "None",
    Any: "anything",
    os.PathLike: "a path",
}
NAMED = {
    "Module": "a network (torch.nn.Module)",
    "Subject": "an mm.Subject(model, task)",
    "TrainConfig": "an mm.TrainConfig(task=…, model=…)",
    "Tensor": "a tensor",
    "ndarray": "an array",
    "SupportsIndex": "a whole number",
    "dtype": "a torch.dtype",
    "integer": "a whole number",
}
"""Classes by name, since this module imports no torch."""


def said(hint: Any) -> str:
    """Return what a value may be, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint in SAID or hint is None:
        return SAID[type(None) if hint is None else hint]
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(said(part) for part in parts))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, parts))
    if hasattr(hint, "array_type"):
        return " or ".join(said(each) for each in classes(hint.array_type))
    if origin is collections.abc.Callable:
        told = parts and isinstance(parts[0], list)
        return f"a function of {len(parts[0])} argument{'s' * (len(parts[0]) != 1)}" if told else "a function"
    if origin is not None and isinstance(origin, type):
        if issubclass(origin, collections.abc.Mapping):
            return f"a mapping from {_many(parts[0])} to {_many(parts[1])}"
        if origin is tuple:
            count = "" if Ellipsis in parts else f"{len(parts)} "
            return f"a tuple of {count}{_many(parts[0])}"
        return f"a list of {_many(parts[0])}" if len(parts) == 1 else f"a {origin.__name__}"
    if hint is Path or hint is os.PathLike:
        return SAID[os.PathLike]
    name = getattr(hint, "__name__", str(hint))
    if name in NAMED:
        return NAMED[name]
    return f"an {name}" if name[:1] in "AEIOU" else f"a {name}"


def _many(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_many(part) for part in get_args(hint)))
    one = said(hint)
    single = re.fullmatch(r"an? ([\w ]+)", one)
    return one if single is None else f"{single[1].removesuffix('s')}s"


def shown(value: Any) -> str:
    """Return a value that was given, short enough for a line."""
    if isinstance(value, Integral) and int(value).bit_length() > 200:
        return f"a number of {int(int(value).bit_length() * math.log10(2)) + 1} digits"
    if value is None or isinstance(value, str | bool | int | float | Integral | Real):
        text = repr(value)
        return text if len(text) <= 80 else text[:76] + "…" + text[-1]
    if isinstance(value, tuple | list) and len(value) <= 8:
        inside = ", ".join(shown(each) for each in value)
        one = "," if len(value) == 1 else ""
        return f"({inside}{one})" if isinstance(value, tuple) else f"[{inside}]"
    if callable(value) and not isinstance(value, type) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    name = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    return name if isinstance(value, type) else f"an {name}" if name[:1] in "AEIOUaeiou" else f"a {name}"


def reason(error: BaseException, most: int = 200) -> str:
    """Return the first line of an error of another library, cut after a word, or its class if it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[0], most, placeholder=" …")


def classes(array_type: Any) -> tuple[type, ...]:
    """Return the classes of arrays that an annotation of jaxtyping takes."""
    return get_args(array_type) or (array_type,)
