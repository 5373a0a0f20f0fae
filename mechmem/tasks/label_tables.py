"""Tables of scores made from the given labels alone, with no network: what an analysis of logits is set beside."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor

from mechmem.contracts import Task
from mechmem.errors import MissingNeedError

RIDGE_LIMIT = 12_000
"""Training examples above which kernel ridge is left out: its matrix would take more than about 1 GB."""

RIDGE = {"kernel": "rbf", "gamma": 0.5, "alpha": 1e-3}
"""Kernel and penalty, fixed: on two-hot pairs the kernel takes three values, for two, one and no common operand."""


def label_grid(task: Task) -> Float[Tensor, "example class"]:
    """One-hot of the given labels on training examples, 0 elsewhere, in the order of `task.ids`."""
    table = torch.zeros(len(task.ids), task.n_classes)
    # Written in place: one-hot integers would take twice the table's size.
    table[task.rows(task.train_ids), task.given(task.train_ids)] = 1
    return table


def kernel_ridge(task: Task) -> Float[Tensor, "example class"]:
    """Kernel ridge regression on the one-hot given labels, predicted on every id.

    Inputs are the two operands, one-hot side by side, where they are pairs, and the flattened inputs otherwise.

    Raises:
        MissingNeedError: the training set is too large for a dense kernel matrix.
    """
    n_train = len(task.train_ids)
    if n_train > RIDGE_LIMIT:
        raise MissingNeedError(f"kernel ridge is left out above {RIDGE_LIMIT} training examples (there are {n_train})")
    if task.operands is not None:
        features = F.one_hot(task.operands, task.symbols).flatten(1).double()
    else:
        features = task.batch(task.ids)[0].flatten(1).double()
    train = task.rows(task.train_ids)
    ridge = KernelRidge(**RIDGE).fit(features[train].numpy(), label_grid(task)[train].double().numpy())
    return torch.from_numpy(ridge.predict(features.numpy()))
