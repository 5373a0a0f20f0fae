"""Rewinding of one layer at a time to an earlier checkpoint, which shows the layers that training needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.config import check_choice, check_whole
from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError, RunDirectoryError
from mechmem.models.reading.layer_parameters import LayerParameters, copy_layer, named_tensors, parameter_layers
from mechmem.models.reading.split_hits import accuracy_row, split_hits
from mechmem.models.reading.twins import twin
from mechmem.plotting.layers import name_ticks
from mechmem.plotting.lines import lines
from mechmem.plotting.matrices import Panel, heatmaps
from mechmem.plotting.style import SPLIT_STYLES
from mechmem.tasks.config import SPLITS

if TYPE_CHECKING:
    import plotly.graph_objects as go

NONE = "none"
"""The row of the network as it is, with no layer rewound."""

EVERY = "every"


@record
@dataclasses.dataclass(frozen=True, eq=False)
class LayerRewindingResult(Result):
    """Correct predictions on each split with one layer rewound and all others as trained.

    Attributes:
        layers: the layers, in the network's order.
        step: the optimisation steps that they were rewound to. Shape (checkpoint).
        hits: correct predictions on each split with one layer rewound; −1 if a logit is not finite. Shape (layer,
            checkpoint, split).
        trained: the same for the network as it is. Shape (split).
        n: number of examples of each split; 0 if it is empty or not known. Shape (split).
        moved: relative change of the layer's parameters θ since that step, ‖θ − θ_step‖ / ‖θ‖; NaN if they are all 0,
            or there are none. Shape (layer, checkpoint).
        chance: accuracy of a blind guess, 1 / classes.
    """

    layers: tuple[str, ...]
    step: Int[Tensor, " checkpoint"]
    hits: Int[Tensor, "layer checkpoint split"]
    trained: Int[Tensor, " split"]
    n: Int[Tensor, " split"]
    moved: Float[Tensor, "layer checkpoint"]
    chance: float

    def to_frame(self) -> pd.DataFrame:
        """Return one row per rewind step, layer and split: step, layer, split, value, low, high, n.

        `value` is the accuracy, with its 95 % Wilson interval; NaN for a split that is empty or not known. The layer
        "none" is the network as it is.
        """
        rows = []
        for time, step in enumerate(self.step.tolist()):
            for layer, name in enumerate((NONE, *self.layers)):
                hits = self.hits[layer - 1, time] if layer else self.trained
                for place, split in enumerate(SPLITS):
                    figures = accuracy_row(int(hits[place]), int(self.n[place]))
                    rows.append({"step": step, "layer": name, "split": split, **figures})
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return accuracy by rewound layer; for several steps, maps of layer and step for noisy labels and for test."""
        return self._at_one_step() if len(self.step) == 1 else self._maps()

    def _at_one_step(self) -> go.Figure:
        frame, names = self.to_frame(), (NONE, *self.layers)
        shown = frame.assign(x=[names.index(name) for name in frame["layer"]], series=frame["split"])
        title = f"layer set back to step {int(self.step[0]):,}"
        figure = lines(shown, x_title=title, y_title="accuracy (95 % interval)", chance=self.chance, height=440)
        figure.update_xaxes(name_ticks(names), range=[-0.3, len(names) - 0.7])
        return figure.update_yaxes(range=[-0.03, 1.03])

    def _maps(self) -> go.Figure:
        frame = self.to_frame()
        memorized = "train_noisy" if self.n[SPLITS.index("train_noisy")] else "train_clean"
        panels = []
        for split in (memorized, "test"):
            rows = frame.loc[frame["split"] == split]
            table = rows.pivot(index="layer", columns="step", values="value").loc[[*self.layers, NONE]]
            z, steps = table.to_numpy(float), np.array([f"{step:,}" for step in table.columns])
            panels.append(Panel(SPLIT_STYLES[split].title, z, steps, table.index.to_numpy(str)))
        hover = "layer %{y} at step %{x}: %{z:.3f}<extra></extra>"
        # The names of layers are long, and the same beside both maps.
        figure = heatmaps(panels, x_title="set back to step", y_title="layer", z_title="accuracy", hover=hover)
        figure.update_xaxes(type="category").update_yaxes(type="category")
        return figure.update_yaxes(showticklabels=False, col=2)


