"""What is put from one run into another: points, neurons, frequencies; and the logits that come of it."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechmem.caching import activations, hook_points
from mechmem.contracts import Subject
from mechmem.errors import ActivationError, NotLinearError, ScoreError, unknown_name
from mechmem.linear_readout import LinearReadout, linear_readout
from mechmem.math.blocks import blocks
from mechmem.math.filtration import frequency_power, key_frequency
from mechmem.models.forward import block_rows, full_precision, logits_of
from mechmem.models.weights import neuron_weights
from mechmem.neurons import NeuronSet

PATCHED_ELEMENTS = 2**24
"""Logits of patched runs held at once: 64 MB in float32."""

Patched = tuple[slice, slice, Float[Tensor, "unit example class"]]
"""Which units, which examples, and the logits of the runs in which these units were patched."""


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """Two sets of runs, example by example: one that is patched, and one that the values come from.

    Attributes:
        into: the network that is patched.
        ids: what it runs on. Shape (example).
        source: the network that the values come from.
        source_ids: what that runs on. Shape (example).
    """

    into: Subject
    ids: Int[Tensor, " example"]
    source: Subject
    source_ids: Int[Tensor, " example"]


@dataclasses.dataclass(frozen=True, eq=False)
class NeuronUnits:
    """Sets of neurons that are patched together, one unit each.

    Attributes:
        point: the hook point that holds the neurons on its last axis.
        names: the units' names.
        masks: which neurons belong to each. Shape (unit, neuron).
    """

    point: str
    names: tuple[str, ...]
    masks: Bool[Tensor, "unit neuron"]


def shared_points(runs: Runs, patterns: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the points that match, with the shape that one example has there; the same in both networks.

    Raises:
        UnknownNameError: a pattern matches no point, or a point exists in one network only.
        ActivationError: a point did not fire, or an example has different shapes there.
    """
    bases = [_base(pattern) for pattern in patterns]
    into, source = (
        {name: tuple(value.shape[1:]) for name, value in activations(subject, bases, ids[:1]).items()}
        for subject, ids in ((runs.into, runs.ids), (runs.source, runs.source_ids))
    )
    for name in sorted(into.keys() ^ source.keys()):
        lacking = ("donor", source) if name in into else ("receiver", into)
        raise unknown_name(f"hook point of the {lacking[0]}", name, lacking[1])
    for name, shape in into.items():
        if shape != source[name]:
            raise ActivationError(
                f"{name!r} has shape {shape} per example in one network and {source[name]} in the other"
            )
    chosen = {
        name: shape
        for name, shape in into.items()
        if any(fnmatch.fnmatchcase(name, p) or fnmatch.fnmatchcase(_base(name), p) for p in patterns)
    }
    if not chosen:
        raise unknown_name("hook point", patterns[0], into)
    return chosen


def _base(point: str) -> str:
    """Drop the number of a firing."""
    base, numbered, number = point.rpartition("#")
    return base if numbered and number.isdigit() else point


def single_neurons(point: str, width: int) -> NeuronUnits:
    """Return one unit per neuron."""
    return NeuronUnits(point, tuple(f"{point}[{neuron}]" for neuron in range(width)), torch.eye(width).bool())


def neuron_sets(sets: Mapping[str, NeuronSet], point: str, width: int) -> NeuronUnits:
    """Return one unit per named set.

    Raises:
        ScoreError: there is no set, or one is empty or belongs to another layer.
    """
    if not sets:
        raise ScoreError("no set of neurons to patch")
    for name, each in sets.items():
        if (each.point, len(each.mask)) != (point, width):
            raise ScoreError(f"set {name!r} is of {each.point} ({len(each.mask)} neurons), not of {point} ({width})")
        if not len(each):
            raise ScoreError(f"set {name!r} is empty")
    return NeuronUnits(point, tuple(sets), torch.stack([each.mask for each in sets.values()]))


def frequency_units(subject: Subject, point: str, width: int) -> NeuronUnits:
    """Return one unit per key frequency that a neuron of this network has; neurons without one are a unit of their own.

    Raises:
        MissingNeedError: there is no group, a role is missing, or several layers stand between input and output.
        ActivationError: the point does not hold the neurons that have the vectors.
    """
    group, embedding, readout = neuron_weights(subject)
    share = frequency_power(group, full_precision(embedding.cpu()), full_precision(readout.cpu()))
    if share.shape[1] != width:
        raise ActivationError(f"{point!r} holds {width} neurons, and {share.shape[1]} have a key frequency")
    key = torch.where(share.sum(0) > 0, key_frequency(share), 0)
    present = key.unique()
    names = tuple(f"frequency {k}" if k else "no frequency" for k in present.tolist())
    return NeuronUnits(point, names, rearrange(present, "unit -> unit 1") == key)


