"""Edits: other values at a site of a network."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from mechmem.core.config import check_choice
from mechmem.core.in_words import shown
from mechmem.errors import ConfigError
from mechmem.interventions.layouts import Layout
from mechmem.interventions.units import Indices, Site, label, numbers_of, site_of, unit_mask
from mechmem.interventions.values import Value, as_tensor

Each = Literal["each"]

_FIELDS = {"position": "positions", "head": "heads", "channel": "channels", "neuron": "neurons"}


@dataclasses.dataclass(frozen=True, eq=False)
class Edit:
    """Replacement values for a hook point, or for some of its units.

    Units of several kinds are intersected: `heads=2, positions=-1` is head 2 at the last position. "each" makes one
    edit per unit. Kinds not given are unrestricted: neurons of a point (example, position, neuron) are replaced at all
    positions.

    Units are given by a number, several numbers, a slice, one truth value per unit, or a set. At a point with four axes
    outside attention it is not known which axis holds neurons, heads or positions, so these are refused; channels are
    always allowed (see `mechmem.interventions.layouts`).

    Attributes:
        point: name of a hook point whose first axis is examples, `name#i` for firing i of a point that fires several
            times; or a pattern such as "blocks.*.attn.hook_z", which makes one edit at each matching point.
        value: "zero"; "mean" over the training examples, per unit and position; "resample", the values of another
            training example, drawn once per example for all edits; a number; or values of the point's own shape, such
            as activations from another pass, (example, …) in the order of the call's ids or one for all examples (…).
        neurons: units on the last axis.
        channels: units on the second axis, (example, channel, …), as in convolutions.
        heads: units on the third of four axes, (example, position, head, dimension).
        positions: units on the second axis, (example, position, …).
        name: name of the edit; by default a description.

    Raises:
        ConfigError: another kind of value, units given in another way, or both channels and positions.
        UnknownNameError: the value is misspelt.
    """

    point: str
    value: Value | float | Shaped[Tensor | np.ndarray, ...] = "zero"
    neurons: Indices | Each | None = None
    channels: Indices | Each | None = None
    heads: Indices | Each | None = None
    positions: Indices | Each | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.point, str):
            raise ConfigError(f"an edit is at one hook point or pattern, got {self.point!r}")
        if not isinstance(self.name, str):
            raise ConfigError(f"the name of an edit must be a string, got {shown(self.name)}")
        if isinstance(self.value, str):
            check_choice("value of an edit", self.value, get_args(Value))
        elif isinstance(self.value, Tensor | np.ndarray):
            _check_values(self.value)
        elif isinstance(self.value, bool) or not isinstance(self.value, int | float | np.number):
            allowed = ", ".join(get_args(Value))
            raise ConfigError(f"an edit's value is {allowed}, a number or a tensor, got {type(self.value).__name__}")
        elif not abs(self.value) <= sys.float_info.max:
            raise ConfigError(f"the value of an edit must be finite, got {shown(self.value)}")
        if self.channels is not None and self.positions is not None:
            raise ConfigError("channels and positions are both the second axis: a point has one or the other")
        for unit, which in self.chosen().items():
            if not _is_each(which) and not isinstance(which, slice):
                numbers_of(unit, which)  # type: ignore[arg-type]

    def chosen(self) -> dict[str, Indices | Each]:
        """Return the given units by kind."""
        named = {unit: getattr(self, field) for unit, field in _FIELDS.items()}
        return {unit: which for unit, which in named.items() if which is not None}

    def mask(self, layout: Layout) -> Bool[Tensor, ...]:
        """Return a mask of the replaced elements of one example's value, in a shape that broadcasts to it.

        Raises:
            ConfigError: the point has no such units.
        """
        found = torch.ones((1,) * len(layout.shape), dtype=torch.bool)
        for unit, which in self.chosen().items():
            found = found & unit_mask(unit, which, layout)  # type: ignore[arg-type]
        return found

    def site(self, layout: Layout) -> Site:
        """Return the edit's site."""
        return site_of(layout, self.chosen())  # type: ignore[arg-type]

    def one_by_one(self, layout: Layout) -> Iterator[Edit]:
        """Yield this edit at a point, or one per unit if units are "each", positions outermost."""
        several = [unit for unit, which in self.chosen().items() if _is_each(which)]
        for numbers in itertools.product(*(range(layout.count(unit)) for unit in several)):
            fields = {_FIELDS[unit]: number for unit, number in zip(several, numbers, strict=True)}
            yield dataclasses.replace(self, point=layout.point, **fields)

    def label(self) -> str:
        """Return the edit's name, or a description: "hook_hidden[neuron 3] → zero"."""
        if self.name:
            return self.name
        put = "values" if isinstance(self.value, Tensor | np.ndarray) else self.value
        return f"{label(self.point, self.chosen())} → {put}"


