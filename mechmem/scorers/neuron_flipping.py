"""Which neurons have to go before a memorized example is forgotten."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechmem.config import check_choice, check_whole
from mechmem.contracts import Subject
from mechmem.errors import MissingNeedError, NotLinearError
from mechmem.interventions.runs import layout_at
from mechmem.interventions.units import Units
from mechmem.linear_readout import LinearReadout, linear_readout
from mechmem.math.blocks import blocks
from mechmem.models.forward import all_logits, block_rows, device_of, evaluating, full_precision
from mechmem.models.hooking import hooked
from mechmem.neurons import NeuronScores
from mechmem.plugins import Score
from mechmem.randomness import generator

Among = Literal["train_noisy", "train"]
Removed = Literal["neuron", "channel"]

BLOCK_ELEMENTS = 2**22
"""Numbers per tensor while several examples are worked on at once: 16 MB in float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Sets:
    """Flipping sets: removed (example, neuron), whether the prediction flipped, share of the others lost (example)."""

    removed: Bool[Tensor, "example neuron"]
    flipped: Bool[Tensor, " example"]
    collateral: Float[Tensor, " example"]


@dataclasses.dataclass(frozen=True)
class NeuronFlipping(Score):
    """Rank neurons by how many memorized examples cannot be forgotten without them.

    For each of a sample of fitted examples, neurons are removed greedily until the prediction is no longer the given
    label: each time the one whose removal most raises the example's loss while sparing other examples, to first order
    (the largest Σ w·g, with g the gradient of mean(other losses) − loss, both with what is removed so far). The score
    is the share of the sample whose flipping set holds the neuron. The note reports the mean size of the sets, and the
    share of the other fitted examples that are lost along with them.

    Where the logits are linear in the layer, gradients and removals follow from its weights; otherwise the network is
    run, and differentiated, once per sampled example and removal, and the note says so. A channel is removed at all
    places of the image, a neuron at all positions of a sequence.

    Deviations from the paper: units of one layer are removed, where the paper removes channels of the whole network;
    the gradient is that at the examples as they are, where the paper adds 1 % noise to them; the loss is cross-entropy,
    whatever the network was trained with. An example that is not flipped after `most` removals has no flipping set and
    counts for no neuron.

    Attributes:
        examples: how many fitted examples are sampled, at most.
        others: how many other training examples are to be spared.
        most: largest size of a flipping set.
        seed: seed of both samples.
        among: "train_noisy" samples memorized examples (fitted wrong labels); "train" samples all fitted training
            examples, and needs no knowledge of the noise.
        point: any hook point with such units; by default the last of the role `hidden`.
        units: what is removed: a "neuron", on the point's last axis; or a "channel", on its second, (example, channel,
            …).
    """

    name: ClassVar[str] = "neuron_flipping"
    needs: ClassVar[frozenset[str]] = frozenset({"role:hidden"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "noise_mask"})
    cites: ClassVar[str] = "Maini et al. 2023, arXiv 2307.09542"
    higher: ClassVar[str] = "more memorized examples hang on it"

    examples: int = 64
    others: int = 256
    most: int = 16
    seed: int = 0
    among: Among = "train_noisy"
    point: str = ""
    units: Removed = "neuron"

    def __post_init__(self) -> None:
        """Validate."""
        check_whole("number of examples", self.examples, 1)
        check_whole("number of others", self.others, 1)
        check_whole("largest set", self.most, 1)
        check_whole("seed", self.seed, 0)
        check_choice("sampled examples", self.among, get_args(Among))
        check_choice("unit", self.units, get_args(Removed))

    def wants(self) -> frozenset[str]:
        """What holds the units."""
        return frozenset() if self.point else self.needs

    def told(self) -> frozenset[str]:
        """The noise is known only where wrongly labelled examples are picked out."""
        return self.knows if self.among == "train_noisy" else frozenset({"given_labels"})

    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores.

        Raises:
            MissingNeedError: the subject lacks something, or no example of the split is fitted.
            UnknownNameError: there is no such hook point.
            ConfigError: the point has no such units, or not for sure.
            DiscardedEditError: the logits do not depend on what the point holds.
        """
        self.require(subject)
        point = self.point or subject.roles.hidden[-1]
        chosen, others = self._sample(subject)
        given = subject.task.given(subject.task.ids)
        readout, how = self._readout(subject, point)
        if readout is None:
            where = Units(layout_at(subject, point), self.units)
            point, parts = where.point, [_sets_by_running(subject, where, chosen, others, self.most)]
        else:
            width, classes = readout.weights.shape
            rows = max(1, BLOCK_ELEMENTS // max(len(others) * classes, width * classes))
            parts = [
                _flipping_sets(readout, chosen[block], others, given, self.most) for block in blocks(len(chosen), rows)
            ]
        removed, flipped, collateral = (
            torch.cat([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(_Sets)
        )
        score = (removed & rearrange(flipped, "example -> example 1")).double().mean(0)
        note = f"{int(flipped.sum())} of {len(chosen)} sampled examples flipped"
        if flipped.any():
            size = float(removed[flipped].sum(1).double().mean())
            note += f", {size:.1f} neurons each, {float(collateral[flipped].mean()):.1%} of {len(others)} others lost"
        return NeuronScores(self.label(), score, point, self.higher, "; ".join(filter(None, (note, how))))

    def _readout(self, subject: Subject, point: str) -> tuple[LinearReadout | None, str]:
        """Return the readout that sets follow from, or None and what is done instead."""
        note = f"found by running the network without {self.units}s"
        if self.units != "neuron" or point not in subject.roles.hidden:
            return None, note
        try:
            return linear_readout(subject, point), ""
        except NotLinearError:
            return None, f"{note}: its logits are not linear in this layer"

    def _sample(self, subject: Subject) -> tuple[Int[Tensor, " sampled"], Int[Tensor, " other"]]:
        """Draw rows of fitted examples, and of other training examples."""
        task = subject.task
        ids = task.train_ids if self.among == "train" else task.splits["train_noisy"]
        if ids is None:
            raise MissingNeedError(
                f"{self.name} needs to know which labels are wrong; use among=train where it is not known"
            )
        rows = task.rows(ids)
        fitted = rows[all_logits(subject)[rows].argmax(1) == task.given(ids)]
        if not len(fitted):
            raise MissingNeedError(f"{self.name} needs fitted examples, and none of {len(rows)} in {self.among} is")
        draw = generator(self.seed, "neuron flipping")
        chosen = fitted[torch.randperm(len(fitted), generator=draw)[: self.examples]]
        rest = task.rows(task.train_ids)
        rest = rest[~torch.isin(rest, chosen)]
        return chosen, rest[torch.randperm(len(rest), generator=draw)[: self.others]]


def _flipping_sets(
    readout: LinearReadout,
    chosen: Int[Tensor, " sampled"],
    others: Int[Tensor, " other"],
    given: Int[Tensor, " example"],
    most: int,
) -> _Sets:
    """Remove neurons greedily for several examples at once, each with its own set."""
    weights = readout.weights
    own, spared = readout.hidden[chosen], readout.hidden[others]
    logits, label, other_label = readout.logits[chosen].clone(), given[chosen], given[others]
    other_logits = repeat(readout.logits[others], "other classes -> sampled other classes", sampled=len(chosen)).clone()
    fitted = readout.logits[others].argmax(1) == other_label
    removed = torch.zeros(len(chosen), len(weights), dtype=torch.bool)
    active = torch.arange(len(chosen))
    for _ in range(min(most, len(weights))):
        if not len(active):
            break
        # Of a loss by a gate on neuron m: h_m Σ_c (softmax_c − [c is the label]) w_mc.
        gate = -own[active] * (_residual(logits[active], label[active]) @ weights.T)
        if len(others):
            pull = torch.einsum("soc,on->snc", _residual(other_logits[active], other_label), spared)
            gate += torch.einsum("snc,nc->sn", pull, weights) / len(others)
        neuron = gate.masked_fill(removed[active], -torch.inf).argmax(1)
        removed[active, neuron] = True
        logits[active] -= rearrange(own[active, neuron], "sampled -> sampled 1") * weights[neuron]
        other_logits[active] -= torch.einsum("os,sc->soc", spared[:, neuron], weights[neuron])
        active = active[logits[active].argmax(1) == label[active]]
    flipped = logits.argmax(1) != label
    lost = (other_logits.argmax(2) != other_label) & fitted
    return _Sets(removed, flipped, lost.sum(1).double() / max(1, int(fitted.sum())))


def _residual(logits: Float[Tensor, "*row class"], labels: Int[Tensor, " *label"]) -> Float[Tensor, "*row class"]:
    """Derivative of the cross-entropy by the logits: softmax, less one at the label."""
    return logits.softmax(-1) - torch.nn.functional.one_hot(labels, logits.shape[-1])


def _sets_by_running(
    subject: Subject, where: Units, chosen: Int[Tensor, " sampled"], others: Int[Tensor, " other"], most: int
) -> _Sets:
    """Remove units greedily, one example after the other, each with the others in one pass through the network."""
    model, ids = subject.copy_model().requires_grad_(False), subject.task.ids
    removed = torch.zeros(len(chosen), where.width, dtype=torch.bool)
    flipped, collateral = torch.zeros(len(chosen), dtype=torch.bool), torch.zeros(len(chosen), dtype=torch.float64)
    with evaluating(model):
        for gone, (number, row) in zip(removed, enumerate(chosen), strict=True):
            own = ids[torch.cat([rearrange(row, "-> 1"), others])]
            right, slope = _gated(subject, model, where, own, gone)
            fitted = right[1:]
            for _ in range(min(most, where.width)):
                gone[slope.masked_fill(gone, -torch.inf).argmax()] = True
                right, slope = _gated(subject, model, where, own, gone)
                if not right[0]:
                    flipped[number] = True
                    break
            collateral[number] = int((fitted & ~right[1:]).sum()) / max(1, int(fitted.sum()))
    return _Sets(removed, flipped, collateral)


@torch.enable_grad()
def _gated(
    subject: Subject, model: nn.Module, where: Units, ids: Int[Tensor, " example"], gone: Bool[Tensor, " unit"]
) -> tuple[Bool[Tensor, " example"], Float[Tensor, " unit"]]:
    """Return which examples are right without some units, and by a gate on each unit the derivative of the objective.

    The objective is the others' mean loss less that of the first example.
    """
    task, device = subject.task, device_of(model)
    axis, shape = where.layout.axis(where.unit), where.layout.shape
    front, back = (" ".join("1" for _ in axes) for axes in (shape[:axis], shape[axis + 1 :]))
    weight = torch.full((len(ids),), 1 / max(1, len(ids) - 1), device=device)
    weight[0] = -1
    right, slope = [], torch.zeros(where.width, dtype=torch.float64)
    for block in blocks(len(ids), block_rows(model)):
        inputs, given = (each.to(device) for each in task.batch(ids[block]))
        gate = (~gone).double().to(device).requires_grad_(True)
        spread = rearrange(gate, f"unit -> {front} unit {back}")
        with hooked(model, where.point, lambda value, spread=spread: value * spread.to(value)):
            logits = full_precision(subject.roles.output.read(model(inputs)))
        loss = F.cross_entropy(logits, given, reduction="none") @ weight[block].to(logits)
        slope += torch.autograd.grad(loss, gate)[0].cpu()
        right.append((logits.argmax(1) == given).cpu())
    return torch.cat(right), slope
