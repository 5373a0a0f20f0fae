"""The matrices of a network that have one row per symbol of the task."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechmem.contracts import Subject
from mechmem.errors import MissingNeedError, RoleError
from mechmem.models.forward import full_precision
from mechmem.models.stream_readout import neuron_logit_map


@dataclasses.dataclass(frozen=True, eq=False)
class SymbolMatrix:
    """A matrix with one row per symbol.

    Attributes:
        name: "embedding" (both operands' where they are one table, else "embedding_a" and "embedding_b"), "readout", or
            "neuron_logits" (W_L, from the last neurons through the residual stream to the logits).
        values: its weights. Shape (symbol, column).
        width: of a random matrix in its place, the number of independent columns; not whole for a product of two.
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
    tables = full_precision(roles.input_embedding.read(subject.model).cpu())
    if tables.ndim != 3 or tables.shape[:2] != (2, symbols):
        raise RoleError(f"input_embedding must read as (2, {symbols}, neurons), and reads as {tuple(tables.shape)}")
    names = ("embedding",) if torch.equal(tables[0], tables[1]) else ("embedding_a", "embedding_b")
    found = [SymbolMatrix(name, table, table.shape[1]) for name, table in zip(names, tables, strict=False)]
    readout = full_precision(roles.readout.read(subject.model).cpu())
    if readout.ndim != 2:
        raise RoleError(f"readout must read as (neurons, classes), and reads as {tuple(readout.shape)}")
    # Other classes than symbols have no place in the group.
    if readout.shape[1] == symbols:
        found.append(_classes("readout", readout, len(readout)))
        mapped = _mapped(subject)
        if mapped is not None:
            through, neurons = len(readout), len(mapped)
            # Of a product of two Gaussian matrices, as many columns as give a row's share of the energy the same
            # variance (what the rows' energies have in common cancels in a share).
            found.append(_classes("neuron_logits", mapped, through * neurons / (through + neurons + 1)))
    return tuple(found)


def _mapped(subject: Subject) -> Float[Tensor, "neuron class"] | None:
    try:
        return neuron_logit_map(subject)
    except MissingNeedError:
        # A plain network, where the readout is this map; or a stream whose writers have unknown names.
        return None


def _classes(name: str, weights: Float[Tensor, "neuron class"], width: float) -> SymbolMatrix:
    return SymbolMatrix(name, rearrange(full_precision(weights), "neuron classes -> classes neuron"), width)
