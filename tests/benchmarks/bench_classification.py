"""Fourier classification of all neurons at once: against a loop over neurons, and against one step of training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from timing import alternately

import mechmem as mm
from mechmem.analyses.neurons.fourier_classification import FourierClassification
from mechmem.models.hooks.running import block_rows
from mechmem.models.networks.build import build_model
from mechmem.training.loop import training_step, widen_heap
from mechmem.training.minibatches import Batch
from mechmem.training.optimizers import Optimizers

P, WIDTH = 113, 16384


def by_neuron(u: np.ndarray, v: np.ndarray, w: np.ndarray, threshold: float) -> list[dict[str, object]]:
    """The reference: one neuron after the other with numpy's transform."""
    rows = []
    for m in range(u.shape[1]):
        spectra = [np.fft.rfft(x[:, m]) for x in (u, v, w)]
        shares = [np.abs(s[1:]) ** 2 / (np.abs(s[1:]) ** 2).sum() for s in spectra]
        mean = sum(shares) / 3
        k = 1 + int(np.argmax(mean))
        phases = [float(np.angle(s[k])) for s in spectra]
        row: dict[str, object] = {"key_frequency": k, "share": mean[k - 1]}
        row["alignment_add"] = (phases[0] + phases[1] - phases[2] + math.pi) % (2 * math.pi) - math.pi
        row["alignment_subtract"] = (phases[0] - phases[1] - phases[2] + math.pi) % (2 * math.pi) - math.pi
        common, aligned = mean[k - 1] > threshold, abs(row["alignment_add"]) <= math.pi / 4
        row["class"] = ("generalizing" if aligned else "mixed") if common else "memorizing"
        for name, x, s, share, phase in zip("uvw", (u, v, w), spectra, shares, phases, strict=True):
            amplitude = np.abs(s)
            full = np.concatenate([amplitude, amplitude[1:]])
            values = np.sort(amplitude[1:] ** 2)
            n = len(values)
            row[f"key_frequency_{name}"] = 1 + int(np.argmax(share))
            row[f"amplitude_{name}"] = 2 * amplitude[k] / P
            row[f"phase_{name}"] = phase
            row[f"ipr_one_sided_{name}"] = (amplitude**4).sum() / (amplitude**2).sum() ** 2
            row[f"ipr_two_sided_{name}"] = (full**4).sum() / (full**2).sum() ** 2
            row[f"sparsity_{name}"] = share.max()
            row[f"periodicity_{name}"] = amplitude[1:].max() / amplitude[1:].mean()
            row[f"gini_{name}"] = ((2 * np.arange(1, n + 1) - n - 1) * values).sum() / (n * values.sum())
            row[f"norm_{name}"] = np.linalg.norm(x[:, m])
        rows.append(row)
    return rows


def run(add: Callable[..., None]) -> None:
    settings = mm.TrainConfig(
        task=mm.ModularConfig(p=P, train_fraction=0.8, noise=mm.LabelNoise(0.8)), model=mm.MLPConfig(width=WIDTH)
    )
    task = mm.ModularTask(settings.task)
    model = build_model(settings.model, task, 0)
    subject = mm.Subject(model, task, model.roles)
    widen_heap()

    start = time.perf_counter()
    threshold = FourierClassification()(subject).share_threshold
    first = time.perf_counter() - start

    def ours() -> object:
        return FourierClassification()(subject).to_frame()

    u, v = (x.numpy() for x in model.roles.input_embedding.read(model))
    w = model.W_out.detach().numpy().T

    def plain() -> list[dict[str, object]]:
        return by_neuron(u, v, w, threshold)

    frame, wanted = ours(), plain()
    for name in wanted[0]:
        found, reference = frame[name].to_numpy(), np.array([row[name] for row in wanted])
        if name == "class" or name.startswith("key_frequency"):
            # Two frequencies of almost equal energy may change places in float32.
            assert (found == reference).mean() > 0.9999, f"{name} disagrees"
            continue
        same = (frame["key_frequency"].to_numpy() == np.array([row["key_frequency"] for row in wanted])).astype(bool)
        gap = np.abs(found.astype(float) - reference.astype(float))[same]
        if name.startswith(("phase", "alignment")):
            gap = np.abs(np.exp(1j * gap) - 1)
        # A phase is known as far as its amplitude is above rounding; a few vectors have almost none.
        assert np.quantile(gap, 0.999) < 1e-3, f"{name} disagrees"
    what = f"Fourier classification of {WIDTH} neurons, every column, p={P}"
    add(f"{what}, against a loop over neurons", *alternately(plain, ours, 3), 20, speedup=True)

    optimizers = Optimizers(settings, model, model.roles)
    examples = Batch(task.train_ids, *task.batch(task.train_ids))

    def step() -> torch.Tensor:
        return training_step(model, optimizers, examples, settings, block_rows(model), ())

    one_step, cached = alternately(step, ours, 3)
    add(f"{what}, against one training step", one_step, cached, 1, speedup=False)
    add("the same with its null drawn for the first time", one_step, first, 1, speedup=False)


if __name__ == "__main__":
    from timing import ROWS
    from timing import add as note_ratio

    run(note_ratio)
    raise SystemExit("\n".join("  ".join(row) for row in ROWS))
