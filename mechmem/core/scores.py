"""Scores of neurons and of examples, and sets of neurons."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from numbers import Integral
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.arguments import check_fields
from mechmem.core.config import check_choice, check_fraction, check_whole
from mechmem.core.in_words import shown
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.errors import ScoreError
from mechmem.plotting.bars import histogram

if TYPE_CHECKING:
    import plotly.graph_objects as go


End = Literal["low", "high"]

MOST_NEURONS = 2**24
"""Most neurons of a layer."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class NeuronSet:
    """A set of the neurons of one layer; `&`, `|`, `-` and `~` combine sets of the same layer.

    Attributes:
        mask: whether each neuron belongs to it. Shape (neuron).
        point: the hook point that holds the layer's neurons.
    """

    mask: Bool[Tensor, " neuron"]
    point: str

    def __post_init__(self) -> None:
        """Validate: `~` on integers would be arithmetic."""
        check_fields(self)
        if self.mask.dtype != torch.bool or self.mask.ndim != 1:
            looks = f"{self.mask.dtype} of shape {tuple(self.mask.shape)}"
            raise ScoreError(f"a set of neurons is one truth value per neuron, got {looks}; see NeuronSet.of")

    @classmethod
    def of(cls, neurons: Iterable[int], width: int, point: str) -> NeuronSet:
        """Build a set from neuron numbers.

        Raises:
            ScoreError: a number is not one of 0 … width − 1, or is given twice.
        """
        if isinstance(neurons, str) or not isinstance(neurons, Iterable):
            raise ScoreError(f"neurons are given by number, several of them, got {shown(neurons)}")
        check_whole("width of a layer", width, 1, MOST_NEURONS)
        members = [each.item() if isinstance(each, Tensor) else each for each in neurons]
        for each in members:
            if isinstance(each, bool) or not isinstance(each, Integral):
                raise ScoreError(f"neurons are given by number, got {each!r}; a mask is NeuronSet(mask, point)")
        wrong = next((each for each in members if not 0 <= each < width), None)
        if wrong is not None:
            raise ScoreError(f"neurons are numbered 0 … {width - 1}, got {shown(wrong)}")
        if len(set(members)) < len(members):
            raise ScoreError(f"neurons are given by number, each once, got {shown(members)}; see NeuronSet for a mask")
        mask = torch.zeros(width, dtype=torch.bool)
        mask[torch.tensor(members, dtype=torch.long)] = True
        return cls(mask, point)

    @property
    def neurons(self) -> Int[Tensor, " member"]:
        """The members' numbers, in order."""
        return self.mask.nonzero().flatten()

    def __repr__(self) -> str:
        return f"NeuronSet({len(self)} of {len(self.mask)} neurons of {self.point})"

    def __len__(self) -> int:
        return int(self.mask.sum())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NeuronSet):
            return NotImplemented
        return self.point == other.point and torch.equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.point, tuple(self.neurons.tolist())))

    def __and__(self, other: NeuronSet) -> NeuronSet:
        return self._with(self.mask & self._same(other).mask)

    def __or__(self, other: NeuronSet) -> NeuronSet:
        return self._with(self.mask | self._same(other).mask)

    def __sub__(self, other: NeuronSet) -> NeuronSet:
        return self._with(self.mask & ~self._same(other).mask)

    def __invert__(self) -> NeuronSet:
        return self._with(~self.mask)

    def _with(self, mask: Bool[Tensor, " neuron"]) -> NeuronSet:
        return dataclasses.replace(self, mask=mask)

    def _same(self, other: NeuronSet) -> NeuronSet:
        if not isinstance(other, NeuronSet):
            raise ScoreError(f"a set of neurons goes with another mm.NeuronSet, got {shown(other)}")
        if (other.point, len(other.mask)) != (self.point, len(self.mask)):
            raise ScoreError(
                f"sets of different layers: {self.point} ({len(self.mask)}) and {other.point} ({len(other.mask)})"
            )
        return other


