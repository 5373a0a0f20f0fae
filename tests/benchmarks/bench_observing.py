"""Observing the training passes of a user's loop: against the loop alone, by hand and in HuggingFace's Trainer.

A network of 784 inputs and 10 classes is trained in minibatches of 128. What observing takes does not depend on the
network's size, so that it is also given per example. Times are of the processor, in the main process.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from timing import alternately, note
from torch import nn

import mechmem as mm
from mechmem.training.observations import epoch_file

EXAMPLES, FEATURES, CLASSES, WIDTH, BATCH = 10_000, 784, 10, 2048, 128


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        logits = self.layers(inputs)
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


def planted() -> mm.ArrayTask:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (EXAMPLES + 100,), generator=draw)
    inputs = torch.randn(EXAMPLES + 100, FEATURES, generator=draw)
    return mm.ArrayTask(inputs, labels, labels, torch.arange(EXAMPLES + 100) < EXAMPLES, n_classes=CLASSES)


def epoch(task: mm.ArrayTask, recorder: mm.Recorder | None) -> None:
    """One epoch of a loop by hand."""
    model, draw = Network(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for places in torch.randperm(EXAMPLES, generator=draw).split(BATCH):
        ids = task.train_ids[places]
        inputs, labels = task.batch(ids)
        logits = model(inputs)["logits"]
        if recorder is not None:
            recorder.observe(ids, logits, labels)
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    if recorder is not None:
        recorder.end_epoch(1)


def trained(data: list[dict[str, torch.Tensor]], folder: Path, task: mm.ArrayTask | None, workers: int) -> None:
    """Two epochs of HuggingFace's Trainer, with a callback if there is a task."""
    settings = transformers.TrainingArguments(
        str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=BATCH,
        dataloader_num_workers=workers,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    # Without evaluations, whose share of the time is chosen: what is timed is what every pass costs.
    callbacks = [] if task is None else [mm.HuggingFaceCallback(task, evaluations=[], checkpoints=[0])]
    transformers.Trainer(Network(), settings, train_dataset=data, callbacks=callbacks).train()


def run(add: Callable[..., None]) -> None:
    task = planted()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        recorder = mm.Recorder(Network().layers, task, steps=1, out=Path(folder) / "run", checkpoints=[0])
        size = f"{EXAMPLES} × {FEATURES} → {WIDTH} → {CLASSES}"
        times = alternately(lambda: epoch(task, None), lambda: epoch(task, recorder), 7, time.process_time)
        add(f"observing an epoch by hand, {size}", *times, 1.03, speedup=False)
        note("the same, per example", f"{1e6 * (times[1] - times[0]) / EXAMPLES:.1f} µs", "none")
        inputs, labels = task.batch(task.train_ids)
        data = [{"inputs": x, "labels": y} for x, y in zip(inputs, labels, strict=True)]
        for workers in (0, 2):
            times = alternately(
                lambda workers=workers: trained(data, Path(folder), None, workers),
                lambda workers=workers: trained(data, Path(folder), task, workers),
                5,
                time.process_time,
            )
            add(f"two epochs of HuggingFace's Trainer, {workers} workers, {size}", *times, 1.03, speedup=False)
            note("the same, per example", f"{1e6 * (times[1] - times[0]) / 2 / EXAMPLES:.1f} µs", "none")
        each = epoch_file(recorder.path, 1).stat().st_size / EXAMPLES
        note("bytes per example and epoch", f"{each:.2f}", "≤ 10")
        logging.disable(logging.NOTSET)
