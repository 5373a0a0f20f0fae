"""Suspect labels as a table for people and other tools."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.arguments import checked
from mechmem.core.config import check_whole
from mechmem.core.plugins import named
from mechmem.core.results import Result
from mechmem.core.scores import with_unit
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.examples.table import example_scores
from mechmem.layers.features import INPUTS, Pool, layer_features, layer_point
from mechmem.layers.probe import check_finite
from mechmem.plotting.bars import histogram

if TYPE_CHECKING:
    import plotly.graph_objects as go


@record
@dataclasses.dataclass(frozen=True, eq=False)
class LabelIssues(Result):
    """Training labels from the most to the least suspect, each with a suggestion.

    Attributes:
        ids: the training examples, the most suspect first. Shape (example).
        names: their own names, where the data name them.
        given: the given labels. Shape (example).
        suggested: for each the class that most of its neighbours have; the given label where they agree with it. Shape
            (example).
        votes: share of the neighbours that have it. Shape (example).
        values: the score. Shape (example).
        suspect: which labels are called suspect. Shape (example).
        score: the score's name.
        unit: its unit.
        class_names: the classes' names in their order, where the data name them.
        note: how many are called suspect and why, and what the suggestions come from.
    """

    ids: Int[Tensor, " example"]
    names: tuple[str, ...] | None
    given: Int[Tensor, " example"]
    suggested: Int[Tensor, " example"]
    votes: Float[Tensor, " example"]
    values: Float[Tensor, " example"]
    suspect: Bool[Tensor, " example"]
    score: str
    unit: str
    class_names: tuple[str, ...] | None
    note: str

    def to_frame(self) -> pd.DataFrame:
        """Return one row per training example, the most suspect first: id, given, suggested, votes, score, suspect.

        Ids and classes are the data's own names, where they have some.
        """
        named = {"given": self._named(self.given), "suggested": self._named(self.suggested)}
        numbers = {"votes": self.votes.numpy(), "score": self.values.numpy(), "suspect": self.suspect.numpy()}
        return pd.DataFrame({"id": self.ids.numpy() if self.names is None else list(self.names), **named, **numbers})

    def to_cleanlab(self) -> pd.DataFrame:
        """Return the table as cleanlab's `get_label_issues` has it, a row per example in the order of the ids.

        Columns is_label_issue, label_quality, given_label, predicted_label. The quality is the share of the examples
        that are at least as suspect, from nearly 0 for the most suspect one to 1.
        """
        n = len(self.ids)
        frame = pd.DataFrame(
            {
                "is_label_issue": self.suspect.numpy(),
                "label_quality": (np.arange(n) + 1) / n,
                "given_label": self._named(self.given),
                "predicted_label": self._named(self.suggested),
            },
            index=pd.Index(self.to_frame()["id"], name="id"),
        )
        return frame.iloc[np.argsort(self.ids.numpy(), kind="stable")]

    def to_dataset(self) -> Any:
        """Return the table as a `datasets.Dataset` of HuggingFace.

        Raises:
            MissingNeedError: `datasets` is not installed.
        """
        try:
            from datasets import Dataset
        except ImportError as error:
            raise MissingNeedError("this needs datasets: pip install 'mechmem[images]'") from error
        return Dataset.from_pandas(self.to_frame(), preserve_index=False)

    def plot(self) -> go.Figure:
        """Return the distribution of the score, of suspect labels and of the others."""
        values, suspect = self.values.numpy(), self.suspect.numpy()
        parts = {"suspect": values[suspect], "the others": values[~suspect]}
        return histogram(parts, x_title=with_unit(self.score, self.unit), y_title="training examples")

    def _named(self, labels: Int[Tensor, " example"]) -> Any:
        return labels.numpy() if self.class_names is None else [self.class_names[label] for label in labels.tolist()]


@checked
def label_issues(
    subject: Subject,
    score: str = "loss",
    *,
    count: int | None = None,
    point: str = "",
    pool: Pool = "none",
    neighbours: int = 20,
) -> LabelIssues:
    """Order training labels from the most to the least suspect, and suggest others.

        issues = mm.label_issues(network, "learning_speed")
        issues.export("issues.parquet")
        mm.write_review(issues, network.task, "review.html")

    The score orders the labels. A suggestion is the class that most of an example's nearest neighbours among the other
    training examples have, by their given labels and the distance of their features; of classes with equally many
    votes, that of the nearest.

    Args:
        subject: the network and its task.
        score: a score of examples by name (see `example_scores`).
        count: number of labels that are called suspect; by default as many as there are labels that differ from their
            suggestion. They are the first in the order of the score.
        point: the layer whose features are compared: a hook point, "hidden.2" for the third of the role `hidden`, or
            "inputs"; by default the last layer of the role `hidden`, and the inputs of a network without that role.
        pool: "mean" averages features of shape (example, channel, …) over all axes after the channels first.
        neighbours: number of neighbours that vote; fewer if there are fewer.

    Raises:
        UnknownNameError: there is no such score or point.
        ScoreError: the score could not be computed.
        MissingNeedError: a layer holds NaN or infinity, or there is a single training example, without neighbours.
    """
    if count is not None:
        check_whole("count", count, 0)
    check_whole("neighbours", neighbours, 1)
    if len(subject.task.sources) < 2:
        raise MissingNeedError("label_issues compares each training example with others, and the task has only one")
    table = example_scores(subject, score)
    found = table[named("example_scores", score).label()]
    task, ids = subject.task, table.ids
    where = INPUTS if not point and not subject.roles.hidden else layer_point(subject, point)
    suggested, votes = _neighbours(subject, where, pool, min(neighbours, len(ids) - 1), table.given)
    differ = int((suggested != table.given).sum())
    order = torch.argsort(found.suspicion, descending=True, stable=True)
    chosen = differ if count is None else min(count, len(ids))
    why = f"{differ} labels differ from what most of {min(neighbours, len(ids) - 1)} neighbours at {where} have"
    why += "" if count is None else f"; {chosen} are called suspect as asked"
    names = None
    if task.example_names is not None:
        names = tuple(task.example_names[row] for row in task.rows(ids[order]).tolist())
    return LabelIssues(
        ids=ids[order],
        names=names,
        given=table.given[order],
        suggested=suggested[order],
        votes=votes[order],
        values=found.values[order].double(),
        suspect=torch.arange(len(ids)) < chosen,
        score=found.score,
        unit=found.unit,
        class_names=task.class_names,
        note="; ".join(filter(None, (why, found.note))),
    )


def _neighbours(
    subject: Subject, point: str, pool: Pool, k: int, given: Int[Tensor, " example"]
) -> tuple[Int[Tensor, " example"], Float[Tensor, " example"]]:
    """Return the class with most votes among each example's neighbours, without itself, and its share of them."""
    from sklearn.neighbors import NearestNeighbors

    features = layer_features(subject, point, subject.task.sources, pool)
    check_finite(features, repr(point))
    # Without an argument, an example is not its own neighbour.
    near = NearestNeighbors(n_neighbors=k).fit(features.numpy()).kneighbors(return_distance=False)
    labels = given[torch.from_numpy(near)]
    votes = torch.zeros(len(labels), subject.task.n_classes)
    votes.scatter_add_(1, labels, torch.ones(labels.shape))
    most = votes.max(1).values
    # The first neighbour whose class has as many votes as any.
    first = (votes.gather(1, labels) == most[:, None]).int().argmax(1)
    return labels.gather(1, first[:, None])[:, 0], (most / k).double()
