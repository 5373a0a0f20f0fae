"""Choice of the subnetwork that a network with example masks runs as, and of the examples in its passes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from jaxtyping import Int
from torch import Tensor, nn

from mechmem.core.arguments import checked_but
from mechmem.core.config import check_choice
from mechmem.core.ids import check_ids, one_or_more
from mechmem.core.subject import Subject
from mechmem.core.task import Ids
from mechmem.errors import MissingNeedError
from mechmem.models.networks.masks import ExampleMask, Part


def mask_layers(model: nn.Module) -> tuple[ExampleMask, ...]:
    """Return the layers of a model that have example masks."""
    return tuple(module for module in model.modules() if isinstance(module, ExampleMask))


@contextlib.contextmanager
def of_examples(layers: Sequence[ExampleMask], ids: Int[Tensor, "*example"]) -> Iterator[None]:
    """Set the ids of the examples in the forward passes inside a `with`.

    A single id set before for every row (`subnetwork(model, part, 5)`) stays in force.

    Args:
        layers: the mask layers.
        ids: one id per row, or a scalar for all rows.
    """
    before = [layer.ids for layer in layers]
    for layer in layers:
        if layer.ids is None or layer.ids.ndim:
            layer.ids = ids
    try:
        yield
    finally:
        for layer, ids_before in zip(layers, before, strict=True):
            layer.ids = ids_before


@checked_but("ids")
@contextlib.contextmanager
def subnetwork(model: nn.Module | Subject, part: Part, ids: Ids | int | None = None) -> Iterator[None]:
    """Run a network with example masks as one of its subnetworks.

        with mm.subnetwork(network, "flipped", ids):
            logits = network.model(inputs)

    Afterwards, and after an error, the network is as it was.

    Args:
        model: a network with mask layers, or a subject.
        part: "full"; "own", what each example trains; "flipped", the units that it does not train (turn-over dropout);
            "shared", without memory units (example-tied dropout).
        ids: ids of the examples in the forward passes inside, one per row; or one id for all rows, which also applies
            to mechmem's own passes inside. Without ids, mechmem's passes apply each example's own mask. "full" and
            "shared" are the same for all examples, whatever the ids.

    Raises:
        MissingNeedError: the network has no mask layers.
        UnknownNameError: a mask layer has no such subnetwork.
        ConfigError: the ids are not whole numbers of at least 0.
    """
    task = model.task if isinstance(model, Subject) else None
    found = None if ids is None else one_or_more(ids)
    layers = _with_part(model.model if isinstance(model, Subject) else model, part)
    if task is not None and found is not None:
        # An id that is not in the task would give a mask that no example has trained.
        found = found if not found.ndim else task.source(check_ids(task, found))
    before: list[tuple[Part | None, Tensor | None]] = [(layer.part, layer.ids) for layer in layers]
    for layer in layers:
        layer.part, layer.ids = part, layer.ids if found is None else found
    try:
        yield
    finally:
        for layer, (part_before, ids_before) in zip(layers, before, strict=True):
            layer.part, layer.ids = part_before, ids_before


def as_subnetwork(subject: Subject, part: Part) -> Subject:
    """Return the subject with a copy of its model that always runs as one of its subnetworks.

    Raises:
        MissingNeedError: the network has no mask layers.
        UnknownNameError: a mask layer has no such subnetwork.
    """
    model = subject.copy_model()
    for layer in _with_part(model, part):
        layer.part = part
    return subject.with_model(model)


def _with_part(model: nn.Module, part: Part) -> tuple[ExampleMask, ...]:
    """Return the mask layers of a model, at least one, after checking that each has this subnetwork."""
    layers = mask_layers(model)
    if not layers:
        raise MissingNeedError("the network has no layer with example masks (TurnOverDropout, ExampleTiedDropout)")
    for layer in layers:
        check_choice("subnetwork", part, layer.parts)
    return layers
