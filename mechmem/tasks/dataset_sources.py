"""Data sets of users, read by row: those of torch and HuggingFace, and frames of pandas."""

from __future__ import annotations

import abc
import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from mechmem.core.in_words import reason
from mechmem.core.labels import categories, one_order
from mechmem.errors import ConfigError, MechmemError, unknown_name
from mechmem.tasks.image_folders import LABEL_COLUMNS


class Source(abc.ABC):
    """A data set that is read by row, a few rows at a time.

    Attributes:
        name: the argument that it was passed as, for errors.
        columns: names of its columns; none of a data set of torch, whose items may be anything.
        class_names: names of its classes in their order, or None.
        tabular: whether its columns are single numbers, which together are an example's features.
        index: names of the rows of a frame or column of pandas in their order, else None.
    """

    name: str
    columns: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    tabular: bool = False
    index: Any = None

    @functools.cached_property
    def _length(self) -> int:
        return self._count()

    def __len__(self) -> int:
        return self._length

    @abc.abstractmethod
    def _count(self) -> int:
        """Return the number of rows that the data set says it has."""

    @abc.abstractmethod
    def _items(self, rows: Sequence[int]) -> list[Any]:
        """Return the items of some rows, as the data set gives them."""

    def items(self, rows: Sequence[int]) -> list[Any]:
        """Return the items of some rows, as the data set gives them.

        Raises:
            ConfigError: one is not there, cannot be read, or is None.
        """
        try:
            found = self._items(rows)
        except MechmemError:
            raise
        except Exception as error:  # any failure of the user's own code
            for row in rows:
                self._read_one(row)
            first, last = self.where(rows[0]), self.where(rows[-1])
            raise ConfigError(f"{first} to {last} cannot be read together: {_said(error)}") from error
        if len(found) != len(rows):
            raise ConfigError(f"{self.name} gives {len(found)} items of {len(rows)} rows: it must give one of each")
        empty = next((row for row, item in zip(rows, found, strict=True) if item is None), None)
        if empty is not None:
            raise ConfigError(f"{self.where(empty)} is None: leave out rows without an example")
        return found

    def _read_one(self, row: int) -> None:
        try:
            self._items([row])
        except MechmemError:
            raise
        except Exception as error:
            where = f"{self.where(row)}{self._file(row)}"
            if isinstance(error, IndexError):
                raise ConfigError(f"{where} is not there, though its length is {len(self)}: {reason(error)}") from error
            raise ConfigError(f"{where} cannot be read: {_said(error)}") from error

    def _file(self, row: int) -> str:
        """Return the file that a row is read from, for errors; "" if there is none."""
        return ""

    def check_length(self) -> None:
        """Refuse a data set that has another length than at first.

        Raises:
            ConfigError: it has.
        """
        now, before = self._count(), len(self)
        if now != before:
            told = f"{self.where(min(now, before))} is {'new' if now > before else 'gone'}"
            raise ConfigError(f"{told}: there were {before} rows, and now {now}. A data set must keep its length")

    def where(self, row: int) -> str:
        """Return a row in words, for errors."""
        return f"row {row} of {self.name}"

    def column(self, name: str) -> Any:
        """Return the values of a column for all rows.

        Raises:
            UnknownNameError: there is no such column.
        """
        raise unknown_name("column", name, self.columns)

    def order_of(self, name: str) -> Sequence[str] | None:
        """Return the classes in a column in their order, where the column's type declares it; else None.

        Raises:
            ConfigError: training and held-out data have two orders.
        """
        return None


def _said(error: Exception) -> str:
    """Return an error in words, with its class if that alone says what is wrong with a row."""
    return reason(error) if isinstance(error, OSError) else f"{type(error).__name__}: {reason(error)}"


class OfTorch(Source):
    """A map-style data set of torch, or anything else with a length and items by number."""

    def __init__(self, data: Any, name: str):
        self._data, self.name = data, name
        names = getattr(data, "classes", None)
        self.class_names = tuple(map(str, names)) if isinstance(names, list | tuple) else None

    def _count(self) -> int:
        return len(self._data)

    def _items(self, rows: Sequence[int]) -> list[Any]:
        several = getattr(self._data, "__getitems__", None)
        if several is None:
            return [self._data[row] for row in rows]
        found = several(list(rows))
        return [] if found is None else list(found)

    def column(self, name: str) -> Any:
        """Return the values under a name in all items, which are read for it.

        Raises:
            ConfigError: an item has no such name, although the first has.
            UnknownNameError: the first has none.
        """
        found = []
        for row in range(len(self)):
            item = self.items([row])[0]
            if not isinstance(item, Mapping) or name not in item:
                if row:
                    raise ConfigError(f"{self.where(row)} has no {name!r}, although the first has")
                raise unknown_name("column", name, list(item) if isinstance(item, Mapping) else [])
            found.append(item[name])
        return found


