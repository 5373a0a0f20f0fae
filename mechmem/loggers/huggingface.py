"""Callback of HuggingFace's Trainer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from mechmem.core.arguments import checked
from mechmem.core.roles import Output, Roles
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.loggers.watch import Logging, Watch, event, on_passes

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise MissingNeedError(
        "HuggingFaceCallback needs transformers and accelerate: pip install 'mechmem[huggingface]'"
    ) from error


class HuggingFaceCallback(Logging, TrainerCallback):
    """Record a training of HuggingFace's `Trainer`: what its passes say of each example, curves, checkpoints.

        callback = mm.HuggingFaceCallback(task, out="runs/mine")
        Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
        network = mm.load("runs/mine", model=model, task=task)

    `resume_from_checkpoint` goes on with the run in `out`. An epoch that was interrupted then holds the examples of its
    second part.

    Args:
        task: the task whose training examples the training data set holds.
        out: the run directory; None for a temporary one, which lives as long as the callback.
        roles: roles of the network's parts; by default the logits are the element `logits` of what it returns.
        ids: id of each row of the training data set; by default its rows are the task's training examples in their
            order. Or the name of the column with the ids, if `TrainingArguments(remove_unused_columns=False)`.
        evaluations: number of log-spaced evaluations of all splits after step 0, or their steps; by default as many as
            take 3 % of the training's time.
        checkpoints: number of log-spaced checkpoints after step 0, or their steps.

    Raises:
        ConfigError: an argument is of another kind. In training: several processes or devices take part in it, rows of
            the data set have no numbers, or they are not the task's training examples.
        MissingNeedError: transformers is not installed.
    """

    @checked
    def __init__(
        self,
        task: Task,
        *,
        out: str | Path | None = None,
        roles: Roles = Roles(output=Output("logits")),
        ids: Ids | str | None = None,
        evaluations: int | Iterable[int] | None = None,
        checkpoints: int | Iterable[int] = 2,
    ):
        self.watch_ = Watch(task, out, roles, ids, evaluations, checkpoints)

    @event
    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        train_dataloader: Any = None,
        **others: Any,
    ) -> None:
        if args.world_size > 1 or args.n_gpu > 1:
            raise ConfigError(
                f"trainings are recorded in one process on one device, and this one is on {args.world_size} processes "
                f"and {args.n_gpu} devices: set CUDA_VISIBLE_DEVICES to one"
            )
        assert model is not None
        batches, at_once = len(train_dataloader), args.gradient_accumulation_steps
        within = 0 if args.ignore_data_skip else state.global_step % max(math.ceil(batches / at_once), 1) * at_once
        self.watch_.follow(train_dataloader, on_passes(model), skip=within)
        self.watch_.begin(model, state.max_steps, passes=state.max_steps * at_once / batches, at=state.global_step)

    @event
    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self.watch_.batch_done()

    @event
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any) -> None:
        self.watch_.batch_done()
        self.watch_.step_done(state.global_step)

    @event
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self.watch_.epoch_done(state.global_step)

    @event
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: Any
    ) -> None:
        self.watch_.end(state.global_step)
