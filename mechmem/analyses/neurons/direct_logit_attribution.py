"""Contribution of each neuron, and of each frequency of neurons, to the label's logit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.stats import Estimate
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.math.comparisons import pooled_means
from mechmem.math.filtration import frequency_power, key_or_none
from mechmem.math.logits import at_label, strongest_rival
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.linear_readout import LinearReadout, linear_readout
from mechmem.models.reading.weights import neuron_weights
from mechmem.plotting.lines import lines
from mechmem.plotting.logits import components_figure
from mechmem.plotting.spectra import frequency_axis, numbered
from mechmem.tasks.splits import LabelledSplit, labelled_splits

if TYPE_CHECKING:
    import plotly.graph_objects as go

QUANTITIES = ("logit", "margin")
"""The label's logit minus the mean over classes, and minus the strongest rival's."""

TITLES = {"logit": "label's logit over the mean class", "margin": "label's margin over the strongest rival"}

BLOCK_ELEMENTS = 2**22
"""Products of example and neuron held in memory at once."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class DirectLogitAttributionResult(Result):
    """Contribution of each neuron to the label's logit and margin, averaged over each split; all in logit units.

    Attributes:
        splits: the splits that have examples and known labels; "train_noisy" uses the given labels.
        neurons: contribution of each neuron. Shape (quantity, split, neuron), quantities in the order of `QUANTITIES`.
        frequency: key frequency of each neuron, numbered from 1; 0 for a neuron without energy. Shape (neuron).
        labels: what the group calls its frequencies: "1", "2", …, or names of representations.
        bias: contribution of the readout's bias. Shape (quantity, split).
        total: mean logit (minus the class mean) and mean margin in the network's own logits, equal to the sum over
            neurons and the bias. Shape (quantity, split).
        frequencies: contributions summed over the neurons of one key frequency, with 95 % bootstrap intervals over
            answers, by quantity, split and frequency (only those of some neuron), in this order.
    """

    splits: tuple[str, ...]
    neurons: Float[Tensor, "quantity split neuron"]
    frequency: Int[Tensor, " neuron"]
    labels: tuple[str, ...]
    bias: Float[Tensor, "quantity split"]
    total: Float[Tensor, "quantity split"]
    frequencies: tuple[Estimate, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per quantity, split and neuron: quantity, split, neuron, frequency, value."""
        width = len(self.frequency)
        names = [(quantity, split) for quantity in QUANTITIES for split in self.splits]
        frame = pd.DataFrame(np.repeat(np.array(names), width, 0), columns=["quantity", "split"])
        frame["neuron"] = np.tile(np.arange(width), len(names))
        frame["frequency"] = np.tile(self.frequency.numpy(), len(names))
        frame["value"] = self.neurons.numpy().ravel()
        return frame

    def by_frequency(self) -> pd.DataFrame:
        """Return one row per quantity, split and key frequency: label, neurons, value, low, high, n (examples)."""
        name = ("none", *self.labels)
        found, count = (each.tolist() for each in self.frequency.unique(return_counts=True))
        places = [
            {"quantity": quantity, "split": split, "frequency": freq, "label": name[freq], "neurons": neurons}
            for quantity in QUANTITIES
            for split in self.splits
            for freq, neurons in zip(found, count, strict=True)
        ]
        rows = [place | dataclasses.asdict(each) for place, each in zip(places, self.frequencies, strict=True)]
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return the contributions by key frequency and split, a panel per quantity; lines join numbers only."""
        frame = self.by_frequency()
        if not numbered(self.labels):
            panels = {quantity: title.replace(" over ", "<br>over ") for quantity, title in TITLES.items()}
            return components_figure(frame.rename(columns={"label": "component"}), panels, x_title="representation")
        frame = frame.rename(columns={"frequency": "x", "split": "series"})
        frame["panel"] = [TITLES[quantity] for quantity in frame["quantity"]]
        figure = lines(frame, x_title="", y_title="mean contribution (logits)", height=400)
        return figure.update_xaxes(frequency_axis(self.labels) | {"title_text": "key frequency k"})


@dataclasses.dataclass(frozen=True)
class DirectLogitAttribution(Analysis):
    """Attribute the label's logit, and its margin, to the neurons that write them.

    The logits are linear in the last layer: neuron m adds h_m · (w_m,y − mean over classes of w_m) to the label's logit
    minus the mean over classes, and h_m · (w_m,y − w_m,r) to its margin over the strongest rival r of the full logits.
    Both are averaged over each split, and summed over neurons that share a key frequency (the one that frequency
    filtration keeps). The contributions of all neurons and of the bias sum to the network's own logit and margin. A
    neuron's key frequency does not imply that it computes at that frequency: a memorizing neuron has one too.
    """

    name: ClassVar[str] = "direct_logit_attribution"
    needs: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "group", "role:input_embedding", "role:hidden", "role:readout"}
    )
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "input_group", "output_group", "slopes", "given_labels", "true_train_labels", "noise_mask"}
        | {"test_labels"}
    )
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217; Doshi et al. 2024, arXiv 2310.13061"

    def __call__(self, subject: Subject) -> DirectLogitAttributionResult:
        """Return the contributions.

        Raises:
            MissingNeedError: the subject lacks something, or no split has known labels.
            NotLinearError: the logits are not linear in the neurons.
        """
        self.require(subject)
        group, embedding, readout = neuron_weights(subject)
        power = frequency_power(group, full_precision(embedding.cpu()), full_precision(readout.cpu()))
        frequency = key_or_none(group, power)
        linear = linear_readout(subject)
        bias = torch.zeros(linear.weights.shape[1])
        if subject.roles.bias is not None:
            bias = full_precision(subject.roles.bias.read(subject.model).cpu())
        splits = labelled_splits(subject.task)
        if not splits:
            raise MissingNeedError(f"{self.name!r} needs a split with known labels")
        found = [_attribute(subject, split, linear, bias.double(), frequency) for split in splits]
        sums = [[each.frequencies[quantity] for each in found] for quantity in range(len(QUANTITIES))]
        return DirectLogitAttributionResult(
            splits=tuple(split.name for split in splits),
            neurons=torch.stack([each.neurons for each in found], 1),
            frequency=frequency,
            labels=group.labels,
            bias=torch.stack([each.bias for each in found], 1),
            total=torch.stack([each.total for each in found], 1),
            frequencies=tuple(one for quantity in sums for split in quantity for one in split),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Attributed:
    neurons: Float[Tensor, "quantity neuron"]
    bias: Float[Tensor, " quantity"]
    total: Float[Tensor, " quantity"]
    frequencies: list[list[Estimate]]


def _attribute(
    subject: Subject,
    split: LabelledSplit,
    linear: LinearReadout,
    bias: Float[Tensor, " class"],
    frequency: Int[Tensor, " neuron"],
) -> _Attributed:
    weights = linear.weights.double().T
    centred, mean_bias = weights - weights.mean(0), bias - bias.mean()
    present, group_of = frequency.unique(return_inverse=True)
    neurons, summed = torch.zeros(2, len(frequency)).double(), torch.zeros(2, len(bias), len(present)).double()
    offset, total = torch.zeros(2, 2).double()
    size = max(1, BLOCK_ELEMENTS // len(frequency))
    blocks = (each.split(size) for each in (subject.task.rows(split.ids), split.labels, split.truth))
    for row, label, truth in zip(*blocks, strict=True):
        logits, hidden = linear.logits[row].double(), linear.hidden[row].double()
        own, rival = at_label(logits, label), strongest_rival(logits, label)
        total += torch.stack([(own - logits.mean(1)).sum(), (own - at_label(logits, rival)).sum()])
        offset += torch.stack([mean_bias[label].sum(), (bias[label] - bias[rival]).sum()])
        for quantity, direction in enumerate((centred[label], weights[label] - weights[rival])):
            each = hidden * direction
            neurons[quantity] += each.sum(0)
            of_frequency = torch.zeros(len(row), len(present), dtype=torch.float64).index_add_(1, group_of, each)
            summed[quantity].index_add_(0, truth, of_frequency)
    n, counts = len(split.ids), torch.bincount(split.truth, minlength=len(bias)).numpy()
    return _Attributed(neurons / n, offset / n, total / n, [pooled_means(each.numpy(), counts) for each in summed])
