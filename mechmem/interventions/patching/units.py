"""Units that can be patched, and the logits after patching each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from mechmem.core.scores import NeuronSet
from mechmem.core.subject import Subject
from mechmem.errors import ActivationError, ConfigError, NotLinearError, ScoreError, unknown_name
from mechmem.interventions.batched import Batched, Edited
from mechmem.interventions.layouts import Layout, layout_of
from mechmem.interventions.patching.pairs import Runs
from mechmem.interventions.runs import Replacement, edited_logits, left_out, matches, reaching
from mechmem.interventions.units import Indices, Site, Units, label, site_of, unit_mask
from mechmem.math.blocks import blocks
from mechmem.math.filtration import frequency_power, key_or_none
from mechmem.models.hooks.hooking import firing
from mechmem.models.hooks.running import block_rows, device_of, full_precision
from mechmem.models.reading.activations import activations
from mechmem.models.reading.linear_readout import LinearReadout, linear_readout
from mechmem.models.reading.weights import neuron_weights

PATCHED_ELEMENTS = 2**24
"""Logits of patched passes held at once: 64 MB in float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class PatchUnits:
    """Units of one point, to be patched one after the other.

    Attributes:
        point: the hook point.
        names: the units' names.
        masks: elements of one example's value that belong to each, in a shape that broadcasts to it. Shape (unit, …);
            (unit, neuron) if the point holds only neurons.
        sites: site of each unit.
    """

    point: str
    names: tuple[str, ...]
    masks: Bool[Tensor, "unit ..."]
    sites: tuple[Site, ...]


