"""Retraining of one layer from its initialisation with all others frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.config import check_choice, check_whole
from mechmem.core.inputs import run_on
from mechmem.core.plugins import Analysis
from mechmem.core.randomness import generator
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import MissingNeedError, NotLinearError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.running import block_rows, device_of, differentiating, full_precision
from mechmem.models.reading.forward import logits_of
from mechmem.models.reading.layer_parameters import (
    READOUT,
    LayerParameters,
    copy_layer,
    named_tensors,
    parameter_layers,
)
from mechmem.models.reading.linear_readout import linear_readout
from mechmem.models.reading.split_hits import accuracy_row, split_hits
from mechmem.models.reading.twins import twin
from mechmem.plotting.layers import name_ticks
from mechmem.plotting.layout import stack
from mechmem.plotting.lines import lines
from mechmem.tasks.config import SPLITS
from mechmem.training.config import TrainConfig
from mechmem.training.evaluate import loss_of
from mechmem.training.optimizers import Optimizers
from mechmem.training.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

Labels = Literal["given", "true", "clean"]

NONE = "none"  # the row of the network with no layer touched

STATES = ("rewound", "retrained")

Forward = Callable[[Int[Tensor, " row"], int], Float[Tensor, "row class"]]
"""Logits of training examples, by row of the training set, with the augmentation of a step."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class LayerRetrainingResult(Result):
    """Each split after one layer was set back to its initialisation, and after it was retrained alone.

    Attributes:
        layers: the layers, in the network's order.
        hits: correct predictions on each split with the layer rewound, and retrained; −1 if a logit is not finite.
            Shape (layer, state, split).
        trained: the same for the network as it is. Shape (split).
        n: number of examples of each split; 0 if it is empty or not known. Shape (split).
        loss: mean loss on the labels that the layer was trained on, in nats or squared error. Shape (layer, state).
        trained_loss: the same for the network as it is.
        labels: labels it was trained on: "given", "true", or "clean" (only the correctly labelled examples).
        chance: accuracy of a blind guess, 1 / classes.
        note: the settings used if the run has none, or "".
    """

    layers: tuple[str, ...]
    hits: Int[Tensor, "layer state split"]
    trained: Int[Tensor, " split"]
    n: Int[Tensor, " split"]
    loss: Float[Tensor, "layer state"]
    trained_loss: float
    labels: str
    chance: float
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer, state and split: layer, state, split, value, low, high, n, loss.

        The states are "rewound", "retrained", and "trained" for the network as it is (layer "none"). `value` is the
        accuracy, with its 95 % Wilson interval; NaN for a split that is empty or not known.
        """
        states = [(NONE, "trained", self.trained, self.trained_loss)]
        for name, hits, losses in zip(self.layers, self.hits, self.loss.tolist(), strict=True):
            states += [(name, *each) for each in zip(STATES, hits, losses, strict=True)]
        rows = []
        for layer, state, hits, loss in states:
            for split, right, n in zip(SPLITS, hits.tolist(), self.n.tolist(), strict=True):
                figures = accuracy_row(right, n)
                rows.append({"layer": layer, "state": state, "split": split, **figures, "loss": loss})
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return accuracy by layer, rewound and retrained, and that of the network as it is."""
        frame, names = self.to_frame(), (NONE, *self.layers)
        panels = {}
        for state, title in zip(STATES, (STATES[0], f"retrained on {self.labels} labels"), strict=True):
            rows = frame.loc[frame["state"].isin(["trained", state])]
            shown = rows.assign(x=[names.index(name) for name in rows["layer"]], series=rows["split"])
            panel = lines(shown, x_title="layer", y_title="accuracy<br>(95 % interval)", chance=self.chance)
            panels[title] = panel.update_yaxes(range=[-0.03, 1.03])
        return stack(panels).update_xaxes(name_ticks(names), range=[-0.3, len(names) - 0.7])


