"""Sweeps described by a TOML file. Imports no torch."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mechmem.cli.sweeps import Sweep, SweepImages, settings, typed
from mechmem.core.files import read_bytes
from mechmem.core.in_words import shown
from mechmem.errors import ConfigError, unknown_name

WORDS = ("out", "engine", "device")
"""Keys whose value is a word; the other keys are below."""
KEYS = (*WORDS, "measure", "workers", "engine-settings", "grid", "train", "train-images")
"""Keys of a file."""


def told(command: Sweep | SweepImages) -> Sweep | SweepImages:
    """Return the command itself, or the one that its file describes, with what the command line says in its stead.

    Raises:
        RunDirectoryError: the file cannot be read.
        ConfigError: it is no TOML, or something in it has the wrong type.
        UnknownNameError: a key is unknown; the message suggests the nearest.
    """
    if isinstance(command, SweepImages) or command.file is None:
        return command
    path, values = command.file, _values(command.file)
    kind = SweepImages if "train-images" in values else Sweep
    found: dict[str, Any] = {key: values[key] for key in ("engine", "device") if key in values}
    for name, value in _table(path, values, kind.table).items():
        key = name.replace("-", "_")
        if key not in (known := settings(kind.training)):
            raise unknown_name(f"setting of [{kind.table}]", name, [each.replace("_", "-") for each in known])
        found[key] = typed(kind.training, key, value, f"{path}: {name}")
    if kind is SweepImages and "data" not in found:
        raise ConfigError(f'{path}: [train-images] has no data, e.g. data = "digits"')
    found["grid"] = tuple(f"{name}={_text(path, name, each)}" for name, each in _table(path, values, "grid").items())
    found["measure"] = _measure(path, values)
    chosen = _table(path, values, "engine-settings")
    found["engine_settings"] = tuple(f"{name}={_text(path, name, each)}" for name, each in chosen.items())
    if "out" in values:
        found["out"] = Path(values["out"])
    if "workers" in values:
        if type(values["workers"]) is not int:
            raise ConfigError(f"{path}: workers must be a whole number, got {shown(values['workers'])}")
        found["workers"] = values["workers"]
    return kind(**(found | _given(command, kind)))


def _values(path: Path) -> dict[str, Any]:
    """Read a file, and check its keys."""
    try:
        values = tomllib.loads(read_bytes(path).decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    for key in values:
        if key not in KEYS:
            raise unknown_name(f"key of {path}", key, KEYS)
    for key in WORDS:
        if key in values and (not isinstance(values[key], str) or not values[key]):
            raise ConfigError(f"{path}: {key} must be a word, got {shown(values[key])}")
    if "train" in values and "train-images" in values:
        raise ConfigError(f"{path} has [train] and [train-images]: leave one of them out")
    return values


def _given(command: Sweep, kind: type[Sweep | SweepImages]) -> dict[str, Any]:
    """Return what the command line says, as options of the command that the file describes."""
    fields = [field for field in dataclasses.fields(command) if field.name != "file"]
    given = {each.name: getattr(command, each.name) for each in fields if getattr(command, each.name) != each.default}
    if wrong := set(given) - {field.name for field in dataclasses.fields(kind)}:
        option = f"--{min(wrong).replace('_', '-')}"
        raise ConfigError(f"{option} is no option of train-images, which {command.file} sweeps")
    return given


def _measure(path: Path, values: Mapping[str, Any]) -> tuple[str, ...]:
    measure = values.get("measure", ["raw"])
    names = [measure] if isinstance(measure, str) else measure
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"{path}: measure must be a name or a list of names, got {shown(measure)}")
    return tuple(names) or ("none",)


def _table(path: Path, values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"{path}: {name} must be a table, [{name}]")
    return found


def _text(path: Path, name: str, value: Any) -> str:
    """Write the values of a setting as on the command line."""
    if isinstance(value, list) and value and not any(isinstance(each, list) for each in value):
        return ",".join(_text(path, name, each) for each in value)
    if not isinstance(value, str | int | float):
        raise ConfigError(f"{path}: {name} must be a value, or a list of values, got {shown(value)}")
    return str(value).lower() if isinstance(value, bool) else str(value)
