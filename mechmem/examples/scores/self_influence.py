"""Influence of a training example on the prediction for itself."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.examples.influence import check_isolated
from mechmem.models.networks.masks import Part
from mechmem.models.networks.subnetworks import subnetwork
from mechmem.models.reading.forward import logits_of


@dataclasses.dataclass(frozen=True)
class SelfInfluence(ExampleScore):
    """Score examples by their influence on themselves: the loss without the units they trained, minus that with them.

    I(z, z) = L(f^{1−m(z)}, z) − L(f^{m(z)}, z), the memorization of z, in a network with turn-over dropout. Averaging
    over networks with other mask seeds makes it less noisy: pass them all to `example_scores`.

    Attributes:
        accept_leaks: measure although examples affect units outside their mask (see `isolation`).
    """

    name: ClassVar[str] = "self_influence"
    needs: ClassVar[frozenset[str]] = frozenset({"turn_over"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    cites: ClassVar[str] = "Liu, Lin & Jaggi 2021, arXiv 2112.08798; Kobayashi et al. 2020, arXiv 2012.04207"
    higher: ClassVar[str] = "the example is memorized"
    unit: ClassVar[str] = "nats"

    accept_leaks: bool = False

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the self-influences.

        Raises:
            MissingNeedError: the network has no turn-over dropout.
            LeakError: the network is not isolated, and `accept_leaks` is false.
        """
        notes = check_isolated(subject, accept_leaks=self.accept_leaks)
        return _losses(subject, "flipped") - _losses(subject, "own"), "; ".join(notes)


def _losses(subject: Subject, part: Part) -> Float[Tensor, " example"]:
    task = subject.task
    with subnetwork(subject.model, part):
        logits = logits_of(subject.model, task, task.sources, subject.roles.output)
    return F.cross_entropy(logits.double(), task.given(task.sources), reduction="none")
