"""A task with a person's decisions on its training labels."""

from __future__ import annotations

import hashlib
import operator
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from mechmem.core.arguments import checked
from mechmem.core.files import check_regular
from mechmem.core.in_words import reason, shown
from mechmem.core.inputs import one_tensor
from mechmem.core.paths import check_path
from mechmem.core.task import Task
from mechmem.errors import ConfigError, RunDirectoryError, UnknownNameError
from mechmem.tasks.datasets import DatasetTask
from mechmem.tasks.relabelled import RelabelledTask

T = TypeVar("T")

LEFT_OUT = "leave out"
DECISIONS = ("keep", "relabel", LEFT_OUT)
"""What a person can decide about a label."""
COLUMNS = ("id", "decision", "label")
OTHER_MARKS = (";", "\t", "|")
"""What separates columns in tables of other programs."""


class CleanedTask(RelabelledTask):
    """A task whose training labels were decided upon: some are others, and some examples are left out.

    Args:
        task: the task as it was.
        given: the new training labels, in the order of `task.train_ids`.
        left_out: ids of the training examples that are left out. Their ids stay in `ids`, as neither training nor test
            examples.
    """

    def __init__(self, task: Task, given: Int[Tensor, " train"], left_out: Int[Tensor, " example"]):
        super().__init__(task, given)
        # An image whose views are the training examples has the label that they have.
        changed = given != task.given(task.train_ids)
        self._labels[task.rows(task.source(task.train_ids[changed]))] = given[changed]
        self.left_out = left_out
        self.train_ids = task.train_ids[~torch.isin(task.train_ids, left_out)]
        self.units = None  # of what is left, not every unit is whole
        if not len(self.train_ids):
            raise ConfigError("the training set is empty: every example is left out")

    @property
    def sources(self) -> Int[Tensor, " example"]:
        """Those of the original task that are not left out."""
        sources = super().sources
        return sources[~torch.isin(sources, self._task.source(self.left_out))]

    @property
    def digest(self) -> str:
        """Hash of the original task, the new labels and the examples that are left out."""
        out = hashlib.blake2b(self.left_out.numpy().tobytes(), digest_size=4).hexdigest()
        return f"{super().digest}-{out}"

    def data(self) -> Dataset:
        """Return a data set of torch with the training examples that stay, each with its label.

        Item i is that of `train_ids[i]`: as the user's data set gives it, or (input, label) of other tasks.
        """
        return _Items(self)

    def item(self, example: int) -> Any:
        """Return the item of an example, with its label."""
        ids = torch.tensor([example])
        if isinstance(self._task, DatasetTask):
            return self._task.items(ids, self.given(ids))[0]
        inputs, label = self.batch(ids)
        return one_tensor(inputs, "an item")[0], int(label[0])


class _Items(Dataset):
    def __init__(self, task: CleanedTask):
        self._task = task

    def __len__(self) -> int:
        return len(self._task.train_ids)

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        return self._task.item(int(self._task.train_ids[operator.index(place)]))


