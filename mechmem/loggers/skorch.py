"""Callback of skorch's networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mechmem.core.arguments import checked
from mechmem.core.roles import Roles
from mechmem.core.task import Ids, Task
from mechmem.errors import MissingNeedError
from mechmem.loggers.batches import labels_in
from mechmem.loggers.watch import Logging, Watch, event, on_passes

try:
    from skorch.callbacks import Callback
except ImportError as error:
    raise MissingNeedError("SkorchCallback needs skorch: pip install 'mechmem[skorch]'") from error


class SkorchCallback(Logging, Callback):
    """Record a training of a skorch network: what its passes say of each example, curves, checkpoints.

        callback = mm.SkorchCallback(task, out="runs/mine")
        net = NeuralNetClassifier(Network, criterion=nn.CrossEntropyLoss, callbacks=[callback])
        net.fit(*task.batch(task.train_ids))
        network = mm.load("runs/mine", model=net.module_, task=task)

    The module must return logits: with skorch's default criterion it returns probabilities, whose margins say little.
    Examples that `train_split` holds out are not observed; `train_split=None` trains on all.

    Args:
        task: the task whose training examples `fit` is given.
        out: the run directory; None for a temporary one, which lives as long as the callback.
        roles: roles of the network's parts.
        ids: id of each row that `fit` is given; by default these are the task's training examples in their order.
        evaluations: number of log-spaced evaluations of all splits after step 0, or their steps; by default as many as
            take 3 % of the training's time.
        checkpoints: number of log-spaced checkpoints after step 0, or their steps.

    Raises:
        ConfigError: an argument is of another kind. In training: rows of the data set have no numbers, or they are not
            the task's training examples.
        MissingNeedError: skorch is not installed.
    """

    @checked
    def __init__(
        self,
        task: Task,
        *,
        out: str | Path | None = None,
        roles: Roles = Roles(),
        ids: Ids | str | None = None,
        evaluations: int | Iterable[int] | None = None,
        checkpoints: int | Iterable[int] = 2,
    ):
        # As they were given, since scikit-learn makes a copy of an estimator from its settings.
        self.task, self.out, self.roles, self.ids = task, out, roles, ids
        self.evaluations, self.checkpoints = evaluations, checkpoints
        self.watch_ = Watch(task, out, roles, ids, evaluations, checkpoints)
        self.step_ = 0
        self.restore_: Callable[[], None] | None = None

    @event
    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **others: Any) -> None:
        self._restore()
        self.watch_.release()
        self.watch_ = Watch(self.task, self.out, self.roles, self.ids, self.evaluations, self.checkpoints)
        self.step_ = 0
        held, given = vars(net), net.iterator_train

        def iterator(dataset: Any, **settings: Any) -> Any:
            # The loader is nobody's but the loop's: this is where it is seen.
            self._restore()
            loader = given(dataset, **settings)
            self.watch_.follow(loader, on_passes(net.module_))
            self.watch_.begin(net.module_, net.max_epochs * len(loader), passes=net.max_epochs)
            return loader

        held["iterator_train"] = iterator
        self.restore_ = lambda: held.update(iterator_train=given)

    @event
    def on_batch_begin(self, net: Any, batch: Any = None, training: bool | None = None, **others: Any) -> None:
        self.watch_.labels = labels_in(batch) if training else None

    @event
    def on_batch_end(self, net: Any, batch: Any = None, training: bool | None = None, **others: Any) -> None:
        if training:
            self.step_ += 1
            self.watch_.batch_done()
            self.watch_.step_done(self.step_)

    @event
    def on_epoch_end(self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **others: Any) -> None:
        self.watch_.epoch_done(self.step_)

    @event
    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **others: Any) -> None:
        self.watch_.end(self.step_)

    def _restore(self) -> None:
        if self.restore_ is not None:
            self.restore_()
            self.restore_ = None
