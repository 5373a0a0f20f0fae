"""Base class of tables of scores: several scores of the same neurons or examples, by name."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechmem.core.plugins import Plugin
from mechmem.core.renamed import current_label
from mechmem.core.results import Result
from mechmem.core.scores import ExampleScores, NeuronScores
from mechmem.core.stats import rank_correlations
from mechmem.errors import MechmemError, ScoreError, unknown_name
from mechmem.plotting.matrices import signed_matrix

if TYPE_CHECKING:
    import plotly.graph_objects as go

Scores = TypeVar("Scores", NeuronScores, ExampleScores)
P = TypeVar("P", bound=Plugin)
R = TypeVar("R")


class TableOfScores(Result, abc.ABC, Generic[Scores]):
    """Base class of tables of scores; a final class has a field `reasons`: why a score is missing, by name."""

    # Not a field of this class, which is not a dataclass: each final class keeps its own order of fields.
    reasons: Any

    @abc.abstractmethod
    def _scores(self) -> Mapping[str, Scores]:
        """Return the scores by name, in the table's order."""

    @abc.abstractmethod
    def _units(self) -> pd.DataFrame:
        """Return the columns that identify each row: a neuron or an example."""

    @abc.abstractmethod
    def _ranked(self, scores: Scores) -> Float[np.ndarray, " unit"]:
        """Return the finite values to rank."""

    def __getitem__(self, name: str) -> Scores:
        """Return one score by name.

        Raises:
            ScoreError: it could not be computed.
            UnknownNameError: it was not asked for.
        """
        found = self._scores()
        name = current_label(name, {*found, *self.reasons})
        if name in self.reasons:
            raise ScoreError(f"{name!r} could not be computed: {self.reasons[name]}")
        if name not in found:
            raise unknown_name("score in this table", name, found)
        return found[name]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per neuron or example: the columns that identify it, then one column per score."""
        return self._units().assign(**{name: each.values.numpy() for name, each in self._scores().items()})

    def plot(self) -> go.Figure:
        """Return a figure of the matrix of Spearman's rank correlations; a constant score is blank."""
        found = self._scores()
        matrix = rank_correlations(np.stack([self._ranked(each) for each in found.values()]))
        return signed_matrix(matrix, tuple(found), z_title="Spearman's rank correlation")


def computed(scores: Sequence[P], compute: Callable[[P], R]) -> tuple[dict[str, R], dict[str, str]]:
    """Compute every score that is possible; return the results and the reasons for missing ones, each by label."""
    found: dict[str, R] = {}
    reasons: dict[str, str] = {}
    for each in scores:
        try:
            found[each.label()] = compute(each)
        except MechmemError as error:
            reasons[each.label()] = str(error)
    return found, reasons
