"""Fourier features of neurons, their classes, and the rates of these classes among random neurons."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.group import Group
from mechmem.core.randomness import generator
from mechmem.core.stats import Estimate, wilson
from mechmem.core.storage import record
from mechmem.math.filtration import key_frequency
from mechmem.math.fourier import (
    inverse_participation,
    periodicity,
    shares,
    sparsity,
    spectral_gini,
    varying_power,
    wave_amplitude,
    wrap_angle,
)

CLASSES = ("generalizing", "mixed", "memorizing", "outside", "dead")
GENERALIZING, MIXED, MEMORIZING, OUTSIDE, DEAD = range(5)
DEAD_NORM = 1e-3
"""A neuron is dead if one of its vectors is shorter than this share of the layer's root mean square length. (Not of the
median: if weight decay has killed most neurons, the median is that of a dead one.)"""
OUTSIDE_SHARE = 0.9
"""A neuron is outside the group if every vector has at least this share of its energy on symbols outside the group."""
V_SIGN = {"add": 1, "subtract": -1, "multiply": 1}
"""Sign of φ_v in the phase alignment φ_u ± φ_v = φ_w of each operation."""
PER_VECTOR = ("amplitude", "phase", "ipr_one_sided", "ipr_two_sided", "sparsity", "periodicity", "gini", "norm")
"""Measures that tables show for each vector."""
DRAWN_NULL = 2048
"""Number of random neurons whose phases are kept for plots."""


class WaveGroup(Group, Protocol):
    """A group whose frequencies are waves, so that a vector has a phase at each frequency."""

    def phase(self, vectors: Float[Tensor, "symbol neuron"], freq: Int[Tensor, " neuron"]) -> Float[Tensor, " neuron"]:
        """Phase of each vector at its own frequency, in radians."""
        ...


@record
@dataclasses.dataclass(frozen=True, eq=False)
class FourierFeatures:
    """Measures of each neuron's vectors over a group.

    Attributes:
        names: those of "u", "v" (input vectors) and "w" (output vector) that the layer has.
        key: the frequency, 1 … n // 2, with the largest mean share of the vectors' energy; 0 without energy. Shape
            (neuron).
        share: that mean share. Shape (neuron).
        vector_key: each vector's own strongest frequency, by energy; 0 without energy. Shape (vector, neuron).
        amplitude: amplitude at the shared key frequency, in the weights' units. Shape (vector, neuron).
        phase: phase at the shared key frequency in radians, 0 or π at the Nyquist frequency; NaN if the amplitude is 0.
            Shape (vector, neuron).
        ipr_one_sided: inverse participation ratio, constant included; 1 for a pure wave. Shape (vector, neuron).
        ipr_two_sided: the same over the full DFT; ½ for a pure wave. Shape (vector, neuron).
        sparsity: ρ, see `fourier.sparsity`. Shape (vector, neuron).
        periodicity: see `fourier.periodicity`. Shape (vector, neuron).
        gini: Gini coefficient of the squared coefficients, constant excluded. Shape (vector, neuron).
        norm: length of the vector over all symbols, in the weights' units. Shape (vector, neuron).
        outside: share of the vector's energy on symbols outside the group. Shape (vector, neuron).
    """

    names: tuple[str, ...]
    key: Int[Tensor, " neuron"]
    share: Float[Tensor, " neuron"]
    vector_key: Int[Tensor, "vector neuron"]
    amplitude: Float[Tensor, "vector neuron"]
    phase: Float[Tensor, "vector neuron"]
    ipr_one_sided: Float[Tensor, "vector neuron"]
    ipr_two_sided: Float[Tensor, "vector neuron"]
    sparsity: Float[Tensor, "vector neuron"]
    periodicity: Float[Tensor, "vector neuron"]
    gini: Float[Tensor, "vector neuron"]
    norm: Float[Tensor, "vector neuron"]
    outside: Float[Tensor, "vector neuron"]

    def of(self, neuron: int) -> FourierFeatures:
        """Return the measures of one neuron; its axis is kept, with one entry."""
        named = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "names"}
        return FourierFeatures(self.names, **{name: x[..., neuron : neuron + 1].clone() for name, x in named.items()})


def fourier_features(
    group: WaveGroup, names: Sequence[str], vectors: Sequence[Float[Tensor, "symbol neuron"]]
) -> FourierFeatures:
    """Measure the vectors of every neuron of a layer, in the group's order.

    The shared key frequency is that of frequency filtration (Liu & Lu 2026): the frequency with the largest sum, over
    the neuron's vectors, of the vector's energy share (constant excluded).

    Args:
        group: the group that the symbols form.
        names: a name per vector.
        vectors: one column per neuron; float32 or float64.
    """
    stacked = torch.stack(list(vectors), 1)
    spectrum, counts = group.spectrum(stacked), group.multiplicity
    power, multiplicity = varying_power(spectrum), counts[1:]
    share = shares(power)
    mean_share = share.mean(1)
    key, alive = key_frequency(group, mean_share), share.sum(0) > 0
    each = key.expand(len(names), -1)
    flat = rearrange(stacked, "symbol vector neuron -> symbol (vector neuron)")
    phase = group.phase(flat, rearrange(each, "vector neuron -> (vector neuron)"))
    amplitude = wave_amplitude(power, multiplicity, int(counts.sum()), each)
    energy = stacked.square().sum(0)
    return FourierFeatures(
        names=tuple(names),
        key=key * alive.any(0),
        share=mean_share.gather(0, rearrange(key - 1, "neuron -> 1 neuron"))[0],
        vector_key=key_frequency(group, power) * alive,
        amplitude=amplitude,
        phase=rearrange(phase, "(vector neuron) -> vector neuron", vector=len(names)).where(amplitude > 0, torch.nan),
        ipr_one_sided=inverse_participation(spectrum, counts, "one_sided"),
        ipr_two_sided=inverse_participation(spectrum, counts, "two_sided"),
        sparsity=sparsity(power, multiplicity),
        periodicity=periodicity(power, multiplicity),
        gini=spectral_gini(power, multiplicity),
        norm=energy.sqrt(),
        outside=stacked[group.outside].square().sum(0) / energy.where(energy > 0, torch.inf),
    )


def alignment_error(features: FourierFeatures, operation: str) -> Float[Tensor, " neuron"] | None:
    """Return φ_u + φ_v − φ_w (φ_u − φ_v − φ_w for "subtract") in [−π, π), NaN where a phase is missing.

    It is 0 for a neuron that computes the operation (under "multiply" in the order of the discrete logarithm). None if
    the neurons lack a vector or the operation is not in `V_SIGN`.
    """
    if features.names != ("u", "v", "w") or operation not in V_SIGN:
        return None
    u, v, w = features.phase
    return wrap_angle(u + V_SIGN[operation] * v - w)


def neuron_classes(
    features: FourierFeatures, error: Float[Tensor, " neuron"] | None, share_threshold: float, bound: float
) -> Int[Tensor, " neuron"]:
    """Return each neuron's class as a position in `CLASSES`; the first matching rule decides.

    dead: a vector is shorter than `DEAD_NORM` of the layer's root mean square length of that vector.
    outside: every vector has at least `OUTSIDE_SHARE` of its energy on symbols outside the group.
    generalizing: the share of the key frequency exceeds the threshold, and |alignment error| is within the bound.
    mixed: the share exceeds the threshold, but the phases are not aligned or cannot be compared.
    memorizing: all others, which are alive but have no frequency common to their vectors.
    """
    scale = features.norm.square().mean(1, keepdim=True).sqrt()
    dead = (features.norm <= DEAD_NORM * scale).any(0)
    outside = (features.outside >= OUTSIDE_SHARE).all(0)
    common = features.share > share_threshold
    aligned: Bool[Tensor, " neuron"] = torch.zeros_like(common) if error is None else error.abs() <= bound
    found = torch.full_like(features.key, MEMORIZING)
    found[common] = MIXED
    found[common & aligned] = GENERALIZING
    found[outside] = OUTSIDE
    found[dead] = DEAD
    return found


@record
@dataclasses.dataclass(frozen=True, eq=False)
class FourierNull:
    """Statistics of neurons whose vectors are independent Gaussian draws over the same group.

    Attributes:
        neurons: number of random neurons in each of two draws, one for the threshold and one for the rates.
        share_threshold: the 1 − α quantile of the first draw's key-frequency shares.
        common_rate: fraction of the second draw above the threshold, with its Wilson interval; α is expected.
        generalizing_rate: fraction of the second draw that is classified as generalizing, with its Wilson interval;
            None if phases cannot be compared.
        share: key-frequency shares of the second draw. Shape (draw).
        ipr: one-sided IPR of the second draw, mean over the vectors. Shape (draw).
        phase: phases of the first neurons of the second draw, in radians. Shape (vector, drawn).
        classes: their classes, positions in `CLASSES`. Shape (drawn).
    """

    neurons: int
    share_threshold: float
    common_rate: Estimate
    generalizing_rate: Estimate | None
    share: Float[Tensor, " draw"]
    ipr: Float[Tensor, " draw"]
    phase: Float[Tensor, "vector drawn"]
    classes: Int[Tensor, " drawn"]


@dataclasses.dataclass(frozen=True)
class NullSettings:
    """Settings of the random neurons that calibrate the classification.

    Attributes:
        group: the group that the symbols form.
        symbols: number of symbols, including those outside the group.
        names: names of a neuron's vectors.
        operation: the task's operation, or "".
        tied: whether u and v are one vector.
        alpha: accepted rate of random neurons above the threshold.
        bound: largest |alignment error| that counts as aligned, in radians.
        neurons: random neurons per draw.
        seed: seed of the draws.
    """

    group: WaveGroup
    symbols: int
    names: tuple[str, ...]
    operation: str
    tied: bool
    alpha: float
    bound: float
    neurons: int
    seed: int


def fourier_null(settings: NullSettings) -> FourierNull:
    """Calibrate the classification on random neurons; cached per process and settings.

    The threshold of the share is the 1 − α quantile of one draw; the rates are measured on an independent second draw.
    A random neuron's alignment error is uniform, so it is within ±π/4 with probability ¼ (½ at the Nyquist frequency,
    where it is 0 or π): about α/4 of random neurons are classified as generalizing.
    """
    return copy.deepcopy(_null(settings))


@functools.lru_cache(maxsize=32)
def _null(settings: NullSettings) -> FourierNull:
    draw = generator(settings.seed, "fourier_null")

    def random_neurons() -> FourierFeatures:
        vectors = [torch.randn(settings.symbols, settings.neurons, generator=draw) for _ in settings.names]
        if settings.tied:
            vectors[1] = vectors[0]
        return fourier_features(settings.group, settings.names, vectors)

    threshold = float(torch.quantile(random_neurons().share.double(), 1 - settings.alpha))
    found = random_neurons()
    error = alignment_error(found, settings.operation)
    classes = neuron_classes(found, error, threshold, settings.bound)
    common = wilson(int((found.share > threshold).sum()), settings.neurons)
    assert common is not None
    drawn = slice(0, DRAWN_NULL)
    return FourierNull(
        neurons=settings.neurons,
        share_threshold=threshold,
        common_rate=common,
        generalizing_rate=None if error is None else wilson(int((classes == GENERALIZING).sum()), settings.neurons),
        share=found.share,
        ipr=found.ipr_one_sided.mean(0),
        phase=found.phase[:, drawn].clone(),
        classes=classes[drawn].clone(),
    )
