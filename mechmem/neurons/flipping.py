"""Flipping sets: the units to ablate before an example's prediction flips, one set per example."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechmem.core.inputs import run_on
from mechmem.core.subject import Subject
from mechmem.errors import NotLinearError
from mechmem.interventions.runs import layout_at
from mechmem.interventions.units import Units
from mechmem.math.blocks import blocks
from mechmem.math.logits import check_finite
from mechmem.models.hooks.hooking import hooked
from mechmem.models.hooks.running import device_of, differentiating, evaluating, full_precision
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.models.reading.linear_readout import LinearReadout, linear_readout

Removed = Literal["neuron", "channel"]

BLOCK_ELEMENTS = 2**22
"""Elements per tensor when several examples are processed at once: 16 MB in float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class FlippingSets:
    """Units ablated for each of some examples.

    Attributes:
        removed: the ablated units, whether they sufficed or not. Shape (example, unit).
        flipped: whether the prediction is no longer the given label. Shape (example).
        collateral: share of the other fitted examples that were lost too. Shape (example).
    """

    removed: Bool[Tensor, "example unit"]
    flipped: Bool[Tensor, " example"]
    collateral: Float[Tensor, " example"]


def flipping_readout(subject: Subject, point: str, units: Removed) -> tuple[LinearReadout | None, str]:
    """Return the readout if the logits are linear in a layer, or None and a note on how sets are found instead.

    Args:
        subject: the network and its roles.
        point: the hook point of the units.
        units: kind of the ablated units.
    """
    note = f"found by running the network without {units}s"
    if units != "neuron" or point not in subject.roles.hidden:
        return None, note
    try:
        return linear_readout(subject, point), ""
    except NotLinearError:
        return None, f"{note}: its logits are not linear in this layer"


def sets_by_algebra(
    readout: LinearReadout,
    chosen: Int[Tensor, " sampled"],
    others: Int[Tensor, " other"],
    given: Int[Tensor, " example"],
    most: int,
    elements: int,
) -> FlippingSets:
    """Ablate neurons greedily, using the weights of the readout, for many examples at once.

    Args:
        readout: the readout of the layer.
        chosen: rows of fitted examples.
        others: rows of the examples to spare; a chosen example among them is left out for its own set.
        given: given labels of all rows.
        most: largest size of a set.
        elements: most elements in one tensor.
    """
    width, classes = readout.weights.shape
    rows = elements // max(1, len(others) * classes, width * classes)
    parts = [_by_algebra(readout, chosen[block], others, given, most) for block in blocks(len(chosen), rows)]
    fields = dataclasses.fields(FlippingSets)
    return FlippingSets(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields))


def sets_by_running(
    subject: Subject,
    point: str,
    units: Removed,
    chosen: Int[Tensor, " sampled"],
    others: Int[Tensor, " other"],
    most: int,
    rows: int,
) -> tuple[FlippingSets, str]:
    """Ablate units greedily, one example at a time, each together with the others in one pass through the network.

    Args:
        subject: the network.
        point: the hook point of the units, or a pattern that matches one.
        units: kind of the ablated units.
        chosen: rows of fitted examples.
        others: rows of the examples to spare; a chosen example among them is left out for its own set.
        most: largest size of a set.
        rows: examples per forward pass.

    Returns:
        the sets, and the name of the point.

    Raises:
        UnknownNameError: there is no such hook point.
        ConfigError: the point does not have, or may not have, such units.
        DiscardedEditError: the logits do not depend on the point.
    """
    where = Units(layout_at(subject, point), units)
    model, ids = subject.copy_model().requires_grad_(False), subject.task.ids
    removed = torch.zeros(len(chosen), where.width, dtype=torch.bool)
    flipped, collateral = torch.zeros(len(chosen), dtype=torch.bool), torch.zeros(len(chosen), dtype=torch.float64)
    with evaluating(model):
        for gone, (number, row) in zip(removed, enumerate(chosen), strict=True):
            own = ids[torch.cat([rearrange(row, "-> 1"), others[others != row]])]
            right, slope = _gated(subject, model, where, own, gone, rows)
            fitted = right[1:]
            for _ in range(min(most, where.width)):
                gone[slope.masked_fill(gone, -torch.inf).argmax()] = True
                right, slope = _gated(subject, model, where, own, gone, rows)
                if not right[0]:
                    flipped[number] = True
                    break
            collateral[number] = int((fitted & ~right[1:]).sum()) / max(1, int(fitted.sum()))
    return FlippingSets(removed, flipped, collateral), where.point


