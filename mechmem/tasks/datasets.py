"""A task from a user's data set, read lazily."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mechmem.core import arrays
from mechmem.core.arguments import checked
from mechmem.core.arrays import Array
from mechmem.core.config import check_choice, check_fraction, check_whole
from mechmem.core.inputs import Inputs
from mechmem.core.labels import MOST_CLASSES, Labels, categories, count_classes, one_order
from mechmem.core.labels import labels as read_labels
from mechmem.core.task import Ids, Task, whole_ids
from mechmem.errors import ConfigError
from mechmem.tasks.classes import check_from_zero, check_known, check_range
from mechmem.tasks.config import LabelNoise
from mechmem.tasks.copies import without_copies
from mechmem.tasks.dataset_parts import parts_of
from mechmem.tasks.dataset_reading import Reader
from mechmem.tasks.dataset_sources import Both
from mechmem.tasks.dataset_splits import column_of, held_out_places, numbered
from mechmem.tasks.image_config import Copies
from mechmem.tasks.label_noise import apply_noise


class DatasetTask(Task):
    """A task whose examples stay in a user's data set, and are read when they are needed.

        task = mm.DatasetTask(train, test)  # data sets of torch with items (input, label)
        task = mm.DatasetTask(splits, collate=DataCollatorWithPadding(tokenizer))  # a DatasetDict of HuggingFace
        task = mm.DatasetTask(frame, label="species", id="sample", group="patient", held_out=0.2)  # pandas

    Every example is read once here, for its label and a hash of its input; after that nothing but labels is held.

    Args:
        train: the training data: a map-style data set of torch, a `datasets.Dataset`, a frame of pandas, splits by name
            (a `DatasetDict`), or the path of a folder of images or of data saved by `datasets`. Items are read as the
            data set gives them, so its transforms act; they must give the same each time.
        test: the held-out data, in one part; by default the split "test" or "validation" (or "val", "dev", "eval") of
            training data with splits, and a part of the training data if there are no splits.
        label: the label: a column; the place in items that are tuples (by default the last); or one label per row of
            the training data (and of the held-out data after them). By default the first column called "label",
            "labels", … Labels are whole numbers from 0 on, names (see `ArrayTask`), or one-hot rows.
        inputs: what the network is run on: a name for one tensor; several names for inputs by name, `model(**inputs)`.
            By default everything that the batch holds besides the label, by name if the batch has names. Of a frame:
            the columns of features, by default all others.
        true: the true labels, as `label`; −1 on training examples whose true label is not known. Without it, the
            labels are not known to be right or wrong, unless `noise` makes some of them wrong.
        id: column of ids that stay with the examples when rows are shuffled: whole numbers, or names, which are
            numbered in alphabetical order (`example_names`). By default rows are counted.
        group: column of groups; no group has examples both in training and held out. Values of two types (1 and "1")
            are two groups.
        split: column that says "train" (in any case), or True, of training rows, and anything else of held-out ones.
        held_out: fraction of the training data that is held out, by class where it can be; by default 0.2. Only if
            neither `test` nor `split` says what is held out.
        noise: label noise put on the training labels; the labels as they are then count as true.
        collate: makes a batch from a list of items, as for a data loader; by default torch's own. Row i must be item i,
            and the same beside any other items, up to padding; this is tried on a few items here.
        n_classes: number of classes; by default that of the data set's names, or one more than the largest label. The
            names are kept only if there is one for each class.
        seed: seed of the held-out part and of the noise.
        copies: what happens to held-out examples whose input equals that of a training example: "refuse", or "drop".

    Raises:
        ConfigError: the data can only be read from their beginning, are empty, or give another input at a second
            reading; a row is not there, cannot be read, or has other names than the first; a feature is no number of
            float32; `collate` is random, sorts items or has them act on each other; two columns have one name;
            there are no inputs, or the label is among them; a label is missing or no class; labels given apart are in
            another order than the rows; ids are repeated; a row has no value of `group` or `split`; a group is on both
            sides; it is unclear which split is held out, or it is said twice; a held-out example is a copy of a
            training example.
        UnknownNameError: there is no such column.
    """

    @checked
    def __init__(
        self,
        train: Any,
        test: Any = None,
        *,
        label: str | int | Array | None = None,
        inputs: str | Sequence[str] | None = None,
        true: str | Array | None = None,
        id: str | None = None,
        group: str | None = None,
        split: str | None = None,
        held_out: float | None = None,
        noise: LabelNoise | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        n_classes: int | None = None,
        seed: int = 0,
        copies: Copies = "refuse",
    ):
        if held_out is not None:
            check_fraction("held_out", held_out)
        check_whole("seed", seed, 0)
        first, second = parts_of(train, test)
        source = first if second is None else Both(first, second)
        rows_in_order = {} if source.index is None else {"train": source.index.to_frame()}
        arrays.check_order(**rows_in_order, label=label, true=true)
        apart = [name for name in (id, group, split, true if isinstance(true, str) else None) if name is not None]
        self._reader = reader = Reader(source, label, inputs, apart, collate)
        hashes, given = reader.read_all()
        self._rows, self.ids, self.example_names = numbered(None if id is None else source.column(id), len(source))
        order = self._rows.tolist()

        def ordered(values: Sequence[Any] | None) -> list[Any] | None:
            return None if values is None else [values[row] for row in order]

        held = {"label": given} | ({} if true is None else {"true": reader.along(true, "true")})
        of_truth = source.order_of(true) if isinstance(true, str) else categories(true)
        declared = one_order(reader.order, of_truth)
        found = read_labels(None, declared, **{name: ordered(values) for name, values in held.items()})
        labels = found.columns["label"]
        self.class_names, self._label_names = found.names or source.class_names, found.names
        rows = torch.arange(len(source))
        own = None if second is None else (rows >= len(first))[self._rows].numpy()
        said, groups = (
            None if name is None else ordered(column_of(source, name, argument))
            for argument, name in (("split", split), ("group", group))
        )
        out = held_out_places(labels.numpy(), own=own, split=said, groups=groups, fraction=held_out, seed=seed)
        if true is None and (labels[out] == -1).all():  # as the test sets of some benchmarks are published
            check_known(labels[out])
        check_from_zero(labels if true is None else labels[~out], "label")
        self.n_classes = self._classes(found, n_classes)
        truth = labels if noise is not None and noise.fraction else torch.where(out, labels, -1)
        self._true = found.columns["true"] if true is not None else truth
        self._given = torch.where(out, self._true, labels)
        self._check_labels(out)
        if noise is not None:
            self._given[~out] = apply_noise(noise, self._given[~out], self.n_classes, seed)
        kept = without_copies(rows[out], rows[~out], {"input": hashes[self._rows]}, copies)
        self.train_ids, self.test_ids, self.dropped_copies = self.ids[~out], self.ids[kept.ids], len(kept.dropped)
        self._digest = self._hashed(hashes[self._rows], out)
        if len(kept.dropped):
            self._keep(~torch.isin(rows, kept.dropped))
        reader.check_collate(self._label_names or ())

    def _classes(self, found: Labels, n_classes: int | None) -> int:
        """Return the number of classes."""
        if n_classes is not None:
            check_whole("n_classes", n_classes, 1, MOST_CLASSES)
            return n_classes
        if self.class_names is not None:
            return len(self.class_names)
        return count_classes(found, found.columns, None)

    def _classes_of(self, labels: Any, count: int) -> Int[Tensor, " example"]:
        """Return as many of the task's classes as there are examples."""
        found = whole_ids(labels, "labels")
        if len(found) != count:
            raise ConfigError(f"labels must be one class for each of {count} ids, got {len(found)}")
        if count:
            check_range(found, found, self.n_classes)
        return found

    def _check_labels(self, out: Bool[Tensor, " example"]) -> None:
        """Refuse labels that are no classes, and held-out examples without one."""
        check_known(self._true[out])
        check_range(self._given, self._true, self.n_classes)
        if self.class_names is not None and len(self.class_names) != self.n_classes:
            self.class_names = None

    def _hashed(self, hashes: UInt8[Tensor, "example byte"], out: Bool[Tensor, " example"]) -> str:
        state = hashlib.blake2b(f"{self.n_classes}".encode(), digest_size=8)
        for tensor in (self.ids, hashes, self._given, self._true, out):
            state.update(tensor.contiguous().numpy().tobytes())
        state.update("\n".join(self.example_names or ()).encode())
        return state.hexdigest()

    def _keep(self, kept: Bool[Tensor, " example"]) -> None:
        """Leave examples out of the task."""
        self._rows, self.ids, self._given, self._true = (
            each[kept] for each in (self._rows, self.ids, self._given, self._true)
        )
        if self.example_names is not None:
            self.example_names = tuple(
                name for name, keep in zip(self.example_names, kept.tolist(), strict=True) if keep
            )

    @property
    def digest(self) -> str:
        """Hash of all inputs, labels and ids, in the order of the ids."""
        return self._digest

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example's input; () of inputs by name."""
        first = self.batch(self.ids[:1])[0]
        return tuple(first.shape[1:]) if isinstance(first, Tensor) else ()

    @property
    def row_ids(self) -> Int[Tensor, " example"]:
        """Ids of the training examples in the order of their rows, as a data loader numbers them."""
        rows = self._rows[self.rows(self.train_ids)]
        return self.train_ids[rows.argsort()]

    def batch(self, ids: Ids, step: int | None = None) -> tuple[Inputs, Int[Tensor, " example"]]:
        """Read the inputs of these examples, and return them with the given labels.

        Raises:
            ConfigError: the data set does not give the inputs and labels that it gave when the task was made; the items
                make no batch, or one with another number of rows or other labels.
            UnknownNameError: an id is not one of the task's.
        """
        places = self.rows(ids)
        return self._reader.batch(self._rows[places].tolist()), self._given[places]

    def given(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the given labels (for test ids, the true labels); nothing is read."""
        return self._given[self.rows(ids)]

    def true(self, ids: Ids) -> Int[Tensor, " example"] | None:
        """Return the true labels, or None if one of them is unknown."""
        labels = self._true[self.rows(ids)]
        return None if (labels < 0).any() else labels

    def data(self, part: Literal["train", "test"] = "train") -> Dataset:
        """Return a data set of torch with the items of one part, each with its given label.

        For a trainer: item i is that of `train_ids[i]`, and label noise is in its label.

        Raises:
            ConfigError: there is no such part.
        """
        check_choice("part", part, ("train", "test"))
        return _Items(self, self.train_ids if part == "train" else self.test_ids)

    def items(self, ids: Ids, labels: Sequence[int] | Int[Tensor, " example"] | None = None) -> list[Any]:
        """Return the items of these examples as the data set gives them, each with its given label or another one.

        Raises:
            ConfigError: the data set does not give the inputs and labels that it gave when the task was made; there is
                not one class of the task for each id; or labels are names, and a class has none (of an `n_classes`
                larger than their number).
        """
        places, names = self.rows(ids), self._label_names
        found = (self._given[places] if labels is None else self._classes_of(labels, len(places))).tolist()
        if names and found and max(found) >= len(names):
            raise ConfigError(f"labels are names, but class {max(found)} has none: there are {len(names)} names")
        return self._reader.relabelled(self._rows[places].tolist(), [names[each] if names else each for each in found])


class _Items(Dataset):
    """The items of some examples of a task."""

    def __init__(self, task: DatasetTask, ids: Int[Tensor, " example"]):
        self._task, self._ids = task, ids

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return self.__getitems__(list(range(len(self))[place]))
        return self.__getitems__([operator.index(place)])[0]

    def __getitems__(self, places: list[int]) -> list[Any]:
        return self._task.items(self._ids[torch.as_tensor(places)])
