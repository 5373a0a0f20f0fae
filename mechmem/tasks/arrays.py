"""A task from a user's own arrays."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from mechmem.core import arrays
from mechmem.core.arguments import checked
from mechmem.core.arrays import Array
from mechmem.core.config import check_whole
from mechmem.core.labels import MOST_CLASSES, count_classes
from mechmem.core.labels import labels as read_labels
from mechmem.core.task import Ids, Task, check_places
from mechmem.errors import ConfigError
from mechmem.tasks.classes import check_from_zero, check_known, check_range
from mechmem.tasks.config import SPELLED, is_prime
from mechmem.tasks.copies import without_copies
from mechmem.tasks.grid_tasks import answers
from mechmem.tasks.groups import CyclicGroup
from mechmem.tasks.image_config import Copies


class ArrayTask(Task):
    """A task from a user's arrays (inputs, given, true, split). Ids are rows of the arrays.

    Arrays are tensors, numpy arrays, lists, or columns and tables of pandas, which are read by position. Labels are
    whole numbers from 0 on; names, which become classes in the order of pandas' categories, or else in alphabetical
    order (`class_names`); or one-hot rows. All arrays are copied: what is done to them afterwards does not change the
    task.

    Args:
        inputs: inputs of the model, one row per example. Rows of all arrays belong together by position, whatever the
            index of a table.
        given: the labels used in training; ignored on held-out examples.
        true: the true labels; −1 on training examples whose true label is unknown. None if that is all of them: the
            given labels of held-out examples are then their true labels.
        train: True (or 1) for training examples; all others are held out.
        operands: the symbols (a, b) of each example if inputs represent pairs; taken from `inputs` if these are integer
            pairs.
        operation: "add", "subtract" or "multiply" ("sub" and "mul" for short) if the truth is modular arithmetic on the
            operands; without it, plugins that need a group raise an error.
        n_classes: number of classes; by default one more than the largest label. It must be given if a smaller label
            has no example (labels from 1 on): whether the network has an output for that class is not in the data.
        copies: what happens to held-out examples whose input row or pair of operands is that of a training example, and
            which a table of the training labels would answer: "refuse" them, or "drop" them from the task.

    Raises:
        ConfigError: an array does not hold one number, label or truth value per example, lengths differ, `train` holds
            numbers other than 0 and 1, the true label of a held-out example is missing, labels are outside the classes,
            a held-out example is a copy of a training example, a true label is not the operation's answer, the
            training or test set is empty, or two tables have one index in two orders.
    """

    @checked
    def __init__(
        self,
        inputs: Array,
        given: Array,
        true: Array | None,
        train: Array,
        *,
        operands: Array | None = None,
        operation: str | None = None,
        n_classes: int | None = None,
        copies: Copies = "refuse",
    ):
        arrays.check_order(inputs=inputs, given=given, true=true, train=train, operands=operands)
        inputs, train = arrays.numbers(inputs, "inputs"), arrays.truth_values(train, "train")
        held = {"given": given} if true is None else {"given": given, "true": true}
        labels = read_labels({} if true is None else {"given": train == 1}, **held)
        given = labels.columns["given"]
        truth = labels.columns["given" if true is None else "true"]
        if true is None and len(truth) == len(train):
            truth = truth.where(train != 1, -1)
        operands = None if operands is None else arrays.numbers(operands, "operands")
        operation = SPELLED.get(operation or "", operation)
        if operands is not None and (operands.is_floating_point() or operands.dtype == torch.bool):
            raise ConfigError(f"operands must be pairs of whole numbers, got {arrays.described(operands)}")
        if n_classes is not None:
            check_whole("n_classes", n_classes, 1, MOST_CLASSES)
        if train.dtype != torch.bool and not ((train == 0) | (train == 1)).all():
            raise ConfigError(
                f"train must be True for training examples and False for others; got whole numbers {int(train.min())} "
                f"… {int(train.max())}. From ids, make torch.isin(torch.arange({len(inputs)}), ids)"
            )
        train = train.bool()
        lengths = {len(inputs), len(given), len(truth), len(train)}
        if len(lengths) != 1:
            raise ConfigError(f"inputs, given, true and train must have one length, got {sorted(lengths)}")
        if not train.any() or train.all():
            raise ConfigError(f"{'the test' if train.all() else 'the training'} set is empty")
        check_from_zero(given if true is None else given[train], "given")
        check_known(truth[~train])
        # Copies, so that the task stays what its digest says when the user's arrays are changed in place.
        self.inputs = inputs = inputs.detach().clone()
        operands = None if operands is None else operands.clone()
        self.ids = torch.arange(len(inputs))
        self.train_ids = self.ids[train]
        self._true = truth.long().clone()
        self._given = torch.where(train, given.long(), self._true)
        self.class_names = labels.names
        used = {"given": self._given, "true": self._true}
        self.n_classes = n_classes or count_classes(labels, used, operation)
        check_range(self._given, self._true, self.n_classes)
        if operands is None and inputs.ndim == 2 and inputs.shape[1] == 2 and not inputs.is_floating_point():
            operands = inputs.long() if int(inputs.min()) >= 0 or operation else None
        if operands is not None and operands.shape != (len(inputs), 2):
            raise ConfigError(f"operands must be one pair per example, got shape {tuple(operands.shape)}")
        if operands is not None and int(operands.min()) < 0:
            raise ConfigError(f"operands must lie in 0 … {self.n_classes - 1}, got {int(operands.min())}")
        if operands is not None and int(operands.max()) >= MOST_CLASSES:
            most, got = f"{MOST_CLASSES:,}", int(operands.max())
            raise ConfigError(f"operands must be below {most} (a symbol each), got {got}")
        parts = {"input row": inputs} | ({} if operands is None else {"pair": operands})
        held_out = without_copies(self.ids[~train], self.train_ids, parts, copies)
        self.test_ids, self.dropped_copies = held_out.ids, len(held_out.dropped)
        hashed = [inputs, self._given, self._true, self.train_ids, *(() if operands is None else (operands,))]
        if self.dropped_copies:
            self.ids = self.ids[~torch.isin(self.ids, held_out.dropped)]
            operands = None if operands is None else operands[self.ids]
            hashed.append(held_out.dropped)
        state = hashlib.blake2b(f"{operation}|{self.n_classes}".encode(), digest_size=8)
        for tensor in hashed:
            # As bytes, because numpy has no bfloat16.
            state.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        self._digest = state.hexdigest()
        self.operands = operands
        self.operation = operation
        self.title = "" if operation is None else f"pairs, {operation}"
        if operation is not None:
            self.group = self._group(operation)
            self._check_answers(operation)

    def _group(self, operation: str) -> CyclicGroup:
        if operation not in ("add", "subtract", "multiply") or self.operands is None:
            raise ConfigError(f"operation {operation!r} needs integer operands and one of add, subtract, multiply")
        if operation == "multiply" and not is_prime(self.n_classes):
            raise ConfigError(f"multiplication needs a prime number of classes, got {self.n_classes}")
        if int(self.operands.max()) >= self.n_classes:
            raise ConfigError(f"operands must lie in 0 … {self.n_classes - 1} for {operation!r}")
        return CyclicGroup(self.n_classes, multiplicative=operation == "multiply")

    def _check_answers(self, operation: str) -> None:
        """Refuse true labels that are not the operation's: every plugin that knows the operation would be wrong."""
        assert self.operands is not None
        right = answers(operation, self.n_classes)[tuple(self.operands.long().T)]
        true = self._true[self.ids]
        wrong = ((true >= 0) & (true != right)).nonzero()[:, 0]
        if len(wrong):
            first = int(wrong[0])
            a, b = self.operands[first].tolist()
            raise ConfigError(
                f"operation={operation!r} gives {int(right[first])} for ({a}, {b}) mod {self.n_classes}, but the true "
                f"label of example {int(self.ids[first])} is {int(true[first])} ({len(wrong)} of {len(true)} differ); "
                "leave operation out for another rule"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example's input; channels, rows and columns for images."""
        return tuple(self.inputs.shape[1:])

    @property
    def symbols(self) -> int:
        """Number of symbols of an operand; the number of classes if an operation is given."""
        return self.n_classes if self.operation else super().symbols

    @property
    def digest(self) -> str:
        """Hash of all arrays."""
        return self._digest

    def batch(self, ids: Ids, step: int | None = None) -> tuple[Shaped[Tensor, "example ..."], Int[Tensor, " example"]]:
        """Return rows of the inputs and the given labels."""
        ids = check_places(ids, len(self._given))
        return self.inputs[ids], self._given[ids]

    def given(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the given labels (for test ids, the true labels), without copying the inputs."""
        return self._given[check_places(ids, len(self._given))]

    def true(self, ids: Ids) -> Int[Tensor, " example"] | None:
        """Return the true labels, or None if one of them is unknown."""
        labels = self._true[check_places(ids, len(self._true))]
        return None if (labels < 0).any() else labels
