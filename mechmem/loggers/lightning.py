"""Callback of Lightning's Trainer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from mechmem.core.arguments import checked
from mechmem.core.roles import Roles
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.loggers.batches import labels_in
from mechmem.loggers.watch import Logging, Watch, event, on_passes

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise MissingNeedError("LightningCallback needs lightning: pip install 'mechmem[lightning]'") from error


class LightningCallback(Logging, Callback):
    """Record a training of Lightning's `Trainer`: what its passes say of each example, curves, checkpoints.

        callback = mm.LightningCallback(task, model="net", out="runs/mine")
        Trainer(max_epochs=20, callbacks=[callback]).fit(module, loader)
        network = mm.load("runs/mine", model=module.net, task=task)

    `fit(ckpt_path=…)` goes on with the run in `out`. An epoch that was interrupted then holds what was seen after that.

    Args:
        task: the task whose training examples the training data set holds.
        model: name of the submodule that takes inputs and returns logits; by default the `LightningModule` itself, if
            its `training_step` calls `self(inputs)`.
        out: the run directory; None for a temporary one, which lives as long as the callback.
        roles: roles of the network's parts.
        ids: id of each row of the training data set, or the name of the column that holds it; by default its rows are
            the task's training examples in their order.
        evaluations: number of log-spaced evaluations of all splits after step 0, or their steps; by default as many as
            take 3 % of the training's time.
        checkpoints: number of log-spaced checkpoints after step 0, or their steps.

    Raises:
        ConfigError: an argument is of another kind. In training: several processes take part in it, there are several
            loaders, rows of the data set have no numbers, or they are not the task's training examples.
        MissingNeedError: lightning is not installed.
    """

    @checked
    def __init__(
        self,
        task: Task,
        *,
        model: str = "",
        out: str | Path | None = None,
        roles: Roles = Roles(),
        ids: Ids | str | None = None,
        evaluations: int | Iterable[int] | None = None,
        checkpoints: int | Iterable[int] = 2,
    ):
        self.watch_ = Watch(task, out, roles, ids, evaluations, checkpoints)
        self._name = model
        self._loaders = 0

    @event
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if trainer.world_size > 1:
            raise ConfigError(
                f"trainings are recorded in one process on one device, and this one is in {trainer.world_size}"
            )
        network = self._network(pl_module)
        strategy = trainer.strategy
        given, self._loaders = strategy.process_dataloader, 0

        def process(loader: Any) -> Any:
            loader = given(loader)
            if trainer.training:
                self._loaders += 1
                self.watch_.follow(loader, on_passes(network))
            return loader

        # The loader begins its first epoch before any event of a callback, and some of its batches with it.
        vars(strategy)["process_dataloader"] = process

    @event
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._loaders > 1:
            raise ConfigError(
                f"trainings are recorded with one loader of training data, and this one has {self._loaders}"
            )
        steps, batches = trainer.estimated_stepping_batches, trainer.num_training_batches
        passes = steps * trainer.accumulate_grad_batches / max(batches, 1)
        self.watch_.begin(self._network(pl_module), steps, passes=passes, at=trainer.global_step)

    @event
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.watch_.labels = labels_in(batch)

    @event
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        hint = ": name the submodule that training_step calls, as in LightningCallback(model='net')"
        if not self._network(pl_module).training:
            hint = ": it is in evaluation mode; call its train()"
        self.watch_.batch_done(hint)
        self.watch_.step_done(trainer.global_step)

    @event
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch_.epoch_done(trainer.global_step)

    @event
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch_.end(trainer.global_step)
        self._restore(trainer)

    @event
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.watch_.release()
        self._restore(trainer)

    def _network(self, module: LightningModule) -> nn.Module:
        try:
            return module.get_submodule(self._name)
        except AttributeError as error:
            raise ConfigError(f"model: {type(module).__name__} has no submodule {self._name!r}") from error

    @staticmethod
    def _restore(trainer: Trainer) -> None:
        vars(trainer.strategy).pop("process_dataloader", None)
