"""What the page to explore shows of neurons: contributions to answers, waves, classes, and their map of frequencies."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.analyses.neurons.fourier_classification import FourierClassification
from mechmem.analyses.neurons.neuron_clusters import NeuronClusters
from mechmem.analyses.neurons.neuron_spectrum import NeuronSpectrum
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.math.blocks import blocks
from mechmem.math.fourier import shares, varying_power
from mechmem.math.fourier_neurons import CLASSES
from mechmem.math.logits import at_label, check_finite
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.linear_readout import linear_readout
from mechmem.models.reading.weights import neuron_vectors
from mechmem.pages.explored_cells import MOST_NUMBERS, Cells
from mechmem.tasks.grid import cyclic_group

FOR_AND_AGAINST = 8
"""Neurons shown for a cell's answer, and as many against it; the page sums up the rest."""
HELD = 40
"""Cells shown of those to whose answers a neuron contributes most."""
BLOCK_ELEMENTS = 2**22
"""Products of cell and neuron held at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class Contributions:
    """Contributions h_m (w_m,y − mean over classes of w_m) of neurons to the logit of each cell's answer y; in logits.

    Attributes:
        neurons: the neurons that contribute most, then those that subtract most, in descending order. Shape (cell,
            rank).
        values: their contributions. Shape (cell, rank).
        rest: sum over all other neurons. Shape (cell).
        bias: contribution of the readout's bias. Shape (cell).
        total: the answer's logit minus the mean over classes, in the network's own logits. Shape (cell).
        held: the cells to whose answer a neuron contributes most, in descending order; −1 where it contributes nothing.
            Shape (neuron, rank).
        held_values: these contributions. Shape (neuron, rank).
    """

    neurons: Int[Tensor, "cell rank"]
    values: Float[Tensor, "cell rank"]
    rest: Float[Tensor, " cell"]
    bias: Float[Tensor, " cell"]
    total: Float[Tensor, " cell"]
    held: Int[Tensor, "neuron held"]
    held_values: Float[Tensor, "neuron held"]


def contributions(subject: Subject, cells: Cells) -> Contributions:
    """Split the logits of the answers into contributions of the last layer's neurons.

    Raises:
        NotLinearError: the logits are not linear in them.
        NotFiniteError: an activation or weight is NaN or infinite.
    """
    last, answer, roles = linear_readout(subject), cells.answer, subject.roles
    check_finite(last.weights, "the weights of the role readout")
    centred = rearrange(last.weights - last.weights.mean(1, keepdim=True), "neuron classes -> classes neuron")
    hidden, width = last.hidden[cells.rows], len(last.weights)
    check_finite(hidden, f"the values at {last.point!r}")
    bias = torch.zeros(len(centred)) if roles.bias is None else full_precision(roles.bias.read(subject.model).cpu())
    parts = []
    for block in blocks(len(hidden), BLOCK_ELEMENTS // width):
        each = (hidden[block] * centred[answer[block]]).double()
        order = each.argsort(1, descending=True)
        ends = torch.cat([order[:, :FOR_AND_AGAINST], order[:, FOR_AND_AGAINST:][:, -FOR_AND_AGAINST:]], 1)
        kept = each.gather(1, ends)
        parts.append((ends, kept, each.sum(1) - kept.sum(1)))
    neurons, values, rest = (torch.cat(column) for column in zip(*parts, strict=True))
    logits = last.logits[cells.rows].double()
    held = [
        (hidden[:, block] * centred[answer][:, block]).double().topk(min(HELD, len(hidden)), 0)
        for block in blocks(width, BLOCK_ELEMENTS // len(hidden))
    ]
    held_values = torch.cat([each.values for each in held], 1).T.clamp(min=0)
    return Contributions(
        neurons=neurons,
        values=values,
        rest=rest,
        bias=(bias.double() - bias.double().mean())[answer],
        total=at_label(logits, answer) - logits.mean(1),
        held=torch.cat([each.indices for each in held], 1).T.where(held_values > 0, -1),
        held_values=held_values,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Waves:
    """Vectors of the neurons over the group, and the class that they put each neuron in.

    Attributes:
        names: those of "u", "v" (input vectors) and "w" (output vector) that the layer has.
        symbols: the symbol at each position of the group. Shape (place).
        values: the vectors, in the weights' units. Shape (neuron, vector, place).
        fitted: each vector's mean plus its cosine at the neuron's key frequency. Shape (neuron, vector, place).
        spectrum: share of each vector's energy at frequency 1, 2, …, constant excluded. Shape (neuron, vector, freq).
        key: key frequency that the vectors share, 0 without energy. Shape (neuron).
        share: its share of their energy. Shape (neuron).
        classes: each neuron's class, as a position in `CLASSES`. Shape (neuron).
        error: φ_u ± φ_v − φ_w of the task's operation in radians, NaN where it is not known. Shape (neuron).
        threshold: share above which a frequency is common to the vectors.
    """

    names: tuple[str, ...]
    symbols: Int[Tensor, " place"]
    values: Float[Tensor, "neuron vector place"]
    fitted: Float[Tensor, "neuron vector place"]
    spectrum: Float[Tensor, "neuron vector freq"]
    key: Int[Tensor, " neuron"]
    share: Float[Tensor, " neuron"]
    classes: Int[Tensor, " neuron"]
    error: Float[Tensor, " neuron"]
    threshold: float

    def label(self, neuron: int) -> str:
        """Return a neuron's class by name."""
        return CLASSES[int(self.classes[neuron])]


