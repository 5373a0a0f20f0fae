"""`probe_layers`: the accuracy of a probe at every layer of a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.config import check_number, check_whole
from mechmem.core.plugins import named, plugins
from mechmem.core.roles import Roles
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.layers.features import INPUTS, LIMIT_MB, NETWORKS, layer_features, read_layers
from mechmem.layers.probe import Labels, LayerProbe, cross_validated
from mechmem.layers.table import LayerProbes
from mechmem.math.logits import answers_of
from mechmem.models.reading.split_hits import noise_fit
from mechmem.models.reading.twins import check_twin, twin
from mechmem.tasks.splits import Marks

__all__ = ["LayerProbes", "probe_layers"]


@checked
def probe_layers(
    subject: nn.Module | Subject,
    task: Task | None = None,
    *,
    roles: Roles | None = None,
    probe: str = "masc",
    labels: Labels | None = None,
    points: str | Sequence[str] | None = None,
    untrained: nn.Module | None = None,
    clean_labels: bool | nn.Module = False,
    folds: int = 5,
    seed: int = 0,
    limit_mb: float = LIMIT_MB,
) -> LayerProbes:
    """Fit a probe to every layer of a network, and measure it on the four splits.

    The controls are the same probe on the inputs themselves, without a network, on the network before training and, on
    request, on its twin trained on true labels. The probe is fitted to the training examples without augmentation, with
    the same labels for every network. The layer is chosen by cross-validation on these examples and labels, without
    test examples.

    Each example takes one pass through each network, for all layers together. If the features would take more than
    `limit_mb`, there is one pass for every group of layers that fits, down to one layer at a time.

        mm.probe_layers(network, probe="knn", labels="true").table()

    Args:
        subject: a subject, or a network with `HookPoint` submodules.
        task: the task of a bare network.
        roles: the network's roles; by default its own.
        probe: a readout of layers with its settings: "masc", "masc(variance=.5)", "velpic", "class_mean", "qda",
            "knn(k=20)", "linear_probe". Its `pool=mean` averages the channels of the layers that have rows and columns.
        labels: labels of the training examples to fit, "given" or "true"; by default the probe's own setting, "given".
        points: hook points or patterns; by default those of the role `hidden`.
        untrained: the network before training; by default that of the run or retrainer, if there is one.
        clean_labels: True for the twin that the retrainer trains on true labels; or that network.
        folds: number of parts of the training set for cross-validation; 0 for none, and no chosen layer.
        seed: seed of the parts.
        limit_mb: most megabytes (of 2²⁰ bytes) for the layers of one network at once, without a probe's own copies of
            one layer.

    Raises:
        UnknownNameError: there is no such probe, setting or hook point; the message suggests the nearest.
        ConfigError: the readout does not read layers, or names one; an argument is not a network; a number is out of
            range.
        MissingNeedError: no layer is named, the requested true labels are not known, the clean-label twin cannot be
            made, a layer holds NaN or infinity, or the probe cannot be fitted.
        ActivationError: a point does not fire.

    Source: Ketha & Ramaswamy 2025, arXiv 2501.14687; Anagnostidis et al. 2023, arXiv 2210.14019.
    """
    subject = subject_of(subject, task, roles)
    check_whole("folds", folds, 0, len(subject.task.sources))
    if folds == 1:
        raise ConfigError("folds must be 0 (no cross-validation) or at least 2, got 1")
    check_whole("seed", seed, 0)
    if points is not None and not len(points):
        raise ConfigError(f"points must be at least one hook point or pattern, got {points!r}")
    check_number("limit_mb", limit_mb, least=0)
    bench = _Bench(subject.task, _reader(probe, labels), _points(subject, points), folds, seed, limit_mb)
    twins, note = _twins(subject, untrained, clean_labels)
    at_inputs = bench.at_inputs(subject)
    trained = bench.through(subject, "trained", at_inputs)
    others = [
        None if twin is None else bench.through(subject.with_model(twin), name, at_inputs) for name, twin in twins
    ]
    networks, marks = [trained, *others], bench.marks
    nothing = torch.full_like(trained.answers, -1)
    answers = [nothing if each is None else each.answers for each in networks]
    outputs = [trained.output, nothing[0], nothing[0] if others[1] is None else others[1].output]
    values = torch.tensor([each.value for each in bench.held_out], dtype=torch.float64)
    unknown = bool(values[1:].isnan().all())
    if unknown:
        note = "; ".join(filter(None, (note, f"no layer is chosen: {bench.held_out[1].reason}")))
    return LayerProbes(
        probe=bench.reader.label(),
        layers=(INPUTS, *trained.layers),
        correct=torch.stack([marks.counts(each) for each in answers]),
        both=torch.stack([marks.both(answers[0], each) for each in answers[1:]]),
        output=torch.stack([marks.counts(each) for each in outputs]),
        n=marks.n,
        noise_fit=noise_fit(subject, trained.output[: len(subject.task.sources)]),
        cross_validated=values,
        chosen="" if unknown else trained.layers[int(values[1:].nan_to_num(-1).argmax())],
        note=note,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Answered:
    """Predictions of the probe at the inputs and every layer of a network, (layer, example), and of the network."""

    layers: tuple[str, ...]
    answers: Int[Tensor, "layer example"]
    output: Int[Tensor, " example"]


@dataclasses.dataclass(frozen=True)
class _HeldOut:
    value: float
    reason: str


class _Bench:
    """Reader of networks that fits the probe to their layers, and cross-validates it on the trained network."""

    def __init__(
        self, task: Task, reader: LayerProbe, points: Sequence[str] | str, folds: int, seed: int, limit_mb: float
    ):
        self.task, self.reader, self.points = task, reader, points
        self.folds, self.seed, self.limit_mb = folds, seed, limit_mb
        self.marks = Marks(task, "sources")
        self.held_out: list[_HeldOut] = []

    def at_inputs(self, subject: Subject) -> Int[Tensor, " example"]:
        features = layer_features(subject, INPUTS, self.marks.ids)
        return self._answers(features, repr(INPUTS), held_out=True)

    def through(self, subject: Subject, network: str, at_inputs: Int[Tensor, " example"]) -> _Answered:
        layers, answers, output = (), [at_inputs], None
        for reading in read_layers(subject, self.points, self.marks.ids, self.reader.pool, self.limit_mb):
            if output is None:
                layers, output = reading.layers, answers_of(reading.logits)
            for layer in tuple(reading.features):
                named = f"{layer!r} of the {network.replace('_', '-')} network"
                # Removed from the reading, so that the layer is freed before the next reading.
                answers.append(self._answers(reading.features.pop(layer), named, held_out=network == "trained"))
        assert output is not None
        return _Answered(layers, torch.stack(answers), output)

    def _answers(
        self, features: Float[Tensor, "example feature"], layer: str, *, held_out: bool
    ) -> Int[Tensor, " example"]:
        own = features[: len(self.task.sources)]
        fitted = self.reader.fit(own, self.task, layer)
        if held_out:
            self.held_out.append(self._cross_validated(own))
        return answers_of(fitted.scores(features))

    def _cross_validated(self, features: Float[Tensor, "example feature"]) -> _HeldOut:
        if not self.folds:
            return _HeldOut(np.nan, "folds is 0")
        value, reason = cross_validated(self.reader, features, self.task, self.folds, self.seed)
        return _HeldOut(np.nan if value is None else value, reason)


def _reader(probe: str, labels: Labels | None) -> LayerProbe:
    found = named("readouts", probe)
    if not isinstance(found, LayerProbe):
        names = sorted(name for name, cls in plugins("readouts").items() if issubclass(cls, LayerProbe))
        raise ConfigError(f"{probe!r} is not a probe of layers; probes are {', '.join(names)}")
    if found.point:
        raise ConfigError(f"layers are named by points=, not in the probe {probe!r}; name its settings, as in k=20")
    return found if labels is None else dataclasses.replace(found, labels=labels)


def _points(subject: Subject, points: str | Sequence[str] | None) -> str | Sequence[str]:
    if points is None and not subject.roles.hidden:
        raise MissingNeedError("name the layers with points=, or the role hidden")
    return subject.roles.hidden if points is None else points


def _twins(
    subject: Subject, untrained: nn.Module | None, clean_labels: bool | nn.Module
) -> tuple[list[tuple[str, nn.Module | None]], str]:
    """Return the other networks in the order of the table, and why there is no untrained one."""
    for name, network, other in (("untrained", untrained, None), ("clean_labels", clean_labels, bool)):
        if not isinstance(network, nn.Module | other):
            raise ConfigError(f"{name}= takes a network, got a {type(network).__name__}")
        if isinstance(network, nn.Module):
            check_twin(subject, name, network, unread=True)
    before = twin(subject, "untrained", untrained)
    before, note = (None, before) if isinstance(before, str) else (before, "")
    own = None if isinstance(clean_labels, bool) else clean_labels
    clean = None if clean_labels is False else twin(subject, "clean_labels", own)
    if isinstance(clean, str):
        raise MissingNeedError(f"{clean}; pass the network as clean_labels=")
    return list(zip(NETWORKS[1:], (before, clean), strict=True)), note
