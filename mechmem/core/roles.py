"""Roles of a model's parameters and points."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import einops
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mechmem.core.arguments import Checked, check_fields, check_methods
from mechmem.core.config import check_whole
from mechmem.core.elements import pick, tensors
from mechmem.core.storage import record
from mechmem.errors import RoleError, UnknownNameError, unknown_name


@record
@dataclasses.dataclass(frozen=True)
class Role(Checked):
    """Reading of a model's parameter as a matrix with named axes, and writing it back.

    Attributes:
        parameter: the parameter's name, or several names that are stacked along a new first axis.
        pattern: an einops pattern from the stored shape to "operand p neuron" (input embedding) or "neuron classes"
            (readout). An axis missing on the left is repeated when read and averaged when written (tied inputs).
        sizes: axis sizes that the pattern cannot infer.
        first: number of entries of the stored first axis to read and write (the symbols of a vocabulary in which other
            tokens follow); None for all.
    """

    parameter: str | tuple[str, ...]
    pattern: str
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    first: int | None = None

    def __post_init__(self) -> None:
        if self.pattern.count("->") != 1:
            raise RoleError(f"a role's pattern reads 'stored axes -> named axes', got {self.pattern!r}")
        if self.first is not None:
            check_whole("first of a Role", self.first, 1)
        for axis, size in self.sizes.items():
            check_whole(f"size of {axis!r} of a Role", size, 1)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameter names, one or several."""
        return (self.parameter,) if isinstance(self.parameter, str) else self.parameter

    def read(self, model: nn.Module) -> Float[Tensor, ...]:
        """Return the parameter in the role's shape, detached; a view if the pattern allows one.

        Raises:
            RoleError: there is no such parameter, or the pattern does not fit its shape.
        """
        return self.arrange([_parameter(model, name).detach() for name in self.names])

    def arrange(self, stored: Sequence[Tensor]) -> Float[Tensor, ...]:
        """Rearrange tensors of the stored shape (parameters, or their gradients) to the role's shape."""
        if len(stored) != len(self.names):
            raise RoleError(f"a role of {', '.join(self.names)} reads {len(self.names)} tensors, got {len(stored)}")
        chosen = [self._chosen(tensor) for tensor in stored]
        try:
            tensors = chosen[0] if isinstance(self.parameter, str) else torch.stack(chosen)
            return einops.repeat(tensors, _quiet(self.pattern), **self.sizes)
        except (einops.EinopsError, RuntimeError) as error:
            shapes = [tuple(tensor.shape) for tensor in stored]
            reason = " ".join(str(error).split())  # of several lines
            raise RoleError(
                f"pattern {self.pattern!r} does not fit {self.parameter!r} of shape {shapes}: {reason}"
            ) from error

    def write(self, model: nn.Module, value: Float[Tensor, "*shape"]) -> None:
        """Write a value of the role's shape into the parameter, in place.

        Raises:
            RoleError: there is no such parameter, or the value does not have the role's shape.
        """
        expected, found = tuple(self.read(model).shape), tuple(value.shape)
        if found != expected:
            raise RoleError(f"{self.parameter!r} is written with a value of shape {expected}, got {found}")
        read, shown = _quiet(self.pattern).split("->")
        try:
            stored = einops.reduce(value, f"{shown.strip()} -> {read.strip()}", "mean", **self._split_sizes(model))
        except einops.EinopsError as error:
            reason = " ".join(str(error).split())
            raise RoleError(f"pattern {self.pattern!r} can be read and not written: {reason}") from error
        parts = [stored] if isinstance(self.parameter, str) else list(stored)
        for name, part in zip(self.names, parts, strict=True):
            with torch.no_grad():
                self._chosen(_parameter(model, name)).copy_(part)

    def _split_sizes(self, model: nn.Module) -> dict[str, int]:
        """Return the sizes of axes that are joined when the parameter is read, and split when it is written."""
        read, shown = _quiet(self.pattern).split("->")
        joined = set(" ".join(re.findall(r"\((.*?)\)", shown)).split())
        if not joined or "(" in read or "..." in read:
            return dict(self.sizes)
        first = self._chosen(_parameter(model, self.names[0]))
        shape = first.shape if isinstance(self.parameter, str) else (len(self.names), *first.shape)
        found = dict(zip(read.split(), shape, strict=True))
        return {**{name: size for name, size in found.items() if name in joined}, **self.sizes}

    def _chosen(self, stored: Tensor) -> Tensor:
        if self.first is None:
            return stored
        if not stored.ndim or self.first > len(stored):
            raise RoleError(f"first is {self.first}, but {self.parameter!r} has shape {tuple(stored.shape)}")
        return stored[: self.first]


check_methods(Role)


