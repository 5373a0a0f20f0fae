"""Fourier spectra of the embedding and the unembedding."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_fraction, check_whole
from mechmem.core.group import Group
from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.stats import Estimate
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError, ScoreError
from mechmem.math.fourier import shares
from mechmem.math.symbol_spectra import RandomSpectra, excess, line_gini, random_spectra, wave_energy
from mechmem.models.reading.weights import SymbolMatrix, symbol_matrices
from mechmem.plotting.spectra import SpectrumPanel, spectra
from mechmem.tasks.groups import CyclicGroup

if TYPE_CHECKING:
    import plotly.graph_objects as go

TITLES = {
    "embedding": "embedding",
    "embedding_a": "embedding of a",
    "embedding_b": "embedding of b",
    "readout": "readout (unembedding)",
    "neuron_logits": "neurons to logits, W<sub>L</sub>",
}


@record
@dataclasses.dataclass(frozen=True, eq=False)
class MatrixSpectrum:
    """Spectrum of one matrix over the symbols, summed over its columns.

    Attributes:
        name: "embedding" (or "embedding_a" and "embedding_b" if each operand has its own table), "readout", or
            "neuron_logits" (W_L, what each neuron adds to each logit through the residual stream).
        energy: energy at frequency 1 … n, in squared units of the weights. Shape (freq).
        constant: energy of the constant, in the same units.
        waves: energy of the cosine and of the sine, for a cyclic group; None for another. Shape (freq, 2).
        excess: energy per coefficient divided by its mean over all coefficients; 1 on average in a random matrix.
            Shape (freq).
        gini: Gini coefficient of the norms of all cosines and sines (of the frequencies' root mean square norms if the
            group is not cyclic), without the constant; 0 if all are equal.
        random_gini: mean Gini coefficient of random matrices, with their 2.5 and 97.5 % quantiles as interval.
        threshold: excess above which a frequency is a key frequency.
        key: the key frequencies, numbered from 1. Shape (key).
    """

    name: str
    energy: Float[Tensor, " freq"]
    constant: float
    waves: Float[Tensor, "freq 2"] | None
    excess: Float[Tensor, " freq"]
    gini: float
    random_gini: Estimate
    threshold: float
    key: Int[Tensor, " key"]


@record
@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddingSpectrumResult(Result):
    """Spectra of the matrices that have a row per symbol, and of random ones.

    Attributes:
        matrices: the spectra.
        multiplicity: number of coefficients of each frequency. Shape (freq).
        labels: what the group calls its frequencies: "1", "2", …, or names of representations.
        false_positive_rate: α, the share of random matrices in which some frequency would be called key.
    """

    matrices: tuple[MatrixSpectrum, ...]
    multiplicity: Int[Tensor, " freq"]
    labels: tuple[str, ...]
    false_positive_rate: float

    def matrix(self, name: str) -> MatrixSpectrum:
        """Return the spectrum of one matrix.

        Raises:
            KeyError: there is no matrix of this name.
        """
        return {each.name: each for each in self.matrices}[name]

    def summary(self) -> pd.DataFrame:
        """Return one row per matrix: matrix, gini, random_gini, random_low, random_high, keys, key_share, threshold.

        `key_share` is the key frequencies' share of the energy of all frequencies, `threshold` in units of excess.
        """
        rows = []
        for each in self.matrices:
            null = each.random_gini
            row = {"matrix": each.name, "gini": each.gini, "random_gini": null.value, "random_low": null.low}
            row |= {"random_high": null.high, "keys": ", ".join(self.labels[k - 1] for k in each.key.tolist())}
            row |= {"key_share": float(shares(each.energy)[each.key - 1].sum()), "threshold": each.threshold}
            rows.append(row)
        return pd.DataFrame(rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per matrix and frequency.

        Columns: matrix, frequency, label, norm, cosine_norm, sine_norm (NaN where the group is not cyclic), share (of
        the energy of all frequencies), excess, key, and the matrix's gini and random_gini.
        """
        frames = []
        for each in self.matrices:
            norms = {"norm": each.energy.sqrt().numpy()}
            waves = torch.full((len(each.energy), 2), torch.nan) if each.waves is None else each.waves.sqrt()
            norms |= {"cosine_norm": waves[:, 0].numpy(), "sine_norm": waves[:, 1].numpy()}
            columns = {"matrix": each.name, "frequency": np.arange(1, len(each.energy) + 1), "label": self.labels}
            columns |= {**norms, "share": shares(each.energy).numpy(), "excess": each.excess.numpy()}
            frame = pd.DataFrame(columns)
            frame["key"] = np.isin(frame["frequency"], each.key.numpy())
            frame["gini"], frame["random_gini"] = each.gini, each.random_gini.value
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def plot(self) -> go.Figure:
        """Return the norm at each frequency, a panel per matrix, with the level above which a frequency is key."""
        panels = []
        for each in self.matrices:
            count = self.multiplicity.to(each.energy)
            mean = float(each.energy.sum() / count.sum())
            lines = each.waves if each.waves is not None else rearrange(each.energy / count, "freq -> freq 1")
            # A line is one coefficient; the threshold applies to the mean of a frequency's coefficients.
            found = ", ".join(self.labels[k - 1] for k in each.key.tolist()[:12]) + (
                ", …" if len(each.key) > 12 else ""
            )
            null = each.random_gini
            note = f"Gini {each.gini:.2f} (random {null.low:.2f}–{null.high:.2f}); " + (
                f"{len(each.key)} key: {found}" if len(each.key) else "no key frequency"
            )
            panels.append(
                SpectrumPanel(
                    f"{TITLES[each.name]}: {note}",
                    lines.sqrt().numpy(),
                    mean**0.5,
                    (each.threshold * mean) ** 0.5,
                )
            )
        names = ("cosine", "sine") if self.matrices[0].waves is not None else ("root mean square of its coefficients",)
        return spectra(panels, names, self.labels)


