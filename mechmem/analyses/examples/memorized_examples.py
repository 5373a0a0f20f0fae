"""Training examples that the network memorizes most, as pictures or on the grid of input pairs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.inputs import one_tensor
from mechmem.core.plugins import Analysis, named
from mechmem.core.results import Result
from mechmem.core.scores import with_unit
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.examples.detection import below_chance
from mechmem.examples.table import ExampleTable, example_scores
from mechmem.plotting.gallery import Picture, gallery, training_picture

if TYPE_CHECKING:
    import plotly.graph_objects as go


@record
@dataclasses.dataclass(frozen=True, eq=False)
class MemorizedExamplesResult(Result):
    """A score of every training example, and the most and least suspect examples.

    Attributes:
        table: the score and the loss.
        score: the score's name.
        most: ids of the most suspect examples, the most extreme first. Shape (shown).
        least: ids of the least suspect examples. Shape (shown).
        pixels: if inputs are images, those of `most` and of `least`. Shape (2, shown, channel, row, column).
        note: why another score was used, or what is missing; or "".
    """

    table: ExampleTable
    score: str
    most: Tensor
    least: Tensor
    pixels: Float[Tensor, "end shown channel row column"] | None
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per training example: id, split, given, true, loss, and the score."""
        return self.table.to_frame()

    def plot(self) -> go.Figure:
        """Return the most and the least suspect images; if inputs are pairs, the score on their grid."""
        if self.pixels is None:
            return self.table.grid(self.score)
        most, least = self.pixels
        by = f"by {with_unit(self.score, self.table[self.score].unit)}"
        by += "<br>(below chance, see the note)" if below_chance(self.table, self.score) else ""
        return gallery(
            {
                f"most suspect {by}": self._pictures(self.most, most),
                f"least suspect {by}": self._pictures(self.least, least),
            }
        )

    def _pictures(self, ids: Int[Tensor, " shown"], pixels: Float[Tensor, "shown channel row column"]) -> list[Picture]:
        chosen = self.table.to_frame().set_index("id").loc[ids.tolist()]
        columns = (chosen["given"], chosen["true"], chosen[self.score])
        return [
            training_picture(image, int(given), int(true), f"{value:.3g}")
            for image, given, true, value in zip(pixels.numpy(), *columns, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class MemorizedExamples(Analysis):
    """Show the most and the least suspect training examples by a score of memorization.

    The loss is high on examples that were learned last or not at all; self-influence on memorized examples.

    Attributes:
        score: name of a score of examples; by default "self_influence" if the network has turn-over dropout and is
            isolated, and otherwise "loss".
        count: number of examples at each extreme.
    """

    name: ClassVar[str] = "memorized_examples"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels"})
    cites: ClassVar[str] = "Liu, Lin & Jaggi 2021, arXiv 2112.08798"

    score: str = ""
    count: int = 9

    def __post_init__(self) -> None:
        check_whole("number of examples", self.count, 1)
        if self.score:
            named("example_scores", self.score)

    def __call__(self, subject: Subject) -> MemorizedExamplesResult:
        """Return the examples.

        Raises:
            MissingNeedError: the inputs are neither images nor pairs, or the subject lacks what the score needs.
            ScoreError: the score could not be computed.
        """
        self.require(subject)
        task = subject.task
        images = len(getattr(task, "shape", ())) == 3
        if not images and task.operands is None:
            raise MissingNeedError(f"{self.name!r} shows images or pairs of symbols, but this task has neither")
        asked = self.score or "self_influence"
        table, note = example_scores(subject, asked), ""
        if not self.score and asked in table.reasons:
            asked, note = "loss", f"by the loss: self-influence could not be computed ({table.reasons[asked]})"
            table = example_scores(subject, asked)
        found = table[named("example_scores", asked).label()]
        other = "low" if found.suspect == "high" else "high"
        ends = found.most(self.count), found.most(self.count, other)
        pixels = torch.stack([one_tensor(task.batch(ids)[0], self.name) for ids in ends]) if images else None
        note = "; ".join(filter(None, (note, below_chance(table, found.score), found.note)))
        return MemorizedExamplesResult(table, found.score, *ends, pixels, note)
