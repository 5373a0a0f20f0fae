"""Parts of a user's items in the form that is hashed, and hashes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mechmem.core.in_words import reason
from mechmem.errors import ConfigError

T = TypeVar("T")

PLAIN = frozenset((str, int, float, bool, type(None)))
"""Types whose values are told apart by what Python prints of them."""


def plain(value: Any) -> Any:
    """Return a part of an item as what has one hash whenever it is read: arrays for tensors, pixels of pictures."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, Tensor):
        if value.device.type == "meta" or value.layout != torch.strided or value.is_quantized:
            held = "on the meta device" if value.device.type == "meta" else f"of layout {value.layout}"
            raise TypeError(f"a tensor must be an ordinary (dense) one, got one {held}")
        return np.ascontiguousarray(value.detach().cpu().numpy())
    if isinstance(value, Mapping):
        return [(str(key), plain(value[key])) for key in sorted(value)]
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if hasattr(value, "getbands") and hasattr(value, "tobytes"):
        return [value.mode, value.size, value.tobytes()]
    return value


def digest_of(part: Any, where: str) -> bytes:
    """Return the hash of an input that a task's digest is made of, the same in every process.

    Raises:
        ConfigError: the input cannot be hashed.
    """
    import joblib

    return within(where, lambda: bytes.fromhex(str(joblib.hash(part))))


def fingerprint(part: Any, where: str) -> int:
    """Return a hash of 64 bits of an input, to see whether it is the same at another reading.

    Every reading pays for it, and `digest_of` takes longer than the reading of a small input.

    Raises:
        ConfigError: the input cannot be hashed.
    """
    state = hashlib.blake2b(digest_size=8)
    within(where, lambda: _update(state, part))
    return int.from_bytes(state.digest(), "little")


def _update(state: Any, part: Any) -> None:
    kind = type(part)
    if kind in PLAIN or (kind in (list, tuple) and all(_is_plain(each) for each in part)):
        state.update(repr(part).encode())
    elif kind in (list, tuple):
        state.update(b"[%d" % len(part))
        for each in part:
            _update(state, each)
    elif kind is bytes:
        state.update(b"b%d" % len(part))
        state.update(part)
    elif isinstance(part, np.ndarray) and part.dtype.kind in "biufc":
        state.update(f"{part.dtype.str}{part.shape}".encode())
        state.update(np.ascontiguousarray(part).data)
    else:
        import joblib

        state.update(str(joblib.hash(part)).encode())


def _is_plain(part: Any) -> bool:
    """Return whether a part is a plain value, or a pair of them, as the columns of a row are."""
    return type(part) in PLAIN or (type(part) is tuple and all(type(each) in PLAIN for each in part))


def within(where: str, read: Callable[[], T]) -> T:
    """Return what is read of a row, and name the row in errors.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return read()
    except Exception as error:  # any failure of objects of the user's to be sorted, converted or pickled
        raise ConfigError(f"the input of {where} cannot be read: {reason(error)}") from error
