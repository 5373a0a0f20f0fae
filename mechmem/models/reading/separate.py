"""Check that a network treats examples separately: the same values for an example at every pass, in every block."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from mechmem.core.inputs import run_on
from mechmem.core.roles import Output
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import MechmemError, RoleError, UnsteadyNetworkError
from mechmem.models.hooks.hooking import on_point
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.hooks.points import hook_points
from mechmem.models.hooks.running import block_rows, device_of, evaluating
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.models.reading.culprit import first_to_differ
from mechmem.models.reading.input_types import check_input_type
from mechmem.models.reading.same_rows import ROUNDINGS, Block, CoarsestType, gap_of
from mechmem.models.reading.trial_network import (
    copy_for_trial,
    known_state,
    known_to_be_separate,
    random_state,
    random_state_kept,
)

WHOLE: Block = tuple(range(8))
PARTS: tuple[Block, ...] = ((5, 2, 0), (7, 6, 4), (3, 1))
"""Every example of the sample once more, in blocks of other sizes, at other places and beside other examples."""
SWAPPED: tuple[Block, ...] = ((0,) * 8, (0, 1, 2, 3) * 2, (4, 5, 6, 7) * 2)
"""Blocks of the size of the whole with other examples beside those that keep their places: not even the rounding of an
example's values differs there, unless examples act on each other."""
AGAIN = 32
"""Further passes over the whole of a network that draws random numbers: some depend on them only now and then."""

ROUNDINGS_OF_BLOCKS = 1000
"""The same as `ROUNDINGS` between passes over blocks of several sizes."""
LARGEST = 0.02
"""Upper limit of that share, for networks in half precision."""
SHARE_AT_POINTS = 0.01
"""The same share for the values of hook points, whose largest may be far below what they are computed from."""

Values = dict[str, Shaped[Tensor, "..."]]
"""The logits of a pass, under "", and the firings of hook points, numbered."""

_seen: weakref.WeakKeyDictionary[nn.Module, tuple[Any, dict[Any, dict[str, str]]]] = weakref.WeakKeyDictionary()
"""For every network the state in which it was checked, and what was found, by point and by place of the logits."""


def check_separate(
    model: nn.Module,
    task: Task,
    ids: Int[Tensor, " example"],
    rows: int,
    output: Output = Output(),
    points: Sequence[str] = (),
) -> dict[str, str]:
    """Refuse a network whose logits for an example are not a function of that example.

    Eight examples pass twice through a copy of it, and once more in three blocks; this happens once per network, state,
    and place of the logits or hook point. mechmem's own networks, as long as nobody has put other modules or hooks into
    them, need no trial.

    Args:
        model: the network; it is run in evaluation mode.
        task: its task.
        ids: the examples that are to go through it.
        rows: how many at once.
        output: position of the logits; if there are none, only the points are checked.
        points: names of hook points whose values are to be read.

    Returns:
        the reason for each firing `name#i` of a point whose first axis is not the examples.

    Raises:
        UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other.
        ConfigError: it does not run on inputs of the task's type of number.
    """
    if not len(ids):
        return {}
    if known_to_be_separate(model):
        check_input_type(model, task, ids, looked_up=True)
        return {}
    state = known_state(model)
    known_in, found = _seen.get(model, (None, {}))
    found = found if known_in == state else {}
    new = [name for name in points if name not in found]
    if new or output not in found:
        copied = copy_for_trial(model)
        of_copy = hook_points(copied) if new else {}
        trial = _Trial(copied, task, output, {name: of_copy[name] for name in new})
        unfit = trial.checked(_sample(task.ids), WHOLE, PARTS, SWAPPED)
        if unfit is None:
            # The network may run on blocks of one size only: that of the pass to come.
            block = tuple(range(min(rows, len(ids))))
            half = len(block) // 2
            swapped = (block[:half] * 3)[: len(block)], (block[half:] * 3)[-len(block) :]
            unfit = trial.checked(ids[: len(block)], block, (), swapped)
        if unfit is None:
            check_input_type(model, task, ids)
            return {}
        found = {**found, output: {}, **{name: {} for name in new}}
        for key, reason in unfit.items():
            found[key.rpartition("#")[0]][key] = reason
        _seen[model] = state, found
    return {key: reason for name in points for key, reason in found[name].items()}


