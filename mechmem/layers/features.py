"""Features of layers, one row of numbers per example, to which probes are fitted."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.inputs import Inputs, NamedInputs
from mechmem.core.subject import Subject
from mechmem.core.task import T
from mechmem.errors import ActivationError, MissingNeedError, UnknownNameError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.hooking import firing
from mechmem.models.hooks.points import hook_points
from mechmem.models.hooks.running import block_rows, full_precision
from mechmem.models.reading.activations import activations
from mechmem.models.reading.forward import logits_of, read_logits
from mechmem.models.reading.residual import at_answers

INPUTS = "inputs"
"""Name of the inputs themselves, which are not a hook point: a probe on them needs no network."""
OUTPUT = "output"
"""Name of a network's own logits in tables."""

NETWORKS = ("trained", "untrained", "clean_labels")
"""Names of a network and its twins in tables."""

Pool = Literal["none", "mean"]

_MB = 2**20
LIMIT_MB = 4096
"""Most megabytes (of 2²⁰ bytes) that the layers of one network take at once, unless something else is asked for."""
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


def layer_points(subject: Subject, points: str = "") -> tuple[str, ...]:
    """Return the hook points and patterns of layers, checked without running the network.

    Args:
        subject: the network and its roles.
        points: the layers: hook points, patterns, "hidden.2", "inputs", with spaces between them; "" for the role
            `hidden`.

    Raises:
        MissingNeedError: a layer is one of the role `hidden`, which names none.
        UnknownNameError: a name or pattern matches no point.
    """
    names = [layer_point(subject, name) for name in points.split() or subject.roles.hidden]
    for name in names:
        if name != INPUTS:
            hook_points(subject.model).matching(name)
    return tuple(names)


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
    if name == INPUTS:
        return flat_features(subject.task.batch(ids)[0].cpu(), name, pool)
    return flat_features(at_answers(subject.task, activations(subject, name, ids=ids)[name], ids), name, pool)


def flat_features(held: Inputs, name: str, pool: Pool = "none") -> Float[Tensor, "example feature"]:
    """Return a point's values as one row of floating-point numbers per example.

    Args:
        held: the values; whole numbers (symbols) are converted as they are, inputs by name put side by side.
        name: the point's name.
        pool: as in `layer_features`.

    Raises:
        ActivationError: there is no axis after the channels to average over.
    """
    if isinstance(held, NamedInputs):
        return torch.cat([flat_features(each, name) for each in held.tensors.values()], 1)
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


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """Layers and logits from one reading of the data.

    Attributes:
        layers: all layers that the points refer to, including those of later readings.
        features: features of the layers of this reading, by name. Shape (example, feature) each. The caller removes
            them after use, to free memory for the next reading.
        logits: the network's logits; none if they are not read. Shape (answered, class).
        left: the layers for the next reading.
    """

    layers: tuple[str, ...]
    features: dict[str, Float[Tensor, "example feature"]]
    logits: Float[Tensor, "answered class"]
    left: tuple[str, ...]


def read_layers(
    subject: Subject,
    points: str | Sequence[str],
    ids: Int[Tensor, " example"],
    pool: Pool = "none",
    limit_mb: float = LIMIT_MB,
    *,
    logits: bool = True,
) -> Iterator[Reading]:
    """Read layers and logits on some examples, with one pass per example in every reading.

    There is one reading if all layers together take no more than `limit_mb`, otherwise as many as needed to stay below
    it; a single layer that takes more has its own reading.

    Args:
        subject: the network and its task; no augmentation is applied.
        points: hook points or patterns, and "inputs" for the inputs themselves, which come first.
        ids: the examples.
        pool: "mean" averages a point (example, channel, …) over all axes after the channels as it is read; the inputs,
            and a point with one number per channel, are left unchanged.
        limit_mb: most megabytes (of 2²⁰ bytes) of features in one reading.
        logits: whether logits are read.

    Raises:
        UnknownNameError: there is no such point.
        ActivationError: a point does not fire.
        ConfigError: the logits are not of shape (example, class).
        RoleError: the role `output` does not lead to logits.
    """
    asked, left = (points,) if isinstance(points, str) else tuple(points), ()
    while True:
        found = _read(subject, asked, left, ids, pool, limit_mb, logits)
        left = found.left
        yield found
        del found
        if not left:
            return
        asked = _points(left)


