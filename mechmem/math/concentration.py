"""How concentrated a vector's energy is on few frequencies, batched over vectors.

Every measure takes energies at frequencies 1 … n // 2 (`Group.power`) and the number of coefficients of the full DFT
that make up each (`Group.multiplicity` without the constant's: 2, or 1 at the Nyquist frequency of an even order). The
squared coefficient at a frequency is its energy over that number. A vector without energy has 0 in every measure.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor


def varying_power(spectrum: Float[Tensor, " line *rest"]) -> Float[Tensor, " freq *rest"]:
    """Drop the constant from a spectrum, and the rounding noise of vectors that have nothing else.

    Args:
        spectrum: energy of the constant, then at frequency 1, 2, … (`Group.spectrum`).

    Returns:
        energy at frequency 1, 2, …; all 0 for a vector that is constant up to rounding.
    """
    power, precision = spectrum[1:], torch.finfo(spectrum.dtype)
    negligible = (spectrum.sum(0) * precision.eps**2 * 2 * len(spectrum)).clamp_min(precision.tiny)
    return power * (power.sum(0) > negligible)


def shares(power: Float[Tensor, " freq *rest"]) -> Float[Tensor, " freq *rest"]:
    """Return each frequency's share of a vector's energy."""
    return power / _or_infinity(power.sum(0))


def sparsity(power: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"]) -> Float[Tensor, " *rest"]:
    """Sparsity ρ = 2|û_τ|² / Σ_{k=1}^{n−1} |û_k|² with τ the largest coefficient (arXiv 2610.11833): 1 for a pure wave.

    The sum runs over the full DFT. The Nyquist frequency is one coefficient of it, so it stands once above the line.
    """
    largest = _squared(power, multiplicity).argmax(0, keepdim=True)
    return power.gather(0, largest)[0] / _or_infinity(power.sum(0))


def periodicity(power: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"]) -> Float[Tensor, " *rest"]:
    """Periodicity score max_k |ŵ_k| / mean_k |ŵ_k| over frequencies 1 … n // 2 (Swaroop, arXiv 2603.23784).

    A pure wave has n // 2, a vector spread evenly has 1: the range depends on n.
    """
    amplitude = _squared(power, multiplicity).sqrt()
    return amplitude.amax(0) / _or_infinity(amplitude.mean(0))


def gini(values: Float[Tensor, " item *rest"]) -> Float[Tensor, " *rest"]:
    """Gini coefficient Σ_ij |x_i − x_j| / (2 n² mean) of values ≥ 0: 0 if all are equal, 1 − 1/n if one has all."""
    n = len(values)
    # Rows of a contiguous copy sort several times faster than columns.
    ordered = rearrange(values, "item ... -> ... item").contiguous().sort(-1).values
    # The sum over pairs of sorted values, each counted by its rank.
    rank = 2 * torch.arange(1, n + 1, device=values.device, dtype=values.dtype) - n - 1
    return (ordered * rank).sum(-1) / _or_infinity(n * ordered.sum(-1))


def spectral_gini(power: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"]) -> Float[Tensor, " *rest"]:
    """Gini coefficient of the squared coefficients |ŵ_k|² at frequencies 1 … n // 2."""
    return gini(_squared(power, multiplicity))


def wave_amplitude(
    power: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"], n: int, freq: Int[Tensor, " *rest"]
) -> Float[Tensor, " *rest"]:
    """Amplitude A of each vector's part A·cos(2πk i/n + φ) at its own frequency, in the vector's own units.

    Args:
        power: energies, in an orthonormal basis.
        multiplicity: coefficients of the full DFT at each frequency.
        n: length of the vectors.
        freq: a frequency in 1 … n // 2 per vector.
    """
    energy = power.gather(0, freq.unsqueeze(0) - 1)[0]
    return (multiplicity.to(power)[freq - 1] * energy / n).sqrt()


def wrap_angle(angle: Float[Tensor, " *rest"]) -> Float[Tensor, " *rest"]:
    """Bring angles in radians into [−π, π)."""
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi


def _squared(power: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"]) -> Float[Tensor, " freq *rest"]:
    """Squared size of one coefficient at each frequency."""
    return power / multiplicity.to(power).reshape(-1, *(1,) * (power.ndim - 1))


def _or_infinity(total: Float[Tensor, " *rest"]) -> Float[Tensor, " *rest"]:
    """Turn totals of 0 into infinity, so that 0 / total is 0."""
    return total.where(total > 0, torch.inf)
