"""The training loop: full batch in cache-sized row blocks, or minibatches; every step derives from (seed, step).

BatchNorm couples the rows of a batch: a network that has one takes its steps on the whole batch at once.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from mechmem.contracts import Task
from mechmem.errors import ConfigError, TrainingFailedError
from mechmem.math.blocks import blocks
from mechmem.models.dropout import begin_step
from mechmem.models.forward import block_rows
from mechmem.randomness import generator
from mechmem.training.config import TrainConfig
from mechmem.training.evaluate import loss_of
from mechmem.training.optimizers import Optimizers
from mechmem.training.progress import reporter
from mechmem.training.recorder import Recorder


def optimize(
    config: TrainConfig,
    model: nn.Module,
    task: Task,
    optimizers: Optimizers,
    recorder: Recorder,
    *,
    first: int | None,
    progress: bool,
    title: str,
) -> int:
    """Take the steps that are left.

    Args:
        config: what to train and how.
        model: the network, initialised or restored.
        task: its task.
        optimizers: its optimiser, fresh or restored.
        recorder: told after every step.
        first: steps already taken; None where not even step 0 has been recorded.
        progress: whether to show a bar.
        title: what the bar calls the run.

    The network is in training mode during the steps, and in evaluation mode afterwards.

    Returns:
        the number of the last step: `config.steps`, or less where `config.stop_when` held.

    Raises:
        TrainingFailedError: the loss is not a number, or a result could not be written.
    """
    device = next(model.parameters()).device
    widen_heap()
    batches = _Batches(config, task, device)
    rows = len(task.train_ids) if couples_rows(model) else block_rows(model)
    buffers = _Buffers(model)
    step = first or 0
    stop = config.stop_condition()
    try:
        model.train()
        with reporter(title, step, config.steps, show=progress) as report:
            row = recorder(0, optimizers) if first is None else recorder.catch_up(step)
            report.step(step, row)
            # Asked here and not after a step: a run that was killed just before it stopped early must still stop.
            while step < config.steps and not (step and _holds(row, stop)):
                buffers.keep(optimizers.updates)
                begin_step(model, config.seed, step)
                loss = float(training_step(model, optimizers, *batches.at(step), config, rows))
                step += 1
                if not math.isfinite(loss):
                    raise TrainingFailedError(
                        f"the loss is {loss} at step {step}; nothing after the last checkpoint is kept"
                    )
                row = recorder(step, optimizers)
                report.step(step, row)
    except KeyboardInterrupt:
        # What is saved has to be the state after a whole number of updates, whatever line the interrupt fell on.
        if optimizers.whole:
            buffers.restore(optimizers.updates)
            recorder.checkpoint((first or 0) + optimizers.updates, optimizers)
        raise
    except OSError as error:
        raise TrainingFailedError(f"could not write to {recorder.path} at step {step}: {error}") from error
    finally:
        model.eval()
    if step not in recorder.checkpoint_at:
        recorder.checkpoint(step, optimizers)
    recorder.finish(step, "all steps taken" if step == config.steps else config.stop_when)
    return step


def training_step(
    model: nn.Module,
    optimizers: Optimizers,
    inputs: Shaped[Tensor, "example ..."],
    given: Int[Tensor, " example"],
    config: TrainConfig,
    rows: int,
) -> Float[Tensor, ""]:
    """Take one step on these examples, in row blocks whose gradients add up to the whole batch's; return the loss."""
    optimizers.zero_grad()
    total = torch.zeros((), device=given.device)
    n = len(given)
    # One autocast region around all blocks: a weight is cast to bfloat16 once per step.
    low = config.precision == "bf16"
    with torch.autocast(given.device.type, torch.bfloat16) if low else contextlib.nullcontext():
        for block in blocks(n, rows):
            logits = model(inputs[block]).float()
            share = len(logits) / n
            loss = loss_of(logits, given[block], config.loss) * share
            loss.backward()
            total += loss.detach()
    optimizers.step()
    return total


def couples_rows(model: nn.Module) -> bool:
    """Tell whether an example's output in training depends on the other examples of its batch (BatchNorm)."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def check_batches(config: TrainConfig, model: nn.Module, task: Task) -> None:
    """Refuse a network with BatchNorm where a step would see a single example, which has no variance.

    Raises:
        ConfigError: the smallest minibatch has one example.
    """
    n = len(task.train_ids)
    size = min(config.batch_size or n, n)
    if couples_rows(model) and (size == 1 or n % size == 1):
        raise ConfigError(
            f"BatchNorm needs at least 2 examples in every step; with batch size {size} a step would see 1 of the {n}"
        )


class _Buffers:
    """What a forward pass changes without an update (BatchNorm's running statistics), as it was before the step."""

    def __init__(self, model: nn.Module):
        self._model = model
        self._kept: tuple[int, list[Tensor]] = -1, []

    def keep(self, updates: int) -> None:
        """Remember the buffers before update number `updates` + 1."""
        self._kept = updates, [buffer.detach().clone() for buffer in self._model.buffers()]

    def restore(self, updates: int) -> None:
        """Put them back, unless the step they were kept for has made its update."""
        if self._kept[0] == updates:
            for buffer, value in zip(self._model.buffers(), self._kept[1], strict=True):
                buffer.copy_(value)


class _Batches:
    """The examples of each step; a minibatch's order is derived from (seed, epoch), so a resume needs no state."""

    def __init__(self, config: TrainConfig, task: Task, device: torch.device):
        self._task, self._device, self._config = task, device, config
        self._n = len(task.train_ids)
        # Held once, unless every step shows the inputs anew.
        self._held = None if task.augmented else self._shown(task.train_ids)
        self._size = config.batch_size if 0 < config.batch_size < self._n else self._n
        self._order: tuple[int, Tensor] | None = None

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs and given labels of a step (counted from 0)."""
        chosen = self._chosen(step)
        if self._held is None:
            ids = self._task.train_ids if chosen is None else self._task.train_ids[chosen]
            return self._shown(ids, step)
        inputs, given = self._held
        if chosen is None:
            return inputs, given
        chosen = chosen.to(self._device)
        return inputs[chosen], given[chosen]

    def _shown(self, ids: Int[Tensor, " example"], step: int | None = None) -> tuple[Tensor, Tensor]:
        inputs, given = self._task.batch(ids, step)
        return inputs.to(self._device), given.to(self._device)

    def _chosen(self, step: int) -> Int[Tensor, " example"] | None:
        """Return the places in the training set of a step's examples, or None for all of them."""
        if self._size == self._n:
            return None
        per_epoch = -(-self._n // self._size)
        epoch, position = divmod(step, per_epoch)
        if self._order is None or self._order[0] != epoch:
            draw = generator(self._config.seed, "order", epoch)
            self._order = epoch, torch.randperm(self._n, generator=draw)
        return self._order[1][position * self._size : (position + 1) * self._size]


def _holds(row: dict[str, Any] | None, condition: tuple[str, str, float] | None) -> bool:
    if row is None or condition is None:
        return False
    split, comparison, threshold = condition
    value = row[split]
    return value is not None and (value >= threshold if comparison == ">=" else value <= threshold)


def widen_heap() -> None:
    """Let the C allocator keep blocks of up to 31 MB instead of returning them to the system after every use.

    glibc raises its threshold to the size of the largest block freed so far (up to 32 MB). Without this a step at
    width 2048 spends a third of its time on page faults.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
