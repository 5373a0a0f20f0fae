"""Activation patching: activations of one pass put into another, and how much of the behaviour follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from mechmem.core.arguments import checked_but
from mechmem.core.config import check_choice, check_whole
from mechmem.core.roles import Roles
from mechmem.core.scores import NeuronSet
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.interventions.batched import Edited
from mechmem.interventions.patching import units as patch_units
from mechmem.interventions.patching.effects import Direction, Metric, PatchEffects, both_ways
from mechmem.interventions.patching.pairs import Runs, check_donor, paired
from mechmem.interventions.patching.units import PatchUnits
from mechmem.interventions.units import UNITS, Indices, Units, site_table
from mechmem.models.reading.weights import neuron_point

PatchedUnit = Literal["point", "neuron", "frequency", "head", "channel", "position"]

_BY_FORWARD_PASS = ("point", "head", "channel", "position")


@checked_but("donor", "units")
def patch(
    receiver: Subject | nn.Module,
    donor: Subject | nn.Module | None = None,
    *,
    task: Task | None = None,
    roles: Roles | None = None,
    ids: Ids | None = None,
    donor_ids: Ids | None = None,
    at: str | Sequence[str] | None = None,
    units: PatchedUnit | Mapping[str, NeuronSet] = "point",
    positions: Indices | None = None,
    direction: Direction = "both",
    metric: Metric = "margin",
    seed: int = 0,
) -> PatchEffects:
    """Patch activations from one pass into another and measure how much of the donor's behaviour follows.

    Within one network (no `donor`), passes are paired by training examples: one with a wrong given label and one with a
    correct label that shares an operand. Between two networks, both run on the same inputs.

    *Denoising* patches the donor's activations (those of the correctly labelled example, or of the other network) into
    the receiver's pass, *noising* the receiver's into the donor's. The metric compares two labels: that of the pass the
    values come from minus that of the patched pass. Within one network these are the two examples' given labels.
    Between two networks, for denoising, they are the true label minus the given one on training examples whose given
    label is wrong, and on all others the true label minus the strongest other class of the unpatched receiver; noising
    changes the sign. With "margin" the metric is the difference of their logits, with "probability" that of their
    softmax probabilities.

    The effect is a ratio of means over examples, (patched − receiver) / (donor − receiver), where receiver and donor
    are the unpatched passes that values are put into and come from. Its interval is a percentile bootstrap over
    examples, numerator and denominator resampled together: it covers other examples of this network, not other
    networks. If the interval of the denominator includes 0 there is no effect, only a reason.

    If the logits are linear in the patched neurons, both directions within one network have the same effect on the
    margin.

    Accuracies are those of the patched passes, on the given and true label of their own example (between two networks,
    on the receiver's labels).

        mm.patch(network, units="neuron", direction="denoising").plot()

    Args:
        receiver: a subject, or a model with its `task`.
        donor: another network with the same inputs (a bare model gets the receiver's task); None for pairs of examples
            in one network.
        task: the receiver's task, if the receiver is a bare model.
        roles: its roles, if it has no attribute of that name.
        ids: the receiver's examples. By default the wrongly labelled training examples; between two networks, if there
            are none, the test examples.
        donor_ids: the donor's example for each of `ids`, in one network. By default drawn from the correctly labelled
            training examples that share the first operand (if none does, the second) and have another given label.
        at: hook points, or patterns such as "blocks.*.hook_*"; all by default. For neurons, frequencies and sets one
            point, by default the last of the role hidden, as for channels; for heads and positions by default the
            points of the roles heads and residual.
        units: "point", the whole point; "neuron", each neuron (last axis) of one point; "frequency", the neurons that
            share a key frequency (shared by u, v and w, read from the receiver's weights; whole neurons are patched
            together, not their component at the frequency); "head", each head (third of four axes, (example, position,
            head, dimension)); "channel", each channel (second axis, (example, channel, …)); "position", each position
            (second axis, (example, position, …)); or named sets of neurons. A point with four axes outside attention
            has channels only: which of its axes are neurons or positions is not known.
        positions: positions at which the units are patched, one or several; by default all.
        direction: "denoising", "noising" or "both".
        metric: "margin" or "probability".
        seed: seed of pairs and bootstrap.

    Raises:
        ConfigError: ids that do not pair, inputs that differ between the networks, no example to patch, a seed below 0,
            or a point without such units or positions, or with unknown axes.
        MissingNeedError: true labels, operands or roles that are needed are not known.
        UnknownNameError: there is no such point, or it exists in one network only; or an option is misspelt.
        ActivationError: a point has different shapes in the two networks, or did not fire.
        ScoreError: a set of neurons is empty or belongs to another layer.
        DiscardedEditError: the logits do not depend on a named point.

    Source: Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv 2202.05262; for denoising, noising and metrics
    Heimersheim & Nanda 2024, arXiv 2404.15255.
    """
    if isinstance(units, str):
        check_choice("unit of patching", units, get_args(PatchedUnit))
    elif not isinstance(units, Mapping):
        raise ConfigError(
            f"units is one of {', '.join(get_args(PatchedUnit))} or sets of neurons by name, got {type(units).__name__}"
        )
    check_choice("direction", direction, get_args(Direction))
    check_choice("metric", metric, get_args(Metric))
    check_whole("seed", seed, 0)
    check_donor(donor)
    subject = subject_of(receiver, task, roles)
    pairing = paired(subject, donor, ids, donor_ids, seed)
    chosen, left_out = _units(pairing.runs, at, units, positions)

    def patching(runs: Runs, before: Tensor, notes: list[str]) -> Iterable[Edited]:
        if len(chosen) > 1 or units in _BY_FORWARD_PASS:
            return patch_units.patched_runs(runs, chosen, notes)
        readout, why_not = patch_units.readout_of(runs, chosen[0])
        notes.append(why_not)
        if readout is None:
            return patch_units.patched_runs(runs, chosen, notes)
        return patch_units.patched_algebra(runs, chosen[0], readout, before)

    names = tuple(name for each in chosen for name in each.names)
    sides, note = both_ways(pairing, patching, len(names), direction, metric, seed)
    kind = units if isinstance(units, str) else "set"
    note = "; ".join(filter(None, (left_out, note)))
    sites = site_table([site for each in chosen for site in each.sites])
    return PatchEffects(kind, names, sites, sides, metric, len(pairing.runs.ids), note)


def _units(
    runs: Runs, at: str | Sequence[str] | None, units: PatchedUnit | Mapping[str, NeuronSet], positions: Indices | None
) -> tuple[list[PatchUnits], str]:
    """Return the units to patch, point by point, and a note on points left out."""
    if at is None:
        at = _default_points(runs, units)
    found, left_out = patch_units.shared_points(runs, (at,) if isinstance(at, str) else at)
    if units == "point":
        return [patch_units.whole_point(layout, positions) for layout in found.values()], left_out
    if isinstance(units, str) and units in UNITS and units != "neuron":
        each_kind = (Units(layout, units, positions) for layout in found.values())
        return [patch_units.single_units(each) for each in each_kind], left_out
    if len(found) != 1:
        raise ConfigError(f"neurons are patched at one point, but {at!r} names {', '.join(found)}")
    (layout,) = found.values()
    if not layout.shape:
        raise ConfigError(f"{layout.point!r} holds one number per example, not neurons")
    neurons = Units(layout, "neuron", positions)
    if isinstance(units, Mapping):
        return [patch_units.neuron_sets(units, neurons)], left_out
    if units == "neuron":
        return [patch_units.single_units(neurons)], left_out
    return [patch_units.frequency_units(runs.into, neurons)], left_out


def _default_points(runs: Runs, units: PatchedUnit | Mapping[str, NeuronSet]) -> str | tuple[str, ...]:
    roles = runs.into.roles
    if units == "point":
        return "*"
    if units in ("head", "position"):
        points = roles.heads if units == "head" else roles.residual
        if not points:
            role = "heads" if units == "head" else "residual"
            raise MissingNeedError(f"{units}s are patched at the points of the role {role}; name points with at=")
        return points
    first = next(iter(units.values()), None) if isinstance(units, Mapping) else None
    point = first.point if isinstance(first, NeuronSet) else neuron_point(runs.into)
    if not point:
        raise MissingNeedError("neurons are patched at a point of the role hidden; name it with at=")
    return point
