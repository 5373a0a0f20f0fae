"""Copies of a network without some of its neurons or frequencies."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mechmem.core.group import Group
from mechmem.core.roles import read_role
from mechmem.core.scores import NeuronSet
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, ScoreError
from mechmem.models.reading.residual import residual_writers
from mechmem.models.reading.weights import neuron_weights


def pruned(subject: Subject, kept: NeuronSet) -> Subject:
    """Return the subject with a copy of its model in which the weights of all other neurons are zero.

    The readout's rows become zero; if the layer is the network's only one, so do the input embedding's columns, so that
    later surgeries find nothing of a removed neuron. In a network with a residual stream the neurons' rows of their
    block's output matrix (`mlp.W_out`) become zero, in any block.

    Args:
        subject: a subject with the role `readout`.
        kept: the neurons to keep, of the last layer; with a residual stream, of any layer.

    Raises:
        MissingNeedError: there is no role readout, or it does not read these neurons; or the matrix by which they write
            into the residual stream is not known.
        ScoreError: no neuron would stay, or the set has another width than the layer.
    """
    roles, model = subject.roles, subject.copy_model()
    if not len(kept):
        raise ScoreError("no neuron would be left in the network")
    if roles.residual:
        _silence(subject, model, kept)
        return subject.with_model(model)
    if roles.readout is None:
        raise MissingNeedError("neurons are removed through the role readout, which is missing")
    if roles.hidden and kept.point != roles.hidden[-1]:
        raise MissingNeedError(f"the readout reads {roles.hidden[-1]!r}, but these neurons belong to {kept.point!r}")
    readout = read_role(roles, "readout", model, "neurons", "classes")
    gone = _others(kept, len(readout)).to(readout.device)
    roles.readout.write(model, readout.masked_fill(rearrange(gone, "neuron -> neuron 1"), 0))
    if roles.input_embedding is not None and len(roles.hidden) <= 1:
        tables = read_role(roles, "input_embedding", model, "operands", "entries", len(readout), beside="readout")
        roles.input_embedding.write(model, tables.masked_fill(gone, 0))
    return subject.with_model(model)


def _others(kept: NeuronSet, width: int) -> Bool[Tensor, " neuron"]:
    if width != len(kept.mask):
        raise ScoreError(f"the set has {len(kept.mask)} neurons, but the layer has {width}")
    return ~kept.mask


def _silence(subject: Subject, model: nn.Module, kept: NeuronSet) -> None:
    """Zero the output weights of all other neurons of a layer, in place."""
    found = [each for each in residual_writers(subject) if each.kind == "neurons" and each.point == kept.point]
    if not found:
        raise MissingNeedError(
            f"the matrix by which the neurons of {kept.point!r} write into the residual stream is not known; ablate "
            "them at their hook point instead, with mm.ablate or mm.intervene"
        )
    weights = attrgetter(found[0].path)(model)
    with torch.no_grad():
        weights[_others(kept, len(weights)).to(weights.device)] = 0


def check_frequencies(frequencies: int | Iterable[int]) -> tuple[int, ...]:
    """Return frequencies as a sorted tuple without repeats.

    Raises:
        ConfigError: one is not a whole number of at least 1, or there is none.
    """
    given = (frequencies,) if isinstance(frequencies, int) and not isinstance(frequencies, bool) else frequencies
    found = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else ()
    if not found or not all(isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in found):
        raise ConfigError(f"frequencies are whole numbers ≥ 1, one or several as in (3, 7); got {frequencies!r}")
    return tuple(sorted(set(found)))


def at_frequencies(
    group: Group, vectors: Float[Tensor, "symbol neuron"], frequencies: Iterable[int]
) -> Float[Tensor, "symbol neuron"]:
    """Return the component of the vectors at these frequencies, without constant and 0 on symbols outside the group."""
    part = torch.zeros_like(vectors)
    for k in frequencies:
        part += group.keep(vectors, torch.full((vectors.shape[1],), k))
    return part


def remove_frequencies(subject: Subject, frequencies: Iterable[int]) -> Subject:
    """Return the subject with a copy of its model whose vectors u, v and w lack these frequencies.

    The vectors' constants, the readout's bias and symbols outside the group stay unchanged.

    Args:
        subject: a subject with a group, and the roles input_embedding and readout of one layer of neurons.
        frequencies: the frequencies to remove, numbered from 1.

    Raises:
        ConfigError: the group has no such frequency.
    """
    group, embedding, readout = neuron_weights(subject)
    frequencies = tuple(frequencies)
    beyond = [k for k in frequencies if not 1 <= k <= group.n_frequencies]
    if beyond:
        raise ConfigError(f"frequencies lie in 1 … {group.n_frequencies} here, got {beyond[0]}")
    roles, model = subject.roles, subject.copy_model()
    assert roles.input_embedding is not None and roles.readout is not None
    left = torch.stack([vectors - at_frequencies(group, vectors, frequencies) for vectors in embedding])
    w = rearrange(readout, "neuron classes -> classes neuron")
    roles.input_embedding.write(model, left)
    rest = w - at_frequencies(group, w, frequencies)
    roles.readout.write(model, rearrange(rest, "classes neuron -> neuron classes"))
    return subject.with_model(model)
