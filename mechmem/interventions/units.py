"""Units of a hook point, by number and by name: neurons, channels, attention heads, positions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.in_words import said, shown
from mechmem.core.scores import NeuronSet
from mechmem.core.tables import Table
from mechmem.errors import ConfigError
from mechmem.interventions.layouts import Layout

Unit = Literal["neuron", "channel", "head", "position"]
UNITS: tuple[str, ...] = get_args(Unit)
Indices = int | slice | Sequence[int] | np.ndarray | Tensor | NeuronSet
"""Choice of units: one number, several (−1 is the last), a slice, one truth value per unit, or a set."""


@dataclasses.dataclass(frozen=True)
class Site:
    """Point and units at which an edit is made; a number is None unless the site is one unit of this kind.

    Attributes:
        point: the hook point, or "" for several.
        unit: the smallest kind of unit that is given: "neuron", "channel", "head", "position"; "frequency" or "set" of
            neurons; "" for the whole point.
        position: number of the position.
        head: number of the head.
        channel: number of the channel.
        neuron: number of the neuron.
    """

    point: str
    unit: str = ""
    position: int | None = None
    head: int | None = None
    channel: int | None = None
    neuron: int | None = None


def site_of(layout: Layout, chosen: Mapping[str, Indices]) -> Site:
    """Return the site at which the chosen units of each kind intersect.

    Raises:
        ConfigError: the point has no such units.
    """
    numbers = {unit: _members(unit, which, layout) for unit, which in chosen.items()}
    single = {unit: int(members[0]) for unit, members in numbers.items() if len(members) == 1}
    return Site(layout.point, next((unit for unit in UNITS if unit in chosen), ""), **single)


def _members(unit: str, which: Indices, layout: Layout) -> Tensor:
    return _mask(unit, which, layout).nonzero().flatten()


def site_table(sites: Sequence[Site]) -> Table:
    """Return sites as a saveable table: point, unit, and nullable numbers position, head, channel, neuron."""
    frame = pd.DataFrame({"point": [site.point for site in sites], "unit": [site.unit for site in sites]})
    for name in ("position", "head", "channel", "neuron"):
        frame[name] = pd.array([getattr(site, name) for site in sites], dtype="Int64")
    return Table.of(frame)


@dataclasses.dataclass(frozen=True)
class Units:
    """Units of one kind at one point.

    Attributes:
        layout: layout of the hook point.
        unit: kind of the units, one of `UNITS`.
        positions: positions to which they are restricted; None for all.

    Raises:
        ConfigError: the point has no such units, or no such positions.
    """

    layout: Layout
    unit: str
    positions: Indices | None = None

    def __post_init__(self) -> None:
        if self.positions is not None and self.unit in ("channel", "position"):
            raise ConfigError(f"positions are the axis of {self.unit}s: leave positions out")
        self.layout.axis(self.unit)
        if self.positions is not None:
            _mask("position", self.positions, self.layout)

    @property
    def point(self) -> str:
        """The hook point."""
        return self.layout.point

    @property
    def width(self) -> int:
        """Number of units."""
        return self.layout.count(self.unit)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each unit."""
        return tuple(label(self.point, self._chosen(number)) for number in range(self.width))

    @property
    def sites(self) -> tuple[Site, ...]:
        """Site of each unit."""
        return tuple(site_of(self.layout, self._chosen(number)) for number in range(self.width))

    def site(self, kind: str) -> Site:
        """Return the site of a unit of another kind that consists of several of these."""
        chosen: dict[str, Indices] = {} if self.positions is None else {"position": self.positions}
        return dataclasses.replace(site_of(self.layout, chosen), unit=kind)

    def _chosen(self, number: int) -> dict[str, Indices]:
        return {**({} if self.positions is None else {"position": self.positions}), self.unit: number}

    def masks(self, chosen: Bool[Tensor, "set unit"]) -> Bool[Tensor, "set ..."]:
        """Return a mask of the elements of one example's value in each set, in a shape that broadcasts to it."""
        found = _spread(chosen, self.unit, self.layout)
        if self.positions is None:
            return found
        return found & unit_mask("position", self.positions, self.layout)


def unit_mask(unit: str, which: Indices, layout: Layout) -> Bool[Tensor, ...]:
    """Return a mask of some units in one example's value, in a shape that broadcasts to it.

    Args:
        unit: one of `UNITS`.
        which: the units.
        layout: layout of the point.

    Raises:
        ConfigError: the point has no such axis, there is no such unit, or the set belongs to another point.
    """
    return _spread(_mask(unit, which, layout), unit, layout)


