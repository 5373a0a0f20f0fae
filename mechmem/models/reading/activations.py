"""Activations and gradients at hook points, streamed over the data in chunks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mechmem.core.arguments import checked_but, fits
from mechmem.core.config import check_number, check_whole
from mechmem.core.ids import check_ids
from mechmem.core.in_words import shown
from mechmem.core.inputs import run_on
from mechmem.core.roles import Roles
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Ids, Task
from mechmem.errors import ActivationError, ConfigError, MechmemError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.hooking import Act, on_point, warn_of_leftovers
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.hooks.points import HookPoints, hook_points
from mechmem.models.hooks.running import block_rows, device_of, differentiating, evaluating, recomputing, resolve_device
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.models.reading.cache import Activations
from mechmem.models.reading.gradients import Loss, Tape
from mechmem.models.reading.input_types import RUNNING_ERRORS, check_runs
from mechmem.models.reading.separate import check_separate
from mechmem.models.reading.stores import Firings, Keeping, Reducing, Reduction, Store, made_reduction

_MB = 2**20


@checked_but("points", "reduce", "gradients", "dtype", "chunk", "limit_mb")
def activations(
    subject: Subject | nn.Module,
    points: str | Sequence[str] = "*",
    ids: Ids | None = None,
    *,
    task: Task | None = None,
    roles: Roles | None = None,
    reduce: Callable[[], Reduction] | None = None,
    gradients: Loss | None = None,
    chunk: int | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    limit_mb: float | None = None,
) -> Activations:
    """Run a subject's model over examples and return the values of its hook points.

    Values are detached and copied as they are seen, so that nothing the model does later, in place or not, can change
    them; the result holds no model. Hooks already registered on the model run first, and their changes are seen.

        hidden = mm.activations(network, "hook_hidden", ids=network.task.test_ids)["hook_hidden"]
        moments = mm.activations(network, "hook_*", reduce=mm.Variance)

    Args:
        subject: the model and its task, or a model with its `task`. Any module with `HookPoint` submodules works: a
            `HookedRootModule`, a `HookedTransformer`, a `TransformerBridge`.
        points: names of hook points, or patterns such as "hook_*"; "*" for all. Points matched by a pattern are left
            out if they do not fire or do not hold one value per example; for a point given by name this is an error.
        ids: the examples, in order, as a tensor, a list, a range or an array; the training set by default.
        task: the model's task, if `subject` is a bare model.
        roles: its roles, if it has no attribute of that name.
        reduce: creates a running reduction per point (`Mean`, `Variance`, `Gram`, or your own); without one every
            example's value is kept.
        gradients: a function of (logits, given labels) that returns a loss summed over examples, or one loss per
            example. The result's `gradients` then holds its gradient with respect to every point's value, example by
            example, kept or reduced like the values.
        chunk: examples per forward pass; by default as many as stay in cache.
        device: device of the results.
        dtype: dtype to which floating-point results are cast; by default unchanged.
        limit_mb: most megabytes that the results may take, checked after the first chunk and before memory for all
            examples is allocated. None for no limit.

    Raises:
        ConfigError: a model without a task, or that does not run on its inputs; `ids` is not a list of ids; a setting
            has a wrong type or is out of range; the device is not available; the model is compiled; the loss is not
            summed over examples, or does not depend on the logits.
        UnknownNameError: a name or pattern matches no hook point, or an id is not one of the task's.
        ActivationError: a named point or every point of a pattern did not fire, or does not hold one value per example;
            a point fired a different number of times from chunk to chunk; or the results would take more than
            `limit_mb`.
        RoleError: the logits are not where the roles say (read only for `gradients`).
        UnsteadyNetworkError: the model is random in evaluation mode, or examples act on each other in it (as far as the
            logits show it, if they are where the roles say).

    Warns:
        LeftoverHooksWarning: hooks that were left on the model act in the pass.
    """
    subject = subject_of(subject, task, roles)
    model, task = subject.model, subject.task
    patterns = _checked(points, reduce, gradients, chunk, dtype, limit_mb)
    ids = check_ids(task, task.train_ids if ids is None else ids)
    target = resolve_device(str(device))
    wanted = _Wanted(hook_points(model), patterns)
    warn_of_leftovers(model)
    rows = chunk or block_rows(model)
    unfit = check_separate(model, task, ids, rows, subject.roles.output, list(wanted.points))

    def store() -> Store:
        return Keeping(len(ids), target, dtype) if reduce is None else Reducing(reduce, target, dtype)

    values, firings, block = store(), Firings(), slice(0, 0)
    tape = None if gradients is None else Tape(gradients, store(), subject.roles.output)

    def act_at(name: str) -> Act:
        def act(value: Tensor) -> Tensor | None:
            fits = value.ndim > 0 and len(value) == block.stop - block.start
            if recomputing():
                # What was done to the value in the forward pass, without keeping it again.
                return tape.copied(value)[1] if tape is not None and fits else None
            key = firings.count(name)
            if not fits:
                wanted.refuse(key, value, block)
                return None
            values.put(key, block, value.detach())
            return None if tape is None else tape.record(key, value)

        return act

    source, masks = device_of(model), mask_layers(model)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.no_grad() if tape is None else differentiating())
            stack.enter_context(evaluating(model))
            for name, point in wanted.points.items():
                stack.enter_context(on_point(point, act_at(name)))
            for block in blocks(len(ids), rows):
                firings.start()
                inputs, given = task.batch(ids[block])
                with of_examples(masks, task.source(ids[block])):
                    returned = run_on(model, inputs.to(source))
                firings.end()
                wanted.check(firings)
                if tape is not None:
                    tape.end(returned, given.to(source), block)
                if block.start == 0:
                    kept = [values] if tape is None else [values, tape.store]
                    _check_size(sum(part.nbytes() for part in kept) / _MB, limit_mb, len(ids))
                    for part in kept:
                        part.settle()
    except RUNNING_ERRORS as error:
        if not isinstance(error, MechmemError):
            check_runs(model, task, ids[block] if block.stop else ids[:1])
        raise
    # Last, so that a shape that the passes themselves refuse is the one that is told.
    wanted.refuse_all(unfit, firings)
    absent, names = wanted.absent(firings), wanted.other_names()
    slopes = None
    if tape is not None:
        with_path, without = tape.results()
        reasons = absent | firings.numbered(without)
        slopes = Activations(firings.numbered(wanted.fit(with_path)), other_names=names, absent=reasons)
    held = firings.numbered(wanted.fit(values.results()))
    return Activations(held, other_names=names, absent=absent, gradients=slopes)


def _checked(
    points: object,
    reduce: Callable[[], Reduction] | None,
    gradients: object,
    chunk: int | None,
    dtype: object,
    limit_mb: float | None,
) -> list[str]:
    """Check the settings; return the names and patterns of the points."""
    if isinstance(points, list | tuple) and not points:
        raise ConfigError("points must be at least one hook point or pattern, got none")
    several = list(points) if isinstance(points, Iterable) and not isinstance(points, str) else [points]
    patterns = [each for each in several if isinstance(each, str)]
    if len(patterns) < len(several):
        raise ConfigError(
            f"points is a name, a pattern or a list of them, got {points!r}; classes of modules are for mm.attach"
        )
    if reduce is not None:
        made_reduction(reduce)  # here, and not in the first forward pass
    if gradients is not None and not fits(gradients, Callable[[Any, Any], Any]):
        wanted = "a function of logits and given labels that returns a loss"
        raise ConfigError(f"gradients is {wanted}, got {shown(gradients)}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ConfigError(f"dtype is a floating-point type such as torch.float16, got {dtype!r}")
    if chunk is not None:
        check_whole("chunk", chunk, 1)
    if limit_mb is not None:
        check_number("limit_mb", limit_mb, least=0)
    return patterns


class _Wanted:
    """The points that were asked for, by name or by pattern."""

    def __init__(self, found: HookPoints, patterns: Sequence[str]):
        self._found = found
        self._withheld: dict[str, str] = {}
        self._asked: dict[str, list[str]] = {}
        self._unfit: dict[str, str] = {}
        self.points: dict[str, HookPoint] = {}
        for pattern in patterns:
            matched, withheld = found.matching(pattern)
            # A point is listed under the first name by which it was asked for.
            new = {name: point for name, point in matched.items() if point not in self.points.values()}
            self.points.update(new)
            self._withheld.update(withheld)
            self._asked[pattern] = [name for name, point in self.points.items() if point in matched.values()]

    def refuse(self, key: str, value: Tensor, block: slice) -> None:
        """Record that a firing does not hold one value per example."""
        rows = block.stop - block.start
        self._unfit.setdefault(key, f"has shape {tuple(value.shape)}; its first axis is not the {rows} examples")

    def refuse_all(self, reasons: Mapping[str, str], firings: Firings) -> None:
        """Record that firings do not hold one value per example, with the reasons, and check what is left."""
        for key, reason in reasons.items():
            self._unfit.setdefault(key, reason)
        if reasons:
            self.check(firings)

    def fit(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the values of the firings that hold one value per example in every chunk."""
        return {key: value for key, value in values.items() if key not in self._unfit}

    def check(self, firings: Firings) -> None:
        """Check that each named point, and some point of each pattern, fired and holds one value per example."""
        unfit = firings.numbered(self._unfit)
        for pattern, names in self._asked.items():
            fired = firings.of(names)
            if not fired:
                named = f"hook point {pattern!r}" if pattern in self._found else f"no hook point matching {pattern!r}"
                missing = "did not fire" if pattern in self._found else "fired"
                raise ActivationError(f"{named} {missing} in the forward pass")
            refused = [name for name in fired if name in unfit]
            if refused and (pattern in self._found or len(refused) == len(fired)):
                raise ActivationError(f"{refused[0]!r} {unfit[refused[0]]}")

    def absent(self, firings: Firings) -> dict[str, str]:
        """Return the points that a pattern matched but that have no value, with the reason."""
        silent = {name: "did not fire in the forward pass" for name in self.points if name not in firings}
        return self._withheld | silent | firings.numbered(self._unfit)

    def other_names(self) -> dict[str, str]:
        """Return the other names of the points, each with the name by which its point was asked for."""
        names = {other: name for name in self.points for other in self._found.names(name) if other != name}
        return names | {later: name for later, name in self._found.later.items() if name in self.points}


def _check_size(megabytes: float, limit_mb: float | None, n: int) -> None:
    if limit_mb is not None and megabytes > limit_mb:
        raise ActivationError(
            f"the activations of {n} examples would take {megabytes:.4g} MB, and limit_mb is {limit_mb:g}; ask for "
            "fewer points or ids, a smaller dtype, or a reduction such as reduce=mm.Mean"
        )
