"""Grids of settings: names and values into cells, each of which is a training config. Imports no torch."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from mechmem.core.config import Config
from mechmem.core.in_words import shown
from mechmem.errors import ConfigError, MechmemError, unknown_name
from mechmem.training.config import TrainConfig

MOST_CELLS = 100_000
"""Most cells of a sweep: each has a directory of its own."""

Plain = str | int | float | bool | None
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One setting of a sweep.

    Attributes:
        values: the grid's values of this cell, by name.
        config: the training config.
    """

    values: Mapping[str, Plain]
    config: TrainConfig


def cells_of(grid: Mapping[str, Sequence[Any]], config_of: Callable[[dict[str, Any]], TrainConfig]) -> list[Cell]:
    """Return the cells of a grid; the last name varies fastest.

    Args:
        grid: values by name.
        config_of: builds the config of a cell from its values.

    Raises:
        ConfigError: a name has no value or one twice, there are too many cells, the settings of a cell contradict each
            other, or two cells are the same training.
    """
    for name, values in grid.items():
        if not len(values):
            raise ConfigError(f"grid: {name} has no value")
    count = math.prod(len(values) for values in grid.values())
    if count > MOST_CELLS:
        raise ConfigError(f"the grid has {count:,} cells ({in_words(grid)}), and at most {MOST_CELLS:,} are allowed")
    cells = []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        columns = {name: _column(value) for name, value in chosen.items()}
        try:
            cells.append(Cell(columns, config_of(chosen)))
        except MechmemError as error:
            place = f"grid: {where(columns)}: " if chosen else ""
            raise ConfigError(f"{place}{error}") from error
    check_distinct(cells)
    return cells


def check_distinct(cells: Sequence[Cell]) -> None:
    """Refuse cells that are the same training.

    Raises:
        ConfigError: the message names both.
    """
    seen: dict[str, int] = {}
    for number, cell in enumerate(cells):
        before = seen.setdefault(cell.config.digest, number)
        if before != number:
            one, other = where(cells[before].values), where(cell.values)
            places = f"the {_th(before + 1)} and the {_th(number + 1)}"
            both = f"{one} and {other}" if one != other else places + (f", both {one}" if one else "")
            raise ConfigError(f"two cells are the same training: {both}")


def _th(number: int) -> str:
    return f"{number}{'th' if number % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def in_words(grid: Mapping[str, Sequence[Any]]) -> str:
    """Write the size of a grid, e.g. "label_noise 4 × seed 3"."""
    return " × ".join(f"{name} {len(values):,}" for name, values in grid.items())


