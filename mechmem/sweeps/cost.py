"""What runs cost: expected seconds from operations, and this machine's rate."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping

import torch

from mechmem.models.hooks.running import as_configured
from mechmem.models.networks.build import build_model
from mechmem.models.networks.config import MLPConfig, TransformerConfig
from mechmem.tasks.config import ModularConfig, TaskConfig
from mechmem.tasks.grid_tasks import ModularTask
from mechmem.tasks.image_config import ImageConfig
from mechmem.tasks.sequence_config import GrammarConfig
from mechmem.training.config import Precision, TrainConfig
from mechmem.training.loop import training_step
from mechmem.training.minibatches import Batch
from mechmem.training.optimizers import Optimizers


@functools.cache
@as_configured()
def step_rate(precision: Precision) -> float:
    """Measure this machine's floating-point operations per second in a training step, once, on one thread."""
    task = ModularTask(ModularConfig(p=59))
    config = TrainConfig(task.config, MLPConfig(512), precision=precision)
    model = build_model(config.model, task, 0)
    optimizers = Optimizers(config, model, model.roles)
    ids = task.train_ids[:2048]
    examples = Batch(ids, *task.batch(ids))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = [_timed(lambda: training_step(model, optimizers, examples, config, 1024, ())) for _ in range(6)]
    finally:
        torch.set_num_threads(threads)
    return 6 * 512 * 59 * len(ids) / min(seconds)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def expected_seconds(
    trials: Mapping[str, TrainConfig], rate: Callable[[Precision], float] = step_rate
) -> dict[str, float]:
    """Estimate the seconds that each run takes on one thread.

    Args:
        trials: the runs.
        rate: floating-point operations per second of a training step at a precision.
    """
    return {digest: _operations(config) / rate(config.precision) + 0.5 for digest, config in trials.items()}


IMAGES = {"digits": (1438, 359), "mnist5k": (4000, 1000), "cifar10": (50_000, 10_000)}
"""Default numbers of training and test images by data set; 60,000 and 10,000 for others."""


def _examples(task: TaskConfig) -> tuple[int, int]:
    """Return the approximate numbers of training examples and of all examples of a task; a sequence counts as one."""
    if isinstance(task, GrammarConfig):
        shown = task.train + task.passages * sum(task.repeats)
        return shown, task.train + task.test + task.passages * len(task.repeats) + task.controls
    if isinstance(task, ImageConfig):
        train, test = IMAGES.get(task.data, (60_000, 10_000))
        return task.train or train, (task.train or train) + (task.test or test)
    cells = getattr(task, "p", 100) ** 2
    return round(cells * getattr(task, "train_fraction", 0.8)), cells


def _operations(config: TrainConfig) -> float:
    task, model = config.task, config.model
    p = getattr(task, "p", 100)
    if isinstance(task, GrammarConfig):
        p = task.vocabulary * (task.length - 1)  # logits of a sequence
        model = dataclasses.replace(model, tokens=task.length - 1) if isinstance(model, TransformerConfig) else model
    rows, cells = _examples(task)
    batch = min(config.batch_size or rows, rows)
    products = model.products(p)
    # A forward pass, and a backward pass at twice its cost; small batches are dominated by a step's fixed cost, and
    # drawing a dropout mask costs more than applying it.
    masks = 1500 * getattr(model, "width", getattr(model, "d_model", 0)) * batch if getattr(model, "dropout", 0) else 0
    step = 6 * products * batch + 5e7 + masks
    return config.steps * step + config.evaluations * 2 * products * cells
