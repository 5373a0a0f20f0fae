"""Confident learning: quality of a label by probabilities of a classifier that has not seen it."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_choice, check_whole
from mechmem.core.in_words import reason
from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.layers.features import Pool, layer_features, layer_point
from mechmem.layers.probe import check_finite
from mechmem.models.reading.forward import check_logits, logits_of
from mechmem.scorecard.readouts.linear_probe import LinearProbe

Quality = Literal["self_confidence", "normalized_margin", "confidence_weighted_entropy"]
Probabilities = Literal["cross_validated", "in_sample"]

METHODS = ("fit", "predict_proba")
"""What a classifier must have."""


@dataclasses.dataclass(frozen=True)
class ConfidentLearning(ExampleScore):
    """Score examples by the quality of their given label, by cleanlab.

    A classifier is fitted to some parts of the training set and says the probabilities of the others: each example's
    are of a classifier that has not seen its label. Only unaugmented examples are fitted, so that views of one image
    are never on both sides. The note counts the label errors that cleanlab's `find_label_issues` finds.

    A layer's activations are in-sample themselves, however: the network was trained on all labels. "inputs" needs no
    network. The network's own probabilities, `probabilities=in_sample`, are those of a classifier that has seen every
    label, which confident learning does not allow for; the note says so.

    Needs cleanlab, installed by `pip install "mechmem[label-errors]"`.

    Attributes:
        quality: "self_confidence", the probability of the given label; "normalized_margin", that minus the largest
            other, from 0 to 1; or "confidence_weighted_entropy", the entropy weighed against the probability.
        point: the layer that is fitted: a hook point; "hidden.2" for the third of the role `hidden`; "inputs" for the
            inputs themselves; by default the last layer of the role `hidden`.
        pool: "mean" averages features of shape (example, channel, …) over all axes after the channels first.
        folds: number of parts, each with its share of every class; as many as the rarest class has examples, if these
            are fewer, and at least two.
        probabilities: "cross_validated", or "in_sample" for those of the network itself.
        seed: seed of the parts.
        estimator: a classifier of your own, with scikit-learn's `fit` and `predict_proba`; by default logistic
            regression on standardised features.
    """

    name: ClassVar[str] = "confident_learning"
    needs: ClassVar[frozenset[str]] = frozenset({"role:hidden"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    cites: ClassVar[str] = "Northcutt, Jiang & Chuang 2021, arXiv 1911.00068"
    higher: ClassVar[str] = "the given label is more likely to be right"
    suspect: ClassVar[Literal["low", "high"]] = "low"

    quality: Quality = "self_confidence"
    point: str = ""
    pool: Pool = "none"
    folds: int = 5
    probabilities: Probabilities = "cross_validated"
    seed: int = 0
    estimator: Any = None

    def __post_init__(self) -> None:
        check_choice("quality of labels", self.quality, get_args(Quality))
        check_choice("pooling", self.pool, get_args(Pool))
        check_whole("folds", self.folds, 2)
        check_choice("probabilities", self.probabilities, get_args(Probabilities))
        check_whole("seed", self.seed, 0)
        lacks = [] if self.estimator is None else [name for name in METHODS if not hasattr(self.estimator, name)]
        if lacks:
            raise ConfigError(f"estimator must be a classifier with {' and '.join(METHODS)}, got {self.estimator!r}")

    def label(self) -> str:
        """The name with its changed settings, a classifier by its class."""
        plain = dataclasses.replace(self, estimator=None) if self.estimator is not None else self
        label = ExampleScore.label(plain)
        if self.estimator is None:
            return label
        own = f"estimator={type(self.estimator).__name__}"
        return f"{label[:-1]},{own})" if label.endswith(")") else f"{label}({own})"

    def wants(self) -> frozenset[str]:
        """The role `hidden`, unless a layer is named or none is fitted."""
        return frozenset() if self.point or self.probabilities == "in_sample" else self.needs

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the qualities.

        Raises:
            MissingNeedError: cleanlab is missing, all labels are of one class or of different ones, or the classifier
                cannot be fitted.
            UnknownNameError: there is no such point.
            ActivationError: the point does not fire.
            NotFiniteError: a logit is NaN or infinite.
        """
        given = subject.task.given(subject.task.sources).numpy()
        if self.probabilities == "in_sample":
            logits = logits_of(subject.model, subject.task, subject.task.sources, subject.roles.output)
            check_logits(logits, subject.task.sources)
            labels, likely = given, logits.double().softmax(1).numpy()
            how = "in-sample probabilities of the network, which was trained on these labels"
        else:
            classes, labels = np.unique(given, return_inverse=True)
            if len(classes) < 2:
                raise MissingNeedError(f"{self.name!r} needs labels of at least two classes")
            likely, how = self._held_out(subject, labels)
        with warnings.catch_warnings():
            # cleanlab warns of classes whose labels it does not dare to call wrong.
            warnings.simplefilter("ignore")
            quality, issues = _by_cleanlab(labels, likely, self.quality)
        return torch.from_numpy(np.ascontiguousarray(quality, dtype=np.float64)), f"{how}; {issues} label errors found"

    def _held_out(
        self, subject: Subject, labels: Int[np.ndarray, " example"]
    ) -> tuple[Float[np.ndarray, "example class"], str]:
        """Return the probabilities of classifiers that have not seen the example, and how they were made."""
        from sklearn.base import clone
        from sklearn.model_selection import StratifiedKFold

        point = layer_point(subject, self.point)
        features = layer_features(subject, point, subject.task.sources, self.pool)
        check_finite(features, repr(point))
        X = features.numpy()
        folds = max(2, min(self.folds, int(np.bincount(labels).min())))
        likely = np.zeros((len(labels), labels.max() + 1))
        try:
            with warnings.catch_warnings():
                # A class of one example is missing where that is held out, which has probability 0 there.
                warnings.filterwarnings("ignore", "The least populated class")
                parts = list(StratifiedKFold(folds, shuffle=True, random_state=self.seed).split(X, labels))
            for train, held_out in parts:
                own: Any = LinearProbe().estimator(len(train)) if self.estimator is None else clone(self.estimator)
                fitted = own.fit(X[train], labels[train])
                likely[np.ix_(held_out, fitted.classes_)] = fitted.predict_proba(X[held_out])
        except ValueError as error:
            raise MissingNeedError(f"{self.name!r} cannot be fitted to {point!r}: {reason(error)}") from error
        return likely, f"{folds} parts of {point}"


def _by_cleanlab(
    labels: Int[np.ndarray, " example"], likely: Float[np.ndarray, "example class"], quality: Quality
) -> tuple[Float[np.ndarray, " example"], int]:
    """Return the quality of each label, and how many are found to be wrong."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise MissingNeedError("'confident_learning' needs cleanlab: pip install \"mechmem[label-errors]\"") from error
    found = get_label_quality_scores(labels, likely, method=quality)
    return found, int(find_label_issues(labels, likely, n_jobs=1).sum())