@dataclasses.dataclass(frozen=True)
class LayerRewinding(Analysis):
    """Set one layer back to an earlier state, leave all others as trained, and measure the four splits.

    Rewinding an ambient layer costs nothing; a critical layer breaks the network (Zhang et al. 2019). Rewinding a layer
    that holds memorized labels lowers `train_noisy` and keeps or raises test (Stephenson et al. 2021, Maini et al.
    2023). The layer's parameters and buffers are rewound together; the other layers, including BatchNorm's running
    statistics, fit the layer as trained, so a drop alone does not locate anything: compare the splits, not one split
    with 1.

    Attributes:
        step: optimisation step of the checkpoint to rewind to; 0 is the initialisation, of the run or made anew by its
            retrainer. Or "every" checkpoint of the run.
        layers: names or patterns of layers: "layers.*" for whole blocks (see `parameter_layers`); by default each
            module with its own parameters.
    """

    name: ClassVar[str] = "layer_rewinding"
    knows: ClassVar[frozenset[str]] = frozenset(
        {"checkpoints", "given_labels", "true_train_labels", "noise_mask", "test_labels"}
    )
    cites: ClassVar[str] = "Zhang, Bengio & Singer 2019, arXiv 1902.01996"

    step: int | Literal["every"] = 0
    layers: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.step, str):
            check_choice("step to set layers back to, a number or", self.step, [EVERY])
        else:
            check_whole("step", self.step, 0)

    def wants(self) -> frozenset[str]:
        """A run, unless layers are rewound to the initialisation."""
        return self.needs if self.step == 0 else self.needs | {"run"}

    def __call__(self, subject: Subject) -> LayerRewindingResult:
        """Return the result.

        Raises:
            MissingNeedError: there is neither a run with that step nor, for step 0, a retrainer.
            RunDirectoryError: the run has no checkpoint at that step.
            UnknownNameError: no layer matches.
        """
        self.require(subject)
        layers = parameter_layers(subject.model, subject.roles, self.layers)
        model, output = subject.copy_model(), subject.roles.output
        trained, n = split_hits(model, subject.task, output)
        steps, hits, moved = [], [], []
        for step, earlier in self._earlier(subject):
            steps.append(step)
            for layer in layers:
                copy_layer(layer, earlier, model)
                hits.append(split_hits(model, subject.task, output)[0])
                moved.append(_moved(layer, model, subject.model))
                copy_layer(layer, subject.model, model)
        shape = (len(steps), len(layers))
        return LayerRewindingResult(
            layers=tuple(layer.name for layer in layers),
            step=torch.tensor(steps),
            hits=torch.stack(hits).unflatten(0, shape).transpose(0, 1).contiguous(),
            trained=trained,
            n=n,
            moved=torch.tensor(moved, dtype=torch.float64).unflatten(0, shape).T.contiguous(),
            chance=1 / subject.task.n_classes,
        )

    def _earlier(self, subject: Subject) -> Iterator[tuple[int, nn.Module]]:
        """Yield the steps to go back to, and the network at each."""
        if self.step == 0:
            initial = twin(subject, "untrained")
            if isinstance(initial, str):
                raise MissingNeedError(f"{self.name!r} needs an earlier state; {initial}")
            yield 0, initial
            return
        assert subject.run is not None
        there = subject.run.checkpoint_steps()
        if self.step != EVERY and self.step not in there:
            listed = ", ".join(map(str, there)) or "none"
            raise RunDirectoryError(f"the run has no checkpoint at step {self.step}; it has {listed}")
        for step in there if self.step == EVERY else (int(self.step),):
            yield step, subject.run.model_at(step)


@torch.no_grad()
def _moved(layer: LayerParameters, then: nn.Module, now: nn.Module) -> float:
    before, after = named_tensors(then), named_tensors(now)
    pairs = [(before[name].double().cpu(), after[name].double().cpu()) for name in layer.parameters]
    length = sum(float(own.square().sum()) for _, own in pairs)
    distance = sum(float((own - other).square().sum()) for other, own in pairs)
    return (distance / length) ** 0.5 if length else float("nan")
