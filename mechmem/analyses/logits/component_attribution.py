"""Contribution of each component of a network with a residual stream to the label's logit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.stats import Estimate
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.math.blocks import blocks
from mechmem.math.comparisons import pooled_means
from mechmem.math.logits import at_label, strongest_rival
from mechmem.models.hooks.running import block_rows
from mechmem.models.reading.residual_stream import ResidualStream, residual_stream
from mechmem.plotting.logits import components_figure
from mechmem.tasks.splits import LabelledSplit, labelled_splits

if TYPE_CHECKING:
    import plotly.graph_objects as go

QUANTITIES = ("logit", "margin")
"""The label's logit minus the mean over classes, and minus the strongest rival's."""

TITLES = {"logit": "label's logit over<br>the mean class", "margin": "label's margin over<br>the strongest rival"}

TOTAL, BIAS = "total", "readout bias"

TRIED = 256
"""Examples that test whether the final norm subtracts the mean."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ComponentAttributionResult(Result):
    """What each component adds to the label's logit and margin, on average over each split; all in logit units.

    Attributes:
        components: the embedding, the position embedding, every head ("head LAYER.HEAD"), MLP and bias; last "total",
            the network's own logit and margin, the sum of the others.
        splits: the splits that have examples and known labels; "train_noisy" uses the given labels.
        means: mean contributions with 95 % bootstrap intervals over answers, per quantity ("logit", "margin"), split
            and component, in this order.
        neurons: mean contribution of each neuron, by the name of its MLP. Shape (quantity, split, neuron) each.
        normalization: the norm before the unembedding: "none", "LayerNorm" or "RMSNorm". Its scale is frozen at its
            value on each example; its centring and weights are folded into the direction that a component is measured
            along, and its bias into the readout's.
        gap: largest difference, over all examples and classes, between the sum of all components and the logits.
    """

    components: tuple[str, ...]
    splits: tuple[str, ...]
    means: tuple[Estimate, ...]
    neurons: dict[str, Float[Tensor, "quantity split neuron"]]
    normalization: str
    gap: float

    def to_frame(self) -> pd.DataFrame:
        """Return one row per quantity, split and component: these, value, low, high, n (examples)."""
        places = [
            {"quantity": quantity, "split": split, "component": component}
            for quantity in QUANTITIES
            for split in self.splits
            for component in self.components
        ]
        return pd.DataFrame([place | dataclasses.asdict(each) for place, each in zip(places, self.means, strict=True)])

    def by_neuron(self) -> pd.DataFrame:
        """Return one row per quantity, split and neuron: quantity, split, mlp, neuron, value."""
        frames = []
        for name, values in self.neurons.items():
            width = values.shape[2]
            keys = [(quantity, split) for quantity in QUANTITIES for split in self.splits]
            frame = pd.DataFrame(np.repeat(np.array(keys), width, 0), columns=["quantity", "split"])
            frame["mlp"], frame["neuron"] = name, np.tile(np.arange(width), len(keys))
            frame["value"] = rearrange(values, "quantity split neuron -> (quantity split neuron)").numpy()
            frames.append(frame)
        columns = ["quantity", "split", "mlp", "neuron", "value"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def plot(self) -> go.Figure:
        """Return the components' contributions, one panel per quantity, a mark per split."""
        note = {
            "none": "no LayerNorm",
            "LayerNorm": "LayerNorm folded, its scale frozen on each example",
            "RMSNorm": "RMSNorm folded, its scale frozen on each example",
        }[self.normalization]
        return components_figure(self.to_frame(), TITLES, note)


@dataclasses.dataclass(frozen=True)
class ComponentAttribution(Analysis):
    """Attribute the label's logit, and its margin, to the components that write into the residual stream.

    The stream before the unembedding is a sum over writers: embedding, position embedding, each head's value through
    its output matrix, each MLP's neurons through theirs, and biases. So are the label's logit minus the mean over
    classes, and its margin over the strongest rival of the full logits, both inner products of the stream with
    directions of the unembedding. The scale of a final LayerNorm depends on all writers; it is frozen at its value on
    each example, so the attribution is the direct effect at that scale, not the effect of removing a writer.
    Every example is checked: the contributions must sum to the network's own logits.

    A component's contribution says what it writes, not where that was computed: an MLP passes on what heads write.
    """

    name: ClassVar[str] = "component_attribution"
    needs: ClassVar[frozenset[str]] = frozenset({"role:residual", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "noise_mask", "test_labels"})
    cites: ClassVar[str] = (
        "Elhage et al. 2021, transformer-circuits.pub/2021/framework; Nanda et al. 2023, arXiv 2301.05217"
    )

    def __call__(self, subject: Subject) -> ComponentAttributionResult:
        """Return the contributions.

        Raises:
            MissingNeedError: the network has no residual stream with writers of known names, or no split has known
                labels.
            NotLinearError: the writers found do not sum to the logits.
            RoleError: the readout does not fit.
        """
        self.require(subject)
        splits = labelled_splits(subject.task)
        if not splits:
            raise MissingNeedError(f"{self.name!r} needs a split with known labels")
        stream = residual_stream(subject, splits[0].ids[:TRIED])
        found = [_attribute(stream, split) for split in splits]
        pooled = (one for quantity in range(len(QUANTITIES)) for each in found for one in each.means[quantity])
        return ComponentAttributionResult(
            components=(*stream.names, *_ends(stream)),
            splits=tuple(split.name for split in splits),
            means=tuple(pooled),
            neurons={name: torch.stack([each.neurons[name] for each in found], 1) for name in found[0].neurons},
            normalization=stream.normalization,
            gap=max(each.gap for each in found),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Attributed:
    means: list[list[Estimate]]
    neurons: dict[str, Float[Tensor, "quantity neuron"]]
    gap: float


def _ends(stream: ResidualStream) -> tuple[str, ...]:
    """Components listed after the writers: the readout's bias, if there is one, and the total."""
    biased = stream.subject.roles.bias is not None or stream.readout.norm is not None
    return (BIAS, TOTAL) if biased else (TOTAL,)


def _attribute(stream: ResidualStream, split: LabelledSplit) -> _Attributed:
    weights, offset = stream.readout.weights, stream.readout.offset
    centred, centred_offset = weights - weights.mean(1, keepdim=True), offset - offset.mean()
    subject, width = stream.subject, len(stream.names) + len(_ends(stream))
    sums = torch.zeros(len(QUANTITIES), len(offset), width, dtype=torch.float64)
    neurons: dict[str, Tensor] = {}
    gap = 0.0
    for block in blocks(len(split.ids), block_rows(subject.model)):
        label, truth, read = split.labels[block], split.truth[block], stream.read(split.ids[block])
        rival, own, gap = strongest_rival(read.logits, label), at_label(read.logits, label), max(gap, read.gap)
        totals = (own - read.logits.mean(1), own - at_label(read.logits, rival))
        columns = (centred.T[label], (weights[:, label] - weights[:, rival]).T)
        offsets = (centred_offset[label], offset[label] - offset[rival])
        for quantity, (total, column, bias) in enumerate(zip(totals, columns, offsets, strict=True)):
            direction = stream.readout.along(column, read.scale)
            written = zip(stream.writers, read.values, strict=True)
            parts = [writer.along(value, direction) for writer, value in written]
            ends = torch.stack([bias, total] if BIAS in _ends(stream) else [total], 1)
            sums[quantity].index_add_(0, truth, torch.cat([*parts, ends], 1))
            for writer, value in zip(stream.writers, read.values, strict=True):
                if writer.kind == "neurons":
                    so_far = neurons.setdefault(writer.names[0], torch.zeros(2, value.shape[1], dtype=torch.float64))
                    so_far[quantity] += writer.by_neuron(value, direction).sum(0)
    counts = torch.bincount(split.truth, minlength=len(offset)).numpy()
    means = [pooled_means(each.numpy(), counts) for each in sums]
    return _Attributed(means, {name: each / len(split.ids) for name, each in neurons.items()}, gap)
