"""Controls of an audit: twins of the network, and predictors from the given labels alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mechmem.core.inputs import one_tensor
from mechmem.core.subject import Subject, TwinKind
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MechmemError, MissingNeedError, UnknownNameError
from mechmem.math.logits import all_finite
from mechmem.math.pair_ridge import pair_ridge
from mechmem.models.reading.twins import Train, twin

RIDGE_LIMIT = 12_000
"""Most training examples for kernel ridge: with more its matrix would take more than about 1 GB."""
RIDGE: dict[str, Any] = {"kernel": "rbf", "gamma": 0.5, "alpha": 1e-3}
"""Fixed kernel and penalty."""
NETWORK_CONTROLS: tuple[TwinKind, ...] = ("untrained", "one_step", "noise_only")
"""Twins of the network, shown beside every extractor."""
LABEL_CONTROLS = ("label_grid", "kernel_ridge")
"""Predictors from the given labels alone, shown beside extractors that read only logits."""


class LogitTable(nn.Module):
    """A network that looks up its logits by input, for logits from elsewhere and for controls.

    Args:
        logits: one row per id of the task, in the order of `task.ids`.
        task: the task whose inputs the table covers.

    Raises:
        ConfigError: the table's shape does not fit the task, a value is not finite, or two ids share an input.
    """

    separate: ClassVar[bool] = True
    """A row depends on its input alone; tables may be too large to copy for a trial."""

    def __init__(self, logits: Float[Tensor, "example class"], task: Task):
        super().__init__()
        expected = (len(task.ids), task.n_classes)
        if tuple(logits.shape) != expected:
            raise ConfigError(
                f"logits must have one row per id and one column per class, {expected}, got {tuple(logits.shape)}"
            )
        if not all_finite(logits):
            raise ConfigError("logits contain NaN or infinity")
        self.logits: Tensor
        self.register_buffer("logits", logits.detach().clone())
        inputs = one_tensor(task.batch(task.ids)[0], "a table of logits by input")
        self._row = {key: row for row, key in enumerate(_keys(inputs))}
        if len(self._row) != len(inputs):
            raise ConfigError("two ids of the task have the same input, so a table cannot distinguish them")

    def forward(self, inputs: Shaped[Tensor, "example ..."]) -> Float[Tensor, "example class"]:
        """Return the stored rows of these inputs.

        Raises:
            UnknownNameError: an input is not one of the task's.
        """
        try:
            rows = [self._row[key] for key in _keys(inputs)]
        except KeyError as error:
            raise UnknownNameError("the table holds no logits for one of these inputs") from error
        return self.logits[torch.tensor(rows, dtype=torch.long)]


def label_grid(task: Task) -> Float[Tensor, "example class"]:
    """Return the given labels of training examples as one-hot logits, 0 elsewhere, in the order of `task.ids`."""
    table = torch.zeros(len(task.ids), task.n_classes)
    # Written in place: one-hot integers would take twice the table's size.
    table[task.rows(task.train_ids), task.given(task.train_ids)] = 1
    return table


def kernel_ridge(task: Task) -> Float[Tensor, "example class"]:
    """Return the predictions of kernel ridge regression on the one-hot given labels, for every id.

    The features are the two operands, one-hot side by side, if inputs are pairs, and the flattened inputs otherwise.

    Raises:
        MissingNeedError: inputs are no distinct pairs, and the training set is too large for a dense kernel matrix.
    """
    train, pairs = task.rows(task.train_ids), task.operands
    if pairs is not None and len(pairs[train].unique(dim=0)) == len(train):
        # The squared distance of two-hot pairs is twice the number of symbols that differ.
        kernel = (1.0, math.exp(-2 * RIDGE["gamma"]), math.exp(-4 * RIDGE["gamma"]))
        labels, sizes = task.given(task.train_ids), {"symbols": task.symbols, "classes": task.n_classes}
        return pair_ridge(pairs[train], labels, pairs, **sizes, kernel=kernel, penalty=RIDGE["alpha"])
    if len(train) > RIDGE_LIMIT:
        raise MissingNeedError(
            f"kernel ridge is left out above {RIDGE_LIMIT} training examples (there are {len(train)})"
        )
    from sklearn.kernel_ridge import KernelRidge  # slow to load, and not needed for pairs

    inputs = one_tensor(task.batch(task.ids)[0], "kernel ridge") if pairs is None else F.one_hot(pairs, task.symbols)
    features = inputs.double().reshape(len(inputs), -1)
    ridge = KernelRidge(**RIDGE).fit(features[train].numpy(), label_grid(task)[train].double().numpy())
    return torch.from_numpy(ridge.predict(features.numpy()))


def control_models(
    subject: Subject, given: Mapping[str, nn.Module | None], train: Train | None, *, progress: bool
) -> dict[str, nn.Module | str]:
    """Return each control's model, or the reason why there is none.

    Args:
        subject: the audited network.
        given: twins passed by the caller, by kind.
        train: trains a network on a task like the subject's; used for the noise-only twin.
        progress: whether to show a progress bar while a twin is trained.
    """
    models: dict[str, nn.Module | str] = {}
    for kind in NETWORK_CONTROLS:
        found = twin(subject, kind, given.get(kind), train=train, progress=progress)
        models[kind] = f"{found}; pass {kind}=" if isinstance(found, str) else found
    for name, build in (("label_grid", label_grid), ("kernel_ridge", kernel_ridge)):
        try:
            models[name] = LogitTable(build(subject.task), subject.task)
        except (MechmemError, ValueError) as error:  # ValueError: scikit-learn refuses inputs that are not finite
            models[name] = str(error).splitlines()[0]
    return models


def _keys(inputs: Tensor) -> list[bytes]:
    # As bytes, because numpy has no bfloat16.
    flat = inputs.detach().cpu().reshape(len(inputs), -1).contiguous().view(torch.uint8)
    return [row.tobytes() for row in flat.numpy()]
