"""Hook points inserted into existing modules by torch hooks, and removed without trace."""

from __future__ import annotations

import abc
import dataclasses
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mechmem.core.elements import pick, put, tensors
from mechmem.errors import ActivationError, UnknownNameError
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.hooks.running import recomputing


@dataclasses.dataclass(frozen=True)
class Unclear:
    """A value in which the tensor of a hook point is ambiguous.

    Attributes:
        name: the hook point's name.
        reason: what was found there.
        choices: unambiguous names to use instead, one per tensor.
    """

    name: str
    reason: str
    choices: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name!r} finds {self.reason}; name one of {', '.join(map(repr, self.choices))}"


@dataclasses.dataclass(eq=False)
class Insertion(abc.ABC):
    """Torch hook on a module that passes one tensor through a hook point and hands on the result.

    An object and not a closure, so that `copy.deepcopy` of the network copies it and its point together.

    Hooks see a copy, so that in-place changes before or after cannot alter what they kept. If they change nothing and
    no gradient is recorded, the network goes on with its own tensor; otherwise with a copy of their result, through
    which gradients flow.

    Attributes:
        point: the hook point.
        module: the module's name ("" for the root).
        path: path of the tensor in the module's output or input; "" for the only one.
        eager: whether an ambiguous or missing tensor is an error even without a hook.
        named: whether a value without any tensor is an error; otherwise the point does not fire there.
        owner: the network with hook points that this belongs to; None or dead if nobody can reach the point. During a
            forward pass it collects in `_unclear` the values in which the tensor is ambiguous.
        fired: how often the point fired while it had hooks.
    """

    point: HookPoint
    module: str
    path: str = ""
    eager: bool = True
    named: bool = True
    owner: weakref.ref[nn.Module] | None = None
    fired: int = 0
    _handle: RemovableHandle | None = None

    @classmethod
    @abc.abstractmethod
    def name(cls, module: str, path: str) -> str:
        """Return the hook point's name."""

    @abc.abstractmethod
    def insert(self, module: nn.Module) -> None:
        """Register this on a module."""

    @abc.abstractmethod
    def only(self, value: Any) -> str | None:
        """Return the path of the tensor to use if no path was given, or None if it is ambiguous."""

    def remove(self) -> None:
        """Remove this from the module."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do: no hook and nothing left to check."""
        point = self.point
        hooked = point._forward_hooks or point._backward_hooks or point._forward_pre_hooks or point._backward_pre_hooks
        return not (hooked or self.eager)

    def passed(self, value: Any) -> tuple[str, Tensor] | None:
        """Pass the tensor in a value through the point; return its path and its replacement, or None if unchanged.

        Raises:
            ActivationError: the value has no such tensor, the tensor is ambiguous, or a hook returned something other
                than a tensor of the same shape and type.
        """
        path = self._locate(value)
        if path is None:
            return None
        tensor = pick(value, path)
        self.eager = False
        if self.idle:
            return None
        new = self._through(tensor)
        return None if new is tensor else (path, new)

    def _locate(self, value: Any) -> str | None:
        """Return the path of the tensor; None if it is ambiguous, which the owner is told, or if there is none."""
        path = self.path or self.only(value)
        if path is not None:
            try:
                if isinstance(pick(value, path), Tensor):
                    return path
            except UnknownNameError:
                pass
        found = tuple(f"{self._asked()}:{each}" if each else self._asked() for each in tensors(value))
        name = type(self).name(self.module, self.path)
        if not found and not self.named:
            return None
        if not found:
            raise ActivationError(f"{name!r} finds no tensor: {self._says(value)}")
        wanted = f"no tensor {self.path!r}" if self.path else "not one tensor"
        unclear = Unclear(name, f"{wanted}: {self._says(value)}", found)
        owner = self.owner() if self.owner is not None else None
        collected = None if owner is None else vars(owner).get("_unclear")
        if collected is None:  # the network runs without its owner
            raise ActivationError(str(unclear))
        collected.append(unclear)
        return None

    def _asked(self) -> str:
        """Return the name under which a user asks for this point, without its path."""
        return self.module

    def _says(self, value: Any) -> str:
        return f"{self.module or 'the model'} returned a {type(value).__name__}"

    def _through(self, tensor: Tensor) -> Tensor:
        seen = tensor.clone()
        # Inference mode keeps no versions, so in-place changes cannot be detected there.
        version = -1 if seen.is_inference() else seen._version
        self.fired += not recomputing()
        left = self.point(seen)
        if not isinstance(left, Tensor):
            raise ActivationError(f"a hook at {self.point.name!r} returned a {type(left).__name__}, not a tensor")
        if left.shape != tensor.shape:
            held, found = tuple(tensor.shape), tuple(left.shape)
            raise ActivationError(f"{self.point.name!r} holds shape {held}, and a hook there left shape {found}")
        if left.dtype != tensor.dtype and not torch.is_autocast_enabled(tensor.device.type):
            raise ActivationError(f"{self.point.name!r} holds {tensor.dtype}, and a hook there left {left.dtype}")
        if left is seen and not seen.requires_grad and version >= 0 and seen._version == version:
            return tensor
        return left.clone()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"owner": None}


class AtOutput(Insertion):
    """A point at a module's output."""

    @classmethod
    def name(cls, module: str, path: str) -> str:
        """Return `<module>.hook_out`, or `<module>.hook_out.<path>`."""
        return ".".join(filter(None, (module, "hook_out", path)))

    def insert(self, module: nn.Module) -> None:
        """Register this to run after the module's forward and after its existing hooks."""
        self._handle = module.register_forward_hook(self)

    def only(self, value: Any) -> str | None:
        """Return the path of the only tensor."""
        found = [""] if isinstance(value, Tensor) else list(tensors(value))
        return found[0] if len(found) == 1 else None

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Return the output with the tensor replaced, or None to keep it."""
        if self.idle or (new := self.passed(output)) is None:
            return None
        return put(output, *new)


class AtInput(Insertion):
    """A point at a module's input: its arguments by position or keyword."""

    @classmethod
    def name(cls, module: str, path: str) -> str:
        """Return `<module>.hook_in`, or `<module>.hook_in.<path>`."""
        return ".".join(filter(None, (module, "hook_in", path)))

    def insert(self, module: nn.Module) -> None:
        """Register this to run before the module's forward."""
        self._handle = module.register_forward_pre_hook(self, with_kwargs=True)

    def only(self, value: Any) -> str | None:
        """Return the path of the first positional argument, or else of the only tensor."""
        if isinstance(value.get("0"), Tensor):
            return "0"
        found = list(tensors(value))
        return found[0] if len(found) == 1 else None

    def _asked(self) -> str:
        return type(self).name(self.module, "")

    def _says(self, value: Any) -> str:
        return f"{self.module or 'the model'} was called with {', '.join(value) or 'nothing'}"

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the arguments with the tensor replaced, or None to keep them."""
        if self.idle:
            return None
        given = {str(place): each for place, each in enumerate(args)} | kwargs
        if (new := self.passed(given)) is None:
            return None
        given = put(given, *new)
        return tuple(given.pop(str(place)) for place in range(len(args))), given


def insertions(model: nn.Module) -> list[Insertion]:
    """Return the insertions of a model."""
    return [
        hook
        for module in model.modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        if isinstance(hook, Insertion)
    ]