@record
@dataclasses.dataclass(frozen=True, eq=False)
class NeuronScores(Result):
    """One number per neuron of a layer.

    Attributes:
        score: the score's name, with its settings.
        values: the scores, in the network's order; all finite. Shape (neuron).
        point: the hook point that holds the layer's neurons.
        higher: interpretation of a high score.
        note: remarks on the scores, or "".

    Raises:
        ScoreError: a score is not finite.
    """

    score: str
    values: Float[Tensor, " neuron"]
    point: str
    higher: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        _check_numbers(self.score, self.values)
        if self.values.ndim != 1:
            raise ScoreError(f"{self.score!r} must be one value per neuron, got shape {tuple(self.values.shape)}")
        bad = (~torch.isfinite(self.values)).nonzero().flatten()
        if len(bad):
            first = int(bad[0])
            raise ScoreError(
                f"{self.score!r} cannot rank neurons: {len(bad)} of {len(self.values)} scores are not finite "
                f"(neuron {first}: {float(self.values[first])})"
            )

    def order(self, first: End = "low") -> Int[Tensor, " neuron"]:
        """Return all neurons by score, the lowest (or highest) first.

        Ties are ordered by number. The two orders are each other's reverse, so no neuron is at both ends.
        """
        check_choice("end of a ranking", first, ("low", "high"))
        order = torch.argsort(self.values, stable=True)
        return order if first == "low" else order.flip(0)

    def take(self, fraction: float, end: End = "high") -> NeuronSet:
        """Return the set of this share of the neurons with the highest (or lowest) scores.

        Raises:
            ConfigError: the fraction is outside [0, 1].
            ScoreError: the share is less than half a neuron, so the set would be empty.
        """
        check_fraction("fraction of neurons", fraction)
        count = round(fraction * len(self.values))
        if count == 0:
            raise ScoreError(f"a fraction of {fraction} of {len(self.values)} neurons leaves an empty set")
        return NeuronSet.of(self.order(end)[:count].tolist(), len(self.values), self.point)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per neuron: neuron, score."""
        return pd.DataFrame({"neuron": range(len(self.values)), "score": self._plain()})

    def _plain(self) -> Float[np.ndarray, " neuron"]:
        # numpy has no bfloat16, and accepts no tensor that is on a device or requires gradients.
        values = self.values.detach().cpu()
        return values.to(torch.promote_types(values.dtype, torch.float32)).numpy()

    def plot(self) -> go.Figure:
        """Return a histogram."""
        return histogram({self.score: self._plain()}, x_title=self.score)


def _check_numbers(score: str, values: Tensor) -> None:
    if values.is_complex() or values.dtype == torch.bool or values.device.type == "meta":
        seen = "tensors without numbers (meta device)" if values.device.type == "meta" else str(values.dtype)
        raise ScoreError(f"{score!r} must be real numbers, got {seen}")


def with_unit(score: str, unit: str) -> str:
    """Return the axis title of a score's values."""
    return f"{score} ({unit})" if unit else score


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ExampleScores(Result):
    """One number per training example.

    Attributes:
        score: the score's name, with its settings.
        ids: the examples. Shape (example).
        values: the scores; infinite if the event never occurred. Shape (example).
        higher: interpretation of a high score.
        suspect: the end at which wrong labels are expected, "high" or "low", fixed in advance.
        unit: unit of the values, or "".
        note: remarks on the scores, or "".

    Raises:
        ScoreError: a score is not a number, or the number of scores is not that of the examples.
    """

    score: str
    ids: Int[Tensor, " example"]
    values: Float[Tensor, " example"]
    higher: str = ""
    suspect: End = "high"
    unit: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        _check_numbers(self.score, self.values)
        if self.ids.is_floating_point() or self.ids.is_complex() or self.ids.dtype == torch.bool:
            raise ScoreError(f"the ids of {self.score!r} must be whole numbers, got {self.ids.dtype}")
        check_choice("suspect end", self.suspect, ("low", "high"))
        if len(self.ids.unique()) != len(self.ids):
            raise ScoreError(f"{self.score!r} has two scores for one example")
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
        """The values with their sign chosen so that high ones are suspect."""
        return self.values.double() if self.suspect == "high" else -self.values.double()

    def most(self, count: int, end: End | None = None) -> Int[Tensor, " chosen"]:
        """Return the ids of a number of examples at one end, the most extreme first; ties keep the order of the ids.

        Args:
            count: number of examples; all if there are fewer.
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
