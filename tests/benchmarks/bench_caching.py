"""Activations against forward passes; and, run as a script, the memory that a reduction over many inputs takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import torch
from timing import alternately, note, peak_resident_mb

import mechmem as mm
from mechmem.models.networks.build import build_model
from mechmem.models.reading.forward import logits_of
from mechmem.training.loop import widen_heap

P, WIDTH = 113, 2048


def network() -> tuple[mm.ModularTask, torch.nn.Module]:
    task = mm.ModularTask(mm.ModularConfig(p=P, train_fraction=0.8, noise=mm.LabelNoise(0.8)))
    return task, build_model(mm.MLPConfig(width=WIDTH), task, 0)


def run(add: Callable[..., None]) -> None:
    task, model = network()
    subject = mm.Subject(model, task, model.roles)
    pairs = task.batch(task.ids)[0]
    widen_heap()

    @torch.no_grad()
    def whole() -> torch.Tensor:
        return model(pairs)

    def blocked() -> torch.Tensor:
        return logits_of(model, task, task.ids)

    cached = mm.activations(subject, "*", ids=task.ids)
    assert torch.allclose(cached["hook_logits"], whole(), atol=1e-5), "cached logits disagree"
    mean = mm.activations(subject, "*", ids=task.ids, reduce=mm.Mean)["hook_hidden"]
    assert torch.allclose(mean, cached["hook_hidden"].double().mean(0), atol=1e-6), "reduced means disagree"
    del cached
    for name, plain in (("plain forward", whole), ("forward in row blocks", blocked)):
        every = alternately(plain, lambda: mm.activations(subject, "*", ids=task.ids), 9)
        add(f"caching every point, against the {name}", *every, 1.8, speedup=False)
        point = alternately(plain, lambda: mm.activations(subject, "hook_hidden", ids=task.ids, reduce=mm.Mean), 9)
        add(f"streamed mean of the hidden layer, against the {name}", *point, 1.2, speedup=False)
    note("memory of one reduction over 10⁶ inputs", f"{memory_in_a_fresh_process():.0f} MB", "≤ 500 MB")


def memory() -> None:
    task, model = network()
    ids = torch.randint(len(task.ids), (10**6,))
    subject = mm.Subject(model, task, model.roles)
    before = peak_resident_mb(reset=True)
    mm.activations(subject, "hook_hidden", ids=ids, reduce=mm.Variance)
    sys.stdout.write(f"{peak_resident_mb() - before}\n")


def memory_in_a_fresh_process() -> float:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    memory()
