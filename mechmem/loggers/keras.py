"""Callback of Keras, on its torch backend."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from mechmem.core.arguments import checked
from mechmem.core.in_words import shown
from mechmem.core.roles import Roles
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.loggers.watch import Logging, Watch, event

if "keras" not in sys.modules:
    # Keras chooses once, when it is first imported, and would choose TensorFlow.
    os.environ.setdefault("KERAS_BACKEND", "torch")
try:
    import keras
except ImportError as error:
    raise MissingNeedError(
        "KerasCallback needs keras on torch: pip install 'mechmem[keras]', and KERAS_BACKEND=torch"
    ) from error


class KerasNetwork(nn.Module):
    """A Keras model on torch as a torch module, whose weights have names that do not depend on how it was made.

    Keras's own names do: they change when a model is copied, and count the layers made before. Its layers run no hooks
    of torch, so that only logits, losses and gradients are read from it, and no activations.

    Args:
        model: a built Keras model that takes inputs and returns logits.

    Raises:
        ConfigError: the model has no weights yet, or runs on another backend.
    """

    def __init__(self, model: Any):
        super().__init__()
        check_backend()
        if not isinstance(model, keras.Model) or not isinstance(model, nn.Module) or not model.built:
            raise ConfigError(f"model must be a keras.Model that is built (call it once on inputs), got {shown(model)}")
        self.model = model

    def forward(self, inputs: Tensor) -> Any:
        """Return what the model returns."""
        return self.model(inputs)

    def state_dict(self, *args: Any, prefix: str = "", **settings: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the weights by place and name: `0.kernel`, `1.bias`."""
        return {f"{prefix}{name}": weight.value.detach() for name, weight in self._weights().items()}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *args: Any, **settings: Any) -> Any:
        """Set the weights."""
        for name, weight in self._weights().items():
            weight.assign(state_dict[name])

    def _weights(self) -> dict[str, Any]:
        return {f"{place}.{weight.name}": weight for place, weight in enumerate(self.model.weights)}


class KerasCallback(Logging, keras.callbacks.Callback):
    """Record a training of a Keras model on torch: what its passes say of each example, curves, checkpoints.

        callback = mm.KerasCallback(task, loader, out="runs/mine")
        model.fit(loader, epochs=20, callbacks=[callback])
        network = mm.load("runs/mine", model=mm.KerasNetwork(model), task=task)

    The model must return logits, with a loss such as `SparseCategoricalCrossentropy(from_logits=True)`.
    `fit(initial_epoch=…)` goes on with the run in `out`.

    Args:
        task: the task whose training examples the training data set holds.
        loader: the torch DataLoader of (inputs, labels) that `fit` is given. Arrays and tf.data tell nobody which
            examples are in a batch.
        out: the run directory; None for a temporary one, which lives as long as the callback.
        roles: roles of the network's parts.
        ids: id of each row of the training data set, or the name of the column that holds it; by default its rows are
            the task's training examples in their order.
        evaluations: number of log-spaced evaluations of all splits after step 0, or their steps; by default as many as
            take 3 % of the training's time.
        checkpoints: number of log-spaced checkpoints after step 0, or their steps.

    Raises:
        ConfigError: an argument is of another kind, or Keras runs on another backend. In training: `fit` was given
            other data than the loader, rows of the data set have no numbers, or they are not the task's training
            examples.
        MissingNeedError: keras is not installed, or cannot be imported with its backend.
    """

    @checked
    def __init__(
        self,
        task: Task,
        loader: DataLoader,
        *,
        out: str | Path | None = None,
        roles: Roles = Roles(),
        ids: Ids | str | None = None,
        evaluations: int | Iterable[int] | None = None,
        checkpoints: int | Iterable[int] = 2,
    ):
        super().__init__()
        check_backend()
        self.watch_ = Watch(task, out, roles, ids, evaluations, checkpoints)
        self._loader, self._step = loader, 0
        self._begun = False

    @event
    def on_train_begin(self, logs: Any = None) -> None:
        self._begun = False

    @event
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self._begun:
            model, params = self.model, self.params
            assert isinstance(model, nn.Module) and params is not None
            self._begun, self._step = True, epoch * len(self._loader)
            self.watch_.follow(self._loader, _on_losses(model))
            steps = params["epochs"] * len(self._loader)
            self.watch_.begin(KerasNetwork(model), steps, passes=params["epochs"], at=self._step)

    @event
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.watch_.batch_done(": pass to fit the torch DataLoader that KerasCallback has, not arrays or other data")
        self._step += 1
        self.watch_.step_done(self._step)

    @event
    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.watch_.epoch_done(self._step)

    @event
    def on_train_end(self, logs: Any = None) -> None:
        self.watch_.end(self._step)


def check_backend() -> None:
    """Refuse Keras on another backend.

    Raises:
        ConfigError: it does not run on torch.
    """
    if keras.backend.backend() != "torch":
        raise ConfigError(
            f"Keras runs on {keras.backend.backend()}, and is recorded on torch: set KERAS_BACKEND=torch before it is "
            "imported"
        )


def _on_losses(model: Any) -> Callable[[Watch], Callable[[], None]]:
    """Have the passes of a Keras model seen where their loss is computed, as its layers run no hooks of torch."""

    def attach(watch: Watch) -> Callable[[], None]:
        held, given = vars(model), model.compute_loss

        def compute_loss(x: Any = None, y: Any = None, y_pred: Any = None, *rest: Any, **others: Any) -> Tensor:
            if model.training:
                watch.seen(y_pred, y)
            return given(x, y, y_pred, *rest, **others)

        held["compute_loss"] = compute_loss
        return lambda: held.pop("compute_loss", None)

    return attach
