"""Accuracy and loss after ablating frequencies: without each one, on it alone, on the strongest few."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.math.filtration import frequency_power, key_or_none
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.weights import neuron_weights
from mechmem.plotting.lines import lines
from mechmem.plotting.spectra import frequency_axis, numbered
from mechmem.scorecard.pruned import remove_frequencies
from mechmem.tasks.config import SPLITS
from mechmem.tasks.splits import Marks
from mechmem.training.evaluate import evaluate

if TYPE_CHECKING:
    import plotly.graph_objects as go

MODES = ("remove", "keep", "keep_strongest")
_TITLES = {
    "remove": "without this frequency",
    "keep": "this frequency alone",
    "keep_strongest": "strongest frequencies",
}


@record
@dataclasses.dataclass(frozen=True, eq=False)
class FrequencyAblationResult(Result):
    """Accuracy and loss on the four splits with some frequencies removed from every neuron.

    Attributes:
        share: share of the network's power at frequency 1 … n, the mean of those of u, v and w; sums to 1. Shape
            (freq).
        neurons: number of neurons with this key frequency; a neuron without energy is not counted. Shape (freq).
        labels: what the group calls its frequencies: "1", "2", …, or names of representations.
        strongest: frequencies from the largest share to the smallest. Shape (freq).
        n: number of examples of each of the four splits (0 where it is empty or not known). Shape (split).
        accuracy: share of correct predictions in each mode: frequency k removed, all others removed, all but the k
            strongest removed; NaN for a split without examples. Shape (mode, freq, split).
        loss: mean cross-entropy in nats, likewise. Shape (mode, freq, split).
    """

    share: Float[Tensor, " freq"]
    neurons: Int[Tensor, " freq"]
    labels: tuple[str, ...]
    strongest: Int[Tensor, " freq"]
    n: Int[Tensor, " split"]
    accuracy: Float[Tensor, "mode freq split"]
    loss: Float[Tensor, "mode freq split"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per mode, frequency and split.

        Columns mode, kept (number of frequencies left), frequency (the one removed, kept, or added last), its label,
        n_neurons (with this key frequency), power_share, split, n, accuracy, loss.
        """
        mode, place, split = (axis.ravel() for axis in np.indices(self.accuracy.shape))
        count = len(self.share)
        added = np.where(mode == 2, self.strongest.numpy()[place], place + 1)
        values = {
            "mode": np.array(MODES)[mode],
            "kept": np.select([mode == 0, mode == 1], [count - 1, 1], place + 1),
            "frequency": added,
            "label": np.array(self.labels)[added - 1],
            "n_neurons": self.neurons.numpy()[added - 1],
            "power_share": self.share.numpy()[added - 1],
            "split": np.array(SPLITS)[split],
            "n": self.n.numpy()[split],
            "accuracy": self.accuracy.numpy().ravel(),
            "loss": self.loss.numpy().ravel(),
        }
        return pd.DataFrame(values)

    def plot(self) -> go.Figure:
        """Return one panel per mode; lines join the marks only where the axis is numeric."""
        found = self.to_frame()
        x = np.where(found["mode"] == "keep_strongest", found["kept"], found["frequency"])
        panel = [_TITLES[mode] for mode in found["mode"]]
        frame = found.assign(x=x, panel=panel).rename(columns={"split": "series", "accuracy": "value"})
        figure = lines(frame, x_title="", y_title="accuracy")
        places = [str(place) for place in range(1, len(self.labels) + 1)]
        for column in range(1, len(MODES)):
            figure.update_xaxes(frequency_axis(self.labels), col=column)
            if not numbered(self.labels):
                figure.update_traces(mode="markers", selector={"mode": "lines+markers"}, row=1, col=column)
        figure.update_xaxes(frequency_axis(places) | {"title_text": "number kept"}, col=len(MODES))
        figure.update_yaxes(range=[-0.03, 1.03])
        return figure


@dataclasses.dataclass(frozen=True)
class FrequencyAblation(Analysis):
    """Ablate frequencies from all neurons: each one, all but each one, and all but the strongest.

    A rule that rests on a few frequencies breaks without any one of them and survives on them alone; memorized labels
    need nearly all. A frequency is removed from u, v and w of every neuron; constants, the readout bias and symbols
    outside the group stay, so that keeping every frequency leaves the network unchanged.
    """

    name: ClassVar[str] = "frequency_ablation"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "input_group", "output_group", "slopes", "given_labels", "true_train_labels", "noise_mask"}
        | {"test_labels"}
    )
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217"

    def __call__(self, subject: Subject) -> FrequencyAblationResult:
        """Return the accuracies and losses.

        Raises:
            MissingNeedError: the subject lacks something, or has several layers between embedding and readout.
        """
        self.require(subject)
        group, embedding, readout = neuron_weights(subject)
        embedding, readout = full_precision(embedding.cpu()), full_precision(readout.cpu())
        power = torch.stack(
            [group.power(x).sum(1) for x in (*embedding, rearrange(readout, "neuron classes -> classes neuron"))]
        )
        total = power.sum(1, keepdim=True)
        share = (power / total.where(total > 0, torch.inf)).mean(0)
        found = frequency_power(group, embedding, readout)
        key = key_or_none(group, found)
        strongest = torch.argsort(share, descending=True, stable=True) + 1
        modes = [list(_measured(subject, gone)) for gone in _removed(group.n_frequencies, [int(k) for k in strongest])]
        measured = torch.tensor(modes, dtype=torch.float64)
        return FrequencyAblationResult(
            share=share,
            neurons=torch.bincount(key, minlength=group.n_frequencies + 1)[1:],
            labels=group.labels,
            strongest=strongest,
            n=Marks(subject.task).n,
            accuracy=measured[..., 0],
            loss=measured[..., 1],
        )


def _removed(count: int, strongest: Sequence[int]) -> list[list[set[int]]]:
    """Return the frequencies that are removed, by mode and frequency."""
    every = set(range(1, count + 1))
    return [
        [{k} for k in sorted(every)],
        [every - {k} for k in sorted(every)],
        [set(strongest[place:]) for place in range(1, count + 1)],
    ]


def _measured(subject: Subject, removed: Sequence[set[int]]) -> Iterator[list[list[float]]]:
    """Yield accuracy and loss on each split without each of these sets of frequencies."""
    for frequencies in removed:
        row = evaluate(
            remove_frequencies(subject, sorted(frequencies)).model, subject.task, output=subject.roles.output
        ).row
        pairs = [(row[split], row[f"{split}_loss"]) for split in SPLITS]
        yield [[float("nan") if value is None else value for value in pair] for pair in pairs]