class OfHuggingFace(Source):
    """A data set of `datasets`, with its own format and transforms."""

    def __init__(self, data: Any, name: str):
        # A format that is set on the user's data set later would change what is read.
        self._data, self.name, self.columns = copy.copy(data), name, tuple(data.column_names)
        for column in (*LABEL_COLUMNS, *self.columns):
            names = getattr(data.features.get(column), "names", None)
            if names and self.class_names is None:
                self.class_names = tuple(names)

    def _count(self) -> int:
        return len(self._data)

    def _items(self, rows: Sequence[int]) -> list[Any]:
        return list(self._data.__getitems__(list(rows)))

    def _file(self, row: int) -> str:
        import datasets

        for name in self.columns:
            if isinstance(self._data.features[name], datasets.Image):
                stored = self._data.with_format(None).cast_column(name, datasets.Image(decode=False))[row][name]
                return f" ({stored['path']})" if stored and stored["path"] else ""
        return ""

    def column(self, name: str) -> Any:
        """Return a column as it is stored, without the data set's format."""
        if name not in self.columns:
            return super().column(name)
        return self._data.with_format(None)[name][:]


class OfFrame(Source):
    """A frame of pandas; an item is a row, with its values by column.

    Raises:
        ConfigError: two columns have one name.
    """

    tabular = True

    def __init__(self, data: Any, name: str):
        self._data, self.name, self.index = data.reset_index(drop=True), name, data.index
        self.columns = tuple(map(str, data.columns))
        twice = next((each for place, each in enumerate(self.columns) if each in self.columns[:place]), None)
        if twice is not None:
            raise ConfigError(f"{name} has two columns called {twice!r}: rename or drop one")
        self._data.columns = list(self.columns)

    def _count(self) -> int:
        return len(self._data)

    def _items(self, rows: Sequence[int]) -> list[Any]:
        return self._data.iloc[list(rows)].to_dict("records")

    def column(self, name: str) -> Any:
        """Return a column."""
        return super().column(name) if name not in self.columns else self._data[name]

    def order_of(self, name: str) -> Sequence[str] | None:
        """Return the order of the categories of a column."""
        return categories(self._data[name])


class Both(Source):
    """Training data with held-out data after them.

    Raises:
        ConfigError: their columns or classes differ.
    """

    name = "train and test"

    def __init__(self, first: Source, second: Source):
        for one, other in ((first, second), (second, first)):
            if one.columns and not other.columns:
                raise ConfigError(
                    f"{one.name} has columns ({', '.join(one.columns)}), and {other.name} items without: pass both in "
                    "one form"
                )
            lacking = next((each for each in one.columns if each not in other.columns), None)
            if lacking is not None:
                raise ConfigError(
                    f"training and held-out data have different columns: {one.name} has {lacking!r}, and {other.name} "
                    f"only {', '.join(other.columns)}"
                )
        if first.class_names != second.class_names:
            raise ConfigError("training and held-out data have different classes")
        self._parts = first, second
        self.columns, self.class_names, self.tabular = first.columns, first.class_names, first.tabular
        if first.index is not None and second.index is not None:
            self.index = first.index.append(second.index)

    def _count(self) -> int:
        return sum(map(len, self._parts))

    def _items(self, rows: Sequence[int]) -> list[Any]:
        n = len(self._parts[0])
        first, second = [row for row in rows if row < n], [row - n for row in rows if row >= n]
        found = [
            iter(part.items(own)) if own else iter(()) for part, own in zip(self._parts, (first, second), strict=True)
        ]
        return [next(found[row >= n]) for row in rows]

    def check_length(self) -> None:
        """Refuse data of which a part has another length than at first."""
        for part in self._parts:
            part.check_length()

    def where(self, row: int) -> str:
        """Return a row in words, numbered in its own part."""
        first, second = self._parts
        return first.where(row) if row < len(first) else second.where(row - len(first))

    def column(self, name: str) -> Any:
        """Return a column of both."""
        return [value for part in self._parts for value in part.column(name)]

    def order_of(self, name: str) -> Sequence[str] | None:
        """Return the order that either part declares, or both alike."""
        first, second = (part.order_of(name) for part in self._parts)
        return one_order(first, second)
