"""Roles of a network of one's own: proposed from its parts, and checked on its numbers."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.config import check_whole
from mechmem.core.elements import tensors
from mechmem.core.inputs import run_on
from mechmem.core.roles import Output, Role, Roles
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import MechmemError
from mechmem.models.hooks.attach import Attached, attach
from mechmem.models.hooks.insertion import insertions
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.hooks.points import hook_points
from mechmem.models.hooks.running import device_of, evaluating
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.models.reading.input_types import check_runs

AGREES = 1e-4
"""Largest difference, as a share of the largest value, at which a part is what it was taken for; float32 rounds to
about 1e-6 in a network of this kind."""

COLUMNS = ("role", "found", "pattern", "checked")


@dataclasses.dataclass(frozen=True, eq=False)
class FoundRoles:
    """Roles that were found in a network.

    Attributes:
        roles: what was found and agrees with the network's numbers.
        network: the network with hook points, its task and these roles, as every other function takes it.
        table: one row per role: role, found, pattern, checked (see `to_frame`).
    """

    roles: Roles
    network: Subject
    table: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return one row per role: its name, the parameter or points found, the pattern, and how it was checked.

        Where nothing was found, `found` is "" and `checked` says what was looked for.
        """
        return self.table.copy()

    def __repr__(self) -> str:
        return self.table.to_string(index=False)

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False)


@checked
def roles_from(model: nn.Module, task: Task, *, examples: int = 64) -> FoundRoles:
    """Propose the roles of a network's parts, and check each on the network's numbers.

        found = mm.roles_from(model, task)
        found.to_frame()  # what was found, and what was not
        mm.audit(found.network)

    A readout is one if what goes into it, times its weights, is the logits; an input embedding, if its rows for both
    operands add up to what goes into a layer of neurons. Names and shapes alone decide nothing. Heads and the residual
    stream are not looked for: networks of TransformerLens name them, others are told by hand.

    Args:
        model: the network, with hook points or without; it is given those that the roles need.
        task: its task.
        examples: number of training examples that are run.

    Raises:
        ConfigError: the network does not run on the task's inputs.
    """
    check_whole("examples", examples, 2)
    ids = task.train_ids[:examples]
    seen = _Seen(model, task, ids)
    output, row = _output(seen.returned, len(ids), task.n_classes)
    rows = {"output": row}
    roles = Roles() if output is None else Roles(output=output)
    if output is not None:
        logits = output.read(seen.returned).detach().double()
        readout, bias, into, rows["readout"], rows["bias"] = _readout(seen, logits, output.position)
        hidden, activation, rows["hidden"], rows["activation"] = _hidden(seen, into)
        embedding, rows["input_embedding"] = _embedding(seen, task, ids)
        roles = Roles(embedding, readout, bias, activation, hidden, output=output)
    network = model if seen.hooked else _with_points(model, roles.hidden or ("*",))
    table = pd.DataFrame([(name, *row) for name, row in rows.items()], columns=list(COLUMNS))
    return FoundRoles(roles, Subject(network, task, roles), table)


_EARLIER = weakref.WeakKeyDictionary[nn.Module, tuple[weakref.ref[Attached], tuple[str, ...]]]()
"""What a network was given points by, and which."""


def _with_points(model: nn.Module, points: tuple[str, ...]) -> Attached:
    """Attach points, or return what an earlier call attached, as that of a notebook's cell that is run again."""
    reference, own = _EARLIER.get(model, (lambda: None, ()))
    if (earlier := reference()) is not None and own == points and insertions(model):
        return earlier
    network = attach(model, *points)
    _EARLIER[model] = weakref.ref(network), points
    return network


Row = tuple[str, str, str]
"""What was found for a role, its pattern, and how it was checked."""


