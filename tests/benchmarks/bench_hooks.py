"""Reading a transformer's hook points against its plain forward pass, on every pair mod 113."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timing import alternately

import mechmem as mm
from mechmem.models.networks.build import build_model
from mechmem.models.reading.forward import logits_of
from mechmem.training.loop import widen_heap

P = 113
POINT = "blocks.0.mlp.hook_post"


def run(add: Callable[..., None]) -> None:
    task = mm.ModularTask(mm.ModularConfig(p=P, train_fraction=0.8, noise=mm.LabelNoise(0.3)))
    model = build_model(mm.TransformerConfig(), task, 0).eval()
    subject = mm.Subject(model, task, model.roles)
    pairs = task.batch(task.ids)[0]
    widen_heap()

    @torch.no_grad()
    def whole() -> torch.Tensor:
        return model(pairs)

    def blocked() -> torch.Tensor:
        return logits_of(model, task, task.ids)

    def loss(logits: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, given, reduction="none")

    def backward() -> None:
        for rows in torch.arange(len(pairs)).split(2048):
            torch.autograd.grad(loss(model(pairs[rows]), task.given(task.ids[rows])).sum(), list(model.parameters()))

    cached = mm.activations(subject, "*", ids=task.ids)
    with model.hooks(fwd_hooks=[(POINT, lambda value, hook: held.update(value=value.clone()))]):
        held: dict[str, torch.Tensor] = {}
        logits = whole()
    assert torch.allclose(cached["hook_logits"], logits, atol=1e-5), "cached logits disagree"
    assert torch.allclose(cached[POINT], held["value"], atol=1e-5), "cached neurons disagree"
    megabytes = cached.nbytes / 2**20
    del cached, held, logits

    def every() -> None:
        mm.activations(subject, "*", ids=task.ids)

    def one() -> None:
        mm.activations(subject, POINT, ids=task.ids)

    for name, plain in (("plain forward", whole), ("forward in row blocks", blocked)):
        add(
            f"every point of a transformer ({megabytes:.0f} MB), against the {name}",
            *alternately(plain, every, 9),
            2.0,
            speedup=False,
        )
        add(f"its neurons alone, against the {name}", *alternately(plain, one, 9), 1.15, speedup=False)

    def gradient() -> None:
        mm.activations(subject, POINT, ids=task.ids, gradients=loss)

    add("gradient by its neurons, against a backward pass", *alternately(backward, gradient, 5), 1.15, speedup=False)
