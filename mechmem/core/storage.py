"""Tensors with a hash of their content, and lossless saving and loading of records.

Everything is safetensors or JSON: nothing loaded here can execute code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import json
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch

from mechmem.core.files import HASH, check_regular, hash_of, parse_json, whole_file
from mechmem.core.renamed import RECORDS
from mechmem.errors import MechmemError, RunDirectoryError, UncheckedWarning, warn_caller

T = TypeVar("T")

_RECORDS: dict[str, type[Any]] = {}
HOMES = (
    "analyses",
    "examples",
    "interventions",
    "layers",
    "math",
    "neurons",
    "recipes",
    "scorecard",
    "sequences",
    "tasks",
    "training",
)
"""Rooms with records; a saved one may be opened before its module has been imported."""
_ABOUT = "mechmem"
_UNREADABLE = (OSError, safetensors.SafetensorError, RuntimeError, ValueError, LookupError, MemoryError)
"""What readers raise on a damaged file."""


def record(cls: type[T]) -> type[T]:
    """Class decorator: allow this frozen dataclass to be written and read by `encode` and `decode`."""
    taken = _RECORDS.get(cls.__name__)
    if taken is not None and taken.__module__ != cls.__module__:
        raise TypeError(f"record name {cls.__name__!r} is taken by {taken.__module__}")
    _RECORDS[cls.__name__] = cls
    return cls


@dataclasses.dataclass(frozen=True)
class Stored:
    """Tensors read from a file.

    Attributes:
        tensors: the tensors by name, on the CPU.
        about: the JSON object that was written with them.
        hashed: whether the file had a hash, which its content matched.
    """

    tensors: dict[str, torch.Tensor]
    about: dict[str, Any]
    hashed: bool


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Write tensors as safetensors, on the CPU and contiguous, with a JSON object about them and a hash of both."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    hashed = {**(about or {}), HASH: _content_hash(plain, about or {})}
    # A single entry, as safetensors writes several in any order. Its `save_file`, when it is killed, would leave a
    # temporary file of its own, and it would replace the one that is locked.
    content = safetensors.torch.save(plain, metadata={_ABOUT: json.dumps(hashed)})
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def read_stored(path: Path, most: int | None = None) -> Stored:
    """Read tensors onto the CPU, with what was written about them.

    Args:
        path: the file.
        most: its largest size in bytes; None for any.

    Raises:
        RunDirectoryError: the file is missing, truncated, too large or not safetensors, or its content does not match
            its hash.
    """
    with _opened(path, most) as file:
        about = _about(path, file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        written = about.pop(HASH, None)
        if written is not None and written != _content_hash(tensors, about):
            raise RunDirectoryError(f"{path} is damaged: its content does not match its hash")
    return Stored(tensors, about, written is not None)


def read_about(path: Path) -> dict[str, Any]:
    """Read what was written about tensors, and not these, so that nothing is checked.

    Raises:
        RunDirectoryError: the file is missing, truncated or not safetensors.
    """
    with _opened(path, None) as file:
        return _about(path, file.metadata())


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors onto the CPU.

    Raises:
        RunDirectoryError: the file is missing, truncated or not safetensors, or its content does not match its hash.
    """
    return read_stored(path).tensors


@contextlib.contextmanager
def _opened(path: Path, most: int | None) -> Iterator[Any]:
    check_regular(path, most)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except _UNREADABLE as error:
        other = isinstance(error, safetensors.SafetensorError) and "header" in str(error)
        why = f"it is damaged, or no file of tensors ({error})" if other else error
        raise RunDirectoryError(f"cannot read {path}: {why}") from error


def _about(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        about = parse_json((metadata or {}).get(_ABOUT, "{}"))
    except ValueError as error:
        raise RunDirectoryError(f"{path} is damaged: {error}") from error
    if not isinstance(about, dict):
        raise RunDirectoryError(f"{path} is damaged: what it says of its tensors is no JSON object")
    return about


def _content_hash(tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> str:
    state = hashlib.blake2b(hash_of(dict(about)).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        state.update(json.dumps([name, str(tensor.dtype), *tensor.shape]).encode())
        # As bytes, because numpy has no bfloat16; the stride of a single value may be anything.
        flat = tensor.reshape(-1)
        state.update(flat.as_strided(flat.shape, (1,)).view(torch.uint8).numpy().data)
    return state.hexdigest()


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
    cls = _class_of(RECORDS.get(name, name))
    if cls is None:
        raise RunDirectoryError(f"unknown record {value.get('$record')!r}, of a newer version or another package")
    return cls(**{name: decode(item, tensors) for name, item in value["fields"].items()})


def _class_of(name: str) -> type | None:
    """Return the record class of a name, also if its module has not been imported yet."""
    if name not in _RECORDS:
        for home in HOMES:
            room = importlib.import_module(f"mechmem.{home}")
            for info in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
                importlib.import_module(info.name)
    return _RECORDS.get(name)


def save_record(value: Any, path: Path) -> None:
    """Save one record to a single safetensors file whose header holds everything that is not a tensor."""
    tensors: dict[str, torch.Tensor] = {}
    body = encode(value, tensors)
    write_tensors(path, tensors or {"empty": torch.zeros(0)}, body)


def is_record(path: Path) -> bool:
    """Return whether a file was written by `save_record`."""
    try:
        return "$record" in read_about(path)
    except RunDirectoryError:
        return False


def load_record(path: Path) -> Any:
    """Load a record written by `save_record`.

    Raises:
        RunDirectoryError: the file is missing, damaged or holds no record.

    Warns:
        UncheckedWarning: an older version wrote the file, without a hash.
    """
    stored = read_stored(path)
    if "$record" not in stored.about:
        raise RunDirectoryError(f"{path} holds no mechmem result")
    try:
        found = decode(stored.about, stored.tensors)
    except MechmemError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RunDirectoryError(f"{path} is damaged: {error!r}") from error
    if not stored.hashed:
        warn_unchecked(path)
    return found


def warn_unchecked(path: Path) -> None:
    """Warn that an older version wrote a file or directory, without hashes."""
    warn_caller(f"{path} was saved by an older version, without hashes: its content was not checked", UncheckedWarning)