@dataclasses.dataclass(frozen=True)
class LayerRetraining(Analysis):
    """Set one layer back to its initialisation, train it with all else frozen, and measure the four splits.

    Wrong labels that return when a layer is retrained only on clean examples are memorized elsewhere (Maini et al.
    2023). For the last layer (`readout_retraining`) this distinguishes accuracy that the layers below have lost from
    accuracy that the readout does not read. The network stays in evaluation mode. Optimiser, rates, loss and batch size
    are the run's; without a run: Adam, learning rate 0.001, cross-entropy, full batch. Every step augments images anew.

    Attributes:
        layers: names or patterns of layers, "readout" for that of the role (see `parameter_layers`); by default each
            module with its own parameters in turn.
        labels: labels to train on: "given", "true", or "clean" (only the correctly labelled examples).
        steps: number of optimisation steps.
        batch_size: examples per step, 0 for all; by default the run's.
        seed: seed of the order of minibatches.
    """

    name: ClassVar[str] = "layer_retraining"
    knows: ClassVar[frozenset[str]] = frozenset(
        {"checkpoints", "given_labels", "true_train_labels", "noise_mask", "test_labels"}
    )
    cites: ClassVar[str] = "Maini et al. 2023, arXiv 2307.09542"
    aliases: ClassVar[Mapping[str, Mapping[str, Any]]] = {"readout_retraining": {"layers": READOUT}}

    layers: str = ""
    labels: Labels = "given"
    steps: int = 200
    batch_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("labels to train on", self.labels, get_args(Labels))
        check_whole("steps", self.steps, 1)
        check_whole("seed", self.seed, 0)
        check_whole("batch size", 0 if self.batch_size is None else self.batch_size, 0)

    def __call__(self, subject: Subject) -> LayerRetrainingResult:
        """Return the result.

        Raises:
            MissingNeedError: there is no initialisation, or the labels are not known, or none is correct.
            UnknownNameError: no layer matches.
        """
        self.require(subject)
        task, roles = subject.task, subject.roles
        initial = twin(subject, "untrained")
        if isinstance(initial, str):
            raise MissingNeedError(f"{self.name!r} needs the initialisation; {initial}")
        ids, labels = _examples(task, self.labels)
        layers = [layer for layer in parameter_layers(subject.model, roles, self.layers) if layer.parameters]
        config, note = self._settings(subject)
        model = subject.copy_model().eval().requires_grad_(False)

        def measured() -> tuple[Int[Tensor, " split"], float]:
            logits = logits_of(model, task, ids, roles.output)
            return split_hits(model, task, roles.output)[0], float(loss_of(logits.double(), labels, config.loss))

        trained, n = split_hits(model, task, roles.output)
        trained_loss, found = measured()[1], []
        for layer in layers:
            copy_layer(layer, initial, model)
            found.append(measured())
            forward = _through_readout(subject, model, layer, ids) or _through_network(subject, model, ids)
            self._retrain(model, subject, layer, forward, labels, config)
            found.append(measured())
            copy_layer(layer, subject.model, model)
        shape = (len(layers), len(STATES))
        return LayerRetrainingResult(
            layers=tuple(layer.name for layer in layers),
            hits=torch.stack([hits for hits, _ in found]).unflatten(0, shape),
            trained=trained,
            n=n,
            loss=torch.tensor([loss for _, loss in found], dtype=torch.float64).unflatten(0, shape),
            trained_loss=trained_loss,
            labels=self.labels,
            chance=1 / task.n_classes,
            note=note,
        )

    def _settings(self, subject: Subject) -> tuple[TrainConfig, str]:
        config, note = subject.run.config if isinstance(subject.run, Run) else None, ""
        if config is None:
            config = TrainConfig(optimizer="adam", lr=1e-3, weight_decay=0.0)
            note = "the training config was not recorded: Adam at 0.001 on cross-entropy"
        if self.batch_size is not None:
            config = dataclasses.replace(config, batch_size=self.batch_size)
        return config, note

    @differentiating()
    def _retrain(
        self,
        model: nn.Module,
        subject: Subject,
        layer: LayerParameters,
        forward: Forward,
        labels: Int[Tensor, " example"],
        config: TrainConfig,
    ) -> None:
        """Train one layer in place."""
        stored, n = dict(model.named_parameters()), len(labels)
        own = [stored[name].requires_grad_(True) for name in layer.parameters]
        labels, size = labels.to(own[0].device), config.batch_size or n
        optimizers = Optimizers(config, model, subject.roles)
        for step in range(self.steps):
            epoch, start = divmod(step * size, -(-n // size) * size)
            draw = generator(self.seed, "order of retraining", epoch)
            order = torch.randperm(n, generator=draw) if size < n else torch.arange(n)
            rows = order[start : start + size]
            optimizers.zero_grad()
            for block in blocks(len(rows), block_rows(model)):
                logits = forward(rows[block], step)
                share = len(logits) / len(rows)
                (loss_of(logits, labels[rows[block].to(labels.device)], config.loss) * share).backward()
            _step(optimizers, stored, layer, config)
        optimizers.zero_grad()
        model.requires_grad_(False)


def _step(optimizers: Optimizers, stored: Mapping[str, Tensor], layer: LayerParameters, config: TrainConfig) -> None:
    """Update only the layer; optimisers leave parameters without a gradient unchanged."""
    if config.optimizer != "muon":
        optimizers.step()
        return
    # Muon takes whole matrices of the network, and needs a gradient for each.
    others = {name: each for name, each in stored.items() if name not in layer.parameters}
    kept = {name: each.detach().clone() for name, each in others.items()}
    for each in others.values():
        each.grad = torch.zeros_like(each)
    optimizers.step()
    with torch.no_grad():
        for name, each in others.items():
            each.copy_(kept[name])


def _examples(task: Task, which: Labels) -> tuple[Int[Tensor, " example"], Int[Tensor, " example"]]:
    """Return the training examples to train on, and their labels."""
    ids, noisy = task.train_ids, task.noisy
    if which != "given" and noisy is None:
        raise MissingNeedError(f"training on {which} labels needs the true labels, which are not known")
    if which == "clean" and noisy is not None:
        ids = ids[~noisy]
    labels = task.true(ids) if which == "true" else task.given(ids)
    if labels is None or not len(ids):
        raise MissingNeedError(f"there is nothing to train on with labels={which}: no training label is correct")
    return ids, labels


def _through_network(subject: Subject, model: nn.Module, ids: Int[Tensor, " example"]) -> Forward:
    task, output, device = subject.task, subject.roles.output, device_of(model)
    held = None if task.augmented else task.batch(ids)[0].to(device)

    def forward(rows: Int[Tensor, " row"], step: int) -> Float[Tensor, "row class"]:
        inputs = task.batch(ids[rows], step)[0].to(device) if held is None else held[rows.to(device)]
        return full_precision(output.read(run_on(model, inputs)))

    return forward


def _through_readout(
    subject: Subject, model: nn.Module, layer: LayerParameters, ids: Int[Tensor, " example"]
) -> Forward | None:
    """Return the readout as a function of the trained layers below; None if it cannot be separated from them."""
    readout, bias, stored = subject.roles.readout, subject.roles.bias, named_tensors(model)
    if readout is None or subject.task.augmented:
        return None
    last = {*readout.names, *(() if bias is None else bias.names)}
    own = [stored[name] for name in layer.parameters]
    # A matrix that is also the embedding changes the readout's input.
    places = sum(any(each is mine for mine in own) for each in stored.values())
    if not set(layer.parameters) <= last or len(layer.tensors) != places:
        return None
    try:
        found = linear_readout(subject)
    except NotLinearError:
        return None
    hidden = found.hidden[subject.task.rows(ids)].to(device_of(model))

    def forward(rows: Int[Tensor, " row"], step: int) -> Float[Tensor, "row class"]:
        logits = hidden[rows.to(hidden.device)] @ readout.arrange([stored[name] for name in readout.names]).to(hidden)
        return logits if bias is None else logits + bias.arrange([stored[name] for name in bias.names])

    return forward
