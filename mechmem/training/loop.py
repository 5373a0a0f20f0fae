"""The training loop: full batch in cache-sized row blocks, or minibatches; every step derives from (seed, step).

BatchNorm couples the rows of a batch, so a network with BatchNorm processes the whole batch at once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.core.processes import deaf
from mechmem.core.task import Task
from mechmem.errors import ConfigError, TrainingFailedError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.running import block_rows
from mechmem.models.networks.dropout import begin_step, dropout_layers
from mechmem.models.networks.masks import ExampleMask
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.training.config import TrainConfig
from mechmem.training.evaluate import loss_of
from mechmem.training.minibatches import Batch, Order, TrainingSet
from mechmem.training.optimizers import Optimizers
from mechmem.training.progress import reporter
from mechmem.training.recorder import Recorder
from mechmem.training.stopping import stop_condition


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
    """Take the remaining steps.

    The network is in training mode during the steps, and in evaluation mode afterwards.

    Args:
        config: the training config.
        model: the network, initialised or restored.
        task: its task.
        optimizers: its optimiser, fresh or restored.
        recorder: called after every step.
        first: steps already taken; None if not even step 0 has been recorded.
        progress: whether to show a bar.
        title: name of the run in the bar.

    Returns:
        the number of the last step: `config.steps`, or less if `config.stop_when` held.

    Raises:
        TrainingFailedError: the loss is not a number, or a result could not be written.
    """
    device = next(model.parameters()).device
    widen_heap()
    batches = _Batches(config, task, device)
    coupled = couples_rows(model)
    rows = len(task.train_ids) if coupled else block_rows(model)
    dropout, masks, buffers = dropout_layers(model), mask_layers(model), _Buffers(model)
    step = first or 0
    stop = stop_condition(config.stop_when)
    try:
        model.train()
        with reporter(title, step, config.steps, show=progress) as report:
            row = recorder(0, optimizers) if first is None else recorder.catch_up(step)
            report.step(step, row)
            # Checked before a step: a run killed just before an early stop must still stop when resumed.
            while step < config.steps and not (step and row and stop and stop.holds(recorder.rows, config.steps)):
                buffers.keep(optimizers.updates)
                begin_step(dropout, config.seed, step)
                examples = batches.at(step)
                if coupled and len(examples.given) < 2:
                    raise TrainingFailedError(f"step {step + 1} would see {len(examples.given)} examples of its batch")
                loss = float(training_step(model, optimizers, examples, config, rows, masks))
                step += 1
                if not math.isfinite(loss):
                    raise TrainingFailedError(
                        f"the loss is {loss} at step {step}; training up to the last checkpoint is kept"
                    )
                row = recorder(step, optimizers)
                report.step(step, row)
    except KeyboardInterrupt:
        # The saved state must be that after a whole number of updates, wherever the interrupt happened.
        if optimizers.whole:
            with deaf():  # a second interrupt would throw away what the first one saves
                buffers.restore(optimizers.updates)
                recorder.checkpoint((first or 0) + optimizers.updates, optimizers)
        raise
    finally:
        model.eval()
    if step not in recorder.checkpoint_at:
        recorder.checkpoint(step, optimizers)
    recorder.finish(step, "all steps taken" if step == config.steps else config.stop_when)
    return step


def training_step(
    model: nn.Module,
    optimizers: Optimizers,
    examples: Batch,
    config: TrainConfig,
    rows: int,
    masks: Sequence[ExampleMask],
) -> Float[Tensor, ""]:
    """Take one step, in row blocks whose gradients sum to that of the batch.

    Args:
        model: the network.
        optimizers: its optimiser.
        examples: the examples of the step.
        config: the training config.
        rows: most examples of a block.
        masks: the network's layers with example masks.

    Returns:
        the loss before the step; 0 without examples.
    """
    optimizers.zero_grad()
    n, losses = len(examples.given), list[Tensor]()
    # One autocast region around all blocks, so that a weight is cast to bfloat16 once per step.
    low = config.precision == "bf16"
    with torch.autocast(examples.given.device.type, torch.bfloat16) if low else contextlib.nullcontext():
        # A minibatch of which every example is left out has no block at all.
        for part in [examples] if 0 < n <= rows else map(examples.part, blocks(n, rows)):
            with of_examples(masks, part.ids) if masks else contextlib.nullcontext():
                logits = model(part.inputs).float()
            loss = loss_of(logits, part.given, config.loss)
            if n > rows:
                loss = loss * (len(logits) / n)
            loss.backward()
            losses.append(loss.detach())
    if low:
        # Within an autocast region of the caller's, the weights of this step would be kept for the next.
        torch.clear_autocast_cache()
    if config.clip_norm:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizers.step()
    return sum(losses[1:], losses[0]) if losses else torch.zeros(())


def couples_rows(model: nn.Module) -> bool:
    """Return whether an example's output in training depends on the other examples of its batch (BatchNorm)."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


