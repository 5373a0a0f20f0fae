"""Readout weights replaced by the first principal component of each class."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, get_args

import torch

from mechmem.core.config import check_choice
from mechmem.core.plugins import Surgery
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.layers.probe import Labels, probe_labels
from mechmem.models.reading.linear_readout import linear_readout

_TOLD = {"given": frozenset({"given_labels"}), "true": frozenset({"true_train_labels"})}


@dataclasses.dataclass(frozen=True)
class VelpicReadout(Surgery):
    """Replace the readout's weights by VeLPIC's class vectors of its inputs, and its bias by 0.

    A class's vector is the first uncentred principal component of the last hidden layer over its training examples,
    with length 1: the network's own forward pass then makes the predictions of the probe `velpic` at that layer. With a
    projector the readout is the projector's last matrix. A class without training examples has a vector of zeros, and
    is predicted if every other class scores below 0 (the probe never predicts it).

    Attributes:
        labels: labels of the training examples that define the classes, "given" or "true".
    """

    name: ClassVar[str] = "velpic_readout"
    needs: ClassVar[frozenset[str]] = frozenset({"role:hidden", "role:readout"})
    cites: ClassVar[str] = "Ketha & Ramaswamy 2025, arXiv 2501.14687"

    labels: Labels = "given"

    def __post_init__(self) -> None:
        check_choice("labels of the classes", self.labels, get_args(Labels))

    def told(self) -> frozenset[str]:
        """The labels of the training examples."""
        return self.knows | _TOLD[self.labels]

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with another readout in a copy of its model.

        Raises:
            MissingNeedError: a role is missing; the true labels are asked for but not known; or the readout's inputs
                are not finite.
            NotLinearError: the logits are not the last hidden layer times the readout, plus its bias.
            RoleError: a role does not fit the model.
        """
        from mechmem.layers.classifiers.class_means import PrincipalDirections

        self.require(subject)
        task, roles = subject.task, subject.roles
        assert roles.readout is not None
        labels = probe_labels(task, self.labels)
        hidden = linear_readout(subject).hidden[task.rows(task.sources)]
        try:
            fitted = PrincipalDirections().fit(hidden.numpy(), labels.numpy())
        except ValueError as error:
            raise MissingNeedError(f"{self.name!r} finds no component of the readout's inputs: {error}") from error
        weights = torch.zeros(hidden.shape[1], task.n_classes, dtype=torch.float64)
        weights[:, torch.as_tensor(fitted.classes_)] = torch.from_numpy(fitted.directions_.T)
        model = subject.copy_model()
        roles.readout.write(model, weights)
        if roles.bias is not None:
            roles.bias.write(model, torch.zeros(task.n_classes))
        return subject.with_model(model)