class _Seen:
    """Everything that one pass through a network shows.

    Attributes:
        hooked: whether the network has hook points already.
        values: what each hook point holds, or would hold if the network were given it, by name.
        active: names of the modules that are activation functions, in the order in which they act.
        parameters: the network's parameters by name, in float64.
        positions: the position at which each example is answered, where the examples differ in it.
        returned: what the network returns.
    """

    def __init__(self, model: nn.Module, task: Task, ids: Int[Tensor, " example"]):
        points = hook_points(model)
        self.hooked = bool(points)
        self.values: dict[str, Tensor] = {}
        self.active: list[str] = []
        self.positions = task.answer_positions(ids)
        self.parameters = {name: each.detach().double().cpu() for name, each in model.named_parameters()}
        names = {point: name for name, point in points.items()}
        with contextlib.ExitStack() as stack, torch.no_grad(), evaluating(model):
            for name, module in model.named_modules():
                note = self._noting(name, names.get(module) if isinstance(module, HookPoint) else None)
                stack.enter_context(module.register_forward_hook(note))
            try:
                with of_examples(mask_layers(model), task.source(ids)):
                    self.returned = run_on(model, task.batch(ids)[0].to(device_of(model)))
            except MechmemError:
                raise
            except Exception:
                check_runs(model, task, ids)
                raise

    def _noting(self, name: str, point: str | None) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def note(module: nn.Module, given: tuple[Any, ...], returned: Any) -> None:
            before = f"{name}." if name else ""
            own = {point: returned} if self.hooked and point else {}
            own |= (
                {} if self.hooked else {f"{before}hook_in": given[0] if given else None, f"{before}hook_out": returned}
            )
            self.values |= {key: _kept(each) for key, each in own.items() if isinstance(each, Tensor)}
            if type(module).__module__ == "torch.nn.modules.activation" and isinstance(returned, Tensor):
                self.active.append(name)
                self.values.setdefault(f"{before}hook_out", _kept(returned))

        return note

    def rows(self, position: int | None = None) -> Iterator[tuple[str, Float[Tensor, "example unit"]]]:
        """Yield the values with one row of real numbers per example, at one position if they have several."""
        for name, value in self.values.items():
            if value.ndim == 3 and self.positions is not None and len(value) == len(self.positions):
                chosen = value[torch.arange(len(value)), self.positions]
            else:
                chosen = value[:, -1 if position is None else position] if value.ndim == 3 else value
            if chosen.ndim == 2 and chosen.is_floating_point():
                yield name, chosen


def _kept(value: Tensor) -> Tensor:
    return value.detach().double().cpu() if value.is_floating_point() else value.detach().cpu()


def _gap(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))


def _output(returned: Any, n: int, classes: int) -> tuple[Output | None, Row]:
    """Return where the logits are in what the network returns."""
    held = tensors(returned)
    fitting = [name for name, each in held.items() if tuple(each.shape) == (n, classes) and each.is_floating_point()]
    name = next((each for each in fitting if each.rpartition(".")[2] == "logits"), fitting[0] if fitting else None)
    if name is not None:
        others = len(fitting) - 1
        beside = f"; {others} more of that shape" if others else ""
        return Output(element=name), (name or "what it returns", "", f"has shape (example, class){beside}")
    for name, each in held.items():
        if each.ndim == 3 and len(each) == n and each.shape[2] >= classes and each.is_floating_point():
            output = Output(element=name, position=-1, classes=None if each.shape[2] == classes else classes)
            said = "(example, position, class): the last position is taken, which nothing checks"
            return output, (name or "what it returns", "", f"has shape {said}")
    shapes = ", ".join(f"{name or 'itself'} {tuple(each.shape)}" for name, each in held.items()) or "no tensor"
    return None, ("", "", f"nothing of shape (example, class) = ({n}, {classes}) is returned, but {shapes}")


def _readout(
    seen: _Seen, logits: Float[Tensor, "example class"], position: int | None
) -> tuple[Role | None, Role | None, Tensor | None, Row, Row]:
    """Return the readout and its bias, and what goes into it."""
    logits, classes = logits.cpu(), logits.shape[1]
    if torch.equal(logits, logits[:1].expand_as(logits)):
        same = "all examples have the same logits, by which nothing can be checked"
        return None, None, None, ("", "", same), ("", "", "there is no readout")
    biases = {None: torch.zeros(1, dtype=torch.float64)}
    biases |= {name: each for name, each in seen.parameters.items() if tuple(each.shape) == (classes,)}
    weights = {name: each for name, each in seen.parameters.items() if each.ndim == 2 and classes in each.shape}
    for (name, weight), (_, into) in itertools.product(weights.items(), list(seen.rows(position))[::-1]):
        for pattern, matrix in (
            ("classes neuron -> neuron classes", weight.T),
            ("neuron classes -> neuron classes", weight),
        ):
            if matrix.shape != (into.shape[1], classes):
                continue
            product = into @ matrix
            for bias, added in biases.items():
                if (gap := _gap(product + added, logits)) < AGREES:
                    said = f"what goes into it, times its weights, is the logits (to {gap:.0e} of the largest)"
                    found = None if bias is None else Role(bias, "classes -> classes")
                    beside = ("", "", "the readout has none") if bias is None else (bias, "classes -> classes", said)
                    return Role(name, pattern), found, into, (name, pattern, said), beside
    nothing = "", "", f"no parameter of {classes} classes makes the logits of what a module returns or is given"
    return None, None, None, nothing, ("", "", "there is no readout")


