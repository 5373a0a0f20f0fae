"""Cumulative ablation of the neurons of one layer."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mechmem.core.arguments import checked_but
from mechmem.core.config import check_choice, check_different, check_whole
from mechmem.core.plugins import named, plugins
from mechmem.core.randomness import generator
from mechmem.core.roles import Roles
from mechmem.core.scores import NeuronScores
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError, NotLinearError, ScoreError
from mechmem.interventions.runs import layout_at
from mechmem.interventions.units import Indices, Units
from mechmem.interventions.values import Value
from mechmem.models.reading.linear_readout import LinearReadout, linear_readout
from mechmem.neurons.pruning import Curves, by_algebra, by_hooks
from mechmem.neurons.pruning_curves import Order, PruningCurves
from mechmem.neurons.scores.ablation_effect import AblationEffect

MOST_DRAWS = 10**4
"""Most random orders of ablation."""

Method = Literal["algebra", "hooks"]
Ablated = Literal["neuron", "channel", "head"]


@checked_but("at")
def ablate(
    subject: nn.Module | Subject,
    task: Task | None = None,
    *,
    roles: Roles | None = None,
    by: str | NeuronScores | None = None,
    order: Order | Sequence[Order] = ("low", "high", "random"),
    value: Value = "zero",
    points: int = 50,
    draws: int = 5,
    at: str = "",
    units: Ablated = "neuron",
    positions: Indices | None = None,
    method: Method = "algebra",
    seed: int = 0,
    losses: bool = True,
) -> PruningCurves:
    """Ablate the neurons (or heads, or channels) of one layer cumulatively, and measure the four splits along the way.

    If the logits are linear in the neurons, a curve is one product with the readout, taken in groups and summed; the
    network is not run again. Otherwise, and at any other hook point, the network runs at every step of the curve with
    the ablated units' activations replaced, many steps in one forward pass. Neurons of a point (example, position,
    neuron) are ablated at all positions unless `positions` is given.

        mm.ablate(network, by="ipr", order=("low", "high", "random")).plot()

    Args:
        subject: a subject, or a network with `HookPoint` submodules.
        task: the network's task; only with a network.
        roles: the network's roles; by default its own.
        by: a score's name, or scores of your own; by default "ipr" if the layer's neurons have vectors over the symbols
            of a group, and otherwise the rise of the training loss when a unit is ablated alone,
            "ablation_effect(train,measure=loss)". The random order needs none.
        order: one or several of "low" (lowest score first), "high" (highest first) and "random".
        value: replacement for a unit's activations: "zero", their "mean" over the training examples at each position,
            or "resample", their value on another training example, drawn once per example for all units.
        points: number of steps from none to all of the neurons.
        draws: number of random orders.
        at: a hook point, or a pattern that matches one; by default that of the scores, or the last of the role `hidden`
            (of the role `heads`).
        units: units to ablate: "neuron", on the last axis; "channel", on the second, (example, channel, …); or "head",
            on the third of four, (example, position, head, dimension). A point with four axes outside attention has
            only channels.
        positions: positions of (example, position, …), one or several; by default all.
        method: "algebra", which does not run the network, or "hooks". If the logits are not linear in the neurons,
            "algebra" falls back to hooks and the result's `note` says so.
        seed: seed of the random orders and of the resampling.
        losses: whether to measure cross-entropies too; they take more time than the accuracies.

    Raises:
        UnknownNameError: there is no such score, order, value, method or hook point; the message suggests the nearest.
        ScoreError: the scores are not finite, or belong to another layer.
        ConfigError: `by` is "frequency", which is an analysis, not a score; a number is out of range; `at` matches
            several points; or the point does not have, or may not have, such units or positions.
        MissingNeedError: a need of the score is missing, or no layer of neurons is named.
        DiscardedEditError: the logits do not depend on the point.
    """
    subject = subject_of(subject, task, roles)
    if not isinstance(order, str | Sequence):
        raise ConfigError(f"order is one or several of {', '.join(get_args(Order))}, got {order!r}")
    wanted: tuple[str, ...] = (order,) if isinstance(order, str) else tuple(order)
    for name in wanted:
        check_choice("order of ablation", name, get_args(Order))
    check_different("order of ablation", wanted)
    if not wanted:
        raise ConfigError(f"name at least one order of {', '.join(get_args(Order))}")
    check_choice("ablation value", value, get_args(Value))
    check_choice("method of ablation", method, get_args(Method))
    check_choice("unit of ablation", units, get_args(Ablated))
    check_whole("points", points, 1)
    check_whole("draws", draws, 1, MOST_DRAWS)
    check_whole("seed", seed, 0)
    at = layout_at(subject, at).point if at else ""
    needed = isinstance(by, NeuronScores) or set(wanted) != {"random"}
    scores = _scores(subject, by, at, units) if needed else None
    point = scores.point if scores is not None else at or _default_point(subject, units)
    if not point:
        raise MissingNeedError(f"no layer of {units}s is named: pass at=, or name the role {_ROLES[units]}")
    linear, note = _linear(subject, point, method, units, positions)
    where = linear or Units(layout_at(subject, point), units, positions)
    width = where.hidden.shape[1] if isinstance(where, LinearReadout) else where.width
    if scores is not None and len(scores.values) != width:
        raise ScoreError(f"{scores.score!r} has {len(scores.values)} scores, but {point!r} has {width} {units}s")
    curves = [(name, draw) for name in wanted for draw in range(draws if name == "random" else 1)]
    orders = torch.stack([_order(scores, width, name, draw, seed) for name, draw in curves])
    removed = torch.unique((torch.arange(points + 1, dtype=torch.float64) * width / points).round().long())
    asked = Curves(orders, removed, value, seed, losses)
    if isinstance(where, LinearReadout):
        measured, how = by_algebra(subject, where, asked), ""
    else:
        measured, how = by_hooks(subject, where, asked)
    return PruningCurves(
        "" if scores is None else scores.score,
        point,
        value,
        "algebra" if linear else "hooks",
        tuple(name for name, _ in curves),
        tuple(draw for _, draw in curves),
        removed,
        width,
        *measured,
        note="; ".join(filter(None, (note, how))),
        units=units,
    )


_ROLES = {"neuron": "hidden", "channel": "hidden", "head": "heads"}


def _default_point(subject: Subject, units: str) -> str:
    return next(reversed(getattr(subject.roles, _ROLES[units])), "")


def _scores(subject: Subject, by: str | NeuronScores | None, at: str, units: str) -> NeuronScores:
    """Return the scores of the ablated layer."""
    roles = subject.roles
    if isinstance(by, NeuronScores):
        found = by
    elif by is None:
        if units == "neuron" and at in ("", *roles.hidden):
            with contextlib.suppress(MissingNeedError):
                return _scores(subject, "ipr", at, units)
        return _scores(subject, "ablation_effect(train,measure=loss)", at, units)
    elif not isinstance(by, str):
        raise ConfigError(f"by is a score's name or NeuronScores, got {type(by).__name__}")
    elif by == "frequency" and by not in plugins("neuron_scores"):
        raise ConfigError("a frequency is not a single neuron: use the analysis 'frequency_ablation'")
    else:
        ranking = named("neuron_scores", by)
        if units != "neuron" and getattr(ranking, "units", None) == "neuron":
            ranking = dataclasses.replace(ranking, units=units)  # type: ignore[call-arg]
        if getattr(ranking, "units", "neuron") != units:
            raise ScoreError(f"{by!r} ranks neurons, not {units}s; ablation_effect ranks both")
        anywhere = isinstance(ranking, AblationEffect)
        if at and getattr(ranking, "point", None) == "" and (anywhere or at in getattr(roles, _ROLES[units])):
            ranking = dataclasses.replace(ranking, point=at)  # type: ignore[call-arg]
        found = ranking(subject)
    if at and found.point != at:
        raise ScoreError(f"{found.score!r} ranks the neurons of {found.point!r}, not of {at!r}")
    return found


def _linear(
    subject: Subject, point: str, method: str, units: str, positions: Indices | None
) -> tuple[LinearReadout | None, str]:
    """Return the readout if the algebraic path is possible, or None and why the network has to be run."""
    if method == "hooks":
        return None, ""
    try:
        if units != "neuron" or positions is not None:
            raise NotLinearError(f"{units}s{'' if positions is None else ' at some positions'} are ablated there")
        if point not in subject.roles.hidden:
            raise NotLinearError(f"{point!r} is not a point of the role hidden")
        return linear_readout(subject, point), ""
    except NotLinearError as error:
        return None, f"measured through hooks: {error}"


def _order(scores: NeuronScores | None, width: int, order: str, draw: int, seed: int) -> Int[Tensor, " neuron"]:
    """Return a layer's neurons in the order of their ablation."""
    if order == "random":
        return torch.randperm(width, generator=generator(seed, "ablation order", draw))
    assert scores is not None
    return scores.order("high" if order == "high" else "low")