def shared_points(runs: Runs, patterns: Sequence[str]) -> tuple[dict[str, Layout], str]:
    """Return the layouts of the matching points, which must be the same in both networks.

    Points matched by a pattern are left out if no logit depends on them; for a named point this is an error.

    Returns:
        the layouts by point, in the order in which the points fire, and a note on points left out.

    Raises:
        UnknownNameError: a pattern matches no point, or a point exists in one network only.
        ActivationError: a point did not fire, or has different shapes in the two networks.
        DiscardedEditError: the logits do not depend on a named point.
    """
    bases = [firing(pattern)[0] for pattern in patterns]
    # Two examples, because with one an axis of length 1 could be mistaken for the examples'.
    into, source = (
        {name: tuple(value.shape[1:]) for name, value in activations(subject, bases, ids[:1].repeat(2)).items()}
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
    chosen = [name for name in into if any(matches(name, pattern) for pattern in patterns)]
    if not chosen:
        raise unknown_name("hook point", patterns[0], into)
    kept, discarded = reaching({id(each): each for each in (runs.into, runs.source)}.values(), chosen, patterns)
    return {name: layout_of(runs.into, name, into[name]) for name in kept}, left_out(discarded)


def whole_point(layout: Layout, positions: Indices | None) -> PatchUnits:
    """Return a whole point, at all or some positions, as one unit.

    Raises:
        ConfigError: the point has no such positions.
    """
    chosen: dict[str, Indices] = {} if positions is None else {"position": positions}
    mask = torch.ones((1,) * len(layout.shape), dtype=torch.bool)
    for unit, which in chosen.items():
        mask = unit_mask(unit, which, layout)
    # The whole point has no kind of unit.
    site = dataclasses.replace(site_of(layout, chosen), unit="")
    return PatchUnits(layout.point, (label(layout.point, chosen),), rearrange(mask, "... -> 1 ..."), (site,))


def single_units(units: Units) -> PatchUnits:
    """Return one unit per neuron, head, channel or position of a point."""
    return PatchUnits(units.point, units.names, units.masks(torch.eye(units.width).bool()), units.sites)


def neuron_sets(sets: Mapping[str, NeuronSet], units: Units) -> PatchUnits:
    """Return one unit per named set.

    Raises:
        ConfigError: a value is not a set of neurons.
        ScoreError: there is no set, or one is empty or belongs to another layer.
    """
    point, width = units.point, units.width
    if not sets:
        raise ScoreError("no set of neurons to patch")
    for name, each in sets.items():
        if not isinstance(each, NeuronSet):
            kind = type(each).__name__
            raise ConfigError(f"units maps names to sets of neurons (mm.NeuronSet.of), but {name!r} is a {kind}")
        if (each.point, len(each.mask)) != (point, width):
            raise ScoreError(f"set {name!r} belongs to {each.point} ({len(each.mask)} neurons), not {point} ({width})")
        if not len(each):
            raise ScoreError(f"set {name!r} is empty")
    masks = units.masks(torch.stack([each.mask for each in sets.values()]))
    return PatchUnits(point, tuple(sets), masks, (units.site("set"),) * len(sets))


def frequency_units(subject: Subject, units: Units) -> PatchUnits:
    """Return one unit per key frequency of this network's neurons; neurons without one form a unit of their own.

    Raises:
        MissingNeedError: there is no group, a role is missing, or several layers lie between input and output.
        ActivationError: the point does not hold the neurons that have the vectors.
    """
    group, embedding, readout = neuron_weights(subject)
    share = frequency_power(group, full_precision(embedding.cpu()), full_precision(readout.cpu()))
    if share.shape[1] != units.width:
        raise ActivationError(f"{units.point!r} holds {units.width} neurons, but {share.shape[1]} have a key frequency")
    key = key_or_none(group, share)
    present = key.unique()
    names = tuple(f"frequency {k}" if k else "no frequency" for k in present.tolist())
    masks = units.masks(rearrange(present, "unit -> unit 1") == key)
    return PatchUnits(units.point, names, masks, (units.site("frequency"),) * len(names))


def patched_runs(runs: Runs, units: Sequence[PatchUnits], notes: list[str]) -> Iterator[Edited]:
    """Yield the logits with each unit patched in turn, all units of a point in one forward pass.

    Args:
        runs: the paired passes.
        units: the units, point by point; numbered consecutively.
        notes: list to which remarks on how it was done are added.
    """
    bases = list(dict.fromkeys(firing(each.point)[0] for each in units))
    model, device = runs.into.model, device_of(runs.into.model)
    hows = [Batched() for _ in units]
    for block in blocks(len(runs.ids), block_rows(model)):
        held = activations(runs.source, bases, runs.source_ids[block])
        before = 0
        for each, how in zip(units, hows, strict=True):
            values = held[each.point].to(device)
            place = Replacement(each.point, lambda part, values=values: values[part], each.masks)
            for chosen, part, logits in edited_logits(runs.into, runs.ids[block], (place,), how):
                numbers = slice(before + chosen.start, before + chosen.stop)
                yield numbers, slice(block.start + part.start, block.start + part.stop), logits
            before += len(each.names)
    notes.extend(dict.fromkeys(how.note for how in hows))


def readout_of(runs: Runs, units: PatchUnits) -> tuple[LinearReadout | None, str]:
    """Return the linear readout of the patched network at the units' point and "", or None and the reason."""
    point = units.point
    if units.masks.ndim != 2:
        return None, f"patched by forward passes: {point!r} holds more than one value per neuron"
    if point not in runs.into.roles.hidden:
        return None, f"patched by forward passes: {point!r} is not a point of the role hidden"
    try:
        return linear_readout(runs.into, point), ""
    except NotLinearError as error:
        return None, f"patched by forward passes: {error}"


def patched_algebra(
    runs: Runs, units: PatchUnits, readout: LinearReadout, logits: Float[Tensor, "example class"]
) -> Iterator[Edited]:
    """Yield the same as `patched_runs` without a forward pass: logits + Σ_m (h_source − h_into)_m · weights_m.

    Args:
        runs: the paired passes.
        units: sets of neurons of the readout's point.
        readout: the readout of the patched network.
        logits: the unpatched logits of the patched network on its examples.
    """
    held = full_precision(activations(runs.source, units.point, runs.source_ids)[units.point])
    change = held.to(readout.hidden) - readout.hidden[runs.into.task.rows(runs.ids)]
    n, classes = logits.shape
    width = units.masks.shape[1]
    if bool((units.masks.sum(1) == 1).all()):
        # Each is a rank-one change: no product over neurons is needed.
        neuron = units.masks.int().argmax(1)
        for chosen in blocks(len(neuron), max(1, PATCHED_ELEMENTS // (n * classes))):
            moved, weights = change[:, neuron[chosen]], readout.weights[neuron[chosen]]
            yield chosen, slice(0, n), logits + torch.einsum("em,mc->mec", moved, weights)
        return
    for chosen in blocks(len(units.names), max(1, PATCHED_ELEMENTS // (n * max(classes, width)))):
        mask = rearrange(units.masks[chosen], "unit neuron -> unit 1 neuron")
        yield chosen, slice(0, n), logits + (mask * change) @ readout.weights
