"""Real Fourier analysis of vectors over a cyclic group, batched over neurons.

Frequencies are numbered as in the papers: k = 1 … n // 2, and 0 for the constant. Every frequency has a cosine and
a sine, except the Nyquist frequency n / 2 of an even n, which has only the alternating vector.
"""

from __future__ import annotations

import functools
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Complex, Float, Int
from torch import Tensor

IPRConvention = Literal["one_sided", "two_sided"]


def real_basis(n: int, like: Tensor | None = None) -> Float[Tensor, "row n"]:
    """Orthonormal real Fourier basis with rows const, cos 1, sin 1, cos 2, sin 2 and so on.

    For an even n the last cosine is the alternating vector and the last sine is zero, so that frequency k always owns
    rows 2k − 1 and 2k.

    Args:
        n: length of the vectors.
        like: tensor whose dtype and device to use (float64 on the CPU by default).
    """
    basis = _basis(n)
    # Always a copy, because the cached basis is shared.
    return basis.clone() if like is None else basis.to(like, copy=True)


def power(vectors: Float[Tensor, " symbol *rest"]) -> Float[Tensor, " freq *rest"]:
    """Energy of each vector at frequencies 1 … n // 2; with the energy of the constant they sum to its squared norm."""
    n = vectors.shape[0]
    coefficients = torch.tensordot(real_basis(n, vectors)[1:], vectors, dims=1)
    return rearrange(coefficients.square(), "(freq wave) ... -> freq wave ...", wave=2).sum(1)


def inverse_participation(
    spectrum: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"], convention: IPRConvention
) -> Float[Tensor, " *rest"]:
    """Inverse participation ratio (‖x̂‖₄ / ‖x̂‖₂)⁴ of vectors with these energies, including the constant.

    It is 1 for a vector on one coefficient and 1/n for a vector spread evenly over n. The one-sided convention uses the
    coefficients of the real FFT (a pure cosine has 1; the code of Doshi et al., arXiv 2310.13061), the two-sided one
    those of the full DFT (a pure cosine has ½; the formula of their paper).

    Args:
        spectrum: energy of the constant, then of frequency 1, 2, ….
        multiplicity: number of coefficients of the full DFT in each of them.
        convention: "one_sided" or "two_sided".

    Returns:
        the ratio; 0 for a vector that is zero.
    """
    shape = (-1, *(1,) * (spectrum.ndim - 1))
    count = multiplicity.to(spectrum).reshape(shape)
    # Relative to the largest: the ratio is the same, and squared energies of a short vector do not underflow.
    largest = spectrum.amax(0)
    coefficient = spectrum / largest.where(largest != 0, 1) / count
    copies = torch.ones_like(count) if convention == "one_sided" else count
    total = (copies * coefficient).sum(0).square()
    return (copies * coefficient.square()).sum(0) / total.where(total != 0, torch.inf)


