"""What a function of the user's is: its code, and the values that it reads besides its argument, as two hashes.

Both are the same in every process of one version of Python, which compiles code its own way and stands before them.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import itertools
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mechmem.core.fingerprint import checksum
from mechmem.core.subject import Subject
from mechmem.core.task import Task

_PLAIN = (type(None), bool, int, float, complex, str, type(Ellipsis), type(NotImplemented))
_INSTALLED = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}


def code_of(function: Callable[..., Any]) -> str:
    """Return a hash of a function's own code; "" if it has none, as an object that can be called."""
    compiled = getattr(function, "__code__", None)
    if compiled is None:
        return ""
    return _stamped(hashlib.blake2b(_spelt(compiled), digest_size=8).hexdigest())


def values_of(function: Callable[..., Any]) -> str:
    """Return a hash of all that a function reads besides its argument.

    These are its default arguments and attributes, what it closes over, the state of the object whose method it is or
    that is called, and the globals that its code names; of functions, classes and modules among them that are the
    user's own, everything that they read in turn, and of others their names. What has no value that could be written
    down, such as a lock or an open file, counts by its type.
    """
    return _stamped(_Reading(own=function).of(function))


def _stamped(digest: str) -> str:
    return f"{'.'.join(map(str, sys.version_info[:2]))}:{digest}"


def _spelt(code: types.CodeType) -> bytes:
    """Return what compiled code does as bytes, that of the functions within it included; not where it stands."""
    # Sets have another order in every process.
    plain = [sorted(map(repr, each)) if isinstance(each, frozenset) else each for each in code.co_consts]
    within = [_spelt(each) if isinstance(each, types.CodeType) else repr(each).encode() for each in plain]
    return b"\0".join([code.co_code, *within, *(name.encode() for name in (*code.co_names, *code.co_varnames))])


