"""Runs of a network in which masks say what is replaced, batched."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.caching import activations, check_edit
from mechmem.contracts import Subject
from mechmem.interventions.batched import Batched, Edited, Forward, Masks
from mechmem.interventions.hooks import replaced
from mechmem.interventions.values import Values
from mechmem.models.forward import block_rows, device_of, evaluating
from mechmem.models.hooking import firing


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """A point with what is put there, and the parts of it that each edit replaces.

    Attributes:
        point: the hook point.
        values: what is put there, block of examples by block.
        masks: which of one example's values each edit replaces, in a shape that broadcasts to one example's. Shape
            (edit, …).
    """

    point: str
    values: Values
    masks: Bool[Tensor, "edit ..."]


def shapes_at(subject: Subject, points: list[str]) -> dict[str, tuple[int, ...]]:
    """Return the shape that one example has at each point, where edits are not thrown away.

    Raises:
        UnknownNameError: there is no such point.
        ActivationError: a point did not fire, or fired several times and is named without a number.
        DiscardedEditError: the logits do not depend on what a point holds.
    """
    found = activations(subject, [firing(point)[0] for point in points], subject.task.ids[:1])
    shapes = {point: tuple(found[point].shape[1:]) for point in points}
    for point in points:
        check_edit(subject, point)
    return shapes


def edited_logits(
    subject: Subject, ids: Int[Tensor, " example"], places: tuple[Place, ...], how: Batched
) -> Iterator[Edited]:
    """Yield the logits of every edit, all of them made at the same places; one forward pass for many edits.

    Args:
        subject: the network that is run.
        ids: what on.
        places: where something is replaced; each edit replaces something at all of them, in this order.
        how: batch sizes; afterwards, what happened.
    """
    model, output = subject.model, subject.roles.output
    device = device_of(model)

    def forward_on(block: slice) -> Forward:
        inputs = subject.task.batch(ids[block])[0].to(device)
        values = [place.values(block) for place in places]

        def forward(masks: Masks) -> Tensor:
            with contextlib.ExitStack() as stack:
                for place, value, mask in zip(places, values, masks, strict=True):
                    stack.enter_context(replaced(model, place.point, value, mask))
                returned = model(inputs)
            return output.read(returned)

        return forward

    masks = tuple(place.masks.to(device) for place in places)
    with torch.no_grad(), evaluating(model):
        yield from how.over(forward_on, len(ids), block_rows(model), masks)
