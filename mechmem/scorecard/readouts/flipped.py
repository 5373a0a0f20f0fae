"""Predictions of flipped subnetworks, which have not been trained on the example."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.plugins import Readout
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor
from mechmem.models.networks.subnetworks import subnetwork
from mechmem.models.reading.forward import logits_of


@dataclasses.dataclass(frozen=True)
class Flipped(Readout):
    """Predict each training example by its flipped subnetwork, and each test example by several of unused ids.

    A test example has no mask of its own. Its prediction is the mean of the probabilities of `samples` subnetworks,
    flipped under ids that no example has: an ensemble, whereas a training example is predicted by one subnetwork. With
    samples=1 the two are alike.

    Attributes:
        samples: number of subnetworks for a test example.
    """

    name: ClassVar[str] = "flipped"
    needs: ClassVar[frozenset[str]] = frozenset({"turn_over"})
    cites: ClassVar[str] = "Kobayashi et al. 2020, arXiv 2012.04207"

    samples: int = 8

    def __post_init__(self) -> None:
        check_whole("number of subnetworks", self.samples, 1)

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor, which returns log probabilities.

        Raises:
            MissingNeedError: the network has no turn-over dropout.
        """
        self.require(subject)
        task = subject.task

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            trained = torch.isin(task.source(ids), task.sources)
            found = torch.zeros(len(ids), task.n_classes, dtype=torch.float64)
            if trained.any():
                with subnetwork(subject.model, "flipped"):
                    own = logits_of(subject.model, task, ids[trained], subject.roles.output)
                found[trained] = own.double().softmax(1)
            if not trained.all():
                found[~trained] = self._averaged(subject, ids[~trained])
            return found.log()

        return predict

    def _averaged(self, subject: Subject, ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
        unused = int(subject.task.ids.max()) + 1
        total = torch.zeros(len(ids), subject.task.n_classes, dtype=torch.float64)
        for sample in range(self.samples):
            with subnetwork(subject.model, "flipped", unused + sample):
                logits = logits_of(subject.model, subject.task, ids, subject.roles.output)
            total += logits.double().softmax(1)
        return total / self.samples