def waves(subject: Subject) -> Waves:
    """Read the vectors of the last layer's neurons and classify them, as `fourier_classification` does.

    Raises:
        MissingNeedError: the neurons have no vectors over the symbols, the group is not cyclic, or the vectors are too
            many for a page.
        ScoreError: a weight is not finite.
    """
    found, group = FourierClassification()(subject), cyclic_group(subject.task)
    vectors = [full_precision(each.cpu()) for each in neuron_vectors(subject).vectors]
    number = sum(each.numel() for each in vectors)
    if number > MOST_NUMBERS:
        raise MissingNeedError(f"a page holds at most {MOST_NUMBERS:,} weights, and these neurons have {number:,}")
    key = found.features.key.clamp(min=1)
    ordered = [each[group.elements] for each in vectors]
    fitted = [x.mean(0) + group.keep(each, key)[group.elements] for x, each in zip(ordered, vectors, strict=True)]
    spectrum = [shares(varying_power(group.spectrum(each))) for each in vectors]
    return Waves(
        names=found.features.names,
        symbols=group.elements.clone(),
        values=_by_neuron(ordered),
        fitted=_by_neuron(fitted),
        spectrum=_by_neuron(spectrum),
        key=found.features.key,
        share=found.features.share,
        classes=found.classes,
        error=found.alignment.get(found.operation, torch.full_like(found.features.share, torch.nan)),
        threshold=found.share_threshold,
    )


def _by_neuron(vectors: list[Float[Tensor, "place neuron"]]) -> Float[Tensor, "neuron vector place"]:
    return rearrange(torch.stack(vectors), "vector place neuron -> neuron vector place")


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of the neurons by the frequency of their activations on the grid.

    Attributes:
        cluster: key frequency of a neuron if it explains enough of its variance, else 0. Shape (neuron).
        explained: share of the neuron's variance that each frequency explains. Shape (freq, neuron).
        threshold: the share that is enough.
    """

    cluster: Int[Tensor, " neuron"]
    explained: Float[Tensor, "freq neuron"]
    threshold: float


def clusters(subject: Subject) -> Clusters:
    """Cluster the neurons, as `neuron_clusters` does.

    Raises:
        MissingNeedError: there are no neurons, the group is not cyclic, or a pair is missing.
    """
    found = NeuronClusters()(subject)
    return Clusters(found.cluster, found.explained, found.threshold)


@dataclasses.dataclass(frozen=True, eq=False)
class FrequencyMap:
    """Share of each frequency in each neuron.

    Attributes:
        what: what the share is of.
        share: the shares. Shape (freq, neuron).
        labels: names of the frequencies.
        order: the neurons by key frequency, the strongest of each first. Shape (neuron).
    """

    what: str
    share: Float[Tensor, "freq neuron"]
    labels: tuple[str, ...]
    order: Int[Tensor, " neuron"]


def frequency_map(subject: Subject, grouped: Clusters | None) -> FrequencyMap:
    """Return the spectrum of the neurons' vectors, or that of their activations where they have no vectors.

    Args:
        subject: the network.
        grouped: its clusters, or None.

    Raises:
        MissingNeedError: the neurons have neither, for the reason that there are no vectors.
    """
    try:
        found = NeuronSpectrum()(subject)
        what, share, labels, key = "energy of its vectors", found.share, found.labels, found.key
    except MissingNeedError:
        if grouped is None:
            raise
        what, share = "variance of its activation", grouped.explained
        labels = tuple(str(k) for k in range(1, len(share) + 1))
        key = share.argmax(0)
    order = np.lexsort((-share.amax(0).numpy(), key.numpy()))
    return FrequencyMap(what, share, labels, torch.from_numpy(order))
