"""Vectors of neurons and matrices over symbols, read by role and checked against the task."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.core.group import Group
from mechmem.core.roles import Roles, read_role
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError, unknown_name
from mechmem.math.logits import check_finite
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.unembedding import neuron_logit_map


@dataclasses.dataclass(frozen=True, eq=False)
class NeuronVectors:
    """Vectors over the symbols of a layer's neurons.

    Attributes:
        group: the task's group.
        point: the hook point that holds the neurons ("" if the roles name none).
        names: those of "u", "v" (input vectors of the two operands) and "w" (output vector) that the layer has.
        vectors: for each name one vector per neuron, in the weights' own units; views of the parameters if their
            patterns allow. Shape (symbol, neuron) each.
    """

    group: Group
    point: str
    names: tuple[str, ...]
    vectors: tuple[Float[Tensor, "symbol neuron"], ...]


def neuron_point(subject: Subject, point: str = "") -> str:
    """Return the hook point of a layer of neurons: the given one, or else the last.

    Raises:
        UnknownNameError: the role `hidden` holds no such point.
    """
    hidden = subject.roles.hidden
    if point and point not in hidden:
        raise unknown_name("layer of neurons", point, hidden)
    return point or (hidden[-1] if hidden else "")


def check_no_stream(roles: Roles) -> None:
    """Refuse a network whose embedding and readout belong to a residual stream, not to neurons.

    Raises:
        MissingNeedError: the role `residual` names a stream.
    """
    if roles.residual:
        neurons = f"; the neurons of {roles.hidden[-1]!r} have none over the symbols" if roles.hidden else ""
        raise MissingNeedError(
            "this needs neurons with input and output vectors, but here embedding and readout belong to a residual "
            f"stream ({roles.residual[0]!r}){neurons}"
        )


def neuron_vectors(subject: Subject, point: str = "", model: nn.Module | None = None) -> NeuronVectors:
    """Return the vectors of a layer's neurons: u and v for the first layer, w for the last, all three for an only one.

    Args:
        subject: its roles name the weights.
        point: hook point of the layer, from the role `hidden`; by default the last.
        model: the model whose weights are read; by default the subject's own.

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
        found += list(read_role(roles, "input_embedding", model, 2, symbols, "neurons"))
    if last:
        width, beside = (found[0].shape[1], "input_embedding") if found else ("neurons", "")
        readout = read_role(roles, "readout", model, width, classes, beside=beside)
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
        subject: its roles name the weights.
        model: the model whose weights are read; by default the subject's own.

    Raises:
        MissingNeedError: there is no group, no frequency in it, one of the two roles is missing, or several layers or
            a residual stream lie between the two.
        RoleError: a role is read in another shape than (2, symbols, neurons) or (neurons, classes).
        NotFiniteError: a weight is NaN or infinite.
    """
    if len(subject.roles.hidden) > 1 and not subject.roles.residual:
        layers = ", ".join(subject.roles.hidden)
        raise MissingNeedError(f"this needs one layer of neurons with input and output vectors, not several ({layers})")
    vectors = neuron_vectors(subject, model=model)
    assert subject.roles.input_embedding is not None
    embedding = subject.roles.input_embedding.read(subject.model if model is None else model)
    readout = rearrange(vectors.vectors[-1], "classes neuron -> neuron classes")
    check_finite(embedding, "the weights of the role input_embedding")
    check_finite(readout, "the weights of the role readout")
    return vectors.group, embedding, readout


def layer_vectors(subject: Subject, point: str = "") -> tuple[str, dict[str, Float[Tensor, "entry neuron"]]]:
    """Return the hook point of a layer, and its neurons' vectors on the CPU: u, v for the first layer, w for the last.

    Args:
        subject: its roles name the weights; vectors of a missing role are left out.
        point: hook point of the layer, from the role `hidden`; by default the last.

    Returns:
        the point ("" if the roles name none), and by name those of "u", "v" (one input vector per operand) and "w" (the
        output vector) that the layer has, one column per neuron.

    Raises:
        UnknownNameError: there is no such layer.
        MissingNeedError: the layer has none of these vectors, or the network has a residual stream.
        RoleError: a role is read in another shape than (1 or 2, entries, neurons) or (neurons, classes).
    """
    roles = subject.roles
    point = neuron_point(subject, point)
    check_no_stream(roles)
    found: dict[str, Tensor] = {}
    if roles.input_embedding is not None and (not roles.hidden or point == roles.hidden[0]):
        embedding = read_role(roles, "input_embedding", subject.model, (1, 2), "entries", "neurons")
        found |= dict(zip("uv", full_precision(embedding.cpu()), strict=False))
    if roles.readout is not None and (not roles.hidden or point == roles.hidden[-1]):
        width, beside = (found["u"].shape[1], "input_embedding") if found else ("neurons", "")
        readout = read_role(roles, "readout", subject.model, width, "classes", beside=beside)
        found["w"] = rearrange(full_precision(readout.cpu()), "neuron classes -> classes neuron")
    if not found:
        raise MissingNeedError(
            f"layer {point!r} has neither an input vector per operand nor an output vector over the classes"
        )
    return point, found


@dataclasses.dataclass(frozen=True, eq=False)
class SymbolMatrix:
    """A matrix with one row per symbol.

    Attributes:
        name: "embedding" (if both operands share one table, else "embedding_a" and "embedding_b"), "readout", or
            "neuron_logits" (W_L, from the last neurons through the residual stream to the logits).
        values: its weights. Shape (symbol, column).
        width: number of independent columns of a random matrix in its place; not whole for a product of two.
    """

    name: str
    values: Float[Tensor, "symbol column"]
    width: float


def symbol_matrices(subject: Subject) -> tuple[SymbolMatrix, ...]:
    """Return the input embedding, the readout, and in a network with a residual stream the neurons' map to the logits.

    Raises:
        MissingNeedError: a role is missing.
        RoleError: a role is read in another shape than (2, symbols, neurons) or (neurons, classes).
    """
    roles, symbols = subject.roles, subject.task.symbols
    if roles.input_embedding is None or roles.readout is None:
        raise MissingNeedError("this needs the roles input_embedding and readout")
    tables = full_precision(read_role(roles, "input_embedding", subject.model, 2, symbols, "neurons").cpu())
    names = ("embedding",) if torch.equal(tables[0], tables[1]) else ("embedding_a", "embedding_b")
    found = [SymbolMatrix(name, table, table.shape[1]) for name, table in zip(names, tables, strict=False)]
    readout = full_precision(read_role(roles, "readout", subject.model, "neurons", "classes").cpu())
    # Classes that are not symbols have no position in the group.
    if readout.shape[1] == symbols:
        found.append(_classes("readout", readout, len(readout)))
        mapped = _mapped(subject)
        if mapped is not None:
            through, neurons = len(readout), len(mapped)
            # For a product of two Gaussian matrices: as many columns as give a row's share of the energy the same
            # variance (a factor common to all rows' energies cancels in a share).
            found.append(_classes("neuron_logits", mapped, through * neurons / (through + neurons + 1)))
    return tuple(found)


def _mapped(subject: Subject) -> Float[Tensor, "neuron class"] | None:
    try:
        return neuron_logit_map(subject)
    except MissingNeedError:
        # A plain network, whose readout is this map; or a stream whose writers have unknown names.
        return None


def _classes(name: str, weights: Float[Tensor, "neuron class"], width: float) -> SymbolMatrix:
    return SymbolMatrix(name, rearrange(full_precision(weights), "neuron classes -> classes neuron"), width)
