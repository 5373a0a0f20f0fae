"""Effect of ablating one neuron on the accuracy or loss of a split."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_choice
from mechmem.core.plugins import Score
from mechmem.core.scores import NeuronScores
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, NotLinearError
from mechmem.interventions.batched import Batched
from mechmem.interventions.runs import Replacement, edited_logits, layout_at
from mechmem.interventions.units import Units
from mechmem.interventions.values import replacement_values
from mechmem.math.ablation import mean_loss_changes, single_ablation_flips
from mechmem.math.logits import correct_of
from mechmem.models.reading.forward import logits_of
from mechmem.models.reading.linear_readout import LinearReadout, linear_readout
from mechmem.tasks.splits import labelled_splits, training_set

Split = Literal["train_clean", "train_noisy", "train_noisy_true", "train", "test"]
Value = Literal["zero", "mean"]
Measure = Literal["accuracy", "loss"]
Ranked = Literal["neuron", "channel", "head"]

_TOLD: dict[str, frozenset[str]] = {
    "train_clean": frozenset({"given_labels", "noise_mask"}),
    "train_noisy": frozenset({"given_labels", "noise_mask"}),
    "train_noisy_true": frozenset({"true_train_labels", "noise_mask"}),
    "train": frozenset({"given_labels"}),
    "test": frozenset({"test_labels", "test_inputs"}),
}


@dataclasses.dataclass(frozen=True)
class AblationEffect(Score):
    """Rank neurons by the loss of accuracy, or rise of loss, on a split when each is ablated alone.

    Positive if the neuron helps: the drop of the accuracy, or the rise of the mean cross-entropy in nats. If the logits
    are linear in the layer, they follow from a rank-1 step and the network is not run again; otherwise it is run with a
    hook at the layer, many neurons in one pass, and the note says so. At a point (example, position, neuron) a neuron
    is ablated at all positions unless one is given.

    Attributes:
        split: the examples: "train_clean", "train_noisy" (with their given labels), "train_noisy_true" (the same with
            their true labels), "train" (all, with given labels; needs no knowledge of the noise), "test".
        value: replacement for an activation: "zero", or its "mean" over the training set at each position.
        measure: "accuracy", or "loss" for cross-entropy, which also changes if no prediction flips.
        point: any hook point with such units; by default the last of the role `hidden` (of the role `heads`).
        units: units to ablate: "neuron", on the point's last axis; "channel", on its second, (example, channel, …); or
            "head", on its third of four, (example, position, head, dimension). A point with four axes outside attention
            has only channels.
        position: a position of (example, position, …); by default all.
    """

    name: ClassVar[str] = "ablation_effect"
    needs: ClassVar[frozenset[str]] = frozenset({"role:hidden"})
    knows: ClassVar[frozenset[str]] = _TOLD["train_clean"]
    cites: ClassVar[str] = "Morcos et al. 2018, arXiv 1803.06959"
    higher: ClassVar[str] = "the split needs the neuron more"

    split: Split = "train_clean"
    value: Value = "zero"
    measure: Measure = "accuracy"
    point: str = ""
    units: Ranked = "neuron"
    position: int | None = None

    def __post_init__(self) -> None:
        check_choice("split", self.split, get_args(Split))
        check_choice("value", self.value, get_args(Value))
        check_choice("measure", self.measure, get_args(Measure))
        check_choice("unit", self.units, get_args(Ranked))
        if self.position is not None and (isinstance(self.position, bool) or not isinstance(self.position, int)):
            raise ConfigError(f"position is the number of one position, got {self.position!r}")

    def wants(self) -> frozenset[str]:
        """The role that names the point, unless a point is given."""
        if self.point:
            return frozenset()
        return frozenset({"role:heads"}) if self.units == "head" else self.needs

    def told(self) -> frozenset[str]:
        """Prior knowledge in the labels of the split."""
        return _TOLD[self.split]

    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores.

        Raises:
            MissingNeedError: a need is missing, or the split is empty or unknown.
            UnknownNameError: there is no such hook point.
            ConfigError: the point does not have, or may not have, such units or position, or several points match.
            DiscardedEditError: the logits do not depend on the point.
        """
        self.require(subject)
        point = self._point(subject)
        ids, labels = _examples(subject, self.split)
        readout, note = self._readout(subject, point)
        if readout is not None:
            effect = self._by_algebra(subject, readout, ids, labels)
        else:
            where, how = Units(layout_at(subject, point), self.units, self.position), Batched()
            point = where.point
            effect = self._by_hooks(subject, where, ids, labels, how)
            note = "; ".join(filter(None, (note, how.note)))
        return NeuronScores(self.label(), effect, point, self.higher, note)

    def _readout(self, subject: Subject, point: str) -> tuple[LinearReadout | None, str]:
        """Return the readout if the logits are linear in the layer, or None and a note on the measurement."""
        note = f"measured by running the network without each {self.units}"
        if self.units != "neuron" or self.position is not None or point not in subject.roles.hidden:
            return None, note
        try:
            return linear_readout(subject, point), ""
        except NotLinearError:
            return None, f"{note}: its logits are not linear in this layer"

    def _point(self, subject: Subject) -> str:
        return self.point or (subject.roles.heads if self.units == "head" else subject.roles.hidden)[-1]

    def _by_algebra(
        self, subject: Subject, readout: LinearReadout, ids: Int[Tensor, " example"], labels: Int[Tensor, " example"]
    ) -> Float[Tensor, " neuron"]:
        task = subject.task
        rows = task.rows(ids)
        value = readout.hidden[task.rows(task.train_ids)].mean(0) if self.value == "mean" else None
        if self.measure == "loss":
            return mean_loss_changes(readout.hidden[rows], readout.weights, readout.logits[rows], labels, value)
        # All splits share one search.
        flips = subject.memo(
            f"single_ablation_flips {readout.point} {self.value}",
            lambda: single_ablation_flips(readout.hidden, readout.weights, readout.logits, value),
        )
        among = torch.zeros(len(task.ids), dtype=torch.bool)
        among[rows] = True
        wanted = torch.zeros(len(task.ids), dtype=labels.dtype)
        wanted[rows] = labels
        lost = -flips.change(wanted, among)
        return lost.double() / len(ids)

    def _by_hooks(
        self,
        subject: Subject,
        where: Units,
        ids: Int[Tensor, " example"],
        labels: Int[Tensor, " example"],
        how: Batched,
    ) -> Float[Tensor, " unit"]:
        """Run the network with each unit ablated in turn."""
        values = replacement_values(subject, where.layout, self.value, ids, 0)
        place = Replacement(where.point, values, where.masks(torch.eye(where.width).bool()))
        before = self._loss(logits_of(subject.model, subject.task, ids, subject.roles.output), labels)
        total = torch.zeros(where.width, dtype=torch.float64)
        for units, block, logits in edited_logits(subject, ids, (place,), how):
            own = repeat(labels[block], "example -> (unit example)", unit=len(logits))
            after = self._loss(rearrange(logits, "unit example classes -> (unit example) classes"), own)
            total[units] += (rearrange(after, "(unit e) -> unit e", unit=len(logits)) - before[block]).sum(1)
        return total / len(ids)

    def _loss(self, logits: Float[Tensor, "row class"], labels: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """Return each row's error (0 or 1) or cross-entropy in nats."""
        if self.measure == "loss":
            return F.cross_entropy(logits, labels, reduction="none").double()
        return 1 - correct_of(logits, labels)


def _examples(subject: Subject, split: Split) -> tuple[Int[Tensor, " example"], Int[Tensor, " example"]]:
    """Return the ids of a split and the labels that count as correct on it."""
    task = subject.task
    for found in (training_set(task), *labelled_splits(task)):
        if found.name == split:
            return found.ids, found.labels
    if split == "test":
        raise MissingNeedError("the split test needs true labels that are not known")
    if task.noisy is None:
        raise MissingNeedError(f"the split {split} needs the true labels of all training examples (use split=train)")
    raise MissingNeedError(f"the split {split} is empty")
