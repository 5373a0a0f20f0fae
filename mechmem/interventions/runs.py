"""Batched forward passes under edits, and the points at which edits reach the logits."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.inputs import run_on
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, DiscardedEditError, unknown_name
from mechmem.interventions.batched import Batched, Edited, Forward, Masks
from mechmem.interventions.layouts import Layout, layout_of
from mechmem.interventions.reach import check_edit
from mechmem.interventions.values import Values
from mechmem.models.hooks.hooking import firing, replaced
from mechmem.models.hooks.points import hook_points
from mechmem.models.hooks.running import block_rows, device_of, evaluating
from mechmem.models.reading.activations import activations


@dataclasses.dataclass(frozen=True, eq=False)
class Replacement:
    """Replacement values at a point, and the elements that each edit replaces.

    Attributes:
        point: the hook point.
        values: the replacement values, as a function of a block of examples.
        masks: elements of one example's value that each edit replaces, in a shape that broadcasts to it. Shape
            (edit, …).
    """

    point: str
    values: Values
    masks: Bool[Tensor, "edit ..."]


def layouts_at(subject: Subject, patterns: Sequence[str]) -> tuple[dict[str, tuple[Layout, ...]], str]:
    """Return the points that match each name or pattern and at which edits reach the logits.

    Returns:
        the points by name or pattern, in the order in which they fire; and a note on points left out, or "".

    Raises:
        UnknownNameError: a name or pattern matches no point.
        ActivationError: a point did not fire, or fired several times and is named without a number.
        DiscardedEditError: the logits do not depend on a named point, or on any point of a pattern.
    """
    points = hook_points(subject.model)
    # Two examples, because with one an axis of length 1 could be mistaken for the examples'.
    held = activations(subject, [firing(pattern)[0] for pattern in patterns], subject.task.ids[:1].repeat(2))
    found: dict[str, tuple[Layout, ...]] = {}
    discarded: dict[str, None] = {}
    for pattern in patterns:
        named = firing(pattern)[0] in points
        layouts = [layout_of(subject, each, tuple(held[each].shape[1:])) for each in ([pattern] if named else held)]
        if not named:
            layouts = [layout for layout in layouts if matches(layout.point, pattern)]
        if not layouts:
            raise unknown_name("hook point", pattern, held)
        kept, lost = reaching([subject], [layout.point for layout in layouts], [pattern] if named else ())
        discarded.update(dict.fromkeys(lost))
        found[pattern] = tuple(layout for layout in layouts if layout.point in kept)
    return found, left_out(discarded)


def layout_at(subject: Subject, point: str) -> Layout:
    """Return the layout of a point at which edits reach the logits.

    Args:
        subject: the network.
        point: its name, or a pattern that matches one point.

    Raises:
        ConfigError: several points match, or `point` is not a string.
        UnknownNameError: there is no such point.
        ActivationError: the point did not fire, or fired several times and is named without a number.
        DiscardedEditError: the logits do not depend on the point.
    """
    if not isinstance(point, str):
        raise ConfigError(f"one layer is ablated at a time, named by its hook point; got {point!r}")
    first, *others = layouts_at(subject, [point])[0][point]
    if others:
        names = ", ".join(layout.point for layout in (first, *others))
        raise ConfigError(f"one layer is ablated at a time, but {point!r} matches {1 + len(others)}: {names}")
    return first


def matches(point: str, pattern: str) -> bool:
    """Return whether a pattern matches a point, or the point of a numbered firing."""
    return fnmatch.fnmatchcase(point, pattern) or fnmatch.fnmatchcase(firing(point)[0], pattern)


def reaching(subjects: Iterable[Subject], points: Iterable[str], named: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split points into those at which edits reach the logits of all networks, and the others.

    Raises:
        DiscardedEditError: one of the others is named, or there is no point of the first kind.
    """
    kept, lost, networks, named = [], [], list(subjects), set(named)
    for point in points:
        try:
            for subject in networks:
                check_edit(subject, point)
            kept.append(point)
        except DiscardedEditError:
            if named & {point, firing(point)[0]}:
                raise
            lost.append(point)
    if not kept:
        raise DiscardedEditError(f"edits have no effect, because no logit depends on these points: {', '.join(lost)}")
    return kept, lost


def left_out(points: Iterable[str]) -> str:
    """Return the note on points that a pattern matches but no logit depends on, or ""."""
    names = ", ".join(points)
    return f"left out, because no logit depends on them: {names}" if names else ""


def edited_logits(
    subject: Subject, ids: Int[Tensor, " example"], places: tuple[Replacement, ...], how: Batched
) -> Iterator[Edited]:
    """Yield the logits under every edit, many edits per forward pass; all edits are made at the same points.

    Args:
        subject: the network to run.
        ids: the examples.
        places: points and replacement values; each edit replaces something at all of them, in this order.
        how: batch sizes; receives a note on how the passes were batched.
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
                returned = run_on(model, inputs)
            return output.read(returned)

        return forward

    masks = tuple(place.masks.to(device) for place in places)
    with torch.no_grad(), evaluating(model):
        yield from how.over(forward_on, len(ids), block_rows(model), masks)
