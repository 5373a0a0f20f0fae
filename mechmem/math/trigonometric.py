"""Cosines of a given frequency, amplitude and phase, batched over neurons."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.math.fourier import waves_at


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
    # A cosine of amplitude 1 has squared length n / 2, the alternating vector of the Nyquist frequency n.
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
