"""Watch over a user's training: what callbacks of all trainers have in common."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.config import check_whole
from mechmem.core.roles import Roles
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError
from mechmem.loggers.batches import NotingBatchSampler, as_labels, bare_loader, check_alone, ids_of_rows
from mechmem.training.config import MOST_SAVED
from mechmem.training.going_on import step_of, take_back
from mechmem.training.recorder import Recorder
from mechmem.training.run import Run

SHARE = 0.03
"""Share of a training's time that its evaluations may take by default."""
FORWARD = 1 / 3
"""Share of a forward pass in the time of a training step, whose backward pass takes twice as long."""
MOST_EVALUATIONS = 60

F = TypeVar("F", bound=Callable[..., Any])
Attach = Callable[["Watch"], Callable[[], None]]
"""Has a network's training passes seen by a watch, and returns the function that ends this."""


class Watch:
    """Recorder of one training at a time in somebody else's loop.

    Args:
        task: the task.
        out: the run directory; None for a temporary one.
        roles: roles of the network's parts.
        ids: id of each row of the training data; see `ids_of_rows`.
        evaluations: number of evaluations after step 0 or their steps; None for as many as take little time.
        checkpoints: number of checkpoints after step 0, or their steps.

    Raises:
        ConfigError: an argument is of another kind, or a number is not positive.
    """

    @checked
    def __init__(
        self,
        task: Task,
        out: str | Path | None,
        roles: Roles,
        ids: Ids | str | None,
        evaluations: int | Iterable[int] | None,
        checkpoints: int | Iterable[int],
    ):
        for name, number in (("evaluations", evaluations), ("checkpoints", checkpoints)):
            if isinstance(number, Integral):
                check_whole(name, int(number), 1, MOST_SAVED)
        self.task, self.out, self.roles, self.ids = task, out, roles, ids
        self.evaluations, self.checkpoints = evaluations, checkpoints
        self.run: Run | None = None
        self.labels: Tensor | None = None
        """Labels of the batch that is being trained on, if a trainer shows them elsewhere than at the pass."""
        self._recorder: Recorder | None = None
        self._loader: Callable[[], Any] = _no_loader
        self._attention: _Attention | None = None
        self._passes, self._step, self._seen = 0, -1, False

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has, which takes no part in the training that is going on."""
        return {**vars(self), "_recorder": None, "_loader": _no_loader, "_attention": None}

    @property
    def _noting(self) -> NotingBatchSampler | None:
        """The batch sampler in the loader of the training that is going on, if there still is one."""
        found = getattr(self._loader(), "batch_sampler", None)
        return found if isinstance(found, NotingBatchSampler) else None

    @property
    def recorder(self) -> Recorder:
        """The recorder of the training that is going on."""
        assert self._recorder is not None
        return self._recorder

    def follow(self, loader: Any, attach: Attach, skip: int = 0) -> None:
        """Note which examples a loader hands out, and attend to the network's training passes while it does.

        Args:
            loader: the training's loader.
            attach: how the network's training passes are seen.
            skip: batches that the trainer drops at first, to go on within an epoch.

        Raises:
            ConfigError: the loader's rows have no numbers, or do not belong to the task's training examples.
        """
        self._unfollow()
        loader = bare_loader(loader)
        # As an array of numpy, from which a list of rows is taken in one call: in every step each call counts.
        self._ids = ids_of_rows(loader.dataset, self.task, self.ids).numpy()
        self._attention = attention = _Attention(functools.partial(attach, self))
        noting = NotingBatchSampler(loader.batch_sampler, attention.begin, attention.end)
        noting.skip = skip
        # A loader allows no other batch sampler by assignment once it has one.
        vars(loader)["batch_sampler"] = noting
        # Weakly, so that with a loader whose training raised the hook goes too.
        self._loader = weakref.ref(loader)

    def begin(self, model: nn.Module, steps: int | float, *, passes: float, at: int = 0) -> None:
        """Begin to record, or go on with the run of a training that goes on.

        Args:
            model: the network.
            steps: number of updates when the training will be over.
            passes: number of epochs that these are.
            at: number of updates made before.

        Raises:
            ConfigError: the training has no end or no step, or several processes or copies of the network take part.
            RunDirectoryError: see `Recorder`.
        """
        check_alone(model)
        if steps == float("inf"):
            raise ConfigError("the training has no end: set its number of epochs or steps")
        if steps < 1:
            raise ConfigError("the training has no step: set its number of epochs or steps to at least 1")
        if self._recorder is not None:  # that of a training that raised would keep its directory
            self._recorder.close()
        evaluations = self._affordable(passes) if self.evaluations is None else self.evaluations
        self._recorder = Recorder(
            model,
            self.task,
            steps=int(steps),
            out=self.out,
            roles=self.roles,
            evaluations=evaluations,
            checkpoints=self.checkpoints,
            resume=step_of(self.out, at),
        )
        self.run = self.recorder.run()
        self._passes, self._step, self._seen = 0, -1, False
        if not self._evaluated(at):
            self.step_done(at)

    def seen(self, returned: Any, labels: Any = None) -> None:
        """Observe a training pass.

        Args:
            returned: what the network returned.
            labels: labels of its batch, if they are seen.

        Raises:
            ConfigError: it is not a pass on the examples that the loader handed out.
            TrainingFailedError: see `Recorder.observe`.
        """
        try:
            self._note(returned, labels)
        except ConfigError:
            self._refuse()
            raise

    def _note(self, returned: Any, labels: Any) -> None:
        rows = None if self._noting is None else self._noting.take()
        if rows is None:
            raise ConfigError("the network ran in training mode on examples that the loader did not hand out")
        logits = self.roles.output.read(returned)
        if len(logits) != len(rows):
            raise ConfigError(
                f"the loader handed out {len(rows)} examples, and the network answered on {len(logits)}: a batch must "
                "hold each example once, so that it is known which is which (look at the loader's collate function)"
            )
        self._passes, self._seen = self._passes + 1, True
        self.recorder.observe(self._ids[rows], logits, as_labels(self.labels if labels is None else labels))

    def _refuse(self) -> None:
        """Let go of the trainer, whoever keeps the error; before the first update the directory holds no run then."""
        path = self.recorder.path
        self.release()
        if self._step == 0:
            take_back(path)

    def batch_done(self, hint: str = "") -> None:
        """Check that a batch took one training pass, as otherwise nobody knows which examples the next one is on.

        Args:
            hint: what to do about it if it took none.

        Raises:
            ConfigError: it took none, or several.
        """
        passes, self._passes = self._passes, 0
        if passes != 1:
            how = f"{passes} times" if passes else "not at all"
            self._refuse()
            raise ConfigError(
                f"the network ran {how} in training mode on a batch, and it must once{hint * (not passes)}"
            )

    def step_done(self, step: int) -> None:
        """Evaluate and save if an update is due."""
        if step != self._step:
            self._step = step
            self.recorder(step)

    def epoch_done(self, step: int) -> None:
        """Write what was observed in an epoch; one that a trainer goes on with at its end had no batch."""
        if self._seen:
            self.recorder.end_epoch(step)
        self._seen = False

    def end(self, step: int, reason: str = "") -> None:
        """End the run: save the network as it is, with the last evaluation if one is due, and let go of the trainer."""
        if self.recorder.steps in self.recorder.evaluate_at and not self._evaluated(step):
            self.recorder.evaluate(step)
        self.recorder.finish(step, reason or ("steps" if step == self.recorder.steps else "stopped"))
        self.release()

    def release(self) -> None:
        """Leave loader and network as they were, and the run directory to others."""
        self._unfollow()
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None

    def _unfollow(self) -> None:
        loader, noting = self._loader(), self._noting
        if noting is not None:
            vars(loader)["batch_sampler"] = noting.inner
        if self._attention is not None:
            self._attention.end()

    def _evaluated(self, step: int) -> bool:
        rows = self.recorder.rows
        return bool(rows) and rows[-1]["step"] >= step

    def _affordable(self, passes: float) -> int:
        """Return the number of evaluations after step 0 that take a small share of the time; at least the last."""
        trained = passes * len(self.task.train_ids)
        return max(1, min(MOST_EVALUATIONS, int(SHARE * trained / (FORWARD * len(self.task.ids))) - 1))


def _no_loader() -> None:
    """Stand for the loader where there is none; a function with a name, as a lambda cannot be pickled."""


class _Attention:
    """Attention to the training passes of a network, for one loader: another's end does not end it."""

    def __init__(self, attach: Callable[[], Callable[[], None]]):
        self._attach = attach
        self._detach: Callable[[], None] | None = None

    def begin(self) -> None:
        self.end()
        self._detach = self._attach()

    def end(self) -> None:
        if self._detach is not None:
            self._detach()
            self._detach = None


class Logging:
    """Base class of the callbacks: a trainer's events, told to a watch.

    Attributes:
        watch_: the watch.
    """

    watch_: Watch

    @property
    def path(self) -> Path | None:
        """The run directory of the last training; None before the first. A temporary one lives as long as this."""
        return None if self.watch_.run is None else self.watch_.run.path


def event(method: F) -> F:
    """Decorator: mark a method that the trainer calls, and which the reference does not list."""
    method.__doc__ = "Called by the trainer.\n\n:meta private:"
    return method


def on_passes(model: nn.Module) -> Attach:
    """Have the passes of a module in training mode seen, by a hook."""

    def attach(watch: Watch) -> Callable[[], None]:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], returned: Any) -> None:
            if module.training:
                watch.seen(returned, kwargs.get("labels"))

        return model.register_forward_hook(hook, with_kwargs=True).remove

    return attach
