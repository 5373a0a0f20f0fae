"""Training examples that help and harm the prediction on one example most."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.ids import check_ids
from mechmem.core.inputs import one_tensor
from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.examples.influence import Influence, influence
from mechmem.plotting.gallery import Picture, gallery, training_picture

if TYPE_CHECKING:
    import plotly.graph_objects as go


@record
@dataclasses.dataclass(frozen=True, eq=False)
class InfluentialExamplesResult(Result):
    """The influence of every training example on one target, with pictures of the extremes.

    Attributes:
        influence: on this one target.
        true: true labels of the training examples, −1 where not known. Shape (source).
        shown: ids of the target, then of the most helpful, then of the most harmful examples. Shape (shown).
        pixels: their images. Shape (shown, channel, row, column).
    """

    influence: Influence
    true: Int[Tensor, " source"]
    shown: Int[Tensor, " shown"]
    pixels: Float[Tensor, "shown channel row column"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per training example: target, source, influence (nats), error, same_label."""
        return self.influence.to_frame()

    def plot(self) -> go.Figure:
        """Return the target, and the examples that help and harm it most."""
        ends = (len(self.shown) - 1) // 2
        pictures = [self._picture(number) for number in range(len(self.shown))]
        rows = {"target": pictures[:1], "helps most": pictures[1 : 1 + ends], "harms most": pictures[1 + ends :]}
        return gallery(rows)

    def _picture(self, number: int) -> Picture:
        found, pixels = self.influence, self.pixels[number].numpy()
        if number == 0:
            return Picture(pixels, f"label {int(found.target_labels[0])}")
        column = int((found.sources == self.shown[number]).nonzero()[0])
        given, true = int(found.source_labels[column]), int(self.true[column])
        return training_picture(pixels, given, true, f"{float(found.values[0, column]):+.3g} nats")


@dataclasses.dataclass(frozen=True)
class InfluentialExamples(Analysis):
    """Show the training images that help the prediction on an example most, and those that harm it most.

    Influence is the loss of the subnetwork not trained on a training example, minus that of the subnetwork trained on
    it.

    Attributes:
        target: id of the example; by default the first of the test set.
        count: number of images at each extreme.
        accept_leaks: measure although examples affect units outside their mask (see `isolation`).
    """

    name: ClassVar[str] = "influential_examples"
    needs: ClassVar[frozenset[str]] = frozenset({"turn_over"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "test_labels"})
    cites: ClassVar[str] = "Kobayashi et al. 2020, arXiv 2012.04207"

    target: int = -1
    count: int = 5
    accept_leaks: bool = False

    def __post_init__(self) -> None:
        check_whole("target", self.target, -1)
        check_whole("number of examples", self.count, 1)

    def __call__(self, subject: Subject) -> InfluentialExamplesResult:
        """Return the influence.

        Raises:
            MissingNeedError: the network has no turn-over dropout, or the inputs are not images.
            LeakError: the network is not isolated, and `accept_leaks` is false.
            UnknownNameError: there is no such example.
        """
        self.require(subject)
        task = subject.task
        if len(getattr(task, "shape", ())) != 3:
            raise MissingNeedError(f"{self.name!r} shows images, but this task's inputs are not images")
        target = check_ids(task, task.test_ids[:1] if self.target < 0 else [self.target], "target")
        found = influence(subject, targets=target, accept_leaks=self.accept_leaks)
        count, place = min(self.count, len(found.sources) // 2), int(target)
        shown = torch.cat([target, found.helpful(place, count), found.harmful(place, count)])
        truth = task.true(found.sources)
        known = torch.full_like(found.sources, -1) if truth is None else truth
        return InfluentialExamplesResult(found, known, shown, one_tensor(task.batch(shown)[0], self.name))
