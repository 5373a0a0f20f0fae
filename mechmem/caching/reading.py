"""Reading a model: what its hook points hold, and the gradients there, streamed over the data in chunks."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from mechmem.caching.cache import Activations
from mechmem.caching.gradients import Loss, Tape
from mechmem.caching.reductions import Reduction
from mechmem.caching.stores import Firings, Keeping, Reducing, Store
from mechmem.contracts import Subject, check_ids
from mechmem.errors import ActivationError, ConfigError, LeftoverHooksWarning
from mechmem.math.blocks import blocks
from mechmem.models.forward import block_rows, device_of, evaluating, resolve_device
from mechmem.models.hooking import Act, leftover_hooks, on_point
from mechmem.models.vocabulary import HookPoints, hook_points

_MB = 2**20


def activations(
    subject: Subject,
    points: str | Sequence[str] = "*",
    ids: Int[Tensor, " example"] | None = None,
    *,
    reduce: Callable[[], Reduction] | None = None,
    gradients: Loss | None = None,
    chunk: int | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    limit_mb: float | None = None,
) -> Activations:
    """Run a subject's model over examples and return what its hook points held.

    Values are detached and copied where they are seen, so that nothing the model does later, in place or not, can
    change them; the result holds no model. Hooks that already stand on the model run first, and their edits are seen.

    Args:
        subject: the model and its task. Any module with `HookPoint` submodules will do: a `HookedRootModule`, a
            `HookedTransformer`, a `TransformerBridge`.
        points: names of hook points, or patterns such as "hook_*"; "*" for all. A point that a pattern matches and
            that does not fire is left out; a point that is named has to fire.
        ids: which examples, in which order; the training set by default.
        reduce: makes a running reduction per point (`Mean`, `Variance`, `Gram`, or your own); without one every
            example's value is kept.
        gradients: a function of (logits, given labels) that returns a loss summed over examples, or one loss per
            example. The result's `gradients` then holds its gradient by the value of every point, example by example,
            kept or reduced as the values are.
        chunk: examples per forward pass; by default as many as stay in cache.
        device: where the results are put.
        dtype: what floating-point results are cast to; by default they stay as they are.
        limit_mb: most megabytes that the results may take; checked after the first chunk, before room is made for
            all examples. None for no limit.

    Raises:
        ConfigError: `ids` is not a list of ids; the device is not available; `dtype` is not a floating-point type; the
            model is compiled; the loss is not summed over examples, or does not depend on the logits.
        UnknownNameError: a name or pattern matches no hook point, or an id is not one of the task's.
        ActivationError: a named point or every point of a pattern did not fire, a point fired a different number of
            times from chunk to chunk, or the results would take more than `limit_mb`.
        RoleError: the logits are not where the roles say (read only for `gradients`).

    Warns:
        LeftoverHooksWarning: hooks that somebody left on the model take part in the run.
    """
    model, task = subject.model, subject.task
    ids = task.train_ids if ids is None else ids
    check_ids(task, ids)
    if dtype is not None and not dtype.is_floating_point:
        raise ConfigError(f"dtype is a floating-point type, got {dtype}")
    target = resolve_device(str(device))
    found = hook_points(model)
    wanted = _Wanted(found, [points] if isinstance(points, str) else points)
    left = leftover_hooks(model, found)
    if left:
        warnings.warn(_about(left), LeftoverHooksWarning, stacklevel=2)

    def store() -> Store:
        return Keeping(len(ids), target, dtype) if reduce is None else Reducing(reduce, target, dtype)

    values, firings, block = store(), Firings(), slice(0, 0)
    tape = None if gradients is None else Tape(gradients, store(), subject.roles.output)

    def act_at(name: str) -> Act:
        def act(value: Tensor) -> Tensor | None:
            key = firings.count(name)
            values.put(key, block, value.detach())
            return None if tape is None else tape.record(key, value)

        return act

    source = device_of(model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad() if tape is None else tape.recording())
        stack.enter_context(evaluating(model))
        for name, point in wanted.points.items():
            stack.enter_context(on_point(point, act_at(name)))
        for block in blocks(len(ids), chunk or block_rows(model)):
            firings.start()
            inputs, given = task.batch(ids[block])
            returned = model(inputs.to(source))
            firings.end()
            if tape is not None:
                tape.end(returned, given.to(source), block)
            if block.start == 0:
                wanted.check(firings)
                kept = [values] if tape is None else [values, tape.store]
                _check_size(sum(part.nbytes() for part in kept) / _MB, limit_mb, len(ids))
                for part in kept:
                    part.settle()
    absent = wanted.absent(firings)
    names = wanted.other_names()
    slopes = None
    if tape is not None:
        with_path, without = tape.results()
        reasons = absent | firings.numbered(without)
        slopes = Activations(firings.numbered(with_path), other_names=names, absent=reasons)
    return Activations(firings.numbered(values.results()), other_names=names, absent=absent, gradients=slopes)


class _Wanted:
    """The points that were asked for, by name or by pattern."""

    def __init__(self, found: HookPoints, patterns: Sequence[str]):
        self._found = found
        self._withheld: dict[str, str] = {}
        self._asked: dict[str, list[str]] = {}
        self.points: dict[str, HookPoint] = {}
        for pattern in patterns:
            matched, withheld = found.matching(pattern)
            # The first name that a point was asked for by is the one it gets.
            new = {name: point for name, point in matched.items() if point not in self.points.values()}
            self.points.update(new)
            self._withheld.update(withheld)
            self._asked[pattern] = [name for name, point in self.points.items() if point in matched.values()]

    def check(self, firings: Firings) -> None:
        """Check that what was named fired, and of each pattern something."""
        for pattern, names in self._asked.items():
            if not any(name in firings for name in names):
                shown = f"hook point {pattern!r}" if pattern in self._found else f"no hook point matching {pattern!r}"
                missing = "did not fire" if pattern in self._found else "fired"
                raise ActivationError(f"{shown} {missing} in the forward pass")

    def absent(self, firings: Firings) -> dict[str, str]:
        """Return the points that patterns matched and that hold nothing, with the reason."""
        silent = {name: "did not fire in the forward pass" for name in self.points if name not in firings}
        return self._withheld | silent

    def other_names(self) -> dict[str, str]:
        """Return the names that a point has beside the one it was asked for by."""
        return {other: name for name in self.points for other in self._found.names(name) if other != name}


def _about(left: Sequence[str]) -> str:
    shown = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
    return (
        f"the model has hooks that were left on it and take part in every run: {shown}. Remove them "
        f"(model.reset_hooks(), handle.remove()), use `with model.hooks(...)`, or declare them with add_perma_hook"
    )


def _check_size(megabytes: float, limit_mb: float | None, n: int) -> None:
    if limit_mb is not None and megabytes > limit_mb:
        raise ActivationError(
            f"the activations of {n} examples would take {megabytes:.4g} MB, and limit_mb is {limit_mb:g}; ask for "
            "fewer points or ids, a smaller dtype, or a reduction such as reduce=mm.Mean"
        )