@record
@dataclasses.dataclass(frozen=True)
class Output(Checked):
    """Position of the logits in a model's output.

    Attributes:
        element: for a model that returns a tuple, dict or dataclass, the path of the logits in it, e.g. "logits" or
            "0".
        position: for a sequence model, which returns (example, position, class), the position whose logits are the
            prediction; −1 is the last. Hidden values with a position axis are read there too.
        classes: number of leading columns that are the task's classes; None for all.
    """

    element: str = ""
    position: int | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        if self.classes is not None:
            check_whole("classes of an Output", self.classes, 1)

    def read(self, returned: Any) -> Shaped[Tensor, "example class"]:
        """Return the logits, one row per example.

        Raises:
            RoleError: there is no such element, or it is not a tensor with these axes.
        """
        try:
            found = pick(returned, self.element)
        except UnknownNameError as error:
            raise RoleError(f"the model's output: {error}") from error
        if not isinstance(found, Tensor):
            elements = ", ".join(map(repr, list(tensors(found))[:20]))
            named = f"; name its element in Roles(output=Output(...)), one of {elements}" if elements else ""
            kind = type(found).__name__
            raise RoleError(f"the model returns a {kind}, not logits{named or '; there is no tensor in it'}")
        if found.layout != torch.strided or found.is_quantized:
            layout = found.dtype if found.is_quantized else found.layout
            raise RoleError(f"the logits must be an ordinary (dense) tensor, got one of layout {layout}")
        if found.device.type == "meta":
            raise RoleError("the logits are on the meta device, where tensors hold no numbers")
        if found.dtype == torch.bool or (found.is_floating_point() and found.dtype.itemsize == 1):
            raise RoleError(f"the logits must be numbers of 16 to 64 bits, got {found.dtype}")
        axes = 2 if self.position is None else 3
        if found.ndim != axes or (self.position is not None and not -found.shape[1] <= self.position < found.shape[1]):
            wanted = "(example, class)" if axes == 2 else f"(example, position, class) with a position {self.position}"
            raise RoleError(f"the logits must have shape {wanted}, but have {tuple(found.shape)}")
        answering = found if self.position is None else found[:, self.position]
        return answering[:, : self.classes]


@record
@dataclasses.dataclass(frozen=True)
class Roles:
    """Roles of a model's parameters and points. Plugins that need a role refuse if it is missing; they do not guess.

    In a network with a residual stream (`residual` is not empty) the input embedding writes and the readout reads
    dimensions of that stream, not neurons: the axis called neuron below is then the stream's.

    Attributes:
        input_embedding: parameter read as "operand p neuron".
        readout: parameter read as "neuron classes".
        bias: the readout's bias, read as "class".
        activation: name of the activation function's submodule, or several names.
        hidden: names of the hook points that hold the neurons, in layer order; a single one may be given as a string,
            here and for `residual` and `heads`.
        logits: name of the hook point that holds the logits.
        residual: names of the hook points that hold the residual stream, in order; empty if there is none.
        heads: names of the hook points of the heads' outputs before W_O, (example, position, head, dimension).
        output: position of the logits in the model's output.
    """

    input_embedding: Role | None = None
    readout: Role | None = None
    bias: Role | None = None
    activation: str | tuple[str, ...] | None = None
    hidden: tuple[str, ...] = ()
    logits: str | None = None
    residual: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    output: Output = Output()

    def __post_init__(self) -> None:
        """Turn a single name into a tuple."""
        for name in ("hidden", "residual", "heads"):
            points = getattr(self, name)
            if isinstance(points, Iterable):
                # A string would be taken for a tuple of its letters.
                object.__setattr__(self, name, (points,) if isinstance(points, str) else tuple(points))
        check_fields(self)

    def check(self, model: nn.Module) -> None:
        """Refuse a model without the parameters or the activation that these roles name.

        Raises:
            RoleError: there is no such parameter or submodule, or a pattern does not fit a shape.
        """
        for role in (self.input_embedding, self.readout, self.bias):
            if role is not None:
                role.read(model)
        modules = dict(model.named_modules(remove_duplicate=False))
        for name in (self.activation,) if isinstance(self.activation, str) else self.activation or ():
            if name not in modules:
                raise RoleError(str(unknown_name("submodule", name, filter(None, modules))))


def read_role(
    roles: Roles, name: str, model: nn.Module, *axes: int | str | tuple[int, ...], beside: str = ""
) -> Float[Tensor, ...]:
    """Return a role's parameter in the role's shape, after checking that it is the shape that is needed.

    Args:
        roles: the model's roles, this one among them.
        name: the role's name, "input_embedding", "readout" or "bias".
        model: the model.
        axes: of each axis its size, or several allowed ones, or a name if any size will do.
        beside: name of the role whose shape decided a size, for the error.

    Raises:
        RoleError: there is no such parameter, or it reads in another shape.
    """
    found = getattr(roles, name).read(model)
    sizes = [axis if isinstance(axis, tuple) else (axis,) for axis in axes]
    if found.ndim != len(sizes) or any(
        isinstance(allowed[0], int) and size not in allowed for size, allowed in zip(found.shape, sizes, strict=True)
    ):
        wanted = ", ".join(" or ".join(map(str, allowed)) for allowed in sizes) + "," * (len(sizes) == 1)
        other = f"; {beside} reads as {tuple(getattr(roles, beside).read(model).shape)}" if beside else ""
        raise RoleError(f"{name} must read as ({wanted}), but reads as {tuple(found.shape)}{other}")
    return found


def _quiet(pattern: str) -> str:
    """Rename the axis "class", about which einops would warn because it is a Python keyword."""
    return re.sub(r"\bclass\b", "classes", pattern)


def _parameter(model: nn.Module, name: str) -> Tensor:
    # A parameter that a model uses twice has two names.
    named = dict(model.named_parameters(remove_duplicate=False))
    if name not in named:
        raise RoleError(str(unknown_name("parameter", name, named)))
    return named[name]
