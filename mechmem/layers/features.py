"""Features of layers, one row of numbers per example, to which probes are fitted."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from mechmem.core.subject import Subject
from mechmem.errors import ActivationError, MissingNeedError, UnknownNameError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.hooking import firing
from mechmem.models.hooks.points import hook_points
from mechmem.models.hooks.running import block_rows, full_precision
from mechmem.models.reading.activations import activations
from mechmem.models.reading.forward import read_logits

INPUTS = "inputs"
"""Name of the inputs themselves, which are not a hook point: a probe on them needs no network."""

OUTPUT = "output"
"""Name of a network's own logits in tables."""

NETWORKS = ("trained", "untrained", "clean_labels")
"""Names of a network and its twins in tables."""

Pool = Literal["none", "mean"]

_HIDDEN = re.compile(r"hidden\.(\d+)")


def layer_point(subject: Subject, point: str = "") -> str:
    """Return the hook point that a layer's name refers to.

    Args:
        subject: the network and its roles.
        point: a hook point; "hidden.2" for the third of the role `hidden`; "" for the last of them; "inputs" for the
            inputs themselves.

    Raises:
        MissingNeedError: the layer is one of the role `hidden`, which names none.
        UnknownNameError: the role has fewer layers.
    """
    hidden, number = subject.roles.hidden, _HIDDEN.fullmatch(point)
    if point and (number is None or point in hook_points(subject.model)):
        return point
    if not hidden:
        raise MissingNeedError("this needs the role 'hidden', or the name of a hook point")
    if number is None:
        return hidden[-1]
    if int(number[1]) >= len(hidden):
        raise UnknownNameError(f"no layer {point!r}: the role hidden names {len(hidden)}, from hidden.0 on")
    return hidden[int(number[1])]


def named_layers(subject: Subject, points: str = "", pool: Pool = "none") -> dict[str, Pool]:
    """Return layers in firing order, inputs first, each with its pooling.

    Args:
        subject: the network and its roles.
        points: the layers: hook points, patterns, "hidden.2", "inputs", with spaces between them; "" for the role
            `hidden`.
        pool: pooling of layers of shape (example, channel, …); a layer with one number per neuron is left unchanged.

    Raises:
        MissingNeedError: a layer is one of the role `hidden`, which names none.
        UnknownNameError: a name or pattern matches no point.
        ActivationError: a point does not fire, or fires several times.
    """
    asked = points.split() or list(subject.roles.hidden)
    found: dict[str, Pool] = {INPUTS: "none"} if INPUTS in asked else {}
    names = [layer_point(subject, name) for name in asked if name != INPUTS]
    if not names:
        return found
    held = activations(subject, names, ids=subject.task.train_ids[:1].repeat(2))
    repeated = next((name for name in held if "#" in name), None)
    if repeated is not None:
        raise ActivationError(f"{repeated.rpartition('#')[0]!r} fires several times: a layer must fire once")
    for name, value in held.items():
        found[name] = pool if value.ndim > 2 else "none"
    return found


def held_by(subject: Subject, layer: str, pool: Pool, ids: Int[Tensor, " example"]) -> Float[Tensor, "example feature"]:
    """Return a layer's features, flattened, on the CPU (see `layer_features`).

    Raises:
        ActivationError: a feature is not finite.
    """
    held = layer_features(subject, layer, ids, pool)
    if not held.isfinite().all():
        raise ActivationError(f"{layer!r} holds numbers that are not finite")
    return held


def layer_features(
    subject: Subject, point: str, ids: Int[Tensor, " example"], pool: Pool = "none"
) -> Float[Tensor, "example feature"]:
    """Return a layer's features of each example, flattened, on the CPU.

    Args:
        subject: the network and its task; no augmentation is applied.
        point: as in `layer_point`.
        ids: the examples.
        pool: "mean" averages a point (example, channel, …) over all axes after the channels first.

    Raises:
        MissingNeedError: the layer is one of the role `hidden`, which names none.
        UnknownNameError: there is no such point.
        ActivationError: the point does not fire, or has no channels to average.
    """
    name = layer_point(subject, point)
    held = subject.task.batch(ids)[0].cpu() if name == INPUTS else activations(subject, name, ids=ids)[name]
    return flat_features(held, name, pool)


def flat_features(
    held: Shaped[Tensor, "example ..."], name: str, pool: Pool = "none"
) -> Float[Tensor, "example feature"]:
    """Return a point's values as one row of floating-point numbers per example.

    Args:
        held: the values; whole numbers (the symbols of a task) are converted as they are.
        name: the point's name.
        pool: as in `layer_features`.

    Raises:
        ActivationError: there is no axis after the channels to average over.
    """
    held = full_precision(held if held.is_floating_point() else held.to(torch.get_default_dtype()))
    if held.ndim == 1:
        return rearrange(held, "example -> example 1")
    if pool == "none":
        return rearrange(held, "example ... -> example (...)")
    if held.ndim == 2:
        raise ActivationError(
            f"{name!r} has shape {tuple(held.shape)}: there is no axis after its channels to average over"
        )
    return reduce(held, "example channel ... -> example channel", "mean")


_MB = 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """Layers and logits from one reading of the data.

    Attributes:
        layers: all layers that the points refer to, including those of later readings.
        features: features of the layers of this reading, by name. Shape (example, feature) each. The caller removes
            them after use, to free memory for the next reading.
        logits: the network's logits. Shape (example, class).
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
    """Read layers and logits on some examples, with one pass per example in every reading.

    There is one reading if all layers together take no more than `limit_mb`, otherwise as many as needed to stay below
    it; a single layer that takes more has its own reading.

    Args:
        subject: the network and its task; no augmentation is applied.
        points: hook points or patterns.
        ids: the examples.
        pool: "mean" averages a point (example, channel, …) over all axes after the channels as it is read; a point with
            one number per channel is left unchanged.
        limit_mb: most megabytes (of 2²⁰ bytes) of features in one reading.

    Raises:
        UnknownNameError: there is no such point.
        ActivationError: a point does not fire.
        ConfigError: the logits are not of shape (example, class).
        RoleError: the role `output` does not lead to logits.
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
            rows = block.stop - block.start
            answers = read_logits(outputs.pop(), subject.roles.output, rows, subject.task.n_classes).cpu()
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
    """Return the points of some layers; a point that fires several times has several layers."""
    return tuple(dict.fromkeys(firing(name)[0] for name in layers))


def _room(rows: dict[str, Tensor], n: int, limit_mb: float) -> dict[str, Tensor]:
    """Return empty features for as many of the first layers as fit, at least one."""
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
    """Collect the outputs of a model."""
    found: list[Any] = []

    def keep(_model: nn.Module, _inputs: Any, returned: Any) -> None:
        found.append(returned)

    handle = model.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
