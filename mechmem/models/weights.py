"""A network's input and output vectors, read by role and checked against its task."""

from __future__ import annotations

import dataclasses

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.contracts import Subject
from mechmem.errors import MissingNeedError, RoleError, unknown_name
from mechmem.group_contract import Group
from mechmem.roles import Roles


@dataclasses.dataclass(frozen=True, eq=False)
class NeuronVectors:
    """The vectors over the symbols that a layer's neurons have.

    Attributes:
        group: the task's group.
        point: the hook point that holds the neurons ("" where the roles name none).
        names: "u", "v" (input vectors of the two operands) and "w" (output vector), as far as the layer has them.
        vectors: for each name one vector per neuron, in the weights' own units; views of the parameters where their
            patterns allow. Shape (symbol, neuron) each.
    """

    group: Group
    point: str
    names: tuple[str, ...]
    vectors: tuple[Float[Tensor, "symbol neuron"], ...]


def neuron_point(subject: Subject, point: str = "") -> str:
    """Return the hook point of a layer of neurons: the one named, or else the last.

    Raises:
        UnknownNameError: the role `hidden` holds no such point.
    """
    hidden = subject.roles.hidden
    if point and point not in hidden:
        raise unknown_name("layer of neurons", point, hidden)
    return point or (hidden[-1] if hidden else "")


def check_no_stream(roles: Roles) -> None:
    """Refuse a network whose embedding and readout are of a residual stream, and not of neurons.

    Raises:
        MissingNeedError: the role `residual` names a stream.
    """
    if roles.residual:
        neurons = f"; the neurons of {roles.hidden[-1]!r} have none over the symbols" if roles.hidden else ""
        raise MissingNeedError(
            "this needs neurons with input and output vectors, and here embedding and readout are those of a residual "
            f"stream ({roles.residual[0]!r}){neurons}"
        )


def neuron_vectors(subject: Subject, point: str = "", model: nn.Module | None = None) -> NeuronVectors:
    """Return the vectors of a layer's neurons: u and v in the first layer, w in the last, all three where it is one.

    Args:
        subject: names the roles.
        point: which layer, a hook point of the role `hidden`; by default the last.
        model: whose weights are read; by default the subject's own.

    Raises:
        MissingNeedError: no group, no frequency in it, a missing role, a layer with neither kind of vector, or a
            network with a residual stream.
        UnknownNameError: there is no such layer.
        RoleError: a role is read in another shape than (2, symbols, neurons) or (neurons, classes).
    """
    group, roles = subject.task.group, subject.roles
    if group is None or roles.input_embedding is None or roles.readout is None:
        raise MissingNeedError("neuron vectors need a group and the roles input_embedding and readout")
    if group.n_frequencies == 0:
        raise MissingNeedError("the task's group has one element, and so no frequency")
    model = subject.model if model is None else model
    point = neuron_point(subject, point)
    check_no_stream(roles)
    first = not roles.hidden or point == roles.hidden[0]
    last = not roles.hidden or point == roles.hidden[-1]
    found: list[Tensor] = []
    symbols, classes = subject.task.symbols, subject.task.n_classes
    if first:
        embedding = roles.input_embedding.read(model)
        if embedding.ndim != 3 or embedding.shape[:2] != (2, symbols):
            raise RoleError(
                f"input_embedding must read as (2, {symbols}, neurons), and reads as {tuple(embedding.shape)}"
            )
        found += list(embedding)
    if last:
        readout = roles.readout.read(model)
        width = found[0].shape[1] if found else None
        if readout.ndim != 2 or readout.shape[1] != classes or width not in (None, readout.shape[0]):
            wanted = "neurons" if width is None else width
            raise RoleError(f"readout must read as ({wanted}, {classes}), and reads as {tuple(readout.shape)}")
        if classes != symbols:
            raise MissingNeedError(f"the classes ({classes}) are not the symbols ({symbols}) of the group")
        found.append(rearrange(readout, "neuron classes -> classes neuron"))
    if not found:
        raise MissingNeedError(f"layer {point!r} lies between two others: its neurons have no vector over the symbols")
    names = (("u", "v") if first else ()) + (("w",) if last else ())
    return NeuronVectors(group, point, names, tuple(found))


def neuron_weights(
    subject: Subject, model: nn.Module | None = None
) -> tuple[Group, Float[Tensor, "operand symbol neuron"], Float[Tensor, "neuron class"]]:
    """Return the task's group, the input embedding and the readout of a network with one layer of neurons.

    Args:
        subject: names the roles.
        model: whose weights are read; by default the subject's own.

    Raises:
        MissingNeedError: there is no group, no frequency in it, one of the two roles is missing, or several layers or
            a residual stream stand between the two.
        RoleError: a role is read in another shape than (2, symbols, neurons) or (neurons, classes).
    """
    if len(subject.roles.hidden) > 1 and not subject.roles.residual:
        layers = ", ".join(subject.roles.hidden)
        raise MissingNeedError(f"this needs one layer of neurons with input and output vectors; here are {layers}")
    vectors = neuron_vectors(subject, model=model)
    embedding = subject.roles.input_embedding
    assert embedding is not None
    readout = rearrange(vectors.vectors[-1], "classes neuron -> neuron classes")
    return vectors.group, embedding.read(subject.model if model is None else model), readout