def waves_at(
    n: int, k: Int[Tensor, " neuron"], like: Tensor
) -> tuple[Float[Tensor, "symbol neuron"], Float[Tensor, "symbol neuron"]]:
    """Return the unit cosine and sine of each neuron's own frequency, as columns.

    Raises:
        ValueError: a frequency lies outside 1 … n // 2.
    """
    if len(k) and not (1 <= int(k.min()) and int(k.max()) <= n // 2):
        raise ValueError(f"frequencies must lie in 1 … {n // 2}, got {int(k.min())} … {int(k.max())}")
    columns = real_basis(n, like).T.contiguous()
    k = k.to(like.device)
    return columns.index_select(1, 2 * k - 1), columns.index_select(1, 2 * k)


def keep_frequency(
    vectors: Float[Tensor, "symbol neuron"], k: Int[Tensor, " neuron"]
) -> Float[Tensor, "symbol neuron"]:
    """Project each vector onto its own frequency, without an inverse transform.

    Args:
        vectors: one column per neuron.
        k: a frequency in 1 … n // 2 per neuron.

    Raises:
        ValueError: a frequency lies outside that range.
    """
    vectors = vectors.contiguous()
    cosine, sine = waves_at(vectors.shape[0], k, vectors)
    return torch.addcmul(cosine * (cosine * vectors).sum(0), sine, (sine * vectors).sum(0))


def phase_at(vectors: Float[Tensor, "symbol neuron"], k: Int[Tensor, " neuron"]) -> Float[Tensor, " neuron"]:
    """Phase φ in (−π, π] of each vector's part A·cos(2πk i/n + φ) at its own frequency."""
    cosine, sine = waves_at(vectors.shape[0], k, vectors)
    # A difference, because −0.0 would turn a phase of π into −π.
    return torch.atan2(0 - (sine * vectors).sum(0), (cosine * vectors).sum(0))


def grid_modes(table: Float[Tensor, "n n class"]) -> Complex[Tensor, "n half class"]:
    """2-D DFT of a table over both operands of the grid, one-sided in the second."""
    return torch.fft.rfft2(table, dim=(0, 1), norm="ortho")


def mode_energy(modes: Complex[Tensor, "n half class"]) -> Float[Tensor, "n half"]:
    """Energy of each mode (k₁, k₂) together with its conjugate, summed over classes."""
    n = modes.shape[0]
    energy = modes.abs().square().sum(-1)
    twice = torch.full((modes.shape[1],), 2.0, dtype=energy.dtype, device=energy.device)
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1
    return energy * twice


def amplitude_at(vectors: Float[Tensor, "symbol neuron"], k: Int[Tensor, " neuron"]) -> Float[Tensor, " neuron"]:
    """Amplitude A ≥ 0 of each vector's part A·cos(2πk i/n + φ) at its own frequency (see `fourier.phase_at`).

    Args:
        vectors: one column per neuron, in the order of the group.
        k: a frequency in 1 … n // 2 per neuron.

    Raises:
        ValueError: a frequency lies outside that range.
    """
    n = len(vectors)
    cosine, sine = waves_at(n, k, vectors)
    length = torch.hypot((cosine * vectors).sum(0), (sine * vectors).sum(0))
    # A cosine of amplitude 1 has squared length n / 2; the alternating vector of the Nyquist frequency has n.
    return torch.where(2 * k == n, length * n**-0.5, length * (2 / n) ** 0.5)


def cosines(
    n: int, k: Int[Tensor, " neuron"], amplitude: Float[Tensor, " neuron"], phase: Float[Tensor, " neuron"]
) -> Float[Tensor, "symbol neuron"]:
    """Return A·cos(2πk i/n + φ), i = 0 … n − 1, one column per neuron, in the dtype of the phases.

    Args:
        n: order of the group.
        k: frequency of each neuron.
        amplitude: A of each neuron.
        phase: φ of each neuron, in radians.
    """
    position = rearrange(torch.arange(n, device=k.device), "symbol -> symbol 1")
    # (k · position) mod n keeps the angle small, so that no precision is lost to large multiples of 2π.
    angle = 2 * torch.pi * ((k * position) % n).to(phase) / n
    return amplitude * torch.cos(angle + phase)


def varying_power(spectrum: Float[Tensor, " line *rest"]) -> Float[Tensor, " freq *rest"]:
    """Drop the constant from a spectrum, and the rounding noise of constant vectors.

    Args:
        spectrum: energy of the constant, then of frequency 1, 2, … (`Group.spectrum`).

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

    The sum runs over the full DFT. The Nyquist frequency is a single coefficient, so it counts once in the numerator.
    """
    largest = per_coefficient(power, multiplicity).argmax(0, keepdim=True)
    return power.gather(0, largest)[0] / _or_infinity(power.sum(0))


def periodicity(power: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"]) -> Float[Tensor, " *rest"]:
    """Periodicity score max_k |ŵ_k| / mean_k |ŵ_k| over frequencies 1 … n // 2 (Swaroop, arXiv 2603.23784).

    It is n // 2 for a pure wave and 1 for a vector spread evenly: the range depends on n.
    """
    amplitude = per_coefficient(power, multiplicity).sqrt()
    return amplitude.amax(0) / _or_infinity(amplitude.mean(0))


def gini(values: Float[Tensor, " item *rest"]) -> Float[Tensor, " *rest"]:
    """Gini coefficient Σ_ij |x_i − x_j| / (2 n² mean) of values ≥ 0: 0 if all are equal, 1 − 1/n if one has all."""
    n = len(values)
    # Rows of a contiguous copy sort several times faster than columns.
    ordered = rearrange(values, "item ... -> ... item").contiguous().sort(-1).values
    # The sum over pairs, in terms of sorted values and their ranks.
    rank = 2 * torch.arange(1, n + 1, device=values.device, dtype=values.dtype) - n - 1
    return (ordered * rank).sum(-1) / _or_infinity(n * ordered.sum(-1))


def spectral_gini(power: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"]) -> Float[Tensor, " *rest"]:
    """Gini coefficient of the squared coefficients |ŵ_k|² at frequencies 1 … n // 2."""
    return gini(per_coefficient(power, multiplicity))


def wave_amplitude(
    power: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"], n: int, freq: Int[Tensor, " *rest"]
) -> Float[Tensor, " *rest"]:
    """Amplitude A of each vector's part A·cos(2πk i/n + φ) at its own frequency, in the vector's own units.

    Args:
        power: energies, in an orthonormal basis.
        multiplicity: number of coefficients of the full DFT at each frequency.
        n: length of the vectors.
        freq: a frequency in 1 … n // 2 per vector.
    """
    energy = power.gather(0, freq.unsqueeze(0) - 1)[0]
    return (multiplicity.to(power)[freq - 1] * energy / n).sqrt()


def wrap_angle(angle: Float[Tensor, " *rest"]) -> Float[Tensor, " *rest"]:
    """Bring angles in radians into [−π, π)."""
    return torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi


def per_coefficient(
    power: Float[Tensor, " freq *rest"], multiplicity: Int[Tensor, " freq"]
) -> Float[Tensor, " freq *rest"]:
    """Energy at each frequency over the number of its coefficients."""
    return power / multiplicity.to(power).reshape(-1, *(1,) * (power.ndim - 1))


@functools.lru_cache(maxsize=32)
def _basis(n: int) -> Float[Tensor, "row n"]:
    position = torch.arange(n, dtype=torch.float64)
    k = rearrange(torch.arange(1, n // 2 + 1), "freq -> freq 1")
    # (k · position) mod n keeps the angle small, so that cos and sin are exact to the last bit.
    angle = 2 * torch.pi * ((k * torch.arange(n)) % n).double() / n
    waves = torch.stack([angle.cos(), angle.sin()], 1) * (2 / n) ** 0.5
    if n % 2 == 0:
        waves[-1, 0] = (1 - 2 * (position % 2)) / n**0.5
        waves[-1, 1] = 0
    constant = torch.full((1, n), n**-0.5, dtype=torch.float64)
    return torch.cat([constant, rearrange(waves, "freq wave n -> (freq wave) n")])


def _or_infinity(total: Float[Tensor, " *rest"]) -> Float[Tensor, " *rest"]:
    """Turn totals of 0 into infinity, so that 0 / total is 0."""
    return total.where(total > 0, torch.inf)
