"""What a unit of a network is at a hook point: a neuron, a channel, an attention head, a position; and its axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor

from mechmem.errors import ConfigError
from mechmem.neurons import NeuronSet

Unit = Literal["neuron", "channel", "head", "position"]
UNITS: tuple[str, ...] = get_args(Unit)
Indices = int | Sequence[int] | Tensor | NeuronSet
"""Which units: one number, several (−1 is the last), or a set."""

_WHERE = {
    "neuron": "neurons are on the last axis",
    "channel": "channels are on the second axis, (example, channel, …)",
    "head": "heads are on the third of four axes, (example, position, head, dimension)",
    "position": "positions are on the second of three or more axes, (example, position, …)",
}


@dataclasses.dataclass(frozen=True)
class Units:
    """The units of one kind at one point.

    Attributes:
        point: the hook point.
        unit: what they are, one of `UNITS`.
        shape: what one example has at the point.
        positions: at which positions they are meant; None for all.

    Raises:
        ConfigError: the point has no such units, or no such positions.
    """

    point: str
    unit: str
    shape: tuple[int, ...]
    positions: Indices | None = None

    def __post_init__(self) -> None:
        """Validate."""
        unit_axis(self.unit, self.shape, self.point)
        if self.positions is not None:
            if self.unit in ("channel", "position"):
                raise ConfigError(f"positions are the axis of {self.unit}s: leave positions out")
            unit_mask("position", self.positions, self.shape, self.point)

    @property
    def width(self) -> int:
        """How many there are."""
        return self.shape[unit_axis(self.unit, self.shape, self.point)]

    @property
    def names(self) -> tuple[str, ...]:
        """What each is called."""
        return tuple(unit_name(self.point, self.unit, number) for number in range(self.width))

    def masks(self, chosen: Bool[Tensor, "set unit"]) -> Bool[Tensor, "set ..."]:
        """Return which of one example's values belong to each set, in a shape that broadcasts to one example's."""
        found = unit_mask(self.unit, chosen, self.shape, self.point)
        if self.positions is None:
            return found
        return found & unit_mask("position", self.positions, self.shape, self.point)


def unit_axis(unit: str, shape: tuple[int, ...], point: str) -> int:
    """Return which axis of one example's values holds the units.

    Args:
        unit: one of `UNITS`.
        shape: what one example has at the point.
        point: the point, for the message.

    Raises:
        ConfigError: the point has no such axis.
    """
    fits = {"neuron": len(shape) >= 1, "channel": len(shape) >= 1, "head": len(shape) == 3, "position": len(shape) >= 2}
    if not fits[unit]:
        raise ConfigError(f"{point!r} has shape {('example', *shape)} and no {unit}s: {_WHERE[unit]}".replace("'", ""))
    return {"neuron": len(shape) - 1, "channel": 0, "head": 1, "position": 0}[unit]


def unit_count(unit: str, shape: tuple[int, ...], point: str) -> int:
    """Return how many units a point holds.

    Raises:
        ConfigError: the point has no such axis.
    """
    return shape[unit_axis(unit, shape, point)]


def unit_mask(unit: str, which: Indices, shape: tuple[int, ...], point: str) -> Bool[Tensor, ...]:
    """Return which values of one example belong to some units, in a shape that broadcasts to one example's.

    Args:
        unit: one of `UNITS`.
        which: the units, by number, as a set, or as truth values (with axes of several sets in front).
        shape: what one example has at the point.
        point: the point, for messages.

    Raises:
        ConfigError: the point has no such axis, there is no such unit, or the set is another point's.
    """
    axis = unit_axis(unit, shape, point)
    width = shape[axis]
    if isinstance(which, NeuronSet):
        if (which.point, len(which.mask)) != (point, width):
            raise ConfigError(f"the set is of {which.point} ({len(which.mask)}), not of {point} ({width} {unit}s)")
        which = which.mask
    if not (isinstance(which, Tensor) and which.dtype == torch.bool):
        which = _numbered(unit, which, width, point)
    elif which.shape[-1] != width:
        raise ConfigError(f"{point!r} has {width} {unit}s, and {which.shape[-1]} truth values say which")
    ones = " ".join("1" for _ in shape[axis + 1 :])
    front = " ".join("1" for _ in shape[:axis])
    return rearrange(which, f"... unit -> ... {front} unit {ones}")


def _numbered(unit: str, which: Indices, width: int, point: str) -> Bool[Tensor, " unit"]:
    try:
        numbers = torch.as_tensor(which if isinstance(which, int | Tensor) else list(which))  # pyright: ignore
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{unit}s are given by number, got {which!r}") from error
    if numbers.is_floating_point() or numbers.is_complex() or numbers.ndim > 1 or not numbers.numel():
        raise ConfigError(f"{unit}s are given by number, at least one, got {which!r}")
    numbers = numbers.reshape(-1).long()
    if int(numbers.min()) < -width or int(numbers.max()) >= width:
        raise ConfigError(f"{point!r} has {unit}s 0 … {width - 1}, and not {which!r}")
    mask = torch.zeros(width, dtype=torch.bool)
    mask[numbers] = True
    return mask


def unit_name(point: str, unit: str, number: int) -> str:
    """Return how one unit is called: `hook_hidden[3]`, `blocks.0.attn.hook_z[head 2]`."""
    return f"{point}[{number}]" if unit == "neuron" else f"{point}[{unit} {number}]"