def _spread(mask: Bool[Tensor, "*set unit"], unit: str, layout: Layout) -> Bool[Tensor, ...]:
    """Reshape truth values of units to lie on their axis."""
    axis = layout.axis(unit)
    front, back = (" ".join("1" for _ in axes) for axes in (layout.shape[:axis], layout.shape[axis + 1 :]))
    return rearrange(mask, f"... unit -> ... {front} unit {back}")


def _mask(unit: str, which: Indices, layout: Layout) -> Bool[Tensor, " unit"]:
    width, point = layout.count(unit), layout.point
    if isinstance(which, NeuronSet):
        if (which.point, len(which.mask)) != (point, width):
            raise ConfigError(f"the set belongs to {which.point} ({len(which.mask)} {unit}s), not {point} ({width})")
    numbers = numbers_of(unit, range(width)[which] if isinstance(which, slice) else which)
    if numbers.dtype == torch.bool:
        if len(numbers) != width:
            raise ConfigError(f"{point!r} has {width} {unit}s, but {len(numbers)} truth values were given")
        return numbers
    if int(numbers.min()) < -width or int(numbers.max()) >= width:
        raise ConfigError(f"{point!r} has {unit}s 0 … {width - 1}, not {which!r}")
    numbers = numbers % width
    _check_once(unit, numbers, which)
    mask = torch.zeros(width, dtype=torch.bool)
    mask[numbers] = True
    return mask


def numbers_of(unit: str, which: int | Sequence[int] | np.ndarray | Tensor | NeuronSet) -> Tensor:
    """Return units given by number, by one truth value each or as a set as a one-dimensional tensor.

    Raises:
        ConfigError: they are given in another way, or there are none, or one is given twice.
    """
    if isinstance(which, Iterator):  # which could be read once only
        raise ConfigError(f"{unit}s must be {said(Indices)}, got {shown(which)}")
    which = which.mask if isinstance(which, NeuronSet) else which
    try:
        # A copy of an array: torch warns about read-only ones.
        given = np.array(which) if isinstance(which, np.ndarray | np.generic) else which
        found = torch.as_tensor(given if isinstance(given, int | np.ndarray | Tensor) else list(given))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{unit}s are given by number, got {which!r}") from error
    truth = found.dtype == torch.bool
    other = found.is_floating_point() or found.is_complex() or (truth and not found.ndim)
    if other or found.ndim > 1 or not found.numel():
        raise ConfigError(f"{unit}s are given by number, at least one, got {which!r}")
    if truth and not found.any():
        raise ConfigError(f"{unit}s must be at least one, got {len(found)} truth values that are all False")
    if truth:
        return found.cpu()
    numbers = found.cpu().reshape(-1).long()
    _check_once(unit, numbers, which)
    return numbers


def _check_once(unit: str, numbers: Int[Tensor, " member"], which: object) -> None:
    """Refuse a number that is given twice, as in a mask of 0 and 1."""
    if len(numbers.unique()) < len(numbers):
        raise ConfigError(
            f"{unit}s are given by number, each once, got {which!r}; a mask has truth values (.astype(bool), .bool())"
        )


def label(point: str, chosen: Mapping[str, Indices | str]) -> str:
    """Return the name of units: `hook_hidden[neuron 3]`, `blocks.0.attn.hook_z[position 2, head 1]`."""
    inside = ", ".join(_in_words(unit, which) for unit, which in chosen.items())
    return f"{point}[{inside}]" if inside else point


def _in_words(unit: str, which: Indices | str) -> str:
    if isinstance(which, str):
        return f"{which} {unit}"
    if isinstance(which, NeuronSet):
        return f"{len(which)} {unit}s"
    if isinstance(which, slice):
        ends = [which.start, which.stop, *([] if which.step is None else [which.step])]
        return f"{unit}s {':'.join('' if end is None else str(end) for end in ends)}"
    found = numbers_of(unit, which)
    numbers = (found.nonzero().flatten() if found.dtype == torch.bool else found).tolist()
    if len(numbers) == 1:
        return f"{unit} {numbers[0]}"
    return f"{unit}s {', '.join(map(str, numbers))}" if len(numbers) <= 4 else f"{len(numbers)} {unit}s"
