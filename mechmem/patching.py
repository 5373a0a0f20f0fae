"""Activation patching: put what one run holds at a point into another run, and see how much behaviour follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem import patch_units
from mechmem.config import check_choice
from mechmem.contracts import Subject, Task, subject_of
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.margins import strongest_rival
from mechmem.models.forward import logits_of
from mechmem.models.weights import neuron_point
from mechmem.neurons import NeuronSet
from mechmem.patch_effects import Metric, PatchEffects, PatchSide, effects_of, metric_of
from mechmem.patch_units import NeuronUnits, Patched, Runs
from mechmem.randomness import derive_seed, generator
from mechmem.roles import Roles
from mechmem.stats import bootstrap

Units = Literal["point", "neuron", "frequency"]
Direction = Literal["both", "denoising", "noising"]


def patch(
    receiver: Subject | nn.Module,
    donor: Subject | nn.Module | None = None,
    *,
    task: Task | None = None,
    roles: Roles | None = None,
    ids: Int[Tensor, " example"] | None = None,
    donor_ids: Int[Tensor, " donor"] | None = None,
    at: str | Sequence[str] | None = None,
    units: Units | Mapping[str, NeuronSet] = "point",
    direction: Direction = "both",
    metric: Metric = "margin",
    seed: int = 0,
) -> PatchEffects:
    """Put activations of one run into another and measure how much of the other's behaviour comes with them.

    Within one network (no `donor`), runs are pairs of training examples: one with a wrong given label and one with a
    right one that shares an operand. Between two networks, runs are the same inputs in both.

    *Denoising* puts the donor's activation (the right-labelled example's; the other network's) into the receiver's run,
    *noising* the receiver's into the donor's. The metric compares the two labels at stake, that of the run the values
    come from minus that of the run they are put into. Within one network these are the two examples' given labels.
    Between two networks they are, from the donor to the receiver, the true label minus the given one on training
    examples whose given label is wrong, and on all others the true label minus the strongest other class of the
    unpatched receiver; noising changes the sign. With "margin" the metric is the difference of their logits, with
    "probability" that of their softmax probabilities.

    The effect is a ratio of means over examples, (patched − receiver) / (donor − receiver), receiver and donor being
    the unpatched runs that values are put into and come from. Its interval is a percentile bootstrap over examples,
    numerator and denominator resampled together: it speaks of other examples of this network, not of other networks.
    Where the interval of the denominator includes 0 there is no effect, and a reason.

    Where the logits are linear in the patched neurons, both directions within one network have the same effect on the
    margin.

    Accuracies are those of the runs that are patched: on the given and true label of their own example (the receiver's
    labels, between two networks).

    Args:
        receiver: a subject, or a model with its `task`.
        donor: another network with the same inputs (a bare model gets the receiver's task); None for pairs of examples
            in one network.
        task: the receiver's task, where the receiver is a bare model.
        roles: its roles, where it has no attribute of that name.
        ids: the receiver's examples. By default the wrongly labelled training examples; between two networks the test
            examples, where there are none.
        donor_ids: the donor's example for each of `ids`, in one network. By default drawn among the rightly labelled
            training examples that share the first operand (the second, where none does) and have another given label.
        at: hook points, or patterns such as "blocks.*.hook_*"; all by default. For neurons, frequencies and sets one
            point, by default the last of the role hidden.
        units: "point", everything that a point holds; "neuron", each neuron (last axis) of one point; "frequency", the
            neurons that share a key frequency (shared by u, v and w, read from the receiver's weights; they are patched
            together, and not the frequency's part of each); or named sets of neurons.
        direction: "denoising", "noising" or "both".
        metric: "margin" or "probability".
        seed: seed of pairs and bootstrap.

    Raises:
        ConfigError: ids that do not pair, inputs that differ between the networks, or no example to patch.
        MissingNeedError: the truth, operands or roles that are needed are not known.
        UnknownNameError: there is no such point, or it exists in one network only; or an option is misspelt.
        ActivationError: a point holds different shapes in the two networks, or did not fire.
        ScoreError: sets of neurons of another layer, or empty ones.

    Source: Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv 2202.05262; for denoising, noising and metrics
    Heimersheim & Nanda 2024, arXiv 2404.15255.
    """
    if isinstance(units, str):
        check_choice("unit of patching", units, get_args(Units))
    elif not isinstance(units, Mapping):
        raise ConfigError(
            f"units is one of {', '.join(get_args(Units))} or sets of neurons by name, got {type(units).__name__}"
        )
    check_choice("direction", direction, get_args(Direction))
    check_choice("metric", metric, get_args(Metric))
    subject = subject_of(receiver, task, roles)
    if donor is None:
        runs, note = _within(subject, ids, donor_ids, seed)
        first, second = (subject.task.given(each) for each in (runs.source_ids, runs.ids))
    else:
        if donor_ids is not None:
            raise ConfigError("donor_ids pairs examples within one network; two networks run on the same ids")
        runs, note = _between(subject, donor, ids), ""
        first, second = _labels_at_stake(runs)
    points, chosen = _units(runs, at, units)
    back = Runs(runs.source, runs.source_ids, runs.into, runs.ids)
    sides, notes = [], [note]
    for name, side, labels in (("denoising", runs, (first, second)), ("noising", back, (second, first))):
        if direction not in ("both", name):
            continue
        own = subject.task.given(side.ids), subject.task.true(side.ids)
        effects, how = _measure(name, side, points, chosen, labels, own, metric, seed)
        sides.append(effects)
        notes.append(how)
    kind = units if isinstance(units, str) else "set"
    names = points if chosen is None else chosen.names
    return PatchEffects(kind, names, tuple(sides), metric, len(runs.ids), "; ".join(filter(None, dict.fromkeys(notes))))


def _checked(subject: Subject, name: str, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"]:
    if not isinstance(ids, Tensor) or ids.ndim != 1 or ids.dtype not in (torch.int64, torch.int32) or not len(ids):
        raise ConfigError(f"{name} must be a tensor of at least one example id, in one dimension")
    subject.task.rows(ids)
    return ids.long()


def _within(subject: Subject, ids: Tensor | None, donor_ids: Tensor | None, seed: int) -> tuple[Runs, str]:
    """Pair examples of one network; return what was left out too."""
    task = subject.task
    if donor_ids is not None:
        if ids is None:
            raise ConfigError("donor_ids pairs with ids, which are not given")
        ids, donor_ids = _checked(subject, "ids", ids), _checked(subject, "donor_ids", donor_ids)
        if len(ids) != len(donor_ids):
            raise ConfigError(f"ids and donor_ids pair one by one, got {len(ids)} and {len(donor_ids)}")
        return Runs(subject, ids, subject, donor_ids), ""
    noisy = task.splits["train_noisy"]
    if noisy is None or task.operands is None:
        lacking = "operands" if task.operands is None else "the truth of the training labels"
        raise MissingNeedError(f"pairing examples needs {lacking}; name both with ids and donor_ids, or give a donor")
    wanted = noisy if ids is None else _checked(subject, "ids", ids)
    if not len(wanted):
        raise ConfigError("no training example has a wrong label: name ids and donor_ids, or give a donor")
    kept, chosen = patch_units.partners(subject, wanted, generator(seed, "patching_pairs"))
    if not len(kept):
        raise ConfigError(
            f"none of {len(wanted)} examples has a rightly labelled training example that shares an operand and has "
            "another given label; name both with ids and donor_ids"
        )
    left = len(wanted) - len(kept)
    return Runs(subject, kept, subject, chosen), f"{left} examples have no partner and are left out" if left else ""


def _between(subject: Subject, donor: Subject | nn.Module, ids: Tensor | None) -> Runs:
    """Pair two networks on the same inputs."""
    if not isinstance(donor, Subject | nn.Module):
        raise ConfigError(f"the donor is a Subject or a model, got {type(donor).__name__}")
    other = donor if isinstance(donor, Subject) else subject.with_model(donor)
    if ids is None:
        noisy = subject.task.splits["train_noisy"]
        ids = noisy if noisy is not None and len(noisy) else subject.task.test_ids
    ids = _checked(subject, "ids", ids)
    other.task.rows(ids)
    mine, theirs = (task.batch(ids)[0] for task in (subject.task, other.task))
    if mine.shape != theirs.shape or not torch.equal(mine, theirs.to(mine)):
        raise ConfigError("the two networks are not given the same inputs on these ids")
    if subject.task.n_classes != other.task.n_classes:
        raise ConfigError(f"the networks have {subject.task.n_classes} and {other.task.n_classes} classes")
    return Runs(subject, ids, other, ids)


def _labels_at_stake(runs: Runs) -> tuple[Int[Tensor, " example"], Int[Tensor, " example"]]:
    """Return the true label, and the wrong given label or else the receiver's strongest other class."""
    task = runs.into.task
    true, given = task.true(runs.ids), task.given(runs.ids)
    if true is None:
        raise MissingNeedError("patching between networks compares with the true label, which is not known on every id")
    logits = logits_of(runs.into.model, task, runs.ids, runs.into.roles.output)
    return true, torch.where(given != true, given, strongest_rival(logits, true))


def _units(
    runs: Runs, at: str | Sequence[str] | None, units: Units | Mapping[str, NeuronSet]
) -> tuple[tuple[str, ...], NeuronUnits | None]:
    """Return the points, and the sets of neurons of the one point, where these are the units."""
    if units == "point":
        return tuple(
            patch_units.shared_points(runs, ("*",) if at is None else (at,) if isinstance(at, str) else at)
        ), None
    if at is None:
        at = next(iter(units.values())).point if isinstance(units, Mapping) and units else neuron_point(runs.into)
        if not at:
            raise MissingNeedError("neurons are patched at a point of the role hidden; name it with at=")
    found = patch_units.shared_points(runs, (at,) if isinstance(at, str) else at)
    if len(found) != 1:
        raise ConfigError(f"neurons are patched at one point, and {at!r} names {', '.join(found)}")
    ((point, shape),) = found.items()
    if not shape:
        raise ConfigError(f"{point!r} holds one number per example, not neurons")
    if isinstance(units, Mapping):
        return (point,), patch_units.neuron_sets(units, point, shape[-1])
    if units == "neuron":
        return (point,), patch_units.single_neurons(point, shape[-1])
    return (point,), patch_units.frequency_units(runs.into, point, shape[-1])


def _measure(
    direction: str,
    runs: Runs,
    points: tuple[str, ...],
    units: NeuronUnits | None,
    labels: tuple[Tensor, Tensor],
    own: tuple[Tensor, Tensor | None],
    metric: Metric,
    seed: int,
) -> tuple[PatchSide, str]:
    """Patch in one direction; return the effects and how it was done."""
    before = logits_of(runs.into.model, runs.into.task, runs.ids, runs.into.roles.output)
    target = logits_of(runs.source.model, runs.source.task, runs.source_ids, runs.source.roles.output)
    receiver, donor = (metric_of(logits, labels, metric) for logits in (before, target))
    n_units = len(points) if units is None else len(units.names)
    values = torch.zeros(n_units, len(runs.ids), dtype=torch.float64)
    # Given and true label; the last column is the unpatched run.
    share = torch.zeros(2, n_units + 1, dtype=torch.float64)
    for row, label in enumerate(own):
        share[row, -1] = torch.nan if label is None else (before.argmax(1) == label).double().mean()
    patched, how = _patched(runs, points, units, before)
    for chosen, block, logits in patched:
        values[chosen, block] = metric_of(logits, (labels[0][block], labels[1][block]), metric)
        for row, label in enumerate(own):
            right = torch.nan if label is None else (logits.argmax(-1) == label[block]).double().sum(1)
            share[row, chosen] += right / len(runs.ids)
    effect, low, high, reason = effects_of(values, receiver, donor, seed)
    side = PatchSide(
        direction,
        effect=effect,
        low=low,
        high=high,
        patched=values.mean(1),
        receiver=bootstrap(np.mean, (receiver.numpy(),), seed=derive_seed(seed, "patching")),
        donor=bootstrap(np.mean, (donor.numpy(),), seed=derive_seed(seed, "patching")),
        given_before=float(share[0, -1]),
        true_before=float(share[1, -1]),
        given_after=share[0, :-1],
        true_after=share[1, :-1],
        reason=reason,
    )
    return side, how


def _patched(
    runs: Runs, points: tuple[str, ...], units: NeuronUnits | None, before: Float[Tensor, "example class"]
) -> tuple[Iterable[Patched], str]:
    if units is None:
        return patch_units.patched_points(runs, points), ""
    readout, why_not = patch_units.readout_of(runs, units.point)
    if readout is None:
        return patch_units.patched_neurons(runs, units), why_not
    return patch_units.patched_algebra(runs, units, readout, before), ""
