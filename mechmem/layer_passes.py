"""Every layer of a network in one reading of the data, or in as few as the memory allows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.caching import activations
from mechmem.contracts import Subject
from mechmem.errors import ConfigError
from mechmem.layer_features import Pool, flat_features
from mechmem.math.blocks import blocks
from mechmem.models.forward import block_rows, full_precision
from mechmem.models.hooking import firing

_MB = 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """What one reading of the data brought.

    Attributes:
        layers: all layers that the points stand for, whether they fitted into this reading or not.
        features: what the layers hold that did, by name. Shape (example, feature) each. Whoever uses them takes them
            out, so that the next reading finds room.
        logits: what the network answers. Shape (example, class).
        left: the layers for the next reading.
    """

    layers: tuple[str, ...]
    features: dict[str, Float[Tensor, "example feature"]]
    logits: Float[Tensor, "example class"]
    left: tuple[str, ...]


def read_layers(
    subject: Subject,
    points: str | Sequence[str],
    ids: Int[Tensor, " example"],
    pool: Pool = "none",
    limit_mb: float = 4096,
) -> Iterator[Reading]:
    """Read layers and logits on some examples, each of which goes through the network once in every reading.

    There is one reading where all layers together take no more than `limit_mb`. Otherwise there are as many as it takes
    to stay below, with one layer each where they are that large; a single layer that takes more is read all the same.

    Args:
        subject: the network and its task; no augmentation is applied.
        points: hook points or patterns.
        ids: the examples.
        pool: "mean" averages a point (example, channel, …) over all axes behind the channels as it is read; one of a
            single number per channel is left as it is.
        limit_mb: most megabytes (of 2²⁰ bytes) of features in one reading.

    Raises:
        UnknownNameError: there is no such point.
        ActivationError: a point does not fire.
        ConfigError: the logits are not one row per example, one column per class.
        RoleError: there are no logits where the roles say.
    """
    left: tuple[str, ...] = ()
    while True:
        found = _read(subject, points, left, ids, pool, limit_mb)
        left = found.left
        yield found
        del found
        if not left:
            return
        points = _points(left)


def _read(
    subject: Subject,
    points: str | Sequence[str],
    wanted: tuple[str, ...],
    ids: Int[Tensor, " example"],
    pool: Pool,
    limit_mb: float,
) -> Reading:
    features: dict[str, Tensor] = {}
    layers: tuple[str, ...] = ()
    logits = torch.empty(0, subject.task.n_classes)
    with _outputs(subject.model) as outputs:
        for block in blocks(len(ids), block_rows(subject.model)):
            held = activations(subject, points, ids=ids[block], chunk=block.stop - block.start)
            answers = _logits(subject, outputs.pop(), block)
            names = tuple(features) or wanted or tuple(held)
            rows = {name: flat_features(held[name], name, pool if held[name].ndim > 2 else "none") for name in names}
            if not block.start:
                layers = names
                features = _room(rows, len(ids), limit_mb)
                points = _points(tuple(features))
                logits = torch.empty(len(ids), subject.task.n_classes, dtype=answers.dtype)
            logits[block] = answers
            for name, values in features.items():
                values[block] = rows[name]
    return Reading(layers, features, logits, layers[len(features) :])


def _points(layers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the points of some layers; a point that fires several times has several."""
    return tuple(dict.fromkeys(firing(name)[0] for name in layers))


def _room(rows: dict[str, Tensor], n: int, limit_mb: float) -> dict[str, Tensor]:
    """Return empty features for as many of the first layers as fit, and for one at least."""
    found: dict[str, Tensor] = {}
    taken = 0.0
    for name, first in rows.items():
        taken += first[:1].numel() * first.element_size() * n / _MB
        if found and taken > limit_mb:
            break
        found[name] = torch.empty((n, *first.shape[1:]), dtype=first.dtype)
    return found


@contextlib.contextmanager
def _outputs(model: nn.Module) -> Iterator[list[Any]]:
    """Collect what a model returns."""
    found: list[Any] = []

    def keep(_model: nn.Module, _inputs: Any, returned: Any) -> None:
        found.append(returned)

    handle = model.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


def _logits(subject: Subject, returned: Any, block: slice) -> Float[Tensor, "row class"]:
    found = subject.roles.output.read(returned)
    expected = (block.stop - block.start, subject.task.n_classes)
    if tuple(found.shape) != expected:
        raise ConfigError(
            f"the model must return logits of shape (example, class) = {expected}, and returned {tuple(found.shape)}"
        )
    return full_precision(found).cpu()
