"""Atomic file writes, and lossless saving and loading of records.

Everything is safetensors or JSON: nothing loaded here can execute code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch

from mechmem.core.renamed import RECORDS
from mechmem.errors import RunDirectoryError

T = TypeVar("T")

_RECORDS: dict[str, type[Any]] = {}


def record(cls: type[T]) -> type[T]:
    """Class decorator: allow this frozen dataclass to be written and read by `encode` and `decode`."""
    taken = _RECORDS.get(cls.__name__)
    if taken is not None and taken.__module__ != cls.__module__:
        raise TypeError(f"record name {cls.__name__!r} is taken by {taken.__module__}")
    _RECORDS[cls.__name__] = cls
    return cls


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush the file to disk and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text so that a reader sees the old file or the new one, never a part of it."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON; a value that is not finite is an error, not invalid JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        RunDirectoryError: the file is missing, truncated or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"cannot read {path}: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, on the CPU and contiguous."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with whole_file(path) as temporary:
        try:
            # None instead of an empty mapping, which safetensors writes without tensors as a file it cannot read.
            safetensors.torch.save_file(plain, temporary, metadata=dict(metadata) if metadata else None)
        except safetensors.SafetensorError as error:
            # safetensors reports a full disk as its own error; callers expect OSError.
            raise OSError(f"cannot write {path}: {error}") from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors onto the CPU.

    Raises:
        RunDirectoryError: the file is missing, truncated or not safetensors.
    """
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except (OSError, safetensors.SafetensorError) as error:
        raise RunDirectoryError(f"cannot read {path}: {error}") from error


def encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Turn records, containers and numbers into JSON values; tensors go into `tensors` under a key."""
    if isinstance(value, torch.Tensor | np.ndarray):
        key = f"t{len(tensors)}"
        # A copy: pandas may return read-only arrays, about which torch warns.
        tensors[key] = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.array(value))
        return {"$tensor": key}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        if _RECORDS.get(name) is not type(value):
            raise TypeError(f"{name} is not a record; decorate it with @record")
        fields = {f.name: encode(getattr(value, f.name), tensors) for f in dataclasses.fields(value) if f.init}
        return {"$record": name, "fields": fields}
    if isinstance(value, Mapping):
        return {"$map": [[encode(k, tensors), encode(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple | list | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else value
        return {f"${type(value).__name__}": [encode(item, tensors) for item in items]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"cannot store a {type(value).__name__}")


def decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Undo `encode`. Only classes decorated with `record` are built."""
    if not isinstance(value, dict):
        return value
    containers: dict[str, Callable[[Any], Any]] = {"$tuple": tuple, "$list": list, "$frozenset": frozenset}
    for tag, build in containers.items():
        if tag in value:
            return build(decode(item, tensors) for item in value[tag])
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$float" in value:
        return float(value["$float"])
    if "$map" in value:
        return {decode(k, tensors): decode(v, tensors) for k, v in value["$map"]}
    name = str(value.get("$record"))
    cls = _RECORDS.get(RECORDS.get(name, name))
    if cls is None:
        raise RunDirectoryError(f"unknown record {value.get('$record')!r}")
    return cls(**{name: decode(item, tensors) for name, item in value["fields"].items()})


def save_record(value: Any, path: Path) -> None:
    """Save one record to a single safetensors file whose header holds everything that is not a tensor."""
    tensors: dict[str, torch.Tensor] = {}
    body = json.dumps(encode(value, tensors))
    write_tensors(path, tensors or {"empty": torch.zeros(0)}, metadata={"mechmem": body})


def load_record(path: Path) -> Any:
    """Load a record written by `save_record`.

    Raises:
        RunDirectoryError: the file is missing, damaged or holds no record.
    """
    tensors = read_tensors(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if "mechmem" not in metadata:
        raise RunDirectoryError(f"{path} holds no mechmem result")
    try:
        return decode(json.loads(metadata["mechmem"]), tensors)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise RunDirectoryError(f"{path} is damaged: {error!r}") from error
