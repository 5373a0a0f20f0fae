"""What a split loses when one neuron is removed."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.caching import Mean, activations, hook_points
from mechmem.config import check_choice
from mechmem.contracts import Subject
from mechmem.errors import ActivationError, MissingNeedError, NotLinearError
from mechmem.linear_readout import LinearReadout, linear_readout
from mechmem.math.blocks import blocks
from mechmem.math.single_ablation import mean_loss_changes, single_ablation_flips
from mechmem.models.forward import block_rows, device_of, evaluating, full_precision
from mechmem.models.weights import neuron_point
from mechmem.neurons import NeuronScores
from mechmem.plugins import Score

Split = Literal["train_clean", "train_noisy", "train_noisy_true", "train", "test"]
Value = Literal["zero", "mean"]
Measure = Literal["accuracy", "loss"]

_TOLD: dict[str, frozenset[str]] = {
    "train_clean": frozenset({"given_labels", "noise_mask"}),
    "train_noisy": frozenset({"given_labels", "noise_mask"}),
    "train_noisy_true": frozenset({"true_train_labels", "noise_mask"}),
    "train": frozenset({"given_labels"}),
    "test": frozenset({"test_labels", "test_inputs"}),
}


@dataclasses.dataclass(frozen=True)
class AblationEffect(Score):
    """Rank neurons by what a split loses when each is removed alone, the others as they are.

    Positive where the neuron helps: the drop of the accuracy, or the rise of the mean cross-entropy in nats. Where the
    logits are linear in the layer, they follow from a rank-1 step and the network is not run again; otherwise it is
    run with a hook at the layer, many neurons at once, and the note says so.

    Attributes:
        split: the examples that count: "train_clean", "train_noisy" (with their given labels), "train_noisy_true" (the
            same with their true ones), "train" (all, with given labels; asks for no knowledge of the noise), "test".
        value: what an activation is replaced by: "zero", or its "mean" over the training set.
        measure: "accuracy", or "loss" for cross-entropy, which sees what is too small to flip a prediction.
        point: which layer of neurons; by default the last.
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

    def __post_init__(self) -> None:
        """Validate."""
        check_choice("split", self.split, get_args(Split))
        check_choice("value", self.value, get_args(Value))
        check_choice("measure", self.measure, get_args(Measure))

    def told(self) -> frozenset[str]:
        """What the labels of the split tell."""
        return _TOLD[self.split]

    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores.

        Raises:
            MissingNeedError: the subject lacks something, or the split is empty or cannot be known.
        """
        self.require(subject)
        point = neuron_point(subject, self.point)
        ids, labels = _examples(subject, self.split)
        try:
            effect, note = self._by_algebra(subject, linear_readout(subject, point), ids, labels), ""
        except NotLinearError:
            effect = self._by_hooks(subject, point, ids, labels)
            note = "the network was run once per neuron: its logits are not linear in this layer"
        return NeuronScores(self.label(), effect, point, self.higher, note)

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
        self, subject: Subject, point: str, ids: Int[Tensor, " example"], labels: Int[Tensor, " example"]
    ) -> Float[Tensor, " neuron"]:
        """Run the network on copies of the examples, one neuron removed in each."""
        model, task, device = subject.model, subject.task, device_of(subject.model)
        mean = activations(subject, point, reduce=Mean)[point]
        value = (mean if self.value == "mean" else torch.zeros_like(mean)).to(device)
        width = mean.shape[-1]
        total = torch.zeros(width, dtype=torch.float64)
        removed = torch.zeros(0, dtype=torch.long, device=device)

        def replace(_module: object, _inputs: object, output: Tensor) -> Tensor:
            if output.shape[-1] != width or len(output) % max(1, len(removed)):
                raise ActivationError(
                    f"{point!r} has shape {tuple(output.shape)}, whose axes are not (example, neuron)"
                )
            copies = rearrange(output.clone(), "(neuron example) ... -> neuron example ...", neuron=len(removed))
            place = torch.arange(len(removed), device=device)
            new = value[..., removed].movedim(-1, 0).to(output)
            copies[place, ..., removed] = rearrange(new, "neuron ... -> neuron 1 ...")
            return rearrange(copies, "neuron example ... -> (neuron example) ...")

        with torch.no_grad(), evaluating(model):
            for block in blocks(len(ids), block_rows(model)):
                inputs = task.batch(ids[block])[0].to(device)
                own = labels[block]
                before = self._loss(model(inputs), own)
                handle = hook_points(model)[point].register_forward_hook(replace)
                try:
                    for neurons in blocks(width, max(1, block_rows(model) // len(inputs))):
                        removed = torch.arange(neurons.start, neurons.stop, device=device)
                        copies = repeat(inputs, "example ... -> (neuron example) ...", neuron=len(removed))
                        after = self._loss(model(copies), repeat(own, "example -> (n example)", n=len(removed)))
                        after = rearrange(after, "(neuron example) -> neuron example", neuron=len(removed))
                        total[neurons] += (after - before).sum(1)
                finally:
                    handle.remove()
        return total / len(ids)

    def _loss(self, logits: Float[Tensor, "row class"], labels: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """What is lost on each row: 0 or 1, or nats."""
        logits = full_precision(logits).cpu()
        if self.measure == "loss":
            return F.cross_entropy(logits, labels, reduction="none").double()
        return (logits.argmax(1) != labels).double()


def _examples(subject: Subject, split: Split) -> tuple[Int[Tensor, " example"], Int[Tensor, " example"]]:
    """Return the ids of a split and the labels that count as correct on it."""
    task = subject.task
    ids = task.train_ids if split == "train" else task.splits[split.removesuffix("_true")]
    if ids is None:
        raise MissingNeedError(f"the split {split} needs the true labels of all training examples (use split=train)")
    if not len(ids):
        raise MissingNeedError(f"the split {split} needs at least one example, and is empty")
    labels = task.true(ids) if split in ("train_noisy_true", "test") else task.given(ids)
    if labels is None:
        raise MissingNeedError(f"the split {split} needs true labels that are not known")
    return ids, labels
