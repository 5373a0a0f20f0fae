"""Named hook points on any `nn.Module`, without changes to its code or its parameter names."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Self, cast

from torch import nn

from mechmem.core.arguments import checked_but
from mechmem.errors import ActivationError, ConfigError, UnknownNameError
from mechmem.models.hooks.checked import CheckedHooks, hook_pairs
from mechmem.models.hooks.insertion import Unclear
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.hooks.numbered_cache import Cache, Numbering
from mechmem.models.hooks.places import Point, Points, check_attachable, chosen_attachments, clear_call, same_modules


@checked_but("model", "points")
def attach(model: nn.Module, *points: Point, inputs: bool = False) -> Attached:
    """Attach named hook points to any network, for everything that takes hook points.

    A module's output is at `<module>.hook_out`, its input at `<module>.hook_in`; the root's are `hook_out` and
    `hook_in`. An element of an output or input is named by its path behind that: `encoder.hook_out.last_hidden_state`.

    The network itself is unchanged: its parameters keep their names, and `detach()` removes every point. A module that
    is called several times has one point that fires several times; so has a module with several names, whose point
    is named after the first.

        hooked = mm.attach(model, "encoder.*", "classifier.hook_in")
        held = mm.activations(mm.Subject(hooked, task), "classifier.hook_in")

    Args:
        model: the network.
        points: which modules, each one of:
            a name, "layer1.0.conv1" ("" for the network itself);
            a pattern over names, "layer*.relu", in which `*` matches dots too;
            a class, `nn.Conv2d`;
            a name or pattern and, after a colon, the path of an element of the output: "h.*.attn:0",
            "encoder:last_hidden_state", ":logits" (positions in tuples, keys of dicts and dataclasses, joined by dots);
            the name of a hook point, "layer1.hook_in", "attn.hook_in:hidden_states" (arguments by position or keyword).
            Without any, or with "*", every module that is called. A module named with a path gets no second point
            without a path from a pattern.
        inputs: whether the chosen modules' inputs get points too: the first positional argument, or else the only
            tensor among the arguments.

    Raises:
        ConfigError: `model` is not a module, has hook points already, or cannot have any (TorchScript, compiled).
        UnknownNameError: a point matches no module; the message suggests the nearest.
        ActivationError: in the forward pass: a module returns several tensors, or has none at the given path, or a
            module given by its name returns none. Points given explicitly are checked in the first forward pass, the
            others once they have a hook. A point chosen by a pattern or class, of a module without any tensor, does
            not fire.
    """
    check_attachable(model)
    return Attached(model, points, inputs)


class Attached(CheckedHooks):
    """A network with hook points, as returned by `attach`: TransformerLens' methods on top of the network's own.

    Everything that does not concern hooks is the network's: parameters, submodules, mode, forward, attributes and
    methods. So a `state_dict` has the same keys as the network's, and each loads the other's.

    Differences from TransformerLens: a point that fires several times in a forward pass is cached as
    `name#0 … name#n−1`, not overwritten; names may be patterns, and a name that matches no point is an error that
    suggests the nearest; and a hook none of whose points fired in a forward pass is an error.

    Args:
        model: the network.
        points: which modules have points, as for `attach`.
        inputs: whether their inputs have points too.
    """

    _unclear: list[Unclear] | None = None

    def __init__(self, model: nn.Module, points: Sequence[Point] = (), inputs: bool = False):
        places = chosen_attachments(model, points, inputs)
        super().__init__()
        # A module's own attributes are looked up in the network instead, so that there is only one of each.
        for key in vars(nn.Module()):
            vars(self).pop(key, None)
        self._model = model
        vars(self).update(hook_dict=Points(), mod_dict=Points(), _passes=0, _caching=False, _inserted={})
        vars(self).update(_asked=(tuple(points), inputs), _unclear=None)
        modules = dict(model.named_modules())
        for place in places:
            inserted = place.side(HookPoint(), place.module, place.path, place.eager, place.named, weakref.ref(self))
            inserted.insert(modules[place.module])
            self._inserted[place.name] = inserted
        self.setup()

    def setup(self) -> None:
        """Name the points. Unlike in TransformerLens, the network's own modules get no attribute."""
        self.hook_dict = Points({name: inserted.point for name, inserted in self._inserted.items()})
        self.hook_dict.again = same_modules(self._model) if self._inserted else {}
        # Only the points, so that a hook on a module that is not a point is refused by name.
        self.mod_dict = cast(dict[str, nn.Module], self.hook_dict)
        for name, point in self.hook_dict.items():
            point.name = name

    def detach(self) -> nn.Module:
        """Remove every point with its hooks, and return the original network."""
        for inserted in self._inserted.values():
            inserted.remove()
        self._inserted = {}
        self.setup()
        return self._model

    def set_submodule(self, target: str, module: nn.Module, strict: bool = False) -> None:
        """Replace a module of the network; points on the old one move to the new one.

        Raises:
            AttributeError: the network has no such module.
            ConfigError: there are points within the old module that the new one has no place for.
        """
        moved = [each for each in self._inserted.values() if f"{each.module}.".startswith(f"{target}.")]
        own = dict(module.named_modules())
        for inserted in moved:
            if inserted.module[len(target) + 1 :] not in own:
                raise ConfigError(f"{target!r} cannot be replaced: there is a point within it, at {inserted.module!r}")
        self._model.set_submodule(target, module, strict)
        for inserted in moved:
            inserted.remove()
            inserted.insert(own[inserted.module[len(target) + 1 :]])

    # Hooks: TransformerLens' methods, made to raise where a hook would silently have no effect.

    def _unknown(self, name: str) -> UnknownNameError:
        return cast(Points, self.hook_dict).unknown(name)

    @contextlib.contextmanager
    def hooks(
        self,
        fwd_hooks: Iterable[tuple[Any, Any]] = (),
        bwd_hooks: Iterable[tuple[Any, Any]] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator[Self]:
        """Register hooks for the duration of a `with`, as in `CheckedHooks`.

        Raises:
            UnknownNameError: there is no such point.
            ConfigError: a hook cannot be called as `hook(value, hook=point)`.
            ActivationError: the network ran, and none of a hook's points fired.
        """
        fwd_hooks, bwd_hooks = hook_pairs(fwd_hooks), hook_pairs(bwd_hooks)
        choices = [] if self._caching else [choice for choice, _ in (*fwd_hooks, *bwd_hooks)]
        before = [{name: self._inserted[name].fired for name in self.matching(choice)} for choice in choices]
        passes = self._passes
        with super().hooks(fwd_hooks, bwd_hooks, reset_hooks_end, clear_contexts):
            yield self
        if self._passes == passes:
            return
        for fired in before:
            if all(self._inserted[name].fired == times for name, times in fired.items()):
                silent = " and ".join(map(repr, fired)) if len(fired) < 3 else f"{len(fired)} hook points"
                raise ActivationError(f"hook point {silent} did not fire in the forward pass: its hook had no effect")

    def get_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: Any = None,
        remove_batch_dim: bool = False,
        cache: dict[str, Any] | None = None,
        pos_slice: Any = None,
    ) -> tuple[dict[str, Any], list[Any], list[Any]]:
        """Return a cache and the hooks that fill it; the forward hooks cache gradients too.

        Raises:
            UnknownNameError: a name in `names_filter` is not a point.
        """
        cache = Cache(cast(Points, self.hook_dict).said_again) if cache is None else cache
        numbering = Numbering(cache, self.hook_dict, lambda: self._passes)
        target: Any = numbering
        _, forward, backward = super().get_caching_hooks(
            names_filter, incl_bwd, device, remove_batch_dim, target, pos_slice
        )
        if incl_bwd:
            forward = [
                (name, numbering.with_gradients(save, save_gradient))
                for (name, save), (_, save_gradient) in zip(forward, backward, strict=True)
            ]
        return cache, forward, []

    def add_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: Any = None,
        remove_batch_dim: bool = False,
        cache: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Register hooks that refill a cache in every forward pass, until hooks are reset; return the cache."""
        cache, forward, _ = self.get_caching_hooks(names_filter, incl_bwd, device, remove_batch_dim, cache)
        for name, hook in forward:
            self.add_hook(name, hook)
        return cache

    # Module: torch's machinery gets what it asks for from the network.

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        self._passes += 1
        before, self._unclear = self._unclear, []
        try:
            returned, unclear = self._model(*args, **kwargs), list(dict.fromkeys(self._unclear))
        finally:
            self._unclear = before
        if unclear:
            points, inputs = self._asked
            call = clear_call(self._model, points, inputs, unclear)
            raise ActivationError(f"{'. '.join(map(str, unclear))}. All of it: detach(), then {call}")
        return returned

    # The network's own call runs the hooks registered on it or on this object.
    __call__ = forward

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Generator[tuple[str, nn.Module], None, None]:
        """Yield this object, the network's submodules, and after each module its hook points."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        points: dict[str, list[tuple[str, HookPoint]]] = {}
        for name, inserted in self._inserted.items():
            points.setdefault(inserted.module, []).append((name, inserted.point))
        for name, module in self._model.named_modules(memo, prefix, remove_duplicate):
            yield name, self if module is self._model else module
            for point_name, point in points.get(name[len(prefix) :].removeprefix("."), ()):
                yield ".".join(filter(None, (prefix, point_name))), point

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the network's parameters and buffers by their own names."""
        return self._model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load the network's parameters and buffers."""
        return self._model.load_state_dict(*args, **kwargs)

    def train(self, mode: bool = True) -> Self:
        """Put the network in training mode, or in evaluation mode."""
        self._model.train(mode)
        return self

    def apply(self, fn: Any) -> Self:
        """Apply a function to the network and each of its submodules."""
        self._model.apply(fn)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._model._apply(fn, recurse)
        return self

    def __getattr__(self, name: str) -> Any:
        # Excludes special methods, which copying and pickling look up on an instance that is still empty.
        if "_model" not in vars(self) or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._model, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_model" not in vars(self) or name in vars(self) or hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            setattr(self._model, name, value)

    def __delattr__(self, name: str) -> None:
        if name in vars(self):
            object.__delattr__(self, name)
        else:
            delattr(self._model, name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for inserted in self._inserted.values():
            inserted.owner = weakref.ref(self)

    def __getitem__(self, key: Any) -> Any:
        return self._model[key]  # pyright: ignore[reportIndexIssue]

    def __len__(self) -> int:
        return len(self._model)  # pyright: ignore[reportArgumentType]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._model)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def __bool__(self) -> bool:
        return True

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *vars(self), *dir(self._model)})

    def __repr__(self) -> str:
        return f"Attached({len(self._inserted)} hook points on {self._model!r})"