def _is_each(which: object) -> bool:
    return isinstance(which, str) and which == "each"


def _check_values(value: Tensor | np.ndarray) -> None:
    if isinstance(value, Tensor) and value.device.type == "meta":
        raise ConfigError("the values of an edit are on the meta device, where tensors hold no numbers")
    if value.dtype.is_complex if isinstance(value, Tensor) else value.dtype.kind == "c":
        raise ConfigError(f"the values of an edit must be real numbers, got {value.dtype}")
    try:
        finite = bool(torch.isfinite(as_tensor(value)).all())
    except TypeError as error:
        raise ConfigError(f"the values of an edit must be numbers, got an array of {value.dtype}") from error
    if not finite:
        raise ConfigError("the values of an edit must be finite, and some are not")


Together = Edit | tuple[Edit, ...]
"""One intervention: an edit, or several made in the same pass."""


def spelt_out(
    edits: Edit | Sequence[Together], layouts: Mapping[str, Sequence[Layout]]
) -> list[tuple[str, tuple[Edit, ...]]]:
    """Return every intervention with its name, with patterns and "each" expanded.

    Args:
        edits: one edit, or several interventions.
        layouts: the points that match each name or pattern.

    Raises:
        ConfigError: "each" or a pattern with several points is among the edits of one intervention.
    """
    found: list[tuple[str, tuple[Edit, ...]]] = []
    for item in (edits,) if isinstance(edits, Edit) else edits:
        if isinstance(item, Edit):
            singles = [single for layout in layouts[item.point] for single in item.one_by_one(layout)]
            names = [single.label() for single in singles]
            if len(singles) > 1 and item.name:
                names = [f"{item.name} {number}" for number in range(len(singles))]
            found += [(name, (single,)) for name, single in zip(names, singles, strict=True)]
            continue
        for edit in item:
            if len(layouts[edit.point]) > 1 or any(map(_is_each, edit.chosen().values())):
                made = f"the pattern {edit.point!r}" if len(layouts[edit.point]) > 1 else '"each"'
                raise ConfigError(f"{made} makes several edits, so it cannot be one of several made together")
        together = tuple(dataclasses.replace(edit, point=layouts[edit.point][0].point) for edit in item)
        found.append((" and ".join(edit.label() for edit in together), together))
    return found


def points_of(edits: Edit | Sequence[Together]) -> list[str]:
    """Return the points and patterns of all edits, once each.

    Raises:
        ConfigError: there is no edit, or an intervention is neither an edit nor a tuple of edits.
    """
    points: dict[str, None] = {}
    for item in (edits,) if isinstance(edits, Edit) else edits:
        for edit in (item,) if isinstance(item, Edit) else item if isinstance(item, tuple) and item else (None,):
            if not isinstance(edit, Edit):
                raise ConfigError(f"interventions are edits, or tuples of edits made together, got {shown(item)}")
            points[edit.point] = None
    if not points:
        raise ConfigError("edits hold no edit to make")
    return list(points)
