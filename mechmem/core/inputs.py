"""Inputs of networks: one tensor, or several by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from mechmem.core.arrays import described
from mechmem.core.in_words import shown
from mechmem.errors import ConfigError, MissingNeedError


@dataclasses.dataclass(frozen=True, eq=False)
class NamedInputs:
    """Inputs that a network takes by name, as those of HuggingFace do: `model(**tensors)`.

    Attributes:
        tensors: each input by the name of the network's argument. Shape (example, …) each.

    Raises:
        ConfigError: there are none, or they differ in their number of rows.
    """

    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        tensors = self.tensors if isinstance(self.tensors, Mapping) else {}
        rows = {len(each) if isinstance(each, Tensor) and each.ndim else -1 for each in tensors.values()}
        if len(rows) != 1 or rows == {-1}:
            raise ConfigError(f"named inputs must be tensors with one row per example each, got {shown(self.tensors)}")
        if not all(isinstance(name, str) for name in tensors):
            raise ConfigError(f"the names of inputs must be strings, got {shown(list(tensors))}")
        # As it was checked, whatever becomes of the caller's.
        object.__setattr__(self, "tensors", dict(tensors))

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: Any) -> NamedInputs:
        """Return these rows; an input by its name is in `tensors`."""
        if isinstance(rows, str | int):
            raise ConfigError(f"rows of named inputs are chosen by a slice, a list or a mask, got {shown(rows)}")
        return NamedInputs({name: each[rows] for name, each in self.tensors.items()})

    def to(self, device: torch.device | str) -> NamedInputs:
        """Return them on a device."""
        return NamedInputs({name: each.to(device) for name, each in self.tensors.items()})

    def cpu(self) -> NamedInputs:
        """Return them on the CPU."""
        return self.to("cpu")


Inputs = Shaped[Tensor, "example ..."] | NamedInputs
"""What a network is run on, one row per example."""


def run_on(model: nn.Module, inputs: Inputs) -> Any:
    """Run a network on its inputs, and return what it returns."""
    return model(**inputs.tensors) if isinstance(inputs, NamedInputs) else model(inputs)


def one_tensor(inputs: Inputs, what: str) -> Shaped[Tensor, "example ..."]:
    """Return inputs that are one tensor.

    Args:
        inputs: the inputs.
        what: what needs them, for the error.

    Raises:
        MissingNeedError: there are several by name.
    """
    if isinstance(inputs, NamedInputs):
        raise MissingNeedError(f"{what} needs inputs in one tensor, and this task's are {', '.join(inputs.tensors)}")
    return inputs


def inputs_in_words(inputs: Inputs) -> str:
    """Return type and shape of inputs, for errors."""
    if isinstance(inputs, Tensor):
        return described(inputs)
    return ", ".join(f"{name} {described(each)}" for name, each in inputs.tensors.items())


def same_inputs(one: Inputs, other: Inputs) -> bool:
    """Return whether two sets of inputs have the same values."""
    if isinstance(one, NamedInputs) or isinstance(other, NamedInputs):
        if not (isinstance(one, NamedInputs) and isinstance(other, NamedInputs)):
            return False
        pairs = [(one.tensors[name], other.tensors.get(name)) for name in one.tensors]
        known = one.tensors.keys() == other.tensors.keys()
        return known and all(second is not None and same_inputs(first, second) for first, second in pairs)
    return one.shape == other.shape and torch.equal(one, other.to(one))
