"""The influence matrix of turn-over dropout, against its masked forward passes written out."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import add as add_row
from timing import alternately

import mechmem as mm
from mechmem.models.networks.images import HookedImageNetwork
from mechmem.models.networks.subnetworks import mask_layers

SOURCES, TARGETS = 24, 1000


def run(add: Callable[..., None] = add_row) -> None:
    """Of the setting's 4000 × 1000 pairs a few sources: the cost of each is the same."""
    task = mm.ImageTask(mm.ImageConfig("mnist5k", train=4000, test=1000))
    config = mm.ImageMLPConfig((768, 768, 768), biases=False, masks=mm.TurnOver(layers=(0, -1)))
    model = HookedImageNetwork(config, task.shape, task.n_classes).eval()
    subject = mm.Subject(model, task, model.roles)
    sources, targets = task.train_ids[:SOURCES], task.test_ids[:TARGETS]
    inputs, labels = task.batch(targets)
    flat = inputs.flatten(1)
    first, second, third = (layer.linear.weight.detach() for layer in model.layers)
    last = model.readout.weight.detach()
    masks = [layer.mask(sources, 0.5) for layer in mask_layers(model)]

    def forward(below: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
        hidden = (flat @ first.T).relu() * below
        return F.cross_entropy(((hidden @ second.T).relu() @ third.T).relu() * above @ last.T, labels, reduction="none")

    def plain() -> torch.Tensor:
        columns = []
        with torch.no_grad():
            for below, above in zip(*masks, strict=True):
                own = forward(below.float() / 0.5, above.float() / 0.5)
                columns.append(forward((~below).float() / 0.5, (~above).float() / 0.5) - own)
        return torch.stack(columns, 1)

    def ours() -> torch.Tensor:
        return mm.influence(subject, sources, targets).values

    assert torch.allclose(plain(), ours(), atol=1e-4), "the two matrices disagree"
    what = f"influence of {SOURCES} of 4000 on {TARGETS}, MLP 784-768-768-768-10"
    add(what, *alternately(plain, ours, 3), 1.2, speedup=False)
