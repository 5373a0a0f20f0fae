"""What the parts of a model are for, and how they are read as matrices with named axes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import einops
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.errors import RoleError, unknown_name


@dataclasses.dataclass(frozen=True)
class Role:
    """How one of a model's parameters is read as a matrix with named axes, and written back.

    Attributes:
        parameter: the parameter's name, or several names that are stacked along a new first axis.
        pattern: an einops pattern from the stored shape to "operand p neuron" (input embedding) or "neuron classes"
            (readout). An axis missing on the left is repeated when read and averaged when written (tied inputs).
        sizes: axis sizes that the pattern cannot infer.
    """

    parameter: str | tuple[str, ...]
    pattern: str
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Validate."""
        if self.pattern.count("->") != 1:
            raise RoleError(f"a role's pattern reads 'stored axes -> named axes', got {self.pattern!r}")

    @property
    def names(self) -> tuple[str, ...]:
        """The parameter names, one or several."""
        return (self.parameter,) if isinstance(self.parameter, str) else self.parameter

    def read(self, model: nn.Module) -> Float[Tensor, ...]:
        """Return the parameter in the role's shape, detached; a view where the pattern allows one.

        Raises:
            RoleError: there is no such parameter, or the pattern does not fit its shape.
        """
        return self.arrange([_parameter(model, name).detach() for name in self.names])

    def arrange(self, stored: Sequence[Tensor]) -> Float[Tensor, ...]:
        """Bring tensors of the stored shape (parameters, or their gradients) into the role's shape."""
        try:
            tensors = stored[0] if isinstance(self.parameter, str) else torch.stack(list(stored))
            return einops.repeat(tensors, _quiet(self.pattern), **self.sizes)
        except (einops.EinopsError, RuntimeError) as error:
            shapes = [tuple(tensor.shape) for tensor in stored]
            raise RoleError(
                f"pattern {self.pattern!r} does not fit {self.parameter!r} of shape {shapes}: {error}"
            ) from error

    def write(self, model: nn.Module, value: Float[Tensor, ...]) -> None:
        """Store a value of the role's shape back into the parameter, in place.

        Raises:
            RoleError: there is no such parameter, or the value is not of the role's shape.
        """
        expected, found = tuple(self.read(model).shape), tuple(value.shape)
        if found != expected:
            raise RoleError(f"{self.parameter!r} is written with a value of shape {expected}, got {found}")
        read, shown = _quiet(self.pattern).split("->")
        stored = einops.reduce(value, f"{shown.strip()} -> {read.strip()}", "mean", **self.sizes)
        parts = [stored] if isinstance(self.parameter, str) else list(stored)
        for name, part in zip(self.names, parts, strict=True):
            with torch.no_grad():
                _parameter(model, name).copy_(part)


def _quiet(pattern: str) -> str:
    """Rename the axis "class", about which einops would warn because it is a Python keyword."""
    return re.sub(r"\bclass\b", "classes", pattern)


def _parameter(model: nn.Module, name: str) -> Tensor:
    # A parameter that a model uses twice has two names.
    named = dict(model.named_parameters(remove_duplicate=False))
    if name not in named:
        raise RoleError(str(unknown_name("parameter", name, named)))
    return named[name]


@dataclasses.dataclass(frozen=True)
class Roles:
    """What the parts of a model are for. A part left out makes the plugins that need it refuse, not guess.

    Attributes:
        input_embedding: read as "operand p neuron".
        readout: read as "neuron classes".
        bias: the readout's bias, read as "class".
        activation: name of the submodule that is the nonlinearity, or names of several.
        hidden: names of the hook points that hold the neurons, in layer order.
        logits: name of the hook point that holds the logits.
    """

    input_embedding: Role | None = None
    readout: Role | None = None
    bias: Role | None = None
    activation: str | tuple[str, ...] | None = None
    hidden: tuple[str, ...] = ()
    logits: str | None = None