def check_subject(subject: Subject) -> None:
    """Refuse a subject whose network's logits for an example are not a function of that example, as `check_separate`.

    For what runs a network itself; `logits_of` and `activations` check what they run.

    Raises:
        UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other.
    """
    model, task = subject.model, subject.task
    check_separate(model, task, task.ids, block_rows(model), subject.roles.output)


def _sample(ids: Int[Tensor, " example"]) -> Int[Tensor, " place"]:
    """Return ids from all over the task; all of them, again and again, where it has fewer."""
    places = torch.arange(len(WHOLE))
    return ids[places * max(1, len(ids) // len(WHOLE)) % len(ids)]


class _DoesNotRunError(Exception):
    """The network does not run on a block."""


@dataclasses.dataclass(eq=False)
class _Trial:
    """Passes of a few examples through a network."""

    model: nn.Module
    task: Task
    output: Output
    points: Mapping[str, HookPoint]

    def checked(
        self, ids: Int[Tensor, " place"], whole: Block, parts: Sequence[Block], swapped: Sequence[Block]
    ) -> dict[str, str] | None:
        """Return the reason by firing for the points that do not hold one value per example.

        None if the network does not run on these blocks.
        """
        try:
            with random_state_kept(self.model), torch.no_grad(), evaluating(self.model):
                before = random_state(self.model)
                first = self._run(ids, whole)
                again = self._run(ids, whole)
                drawn = before is not None and random_state(self.model) != before
                repeated = [again, *(self._run(ids, whole) for _ in range(AGAIN if drawn else 0))]
                self._check_repeated(ids, whole, first, repeated)
                blocks = [(block, self._run(ids, block)) for block in parts]
                if not parts or not all(_alike(first, whole, values, block) for block, values in blocks):
                    self._check_blocks(ids, whole, first, blocks, swapped)
                return self._unfit(whole, [(whole, first), (whole, again), *blocks])
        except _DoesNotRunError:
            return None

    def _run(self, ids: Int[Tensor, " place"], block: Block) -> Values:
        """Return the logits and the points' values of a pass over a block."""
        chosen = ids[torch.tensor(block)]
        found: Values = {}
        with contextlib.ExitStack() as stack:
            for name, point in self.points.items():
                stack.enter_context(on_point(point, lambda value, name=name: _kept(found, name, value)))
            returned = self._returned(chosen)
        with contextlib.suppress(RoleError):
            found[""] = self.output.read(returned).detach()
        return found

    def _returned(self, ids: Int[Tensor, " row"]) -> Any:
        inputs = self.task.batch(ids)[0].to(device_of(self.model))
        with of_examples(mask_layers(self.model), self.task.source(ids)):
            try:
                return run_on(self.model, inputs)
            except MechmemError:
                raise
            except Exception as error:
                # Whatever the error, the pass that was asked for works or raises it again.
                raise _DoesNotRunError from error

    def _check_repeated(
        self, ids: Int[Tensor, " place"], whole: Block, first: Values, repeated: Sequence[Values]
    ) -> None:
        for again in repeated:
            if not _alike(first, whole, again, whole):
                raise UnsteadyNetworkError(
                    "the network is random in evaluation mode: between two passes over the same "
                    f"{len(whole)} examples, {_gap_shown(first, whole, again, whole)}, and "
                    f"{self._culprit(ids, whole, whole)}. Figures would be no property of the network: let it draw no "
                    "random numbers in evaluation mode (F.dropout takes training=self.training)"
                )

    def _check_blocks(
        self,
        ids: Int[Tensor, " place"],
        whole: Block,
        first: Values,
        blocks: Sequence[tuple[Block, Values]],
        swapped: Sequence[Block],
    ) -> None:
        for block in swapped:
            beside = self._run(ids, block)
            if not _alike(first, whole, beside, block):
                raise UnsteadyNetworkError(
                    "examples act on each other in evaluation mode: with other examples beside them, "
                    f"{_gap_shown(first, whole, beside, block)}, and {self._culprit(ids, whole, block)}. Figures would "
                    "depend on how the examples are divided into blocks: use running statistics "
                    "(track_running_stats=True), or normalise every example by itself"
                )
        with CoarsestType() as seen:
            self._run(ids, whole)
        for block, values in blocks:
            if not _alike(first, whole, values, block, min(ROUNDINGS_OF_BLOCKS * seen.eps, LARGEST)):
                raise UnsteadyNetworkError(
                    "what the network returns for an example depends on its place in a block, or on the size of the "
                    f"block: {_gap_shown(first, whole, values, block)}, and {self._culprit(ids, whole, block)}. "
                    "Figures would depend on how the examples are divided into blocks"
                )

    def _culprit(self, ids: Int[Tensor, " place"], whole: Block, block: Block) -> str:
        """Return a phrase that names the first module whose result differs between two passes."""
        name = None
        # A network that is random only now and then may need several passes to differ again.
        for _ in range(AGAIN if block == whole else 1):
            name = first_to_differ(self.model, lambda each: self._returned(ids[torch.tensor(each)]), (whole, block))
            if name is not None:
                break
        module = self.model.get_submodule(name or "")
        kind = type(getattr(module, "_model", module)).__name__
        return f"the first to differ is the result of {f'module {name!r}' if name else 'the model itself'} ({kind})"

    def _unfit(self, whole: Block, passes: Sequence[tuple[Block, Values]]) -> dict[str, str]:
        """Return the reason for each firing whose values are not one per example."""
        first, found = passes[0][1], {}
        for key in {key: None for _, values in passes for key in values if key}:
            held = [(block, values[key]) for block, values in passes if key in values]
            wrong = next((each for each in held if not each[1].ndim or len(each[1]) != len(each[0])), None)
            if wrong is not None:
                found[key] = f"has shape {tuple(wrong[1].shape)}; its first axis is not the {len(wrong[0])} examples"
            elif key in first and first[key].is_floating_point():
                one = {key: first[key]}
                if not all(_alike(one, whole, {key: each}, block, SHARE_AT_POINTS, key) for block, each in held):
                    found[key] = "holds other values for an example in another block or at another pass"
        return found


def _alike(
    one: Values, block: Block, other: Values, other_block: Block, share: float | None = None, key: str = ""
) -> bool:
    """Return whether two passes give the examples that they share the same logits, or values of a point."""
    if key not in one or key not in other:
        return key not in one and key not in other
    a, b = one[key], other[key]
    if len(a) != len(block) or len(b) != len(other_block) or a.shape[1:] != b.shape[1:]:
        return a.shape[:1] != (len(block),)  # not one row per example, which is for others to refuse
    gap, scale = gap_of(a, block, b, other_block)
    eps = torch.finfo(a.dtype).eps if a.is_floating_point() or a.is_complex() else 0.0
    return gap <= (min(ROUNDINGS * eps, LARGEST) if share is None else share) * scale


def _gap_shown(one: Values, block: Block, other: Values, other_block: Block) -> str:
    gap, scale = gap_of(one[""], block, other[""], other_block)
    return f"the logits of an example differ by up to {gap:.3g}, where the largest is {scale:.3g}"


def _kept(found: Values, name: str, value: Tensor) -> None:
    number = sum(key.rpartition("#")[0] == name for key in found)
    found[f"{name}#{number}"] = value.detach().clone()