@dataclasses.dataclass(frozen=True)
class EmbeddingSpectrum(Analysis):
    """Measure how the energy of embedding and unembedding is spread over the frequencies of the group.

    A network that generalizes by Fourier features has a few key frequencies; in an untrained or memorizing one all
    frequencies are alike. For networks with a residual stream the map from the last neurons to the logits is included:
    Nanda et al. read key frequencies and the Gini coefficient from it and from the embedding.

    The paper gives no number for a key frequency. Here, the energy per coefficient of a key frequency is above what the
    strongest frequency of a random Gaussian matrix reaches in a share α of draws. For a product of two matrices
    (neurons to logits) the random ones are products of two, as at initialisation.

    Attributes:
        false_positive_rate: α, the share of random matrices in which some frequency would be called key.
        seed: seed of the random matrices.
    """

    name: ClassVar[str] = "embedding_spectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "output_group", "slopes"})
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217"

    false_positive_rate: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction("false positive rate", self.false_positive_rate)
        check_whole("seed", self.seed, 0)

    def __call__(self, subject: Subject) -> EmbeddingSpectrumResult:
        """Return the spectra.

        Raises:
            MissingNeedError: the subject lacks something, or the group has fewer than two frequencies.
            ScoreError: a weight is not finite.
        """
        self.require(subject)
        group = subject.task.group
        assert group is not None
        if group.n_frequencies < 2:
            raise MissingNeedError(
                f"{self.name!r} needs a group of at least two frequencies, not {group.n_frequencies}"
            )
        multiplicity = group.multiplicity[1:]
        found = tuple(
            matrix_spectrum(group, each, self.false_positive_rate, self.seed) for each in symbol_matrices(subject)
        )
        return EmbeddingSpectrumResult(found, multiplicity, group.labels, self.false_positive_rate)


def matrix_spectrum(group: Group, matrix: SymbolMatrix, alpha: float, seed: int) -> MatrixSpectrum:
    """Return the spectrum of one matrix, with the level that random matrices reach.

    Raises:
        ScoreError: a weight is not finite.
    """
    values = matrix.values.double()
    if not torch.isfinite(values).all():
        raise ScoreError(f"{matrix.name} has no spectrum: it holds weights that are not finite")
    every, multiplicity = group.spectrum(values).sum(1), group.multiplicity[1:]
    energy, waves = every[1:], _waves(group, values)
    over = excess(energy, multiplicity)
    null = _null(group, matrix, alpha, seed)
    mean, low, high = null.gini
    return MatrixSpectrum(
        name=matrix.name,
        energy=energy,
        constant=float(every[0]),
        waves=waves,
        excess=over,
        gini=matrix_gini(group, values),
        random_gini=Estimate(mean, low, high, values.shape[1]),
        threshold=null.threshold,
        key=(over > null.threshold).nonzero()[:, 0] + 1,
    )


def matrix_gini(group: Group, values: Float[Tensor, "symbol column"]) -> float:
    """Gini coefficient of the norms of a matrix's cosines and sines, or of its frequencies if they are not waves."""
    waves, multiplicity = _waves(group, values), group.multiplicity[1:]
    if waves is None:
        return float(line_gini(group.spectrum(values)[1:].sum(1), multiplicity))
    there = torch.arange(2) < rearrange(multiplicity, "freq -> freq 1")
    return float(line_gini(waves[there], torch.ones(int(there.sum()), dtype=torch.long)))


def _waves(group: Group, values: Float[Tensor, "symbol column"]) -> Float[Tensor, "freq 2"] | None:
    return wave_energy(values[group.elements]) if isinstance(group, CyclicGroup) else None


def _null(group: Group, matrix: SymbolMatrix, alpha: float, seed: int) -> RandomSpectra:
    multiplicity = tuple(group.multiplicity[1:].tolist())
    lines = (1,) * sum(multiplicity) if isinstance(group, CyclicGroup) else multiplicity
    return random_spectra(multiplicity, lines, float(matrix.width), alpha, seed)
