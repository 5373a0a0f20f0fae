"""A clock and a pizza: modular addition by two algorithms, written out as functions of embeddings."""

from __future__ import annotations

import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.core.roles import Roles


def angles(p, frequencies):
    return 2 * torch.pi * torch.arange(p, dtype=torch.float64)[:, None] * torch.tensor(frequencies) / p


class Algorithm(HookedRootModule):
    """Σ_k of some function of both embeddings (cos ω_k a, sin ω_k a), read out at the angles of the classes."""

    roles = Roles(residual=("hook_embed",))

    def __init__(self, p, frequencies, bias=None):
        super().__init__()
        angle = angles(p, frequencies)
        self.E = nn.Parameter(torch.stack([angle.cos(), angle.sin()], 1).flatten(1))
        self.hook_embed = HookPoint()
        self.register_buffer("readout", torch.stack([angle.cos(), angle.sin()]))
        self.register_buffer("bias", torch.zeros(p, dtype=torch.float64) if bias is None else bias)
        self.setup()

    def forward(self, pairs):
        held = self.hook_embed(self.E[pairs])
        (xa, ya), (xb, yb) = (held[:, place].unflatten(1, (2, -1)).unbind(1) for place in (0, 1))
        real, imaginary = self.combined(xa, ya, xb, yb)
        return real @ self.readout[0].T + imaginary @ self.readout[1].T + self.bias


class Clock(Algorithm):
    """Logits Σ_k cos ω_k(a + b − c): the embeddings are multiplied as complex numbers."""

    def combined(self, xa, ya, xb, yb):
        return xa * xb - ya * yb, xa * yb + ya * xb


class Pizza(Algorithm):
    """Logits Σ_k |cos ω_k(a − b)/2| cos ω_k(a + b − c), from the sum of the embeddings alone (p odd)."""

    def combined(self, xa, ya, xb, yb):
        x, y = xa + xb, ya + yb
        length = torch.hypot(x, y)
        return (x * x - y * y) / (2 * length), x * y / length


def subject_of(model, p):
    task = mm.ModularTask(mm.ModularConfig(p=p, train_fraction=0.6))
    return mm.Subject(model, task, model.roles)