@checked
def cleaned(task: Task, decisions: str | Path | pd.DataFrame) -> CleanedTask:
    """Return a task with decisions on its training labels applied, for training again.

        task = mm.cleaned(network.task, "decisions.csv")  # as the page of mm.write_review saves it
        loader = torch.utils.data.DataLoader(task.data(), batch_size=64, shuffle=True)

    Args:
        task: the task.
        decisions: a file, or a table: `id` (a name where the task's examples have names), `decision` ("keep", "relabel"
            or "leave out") and `label`, the new class of those that are relabelled, by number or by name. Columns may
            be written in capitals, and whole numbers as 2.0; in a file, they are separated by commas.

    Raises:
        RunDirectoryError: the file cannot be read, or is not a regular file.
        ConfigError: a column is missing or there twice, an id is missing, an example is decided upon twice, a decision
            or a class is none.
        UnknownNameError: an id is not that of a training example.
    """
    table = _headed(decisions if isinstance(decisions, pd.DataFrame) else _read(decisions))
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        names = [str(name) for name in table.columns]
        mark = next((each for each in OTHER_MARKS if len(names) == 1 and each in names[0]), None)
        read = f"pd.read_csv(path, sep={mark!r}, dtype=str, keep_default_na=False)"
        hint = (
            "" if mark is None else f". Columns are separated by commas, not by {mark!r}: save them so, or pass {read}"
        )
        raise ConfigError(f"decisions have no column {missing[0]!r}; they have {', '.join(names)}{hint}")
    double = [name for name in COLUMNS if list(table.columns).count(name) > 1]
    if double:
        raise ConfigError(f"decisions have the column {double[0]!r} twice: leave one")
    given, places, classes = task.given(task.train_ids).clone(), _places(task), _classes(task)
    left_out, seen = [], set[int]()
    for row, (name, decision, label) in enumerate(table[list(COLUMNS)].itertuples(index=False, name=None)):
        if _is_missing(name):
            raise ConfigError(
                f"decisions have no id in row {row}; pandas reads an id such as NA as missing: pass the file's path, "
                "or read it with dtype=str, keep_default_na=False"
            )
        own = _named(places, name, numbered=task.example_names is None)
        if own is None:
            raise UnknownNameError(f"no training example has the id {shown(name)}")
        if own[0] in seen:
            raise ConfigError(f"decisions must be one per example, but there are two of {shown(name)}")
        seen.add(own[0])
        if not isinstance(decision, str) or decision not in DECISIONS:
            raise ConfigError(
                f"a decision must be one of {', '.join(DECISIONS)}; that of {shown(name)} is {shown(decision)}"
            )
        if decision == LEFT_OUT:
            left_out += task.train_ids[own].tolist()
        elif decision == "relabel":
            number = None if _is_missing(label) else _named(classes, label, numbered=task.class_names is None)
            if number is None:
                allowed = ", ".join(classes) if task.class_names else f"0 … {task.n_classes - 1}"
                raise ConfigError(f"the new label of {shown(name)} is {shown(label)}, which is no class: {allowed}")
            given[own] = number
    return CleanedTask(task, given, torch.tensor(left_out, dtype=torch.long))


def _read(path: str | Path) -> pd.DataFrame:
    check_path(path, "decisions")
    if os.path.exists(path):
        check_regular(Path(path))
    try:
        # The header as a row: pandas would rename a column that is there twice, and take a first one for an index.
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"cannot read decisions from {path}: {reason(error)}") from error
    return cells.iloc[1:].set_axis(cells.iloc[0].tolist(), axis=1)


def _headed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the columns that are read by their names, in whatever case these are written."""
    plain = [str(name).strip().lower() for name in table.columns]
    return table.set_axis(
        [own if own in COLUMNS else name for name, own in zip(table.columns, plain, strict=True)], axis=1
    )


def _places(task: Task) -> dict[str, list[int]]:
    """Return the place of each training example, or of all views of it, by its id, or its own name, as text."""
    names, sources = task.example_names, task.source(task.train_ids)
    known = sources.tolist() if names is None else [names[row] for row in task.rows(sources).tolist()]
    places: dict[str, list[int]] = {}
    for place, name in enumerate(known):
        places.setdefault(str(name), []).append(place)
    return places


def _classes(task: Task) -> dict[str, int]:
    """Return the number of each class by its name, or by itself, as text."""
    return {str(each): place for place, each in enumerate(task.class_names or range(task.n_classes))}


def _is_missing(value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _named(known: Mapping[str, T], value: Any, *, numbered: bool) -> T | None:
    """Return what a cell names, or is the number of.

    Args:
        known: places by name.
        value: the cell.
        numbered: whether the names are whole numbers, of which tables also write 2 as 2.0 or 02.
    """
    found, number = known.get(str(value)), _number(value)
    own = isinstance(value, float) or numbered
    return known.get(str(number)) if found is None and own and number is not None else found


def _number(cell: Any) -> int | None:
    """Return the whole number that a cell such as "02" or "2.0" is."""
    match = re.fullmatch(r"\s*\+?(\d{1,18})(\.0*)?\s*", str(cell), re.ASCII)
    return int(match[1]) if match else None
