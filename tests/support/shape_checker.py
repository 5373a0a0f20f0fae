"""The type checker that tests run mechmem under: array shapes and dtypes only.

Everything else is left alone, because tests of bad input must meet mechmem's own errors, not a type checker's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from beartype import beartype
from jaxtyping import AbstractArray

F = TypeVar("F", bound=Callable[..., Any])


def arrays(function: F) -> F:
    """Check the annotations of `function` that mention an array, and forget the others."""
    shapes = {name: hint for name, hint in function.__annotations__.items() if _mentions_array(hint)}
    if not shapes:
        return function
    function.__annotations__ = shapes
    return beartype(function)


def _mentions_array(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_mentions_array(part) for part in get_args(hint))
