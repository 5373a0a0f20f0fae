"""Base class of probes: readouts that fit a classifier to one layer."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_choice
from mechmem.core.plugins import Readout
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor, Task
from mechmem.errors import MissingNeedError
from mechmem.layers.features import INPUTS, Pool, layer_features, layer_point

if TYPE_CHECKING:
    # Takes a second to load, and only a fit needs it; the readouts import it there.
    from sklearn.base import BaseEstimator

Labels = Literal["given", "true"]

_TOLD = {"given": frozenset({"given_labels"}), "true": frozenset({"true_train_labels"})}


@dataclasses.dataclass(frozen=True)
class LayerProbe(Readout):
    """Base of readouts that fit a classifier to a layer's features of the training examples.

    A probe is written `masc@hook_hidden`, with settings `masc(labels=true)@hidden.0`. Its control is the same probe on
    the inputs themselves, `masc@inputs`.

    Attributes:
        point: a hook point; "hidden.2" for the third layer of the role `hidden`; "inputs" for the inputs themselves; by
            default the last layer of the role `hidden`.
        labels: "given", the labels that the network was trained on, correct or wrong; or "true".
        pool: "mean" averages (example, channel, …) over all axes after the channels first.
    """

    reads: ClassVar[Literal["logits", "network"]] = "network"

    point: str = ""
    labels: Labels = "given"
    pool: Pool = "none"

    def __post_init__(self) -> None:
        check_choice("labels of a probe", self.labels, get_args(Labels))
        check_choice("pooling", self.pool, get_args(Pool))

    @abc.abstractmethod
    def estimator(self, examples: int) -> BaseEstimator:
        """Return the unfitted classifier for this number of examples."""

    def label(self) -> str:
        """The name with its changed settings, followed by @ and the layer."""
        label = super().label() if not self.point else dataclasses.replace(self, point="").label()
        return f"{label}@{self.point}" if self.point else label

    def wants(self) -> frozenset[str]:
        """The role `hidden`, unless a layer is named."""
        return self.needs if self.point else self.needs | {"role:hidden"}

    def told(self) -> frozenset[str]:
        """The labels of the training examples."""
        return self.knows | _TOLD[self.labels]

    def stand_in(self) -> Readout | None:
        """The same probe on the raw inputs, without pooling."""
        return None if self.point == INPUTS else dataclasses.replace(self, point=INPUTS, pool="none")

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor; a class without training examples gets the lowest logits.

        Raises:
            MissingNeedError: there is no such layer, the requested true labels are not known, the classifier cannot be
                fitted, or a feature is not finite.
            UnknownNameError: there is no such point.
            ActivationError: the point does not fire.
        """
        self.require(subject)
        point, task = layer_point(subject, self.point), subject.task

        def fit() -> FittedProbe:
            return self.fit(layer_features(subject, point, task.sources, self.pool), task, repr(point))

        fitted = subject.memo(f"probe {self.label()} {point}", fit)

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            return fitted.scores(layer_features(subject, point, ids, self.pool))

        return predict

    def fit(self, features: Float[Tensor, "example feature"], task: Task, layer: str) -> FittedProbe:
        """Fit the classifier to a layer's features of the training examples without augmentation.

        Args:
            features: the layer's features of `task.sources`.
            task: the task with the labels.
            layer: the layer's name in errors, such as "'hidden.1'".

        Raises:
            MissingNeedError: the requested true labels are not known, a feature is not finite, or the classifier cannot
                be fitted.
        """
        labels = probe_labels(task, self.labels)
        check_finite(features, layer)
        try:
            classifier: Any = self.estimator(len(labels))
            fitted = classifier.fit(features.numpy(), labels.numpy())
        except ValueError as error:
            raise MissingNeedError(f"{self.name!r} cannot be fitted to {layer}: {_one_line(error)}") from error
        return FittedProbe(fitted, layer, task.n_classes)


@dataclasses.dataclass(frozen=True, eq=False)
class FittedProbe:
    """A probe that has been fitted to a layer.

    Attributes:
        classifier: the classifier, with scikit-learn's interface.
        layer: the layer's name in errors, such as "'hidden.1'".
        n_classes: number of classes of the task, including those without training examples.
    """

    classifier: Any
    layer: str
    n_classes: int

    def scores(self, features: Float[Tensor, "example feature"]) -> Float[Tensor, "example class"]:
        """Return the logit of each class; a class without training examples gets the lowest.

        Raises:
            MissingNeedError: a feature is not finite.
        """
        check_finite(features, self.layer)
        scores = torch.from_numpy(class_scores(self.classifier, features.numpy()))
        found = (scores.amin(1, keepdim=True) - 1).repeat(1, self.n_classes)
        found[:, torch.as_tensor(self.classifier.classes_)] = scores
        return found


def check_finite(features: Float[Tensor, "example feature"], layer: str) -> None:
    """Refuse features that are not finite.

    Raises:
        MissingNeedError: a feature is NaN or infinite.
    """
    # The extremes take one pass and no memory; a mask would be as large as the features.
    if not features.numel() or all(bool(extreme.isfinite()) for extreme in features.aminmax()):
        return
    wrong = int((~features.isfinite()).any(1).sum())
    raise MissingNeedError(f"{layer} holds NaN or infinity on {wrong} of {len(features)} examples: probes need numbers")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def probe_labels(task: Task, which: Labels) -> Int[Tensor, " example"]:
    """Return the labels of the un-augmented training examples, `task.sources`, that a probe is fitted to.

    Raises:
        MissingNeedError: the requested true labels are not known.
    """
    found = task.given(task.sources) if which == "given" else task.true(task.sources)
    if found is None:
        raise MissingNeedError("the true labels of the training examples are not known")
    return found


def cross_validated(
    probe: LayerProbe, features: Float[Tensor, "example feature"], task: Task, folds: int, seed: int
) -> tuple[float | None, str]:
    """Return a probe's mean accuracy on held-out parts of the training set, by the labels that it is fitted to.

    No test example, and no other label, enters.

    Args:
        probe: the probe.
        features: a layer's features of `task.sources`.
        task: the task with the labels.
        folds: number of parts of the training set, each with its share of every class.
        seed: seed of the parts.

    Returns:
        the mean accuracy, or None and the reason.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    labels = probe_labels(task, probe.labels).numpy()
    folds = min(folds, int(np.unique(labels, return_counts=True)[1].min()))
    if folds < 2:
        return None, "a class has fewer than two training examples"
    estimator = probe.estimator(len(labels) - -(-len(labels) // folds))
    parts = StratifiedKFold(folds, shuffle=True, random_state=seed)
    strict: Any = "raise"
    try:
        found = cross_val_score(estimator, features.numpy(), labels, cv=parts, error_score=strict)
    except ValueError as error:
        return None, f"{probe.name!r} cannot be fitted to a part of the training set: {_one_line(error)}"
    return float(found.mean()), ""


def class_scores(fitted: Any, features: Float[np.ndarray, "example feature"]) -> Float[np.ndarray, "example class"]:
    """Return a fitted classifier's score of every class: its `scores`, or else its probabilities."""
    if hasattr(fitted, "scores"):
        return fitted.scores(features)
    return np.asarray(fitted.predict_proba(features), dtype=np.float64)
