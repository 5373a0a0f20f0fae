"""An edit: where in a network, which units, and what is put there."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from mechmem.config import check_choice
from mechmem.errors import ConfigError
from mechmem.interventions.units import Indices, unit_count, unit_mask
from mechmem.interventions.values import Value
from mechmem.neurons import NeuronSet

Each = Literal["each"]

_FIELDS = {"position": "positions", "head": "heads", "channel": "channels", "neuron": "neurons"}


@dataclasses.dataclass(frozen=True, eq=False)
class Edit:
    """What a hook point holds instead, in some of its units; in all of them where none are named.

    Units of several kinds meet: `heads=2, positions=-1` is head 2 at the last position. "each" makes one edit of each
    unit. What is left out is not restricted: neurons of a point (example, position, neuron) are set at all positions.

    Attributes:
        point: name of a hook point whose first axis is examples; `name#i` for firing i of a point that fires often.
        value: "zero"; "mean" over the training examples, per unit and position; "resample", what another training
            example has there, drawn once per example for all edits; a number; or values of the point's own shape, such
            as another run's activations, (example, …) in the order of the ids or one for all examples (…).
        neurons: numbers along the last axis, or a set.
        channels: numbers along the second axis, (example, channel, …), as convolutions have them; or a set.
        heads: numbers along the third of four axes, (example, position, head, dimension); or a set.
        positions: numbers along the second axis, (example, position, …).
        name: how the edit is called; by default after what it does.

    Raises:
        ConfigError: a value that is none of these, or both channels and positions.
        UnknownNameError: the value is misspelt.
    """

    point: str
    value: Value | float | Shaped[Tensor, ...] = "zero"
    neurons: Indices | Each | None = None
    channels: Indices | Each | None = None
    heads: Indices | Each | None = None
    positions: Indices | Each | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Validate."""
        if isinstance(self.value, str):
            check_choice("value of an edit", self.value, get_args(Value))
        elif isinstance(self.value, bool) or not isinstance(self.value, int | float | Tensor):
            allowed = ", ".join(get_args(Value))
            raise ConfigError(f"an edit puts in {allowed}, a number or a tensor, got {type(self.value).__name__}")
        elif not isinstance(self.value, Tensor) and not math.isfinite(self.value):
            raise ConfigError(f"an edit puts in a finite number, got {self.value}")
        if self.channels is not None and self.positions is not None:
            raise ConfigError("channels and positions are both the second axis: a point has one or the other")

    def chosen(self) -> dict[str, Indices | Each]:
        """Return the units that are named, by kind."""
        named = {unit: getattr(self, field) for unit, field in _FIELDS.items()}
        return {unit: which for unit, which in named.items() if which is not None}

    def mask(self, shape: tuple[int, ...]) -> Bool[Tensor, ...]:
        """Return which of one example's values are replaced, in a shape that broadcasts to `shape`.

        Raises:
            ConfigError: the point has no such units.
        """
        found = torch.ones((1,) * len(shape), dtype=torch.bool)
        for unit, which in self.chosen().items():
            found = found & unit_mask(unit, which, shape, self.point)  # type: ignore[arg-type]
        return found

    def one_by_one(self, shape: tuple[int, ...]) -> Iterator[Edit]:
        """Yield this edit, or one for each unit that "each" stands for, positions outermost."""
        several = [unit for unit, which in self.chosen().items() if _is_each(which)]
        counts = [range(unit_count(unit, shape, self.point)) for unit in several]
        for numbers in itertools.product(*counts):
            fields = {_FIELDS[unit]: number for unit, number in zip(several, numbers, strict=True)}
            yield dataclasses.replace(self, **fields) if fields else self

    def label(self) -> str:
        """Return the edit's name, or what it does: "hook_hidden[neuron 3] → zero"."""
        if self.name:
            return self.name
        inside = ", ".join(_in_words(unit, which) for unit, which in self.chosen().items())
        put = "values" if isinstance(self.value, Tensor) else self.value
        return f"{self.point}{f'[{inside}]' if inside else ''} → {put}"


def _is_each(which: object) -> bool:
    return isinstance(which, str) and which == "each"


def _in_words(unit: str, which: Indices | Each) -> str:
    if isinstance(which, int):
        return f"{unit} {which}"
    if isinstance(which, NeuronSet):
        return f"{len(which)} {unit}s"
    numbers = which.flatten().tolist() if isinstance(which, Tensor) else list(which)
    if len(numbers) == 1:
        return f"{unit} {numbers[0]}"
    return f"{unit}s {', '.join(map(str, numbers))}" if len(numbers) <= 4 else f"{len(numbers)} {unit}s"


Together = Edit | tuple[Edit, ...]
"""One intervention: an edit, or several that are made in the same run."""


def spelt_out(
    edits: Edit | Sequence[Together], shapes: Mapping[str, tuple[int, ...]]
) -> list[tuple[str, tuple[Edit, ...]]]:
    """Return every intervention with its name, "each" spelt out.

    Args:
        edits: one edit, or several interventions.
        shapes: what one example has at each of their points.

    Raises:
        ConfigError: "each" among several edits of one run, or no edit.
    """
    found: list[tuple[str, tuple[Edit, ...]]] = []
    for item in (edits,) if isinstance(edits, Edit) else edits:
        if isinstance(item, Edit):
            singles = list(item.one_by_one(shapes[item.point]))
            names = [single.label() for single in singles]
            if len(singles) > 1 and item.name:
                names = [f"{item.name} {number}" for number in range(len(singles))]
            found += [(name, (single,)) for name, single in zip(names, singles, strict=True)]
            continue
        if any(_is_each(which) for edit in item for which in edit.chosen().values()):
            raise ConfigError('"each" makes several edits, and cannot be one of those made together')
        found.append((" and ".join(edit.label() for edit in item), tuple(item)))
    if not found:
        raise ConfigError("no edit to make")
    return found


def points_of(edits: Edit | Sequence[Together]) -> list[str]:
    """Return the points of all edits, once each.

    Raises:
        ConfigError: something among them is neither an edit nor a tuple of edits.
    """
    points: dict[str, None] = {}
    for item in (edits,) if isinstance(edits, Edit) else edits:
        for edit in (item,) if isinstance(item, Edit) else item if isinstance(item, tuple) and item else (None,):
            if not isinstance(edit, Edit):
                raise ConfigError(f"interventions are edits, or tuples of edits made together, got {item!r}")
            points[edit.point] = None
    return list(points)