def check_batches(config: TrainConfig, model: nn.Module, task: Task) -> None:
    """Check the ids in `left_out`, and that no minibatch has a single example with BatchNorm.

    Raises:
        ConfigError: an id is not in the training set, no example would remain, or the smallest minibatch of a network
            with BatchNorm has a single example, which has no variance.
    """
    left_out = torch.tensor(config.left_out, dtype=torch.long)
    others = left_out[~torch.isin(left_out, task.sources)]
    if len(others):
        raise ConfigError(f"left_out has {int(others[0])}, which is not the id of a training example")
    if len(left_out) and bool(torch.isin(task.sources, left_out).all()):
        raise ConfigError("left_out leaves no example to train on")
    n = len(task.train_ids)
    size = min(config.batch_size or n, n)
    if couples_rows(model) and (size == 1 or n % size == 1):
        raise ConfigError(
            f"BatchNorm needs at least 2 examples in every step; with batch size {size} a step would see 1 of the {n}"
        )


class _Buffers:
    """Copy, from before the step, of what a forward pass changes without an update (BatchNorm's running statistics)."""

    def __init__(self, model: nn.Module):
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        self._changing = [buffer for norm in norms for buffer in norm.buffers()]
        self._kept: tuple[int, list[Tensor]] = -1, []

    def keep(self, updates: int) -> None:
        """Copy the buffers before update number `updates` + 1."""
        self._kept = updates, [buffer.clone() for buffer in self._changing]

    def restore(self, updates: int) -> None:
        """Restore the buffers, unless the step they were copied for has made its update."""
        if self._kept[0] == updates:
            for buffer, value in zip(self._changing, self._kept[1], strict=True):
                buffer.copy_(value)


class _Batches:
    """The examples of each step, except those in `left_out`."""

    def __init__(self, config: TrainConfig, task: Task, device: torch.device):
        self._set = TrainingSet(task, device)
        self._units = task.units
        drawn = task.train_ids if task.units is None else task.units
        self._order = Order(len(drawn), config.batch_size, config.seed)
        self._seen = ~torch.isin(task.source(task.train_ids), torch.tensor(config.left_out, dtype=torch.long))
        self._whole = self._order.whole and bool(self._seen.all()) and task.units is None

    def at(self, step: int) -> Batch:
        """Return the examples of a step (counted from 0)."""
        if self._whole:
            return self._set.whole(step)
        places = self._order.at(step)
        if self._units is not None:
            places = self._units[places].flatten()
        return self._set.at(places[self._seen[places]], step)


def widen_heap() -> None:
    """Let the C allocator keep blocks of up to 31 MB instead of returning them to the system after every use.

    glibc raises its threshold to the size of the largest block freed so far (up to 32 MB). Without this a step at
    width 2048 spends a third of its time on page faults.
    """
    with contextlib.suppress(RuntimeError):  # where memory is limited
        torch.empty(31 * 2**20, dtype=torch.uint8)
