"""How much each layer of a network knows, by a classifier fitted to what it holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import nn

from mechmem.auditing.assemble import split_accuracies
from mechmem.caching import activations
from mechmem.config import check_whole
from mechmem.contracts import Predictor, Subject, Task, subject_of
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.grammar import build
from mechmem.layer_features import INPUTS
from mechmem.layer_probes import Labels, LayerProbe, cross_validated
from mechmem.models.initial import initial_model
from mechmem.plotting.layers import layers_figure
from mechmem.plugins import plugins
from mechmem.readouts.logits import Logits
from mechmem.results import Result
from mechmem.roles import Roles
from mechmem.stats import wilson
from mechmem.storage import record
from mechmem.tasks.config import SPLITS

if TYPE_CHECKING:
    import plotly.graph_objects as go

OUTPUT = "output"
"""What the table calls the network's own logits."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class LayerProbes(Result):
    """Accuracy of a probe at every layer, beside the inputs themselves and the network before training.

    Attributes:
        probe: the probe, without its layer.
        layers: the inputs first, then the layers that were asked for.
        correct: right answers of the probe, on the trained and on the untrained network; −1 where there is none. Shape
            (network, layer, split).
        output: right answers of the network itself. Shape (split).
        n: examples of each split; 0 where it is empty or not known. Shape (split).
        cross_validated: the probe's accuracy on held-out parts of the training set, by the labels it is fitted to; NaN
            where it was not measured. Shape (layer).
        chosen: the layer where that is highest, the inputs left out; "" where there is none.
        note: why there is no untrained network, or no choice, or "".
    """

    probe: str
    layers: tuple[str, ...]
    correct: Int[torch.Tensor, "network layer split"]
    output: Int[torch.Tensor, " split"]
    n: Int[torch.Tensor, " split"]
    cross_validated: Float[torch.Tensor, " layer"]
    chosen: str
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per network, layer and split.

        Columns: network ("trained", "untrained"; "none" for the inputs), layer ("output" for the network's own logits),
        split, n, accuracy, low, high (95 % Wilson interval), cross_validated (of the trained network) and chosen.
        """
        rows = []
        for number, network in enumerate(("trained", "untrained")):
            for place, layer in enumerate(self.layers):
                if layer == INPUTS and network == "untrained":
                    continue
                own = {"network": "none" if layer == INPUTS else network, "layer": layer}
                cv = float(self.cross_validated[place]) if network == "trained" else np.nan
                own |= {"cross_validated": cv, "chosen": network == "trained" and layer == self.chosen}
                rows += self._rows(own, self.correct[number, place])
        own = {"network": "trained", "layer": OUTPUT, "cross_validated": np.nan, "chosen": False}
        rows += self._rows(own, self.output)
        names = ["network", "layer", "split", "n", "accuracy", "low", "high", "cross_validated", "chosen"]
        return pd.DataFrame(rows, columns=names)

    def _rows(self, own: Mapping[str, object], correct: Int[torch.Tensor, " split"]) -> list[dict[str, object]]:
        rows = []
        for split, right, n in zip(SPLITS, correct.tolist(), self.n.tolist(), strict=True):
            found = wilson(right, n) if right >= 0 else None
            low, high, value = (np.nan,) * 3 if found is None else (found.low, found.high, found.value)
            rows.append({**own, "split": split, "n": n, "accuracy": value, "low": low, "high": high})
        return rows

    def table(self, split: str = "test") -> pd.DataFrame:
        """Return the accuracies of one split: a row per layer, columns trained, untrained and cross_validated."""
        frame = self.to_frame()
        frame = frame.loc[frame["split"] == split]
        wide = frame.assign(network=frame["network"].replace("none", "trained"))
        wide = wide.pivot(index="layer", columns="network", values="accuracy").reindex([*self.layers, OUTPUT])
        wide = wide.reindex(columns=["trained", "untrained"])
        wide["cross_validated"] = [*self.cross_validated.tolist(), np.nan]
        return wide.rename_axis(columns=None)

    def plot(self, split: str = "test") -> go.Figure:
        """Return accuracy by layer on one split, with the inputs, the untrained network and the network's own output.

        Args:
            split: one of the four splits.
        """
        if split not in SPLITS:
            raise ConfigError(f"split is one of {', '.join(SPLITS)}, got {split!r}")
        frame = self.to_frame()
        return layers_figure(frame.loc[frame["split"] == split], self.layers, self.probe, split)


def probe_layers(
    subject: nn.Module | Subject,
    task: Task | None = None,
    *,
    roles: Roles | None = None,
    probe: str = "masc",
    labels: Labels = "given",
    points: str | Sequence[str] | None = None,
    untrained: nn.Module | None = None,
    folds: int = 5,
    seed: int = 0,
) -> LayerProbes:
    """Fit a probe to every layer of a network, and measure it on the four splits.

    Beside it stand the same probe on the inputs themselves, which needs no network, and on the network before training.
    The layer is chosen by cross-validation on the training examples, with the labels that the probe is fitted to: no
    test example has a part in the choice.

    Args:
        subject: a subject, or a network with `HookPoint` submodules.
        task: the network's task; goes with a network only.
        roles: the network's roles; by default its own.
        probe: a readout of layers with its settings: "masc", "masc(variance=.5)", "velpic", "class_mean", "qda",
            "knn(20)", "linear_probe".
        labels: which labels of the training examples it is fitted to, "given" or "true".
        points: hook points or patterns; by default those of the role `hidden`.
        untrained: the network before training; by default that of the run or recipe, where there is one.
        folds: parts of the training set for cross-validation; 0 for none, and no choice.
        seed: seed of the parts.

    Raises:
        UnknownNameError: there is no such probe, setting or hook point; the nearest is named.
        ConfigError: the probe reads no layer, or names one.
        MissingNeedError: no layer is named, the true labels are asked for and not known, or the probe cannot be fitted.
        ActivationError: a point does not fire.

    Source: Ketha & Ramaswamy 2025, arXiv 2501.14687; Anagnostidis et al. 2023, arXiv 2210.14019.
    """
    subject = subject_of(subject, task, roles)
    check_whole("folds", folds, 0)
    reader = _reader(probe, labels)
    layers = (INPUTS, *_layers(subject, points))
    before, note = (untrained, "") if untrained is not None else initial_model(subject)
    trained = [_counted(_at(reader, layer)(subject), subject.task) for layer in layers]
    twin = None if before is None else subject.with_model(before)
    twins = [None if twin is None else _counted(_at(reader, layer)(twin), subject.task) for layer in layers]
    measured = [cross_validated(_at(reader, layer), subject, folds, seed) if folds else None for layer in layers]
    values = torch.tensor([np.nan if value is None else value for value in measured], dtype=torch.float64)
    best = int(values[1:].nan_to_num(-1).argmax()) + 1
    unknown = bool(values[1:].isnan().all())
    if unknown:
        why = "folds is 0" if not folds else "a class has fewer than two training examples"
        note = "; ".join(filter(None, (note, f"no layer is chosen: {why}")))
    own = _counted(Logits()(subject), subject.task)
    nothing = (torch.full((len(SPLITS),), -1), None)
    return LayerProbes(
        probe=reader.label(),
        layers=layers,
        correct=torch.stack([torch.stack([(each or nothing)[0] for each in found]) for found in (trained, twins)]),
        output=own[0],
        n=own[1],
        cross_validated=values,
        chosen="" if unknown else layers[best],
        note=note,
    )


def _reader(probe: str, labels: Labels) -> LayerProbe:
    found = build(plugins("readouts"), probe, probe, "probe")
    if not isinstance(found, LayerProbe):
        names = sorted(name for name, cls in plugins("readouts").items() if issubclass(cls, LayerProbe))
        raise ConfigError(f"{probe!r} reads no layer; probes are {', '.join(names)}")
    if found.point:
        raise ConfigError(f"the layers are named by points=, not in the probe {probe!r}")
    return dataclasses.replace(found, labels=labels)


def _at(reader: LayerProbe, layer: str) -> LayerProbe:
    # The inputs have no channels to average over.
    return dataclasses.replace(reader, point=layer, pool="none" if layer == INPUTS else reader.pool)


def _layers(subject: Subject, points: str | Sequence[str] | None) -> tuple[str, ...]:
    if points is None:
        if not subject.roles.hidden:
            raise MissingNeedError("name the layers with points=, or the role hidden")
        return subject.roles.hidden
    return tuple(activations(subject, points, ids=subject.task.train_ids[:1].repeat(2)))


def _counted(predictor: Predictor, task: Task) -> tuple[Int[torch.Tensor, " split"], Int[torch.Tensor, " split"]]:
    """Return right answers and examples of each split."""
    cells = split_accuracies(predictor, task)
    known = [cells[split].estimate for split in SPLITS]
    n = torch.tensor([0 if each is None else each.n for each in known])
    return torch.tensor([-1 if each is None else round(each.value * each.n) for each in known]), n
