"""Frequency filtration of all neurons at once, against a loop over neurons with numpy's transform."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from timing import alternately

from mechmem.math.filtration import frequency_part, frequency_power, key_frequency
from mechmem.tasks.groups import CyclicGroup

P = 113


def run(add: Callable[..., None]) -> None:
    neurons = 16384
    draw = torch.Generator().manual_seed(0)
    embedding, readout = torch.randn(2, P, neurons, generator=draw), torch.randn(neurons, P, generator=draw)
    group = CyclicGroup(P)

    def ours() -> list[torch.Tensor]:
        freq = key_frequency(group, frequency_power(group, embedding, readout))
        return [frequency_part(group, vectors, freq, "G") for vectors in (*embedding, readout.T)]

    u, v, w = (t.numpy() for t in (*embedding, readout.T))

    def plain() -> list[np.ndarray]:
        kept = [np.zeros_like(x) for x in (u, v, w)]
        for m in range(neurons):
            spectra = [np.fft.rfft(x[:, m]) for x in (u, v, w)]
            energies = [np.abs(s[1:]) ** 2 for s in spectra]
            k = 1 + int(np.argmax(sum(energy / energy.sum() for energy in energies)))
            for x, s in zip(kept, spectra, strict=True):
                only = np.zeros_like(s)
                only[k] = s[k]
                x[:, m] = np.fft.irfft(only, P)
        return kept

    for fast, slow in zip(ours(), plain(), strict=True):
        assert np.abs(fast.numpy() - slow).max() < 1e-4, "filtrations disagree"
    add(f"filtration of {neurons} neurons, p={P}", *alternately(plain, ours, 3), 20, speedup=True)