def over_layers(
    subject: Subject,
    points: Sequence[str],
    ids: Int[Tensor, " example"],
    measure: Callable[[str, Float[Tensor, "example feature"]], T],
    pool: Pool = "none",
    *,
    logits: bool = False,
) -> tuple[dict[str, T], Float[Tensor, "answered class"]]:
    """Measure every layer, in the order of `read_layers`; return the results by layer, and the logits.

    Args:
        subject: the network and its task.
        points: as in `read_layers`.
        ids: the examples.
        measure: a function of a layer's name and features; it must not keep the features, to free their memory.
        pool: as in `read_layers`.
        logits: whether logits are read; none are returned otherwise.

    Raises:
        UnknownNameError: there is no such point.
        ActivationError: a point does not fire, fires several times, or holds numbers that are not finite.
        ConfigError: the logits are not of shape (example, class).
        RoleError: the role `output` does not lead to logits.
    """
    found: dict[str, T] = {}
    answers = torch.empty(0, subject.task.n_classes)
    for reading in read_layers(subject, points, ids, pool, logits=logits):
        repeated = next((name for name in reading.layers if "#" in name), None)
        if repeated is not None:
            raise ActivationError(f"{repeated.rpartition('#')[0]!r} fires several times: a layer must fire once")
        answers = reading.logits
        for name in tuple(reading.features):
            if not reading.features[name].isfinite().all():
                raise ActivationError(f"{name!r} holds numbers that are not finite")
            # Popped, to free the layer's memory before the next reading.
            found[name] = measure(name, reading.features.pop(name))
    return found, answers


def _read(
    subject: Subject,
    points: tuple[str, ...],
    wanted: tuple[str, ...],
    ids: Int[Tensor, " example"],
    pool: Pool,
    limit_mb: float,
    logits: bool,
) -> Reading:
    features, layers = dict[str, Tensor](), tuple[str, ...]()
    answers = torch.empty(0, classes := subject.task.n_classes)
    hooked = logits and any(point != INPUTS for point in points)
    with _outputs(subject.model) if hooked else contextlib.nullcontext([]) as outputs:
        for block in blocks(len(ids), block_rows(subject.model)):
            rows = _rows(subject, points, ids[block], pool)
            if not block.start:
                layers = wanted or tuple(rows)
                features = _room({name: rows[name] for name in layers}, len(ids), limit_mb)
                points = _points(tuple(features))
            for name, values in features.items():
                values[block] = rows[name]
            if hooked:
                found = read_logits(outputs.pop(), subject.roles.output, block.stop - block.start, classes).cpu()
                answers = answers if block.start else torch.empty(len(ids), classes, dtype=found.dtype)
                answers[block] = found
    if logits and not hooked:
        answers = logits_of(subject.model, subject.task, ids, subject.roles.output)
    return Reading(layers, features, answers, layers[len(features) :])


def _rows(subject: Subject, points: tuple[str, ...], ids: Int[Tensor, " row"], pool: Pool) -> dict[str, Tensor]:
    """Return the features of some points; the network runs unless they are the inputs alone."""
    inside = [point for point in points if point != INPUTS]
    rows = {INPUTS: flat_features(subject.task.batch(ids)[0].cpu(), INPUTS)} if INPUTS in points else {}
    held = activations(subject, inside, ids=ids, chunk=len(ids)) if inside else {}
    read = {name: at_answers(subject.task, each, ids) for name, each in held.items()}
    return rows | {name: flat_features(each, name, pool if each.ndim > 2 else "none") for name, each in read.items()}


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