def _hidden(seen: _Seen, into: Tensor | None) -> tuple[tuple[str, ...], str | tuple[str, ...] | None, Row, Row]:
    """Return the points of the neurons, and the modules that are their activation functions."""
    points: list[str] = []
    for name in seen.active:
        value = seen.values[f"{name}.hook_out" if name else "hook_out"]
        alike = [key for key, each in seen.values.items() if each.shape == value.shape and torch.equal(each, value)]
        own = [key for key in alike if not seen.hooked or not key.endswith(f"{name}.hook_out")]
        points += [each for each in own[:1] if each not in points]
    modules = tuple(dict.fromkeys(seen.active))
    activation = None if not modules else modules[0] if len(modules) == 1 else modules
    row = (", ".join(modules), "", "activation functions of torch") if modules else ("", "", "no module is one")
    read = (
        []
        if into is None
        else [name for name, each in seen.rows() if each.shape == into.shape and torch.equal(each, into)]
    )
    if not points and read:
        return (read[0],), activation, (read[0], "", "what the readout reads"), row
    if not points:
        return (), activation, ("", "", "no module is an activation function, and there is no readout"), row
    last = "the readout reads the last" if points[-1] in read else "the readout reads none of them directly"
    return tuple(points), activation, (", ".join(points), "", f"what the activation functions return; {last}"), row


def _tables(parameters: dict[str, Tensor], p: int) -> Iterator[tuple[Role, Float[Tensor, "operand p neuron"]]]:
    """Yield every way to read a parameter, or two, as a table of both operands."""
    single: list[tuple[str, Tensor]] = []
    for name, each in parameters.items():
        shape = tuple(each.shape)
        if len(shape) == 3 and shape[:2] == (2, p):
            yield Role(name, "operand p neuron -> operand p neuron"), each
        if len(shape) != 2:
            continue
        if shape[0] == 2 * p:
            yield Role(name, "(operand p) neuron -> operand p neuron", {"operand": 2}), each.reshape(2, p, -1)
        if shape[1] == 2 * p:
            table = each.T.reshape(2, p, -1)
            yield Role(name, "neuron (operand p) -> operand p neuron", {"operand": 2}), table
        if shape[0] == p:
            single.append((name, each))
            yield Role(name, "p neuron -> operand p neuron", {"operand": 2}), torch.stack([each, each])
        if shape[1] == p:
            yield Role(name, "neuron p -> operand p neuron", {"operand": 2}), torch.stack([each.T, each.T])
    for (name, each), (other, another) in itertools.permutations(single, 2):
        if each.shape == another.shape:
            pattern = "operand p neuron -> operand p neuron"
            yield Role((name, other), pattern), torch.stack([each, another])


def _embedding(seen: _Seen, task: Task, ids: Int[Tensor, " example"]) -> tuple[Role | None, Row]:
    """Return the input embedding: what adds up, but for a constant, to a layer of neurons."""
    if task.operands is None:
        return None, ("", "", "inputs are not pairs of symbols")
    a, b = task.operands[task.rows(ids)].T
    for role, table in _tables(seen.parameters, task.symbols):
        total = table[0][a] + table[1][b]
        for name, value in seen.rows():
            if value.shape != total.shape:
                continue
            if (gap := _gap(total - total.mean(0), value - value.mean(0))) < AGREES:
                said = f"its rows add up to {name}, but for a constant (to {gap:.0e} of the largest)"
                return role, (", ".join(role.names), role.pattern, said)
    return None, ("", "", "no parameter's rows for the two operands add up to what a module returns or is given")