def _by_algebra(
    readout: LinearReadout,
    chosen: Int[Tensor, " sampled"],
    others: Int[Tensor, " other"],
    given: Int[Tensor, " example"],
    most: int,
) -> FlippingSets:
    weights = readout.weights
    own, spared = readout.hidden[chosen], readout.hidden[others]
    logits, label, other_label = readout.logits[chosen].clone(), given[chosen], given[others]
    other_logits = repeat(readout.logits[others], "other classes -> sampled other classes", sampled=len(chosen)).clone()
    counted = others != rearrange(chosen, "sampled -> sampled 1")
    share = counted.to(weights) / reduce(counted.to(weights), "sampled other -> sampled 1", "sum").clamp_min(1)
    fitted = (readout.logits[others].argmax(1) == other_label) & counted
    removed = torch.zeros(len(chosen), len(weights), dtype=torch.bool)
    active = torch.arange(len(chosen))
    for _ in range(min(most, len(weights))):
        if not len(active):
            break
        # Derivative of a loss with respect to a gate on neuron m: h_m Σ_c (softmax_c − [c is the label]) w_mc.
        gate = -own[active] * (_residual(logits[active], label[active]) @ weights.T)
        if len(others):
            pull = _residual(other_logits[active], other_label) * rearrange(share[active], "s other -> s other 1")
            gate += torch.einsum("snc,nc->sn", torch.einsum("soc,on->snc", pull, spared), weights)
        neuron = gate.masked_fill(removed[active], -torch.inf).argmax(1)
        removed[active, neuron] = True
        logits[active] -= rearrange(own[active, neuron], "sampled -> sampled 1") * weights[neuron]
        other_logits[active] -= torch.einsum("os,sc->soc", spared[:, neuron], weights[neuron])
        active = active[logits[active].argmax(1) == label[active]]
    flipped = logits.argmax(1) != label
    lost = (other_logits.argmax(2) != other_label) & fitted
    return FlippingSets(removed, flipped, lost.sum(1).double() / fitted.sum(1).clamp_min(1))


def _residual(logits: Float[Tensor, "*row class"], labels: Int[Tensor, " *label"]) -> Float[Tensor, "*row class"]:
    """Return the derivative of the cross-entropy with respect to the logits: softmax, minus one at the label."""
    return logits.softmax(-1) - torch.nn.functional.one_hot(labels, logits.shape[-1])


@differentiating()
def _gated(
    subject: Subject, model: nn.Module, where: Units, ids: Int[Tensor, " _"], gone: Bool[Tensor, " unit"], rows: int
) -> tuple[Bool[Tensor, " example"], Float[Tensor, " unit"]]:
    """Return which predictions are correct without some units, and the objective's derivative for a gate on each unit.

    The objective is the mean loss of the others minus that of the first example.
    """
    task, device, masks = subject.task, device_of(model), mask_layers(model)
    axis, shape = where.layout.axis(where.unit), where.layout.shape
    front, back = (" ".join("1" for _ in axes) for axes in (shape[:axis], shape[axis + 1 :]))
    weight = torch.full((len(ids),), 1 / max(1, len(ids) - 1), device=device)
    weight[0] = -1
    right, slope = [], torch.zeros(where.width, dtype=torch.float64)
    for block in blocks(len(ids), rows):
        inputs, given = task.batch(ids[block])
        inputs, given = inputs.to(device), given.to(device)
        gate = (~gone).double().to(device).requires_grad_(True)
        spread = rearrange(gate, f"unit -> {front} unit {back}")
        gated = hooked(model, where.point, lambda value, spread=spread: value * spread.to(value))
        with gated, of_examples(masks, task.source(ids[block])):
            logits = full_precision(subject.roles.output.read(run_on(model, inputs)))
        loss = F.cross_entropy(logits, given, reduction="none") @ weight[block].to(logits)
        slope += torch.autograd.grad(loss, gate)[0].cpu()
        check_finite(logits, f"the logits without some {where.unit}s")
        right.append((logits.argmax(1) == given).cpu())
    return torch.cat(right), slope