class _Reading:
    """A walk over values. Each that is not plain is written once, and after that by its number, so that circles end."""

    def __init__(self, own: Any = None) -> None:
        self._hash = hashlib.blake2b(digest_size=8)
        # What is measured with, whoever wrote it.
        self._own = own
        self._numbers: dict[int, int] = {}
        # Held until the end, so that no address is given to another value.
        self._met: list[Any] = []

    def of(self, value: Any) -> str:
        """Return the hash of a value and all that it leads to."""
        self._write(value)
        for met in self._met:  # grows meanwhile
            self._tell(met)
        return self._hash.hexdigest()

    def _add(self, kind: str, content: str | bytes = b"") -> None:
        content = content.encode(errors="surrogatepass") if isinstance(content, str) else content
        self._hash.update(f"{kind} {len(content)}:".encode() + content)

    def _write(self, value: Any) -> None:
        """Write a plain value, or the number of another, which is told later."""
        if isinstance(value, bytes | bytearray):
            self._add("bytes", bytes(value))
        elif type(value) in _PLAIN:
            self._add(type(value).__name__, repr(value))
        elif type(value) is tuple:  # may be one or several objects for the same source
            self._add("tuple", str(len(value)))
            for each in value:
                self._write(each)
        elif isinstance(value, set | frozenset):
            self._add("set", " ".join(sorted(_Reading().of(each) for each in value)))
        else:
            number = self._numbers.setdefault(id(value), len(self._met))
            self._add("number", str(number))
            if number == len(self._met):
                self._met.append(value)

    def _write_named(self, values: Mapping[str, Any]) -> None:
        for name in sorted(values):
            self._add("name", name)
            self._write(values[name])

    def _tell(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            self._tell_function(value)
        elif isinstance(value, type):
            self._tell_class(value)
        elif isinstance(value, types.ModuleType):
            self._add("module", value.__name__)
        elif isinstance(value, types.MethodType):
            self._add("method")
            self._write(value.__func__)
            self._write(value.__self__)
        elif isinstance(value, staticmethod | classmethod):
            self._add(type(value).__name__)
            self._write(value.__func__)
        elif isinstance(value, property):
            self._add("property")
            self._write((value.fget, value.fset, value.fdel))
        elif type(value) in (dict, types.MappingProxyType):
            self._add("dict", str(len(value)))
            for pair in value.items():
                self._write(pair)
        elif type(value) is list:
            self._add("list")
            self._write(tuple(value))
        elif isinstance(value, Tensor):
            self._tell_tensor(value)
        elif isinstance(value, Task):
            self._add("task", value.digest)
        elif isinstance(value, Subject):  # its other fields say where it came from
            self._add("subject", value.name)
            self._write((value.model, value.task, value.roles))
        else:
            self._tell_object(value)

    def _tell_function(self, function: types.FunctionType) -> None:
        if function is not self._own and not _is_own(function.__module__):
            self._add("foreign", f"{function.__module__}.{function.__qualname__}")
            self._write(vars(function).get("__wrapped__"))
            return
        code = function.__code__
        self._add("function", _spelt(code))
        self._write(function.__defaults__)
        self._write_named(function.__kwdefaults__ or {})
        self._write_named(vars(function))
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            self._add("cell", name)
            try:
                self._write(cell.cell_contents)
            except ValueError:  # not filled yet
                self._add("empty")
        read = {name: function.__globals__[name] for name in _globals_in(code) & function.__globals__.keys()}
        self._write_named(read)
        for name, module in sorted(read.items()):
            if isinstance(module, types.ModuleType) and _is_own(module.__name__):
                self._add("of module", name)
                used = {each for part in _codes(code) for each in part.co_names} & vars(module).keys()
                self._write_named({each: getattr(module, each) for each in used})

    def _tell_class(self, cls: type) -> None:
        self._add("class", cls.__qualname__)
        if not _is_own(cls.__module__):
            self._add("foreign", cls.__module__)
            return
        self._write(cls.__bases__)
        own = {name: each for name, each in vars(cls).items() if not _is_special(name) or inspect.isroutine(each)}
        self._write_named(own)

    def _tell_tensor(self, tensor: Tensor) -> None:
        self._add("tensor", f"{tensor.dtype} {tuple(tensor.shape)}")
        if tensor.device.type != "meta" and not tensor.is_quantized:
            self._add("content", str(checksum(tensor)))

    def _tell_object(self, value: Any) -> None:
        """Write an object as what it would be made of again: a callable, its arguments, and the state."""
        self._write(type(value))
        try:
            made = value.__reduce_ex__(4)
        except Exception:
            # Whatever an object raises that cannot be copied: it has no value that another process could have.
            return
        if isinstance(made, str):
            self._add("global", f"{getattr(value, '__module__', '')}.{made}")
            if callable(wrapped := getattr(value, "__wrapped__", None)):
                self._write(wrapped)
            return
        (function, arguments), (state, listed, mapped) = made[:2], (*made[2:], None, None, None)[:3]
        self._write(function)
        self._write(tuple(arguments))
        self._write(_lasting(value, state) if isinstance(state, dict) else state)
        for each in (listed, mapped):
            self._write(None if each is None else tuple(each))


def _lasting(value: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object's state without what it has worked out of the rest and keeps."""
    kept = {
        name: each
        for name, each in state.items()
        if not isinstance(inspect.getattr_static(type(value), str(name), None), functools.cached_property)
    }
    return dict(sorted(kept.items(), key=lambda item: str(item[0])))


def _is_own(module: str | None) -> bool:
    """Return whether a module is the user's own, neither mechmem's nor Python's nor installed."""
    root = (module or "__main__").partition(".")[0]
    if root == "mechmem" or root in sys.stdlib_module_names:
        return False
    files = (getattr(sys.modules.get(name), "__file__", None) for name in (root, str(module)))
    parents = Path(next(filter(None, files), "")).absolute().parents
    return not any(str(each) in _INSTALLED or each.name in ("site-packages", "dist-packages") for each in parents)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _codes(each)


def _globals_in(code: types.CodeType) -> set[str]:
    """Return the names of globals that code reads; not those of attributes, which stand in the same list of names."""
    steps = itertools.chain.from_iterable(map(dis.get_instructions, _codes(code)))
    return {
        step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and not _is_special(step.argval)
    }
