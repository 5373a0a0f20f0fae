"""A small transformer for modular arithmetic, in float64 and with weights that no plugin can mistake for another's."""

from __future__ import annotations

import torch

import mechmem as mm
from mechmem.models.networks.build import build_model
from mechmem.models.networks.config import TransformerConfig


def small_transformer(p=7, op="add", **settings):
    """A subject whose logits depend on everything: weights are drawn twice as large as at initialisation."""
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.6, noise=mm.LabelNoise(0.2)))
    chosen = {"d_model": 12, "heads": 2, "d_mlp": 20, "biases": "all"} | settings
    model = build_model(TransformerConfig(**chosen), task, 3).double()
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype) * 0.3
    return mm.Subject(model, task, model.roles)