def where(values: Mapping[str, Plain]) -> str:
    """Write the place of a cell, e.g. "label_noise=0.1, seed=2"."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def given_cells(configs: Sequence[TrainConfig]) -> list[Cell]:
    """Return a cell for each config; its values are the settings in which the configs differ.

    Raises:
        ConfigError: there is no config, too many, or one twice.
    """
    if not configs:
        raise ConfigError("there is no config to train")
    if len(configs) > MOST_CELLS:
        raise ConfigError(f"there are {len(configs):,} configs, and at most {MOST_CELLS:,} are allowed")
    settings = [_settings(config) for config in configs]
    paths = list(dict.fromkeys(path for each in settings for path in each))
    missing = object()
    columns = {path: tuple(repr(each.get(path, missing)) for each in settings) for path in paths}
    names = _short_names({path: column for path, column in columns.items() if len(set(column)) > 1})
    cells = [
        Cell({name: _column(each.get(path)) for path, name in names.items()}, config)
        for each, config in zip(settings, configs, strict=True)
    ]
    check_distinct(cells)
    return cells


def varied(base: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """Return a config with other values of some settings.

    Args:
        base: the config.
        values: by the name of the setting, as an option of `mechmem train` ("label_noise", "width"; one that several
            configs have, such as "seed", is set in all of them), or by its path ("task.noise.fraction").

    Raises:
        UnknownNameError: there is no such setting; the message suggests the nearest.
        ConfigError: a value is not allowed, or two names are of one setting.
    """
    known = _names(base)
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise unknown_name("setting", name, known)
        for path in known[name]:
            if path in changes:
                raise ConfigError(f"{name} sets {path}, which another name of the grid sets too")
            # 0 and 0.0 are one setting, and one training.
            changes[path] = float(value) if type(value) is int and isinstance(_at(base, path), float) else value
    return _replaced(base, changes)


def parsed(text: str) -> list[Plain]:
    """Read the values of a grid from text: "0.1,0.3", "add,sub", or a range "first:last:step" with both ends.

    Raises:
        ConfigError: a value is empty, or a range has no end.
    """
    if ":" not in text:
        parts = [part.strip() for part in text.split(",")]
        if not all(parts):
            raise ConfigError(f"grid: a value is missing in {shown(text)}")
        return [_value(part) for part in parts]
    parts = [part.strip() for part in text.split(":")]
    if len(parts) not in (2, 3) or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ConfigError(f"grid: a range is first:last or first:last:step, e.g. 0:0.9:0.05; got {shown(text)}")
    try:
        # Decimals, so that the third of 0:1:0.1 is 0.3 and not 0.30000000000000004.
        first, last, step = (Decimal(part) for part in (*parts, "1")[:3])
        count = int((last - first) / step) + 1 if step else 0
    except (InvalidOperation, OverflowError) as error:
        raise ConfigError(f"grid: the range {shown(text)} cannot be counted") from error
    if count < 1:
        raise ConfigError(f"grid: the range {shown(text)} has no value")
    if count > MOST_CELLS:
        raise ConfigError(f"grid: the range {shown(text)} has {count:,} values, and at most {MOST_CELLS:,} are allowed")
    return [_value(str(first + place * step)) for place in range(count)]


def _value(text: str) -> Plain:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _column(value: Any) -> Plain:
    """Return a setting as it stands in a column of the table: a config by its kind and what is not at its default."""
    if isinstance(value, Config):
        fields = dataclasses.fields(value)
        own = {f.name: getattr(value, f.name) for f in fields if getattr(value, f.name) != _default(f)}
        return f"{value.kind}({', '.join(f'{name}={_column(each)}' for name, each in own.items())})"
    if isinstance(value, tuple | list):
        return " ".join(str(_column(each)) for each in value)
    if hasattr(value, "item"):
        value = value.item()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _settings(config: Config, prefix: str = "") -> dict[str, Any]:
    """Return every setting by its path; a config within another by the paths of its settings, and by its kind."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, Config):
            found[f"{prefix}{field.name}"] = value.kind
            found |= _settings(value, f"{prefix}{field.name}.")
        else:
            found[f"{prefix}{field.name}"] = value
    return found


def _names(config: Config, prefix: str = "") -> dict[str, list[str]]:
    """Return the paths of the settings that each name is of."""
    found: dict[str, list[str]] = {}
    for field in dataclasses.fields(config):
        path, value = f"{prefix}{field.name}", getattr(config, field.name)
        for name in dict.fromkeys((config.option_names.get(field.name, field.name), path)):
            found.setdefault(name, []).append(path)
        if isinstance(value, Config):
            for name, paths in _names(value, f"{path}.").items():
                found.setdefault(name, []).extend(paths)
    return found


def _short_names(columns: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the last part of each path, or the whole path where several end alike.

    Of settings that end alike and are the same in every cell (the seeds of task and network), only the first is kept.
    """
    found: dict[tuple[str, tuple[str, ...]], str] = {}
    for path, column in columns.items():
        found.setdefault((path.rpartition(".")[2], column), path)
    last = [name for name, _ in found]
    return {path: name if last.count(name) == 1 else path for (name, _), path in found.items()}


def _at(config: Any, path: str) -> Any:
    for field in path.split("."):
        config = getattr(config, field)
    return config


def _replaced(config: Any, changes: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        field, _, rest = path.partition(".")
        if rest:
            inner.setdefault(field, {})[rest] = value
        else:
            values[field] = tuple(value) if isinstance(value, list) else value
    for field, within in inner.items():
        # The settings of a config that is itself varied are those of its values.
        values[field] = _replaced(values.get(field, getattr(config, field)), within)
    return dataclasses.replace(config, **values)
