"""Spectra of whole matrices over the symbols, and their distribution for random matrices."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.randomness import derive_seed
from mechmem.math.fourier import gini, per_coefficient, real_basis

DRAWS = 10_000
"""Number of random matrices behind a threshold; a hundred of them exceed the 99 % quantile."""


def wave_energy(ordered: Float[Tensor, "element column"]) -> Float[Tensor, "freq 2"]:
    """Energy of the cosine and of the sine of each frequency of a cyclic group, summed over columns.

    Args:
        ordered: rows in the order of the group. (At the Nyquist frequency of an even order the sine has energy 0.)
    """
    coefficients = real_basis(len(ordered), ordered)[1:] @ ordered
    return rearrange(coefficients.square().sum(1), "(freq wave) -> freq wave", wave=2)


def line_gini(energy: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"]) -> Float[Tensor, " *rest"]:
    """Gini coefficient, over frequencies, of the root mean square norm of a frequency's coefficients.

    Args:
        energy: energy at each frequency, without the constant.
        multiplicity: number of coefficients per frequency.
    """
    return gini(per_coefficient(energy, multiplicity).sqrt())


def excess(energy: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"]) -> Float[Tensor, " freq *rest"]:
    """Energy per coefficient at each frequency, as a multiple of the mean over all (0 without energy).

    Args:
        energy: energy at each frequency, without the constant.
        multiplicity: number of coefficients per frequency.
    """
    total = energy.sum(0) / multiplicity.to(energy).sum()
    return per_coefficient(energy, multiplicity) / total.where(total > 0, torch.inf)


@dataclasses.dataclass(frozen=True, eq=False)
class RandomSpectra:
    """Statistics of the spectra of matrices with independent Gaussian entries.

    Attributes:
        threshold: the 1 − α quantile of the largest excess of a matrix (see `excess`).
        gini: mean, 2.5 % and 97.5 % quantile of the Gini coefficients (see `line_gini`).
    """

    threshold: float
    gini: tuple[float, float, float]


@functools.lru_cache(maxsize=64)
def random_spectra(
    multiplicity: tuple[int, ...], lines: tuple[int, ...], width: float, alpha: float, seed: int
) -> RandomSpectra:
    """Draw spectra of random matrices.

    The transform is orthonormal, so the coefficients of Gaussian columns are Gaussian: the energy of m coefficients in
    `width` columns is χ² with m · width degrees of freedom, independent between frequencies, and no matrix is needed.

    Args:
        multiplicity: number of coefficients per frequency.
        lines: the same for the lines of the Gini coefficient (1 for each cosine and sine).
        width: number of independent columns; for a product of matrices, the number that gives the ratio of an energy to
            the mean the same variance.
        alpha: fraction of random matrices in which some frequency exceeds the threshold.
        seed: seed of the draws.
    """
    draw = np.random.default_rng(derive_seed(seed, "random_spectra"))

    def energies(counts: tuple[int, ...]) -> Tensor:
        freedom = np.array(counts)[:, None] * width
        return torch.from_numpy(draw.chisquare(freedom, (len(counts), DRAWS)))

    largest = excess(energies(multiplicity), torch.tensor(multiplicity)).amax(0)
    concentration = line_gini(energies(lines), torch.tensor(lines))
    low, high = np.quantile(concentration.numpy(), (0.025, 0.975)).tolist()
    return RandomSpectra(float(largest.quantile(1 - alpha)), (float(concentration.mean()), low, high))