@contextlib.contextmanager
def replaced(
    model: nn.Module,
    point: str,
    value: Float[Tensor, "example ..."],
    mask: Bool[Tensor, "example neuron"] | None = None,
) -> Iterator[None]:
    """Replace what a point holds during one forward pass; nothing stays behind, whatever happens inside.

    Args:
        model: the network.
        point: name of a hook point; `name#i` for firing i of a point that fires several times.
        value: what it is to hold.
        mask: which neurons (last axis) of each example are replaced; by default everything.

    Raises:
        ActivationError: the point holds another shape.
    """
    fired = -1
    number = int(point.rpartition("#")[2]) if _base(point) != point else 0

    def put(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        nonlocal fired
        fired += 1
        if fired != number:
            return None
        if output.shape != value.shape:
            raise ActivationError(
                f"{point!r} holds shape {tuple(output.shape)}; it cannot be given {tuple(value.shape)}"
            )
        new = value.to(output)
        if mask is None:
            return new.clone()
        chosen = mask.to(output.device).reshape(len(mask), *(1,) * (output.ndim - 2), mask.shape[1])
        return torch.where(chosen, new, output)

    handle = hook_points(model)[_base(point)].register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


def patched_points(runs: Runs, points: Sequence[str]) -> Iterator[Patched]:
    """Yield the logits with one point replaced after the other."""
    bases = list(dict.fromkeys(_base(point) for point in points))
    model = runs.into.model
    for block in blocks(len(runs.ids), block_rows(model)):
        held = activations(runs.source, bases, runs.source_ids[block])
        for unit, point in enumerate(points):
            # One block is one forward pass: `logits_of` cuts its ids by the same `block_rows`.
            with replaced(model, point, held[point]):
                logits = logits_of(model, runs.into.task, runs.ids[block], runs.into.roles.output)
            yield slice(unit, unit + 1), block, rearrange(logits, "example classes -> 1 example classes")


def patched_neurons(runs: Runs, units: NeuronUnits) -> Iterator[Patched]:
    """Yield the logits with one set of neurons replaced after the other, by forward passes over repeated examples."""
    model, rows = runs.into.model, block_rows(runs.into.model)
    for block in blocks(len(runs.ids), rows):
        ids = runs.ids[block]
        held = activations(runs.source, _base(units.point), runs.source_ids[block])[units.point]
        for chosen in blocks(len(units.names), rows // len(ids)):
            mask = repeat(units.masks[chosen], "unit neuron -> (unit example) neuron", example=len(ids))
            n = len(mask) // len(ids)
            with replaced(model, units.point, repeat(held, "example ... -> (n example) ...", n=n), mask):
                logits = logits_of(model, runs.into.task, ids.repeat(n), runs.into.roles.output)
            yield chosen, block, rearrange(logits, "(n example) classes -> n example classes", n=n)


def readout_of(runs: Runs, point: str) -> tuple[LinearReadout | None, str]:
    """Return the linear readout of the patched network at this point and "", or None and why there is none."""
    if point not in runs.into.roles.hidden:
        return None, f"patched by forward passes: {point!r} is not a point of the role hidden"
    try:
        return linear_readout(runs.into, point), ""
    except NotLinearError as error:
        return None, f"patched by forward passes: {error}"


def patched_algebra(
    runs: Runs, units: NeuronUnits, readout: LinearReadout, logits: Float[Tensor, "example class"]
) -> Iterator[Patched]:
    """Yield the same as `patched_neurons` without a forward pass: logits + Σ_m (h_source − h_into)_m · weights_m.

    Args:
        runs: what is patched with what.
        units: sets of neurons of the readout's point.
        readout: the readout of the patched network.
        logits: of the patched network on its examples, unpatched.
    """
    held = full_precision(activations(runs.source, units.point, runs.source_ids)[units.point])
    change = held.to(readout.hidden) - readout.hidden[runs.into.task.rows(runs.ids)]
    n, classes = logits.shape
    width = units.masks.shape[1]
    if bool((units.masks.sum(1) == 1).all()):
        # A rank-one change each: no product over neurons is needed.
        neuron = units.masks.int().argmax(1)
        for chosen in blocks(len(neuron), max(1, PATCHED_ELEMENTS // (n * classes))):
            moved, weights = change[:, neuron[chosen]], readout.weights[neuron[chosen]]
            yield chosen, slice(0, n), logits + torch.einsum("em,mc->mec", moved, weights)
        return
    for chosen in blocks(len(units.names), max(1, PATCHED_ELEMENTS // (n * max(classes, width)))):
        mask = rearrange(units.masks[chosen], "unit neuron -> unit 1 neuron")
        yield chosen, slice(0, n), logits + (mask * change) @ readout.weights


def partners(
    subject: Subject, ids: Int[Tensor, " example"], draw: torch.Generator
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Pair examples with cleanly labelled training examples that share an operand and have another given label.

    One that shares the first operand is preferred; among several, one is drawn. Examples that no partner fits are left
    out.

    Args:
        subject: its task knows operands and which labels are wrong.
        ids: what is paired.
        draw: seeded generator.

    Returns:
        the ids that have a partner, and their partners. Shape (pair) each.
    """
    task = subject.task
    clean = task.splits["train_clean"]
    assert clean is not None and task.operands is not None
    pairs, given = task.operands, task.given(clean)
    place = torch.rand(len(ids), generator=draw, dtype=torch.float64)
    found: list[Tensor] = []
    for block in blocks(len(ids), max(1, PATCHED_ELEMENTS // max(len(clean), 1))):
        own = rearrange(pairs[task.rows(ids[block])], "example operand -> operand example 1")
        other = rearrange(pairs[task.rows(clean)], "clean operand -> operand 1 clean")
        fits = (own == other) & (rearrange(task.given(ids[block]), "example -> example 1") != given)
        fits = torch.where(fits[0].any(1, keepdim=True), fits[0], fits[1])
        count = fits.sum(1)
        nth = (place[block] * count).long() + 1
        chosen = torch.searchsorted(fits.cumsum(1), rearrange(nth, "example -> example 1")).squeeze(1)
        found.append(torch.where(count > 0, chosen, -1))
    chosen = torch.cat(found) if found else torch.zeros(0, dtype=torch.long)
    kept = chosen >= 0
    return ids[kept], clean[chosen[kept]]
