"""Training examples by id: scores that rank them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.config import check_choice, check_whole
from mechmem.errors import ScoreError
from mechmem.plotting.histograms import histogram
from mechmem.results import Result
from mechmem.storage import record

if TYPE_CHECKING:
    import plotly.graph_objects as go

End = Literal["low", "high"]


def with_unit(score: str, unit: str) -> str:
    """Return what an axis of a score's values is called."""
    return f"{score} ({unit})" if unit else score


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ExampleScores(Result):
    """One number per training example.

    Attributes:
        score: the score's name, with its settings.
        ids: the examples. Shape (example).
        values: the scores; infinite where what is counted never came. Shape (example).
        higher: what a high score is taken to mean.
        suspect: the end at which wrong labels are looked for, "high" or "low", whatever the labels show.
        unit: what the values are measured in, or "".
        note: what should be known about them, or "".

    Raises:
        ScoreError: a score is not a number, or there is not one per example.
    """

    score: str
    ids: Int[Tensor, " example"]
    values: Float[Tensor, " example"]
    higher: str = ""
    suspect: End = "high"
    unit: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        """Validate."""
        check_choice("suspect end", self.suspect, ("low", "high"))
        if self.values.shape != self.ids.shape or self.ids.ndim != 1:
            raise ScoreError(
                f"{self.score!r} has {tuple(self.values.shape)} values for {tuple(self.ids.shape)} examples"
            )
        bad = torch.isnan(self.values).nonzero().flatten()
        if len(bad):
            raise ScoreError(
                f"{self.score!r} cannot rank examples: {len(bad)} of {len(self.ids)} scores are not numbers "
                f"(example {int(self.ids[bad[0]])})"
            )

    @property
    def suspicion(self) -> Float[Tensor, " example"]:
        """The values turned so that high ones are suspect."""
        return self.values.double() if self.suspect == "high" else -self.values.double()

    def most(self, count: int, end: End | None = None) -> Int[Tensor, " chosen"]:
        """Return the ids of this many examples at one end, the extreme first; ties go in the order of the ids.

        Args:
            count: how many; all, where there are fewer.
            end: "high" or "low"; by default the suspect end.
        """
        check_whole("number of examples", count, 1)
        check_choice("end of a ranking", end or self.suspect, ("low", "high"))
        order = torch.argsort(self.values, stable=True, descending=(end or self.suspect) == "high")
        return self.ids[order[:count]]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per example: id, score."""
        return pd.DataFrame({"id": self.ids.numpy(), "score": self._plain()})

    def _plain(self) -> Float[np.ndarray, " example"]:
        return self.values.double().numpy()

    def plot(self) -> go.Figure:
        """Return a histogram; examples with an infinite score are left out."""
        title = with_unit(self.score, self.unit)
        return histogram({self.score: self._plain()}, x_title=title, y_title="training examples")
