"""Training a network from a config, loading a run, and retraining a run's twins."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mechmem.core import files
from mechmem.core.arguments import checked
from mechmem.core.paths import check_path, check_place
from mechmem.core.processes import interruptible
from mechmem.core.subject import Subject, TwinKind
from mechmem.core.task import Task
from mechmem.errors import (
    ConfigError,
    MissingNeedError,
    RunDirectoryError,
    TrainingFailedError,
)
from mechmem.models.hooks.running import as_configured, resolve_device
from mechmem.models.networks.build import Network, build_model
from mechmem.models.networks.mask_config import TurnOver
from mechmem.tasks.build import build_task
from mechmem.tasks.splits import labelled_splits
from mechmem.training.config import TrainConfig
from mechmem.training.header import TWINS, started
from mechmem.training.isolation import warn_of_leaks
from mechmem.training.loop import check_batches, optimize
from mechmem.training.optimizers import Optimizers
from mechmem.training.recorder import Recorder
from mechmem.training.resume import recorded_threads, restore, same_run
from mechmem.training.stopping import Threshold, stop_condition


@dataclasses.dataclass(frozen=True)
class ConfigRetrainer:
    """Trainer of a run's twins: the same config and initialisation, but other labels or fewer steps.

    Attributes:
        config: the run's config.
        steps: number of steps that the run took.
        folder: directory of the twins, each a run named by a hash of its training.
        device: device of their training.
        owner: object that must live as long as the folder.
        threads: number of threads on which the run was trained, and on which its twins are; None for the present one.
        data: the `data_digest` of the run's task.
    """

    config: TrainConfig
    steps: int
    folder: Path
    device: str = "cpu"
    owner: object = None
    threads: int | None = None
    data: str = ""

    def twin(self, kind: TwinKind, *, progress: bool = False) -> nn.Module:
        """Return a twin, trained now or loaded from the folder.

        Args:
            kind: "untrained" (same initialisation), "one_step", "noise_only" (every training label uniform over all
                classes: labels that are always wrong carry information about the true one, so they are not a valid
                    null),
                or "clean_labels".
            progress: whether to show a bar.

        Raises:
            MissingNeedError: the task has no label noise to replace, or the twin's labels are the network's own.
        """
        if kind == "untrained":
            return build_model(self.config.model, self._task(self.config), self.config.seed).to(self.device)
        settings = {"stop_when": "", "evaluations": 10, "checkpoints": 1}
        if kind == "one_step":
            progress = False
            twin = dataclasses.replace(self.config, steps=1, **settings)
        else:
            relabelled = {"noise_only": self.config.task.noise_only, "clean_labels": self.config.task.clean_labels}
            task = relabelled[kind]()
            if task == self.config.task:
                labels = "random" if kind == "noise_only" else "true"
                raise MissingNeedError(f"the network itself has only {labels} labels: it is its own twin")
            twin = dataclasses.replace(self.config, task=task, steps=max(self.steps, 1), **settings)
        return self._trained(twin, kind, progress)

    def retrained(
        self, *, without: Int[Tensor, " example"] | None = None, seed: int | None = None, progress: bool = False
    ) -> nn.Module:
        """Return the network retrained for as many steps, identically except for the arguments.

        Args:
            without: training examples to leave out of every step, in addition to the run's own `left_out`; all others
                keep their place in the order.
            seed: another seed of initialisation and order (the task and example masks keep theirs).
            progress: whether to show a bar.

        Raises:
            ConfigError: an id is not in the training set, or no example would remain.
            MissingNeedError: the network is as it was initialised: there is no training to repeat.
        """
        if not self.steps:
            raise MissingNeedError("the network is as it was initialised: there is no training to repeat")
        left_out = tuple(sorted({*self.config.left_out, *(() if without is None else without.tolist())}))
        settings = {"stop_when": "", "evaluations": 1, "checkpoints": 1, "steps": self.steps, "left_out": left_out}
        twin = dataclasses.replace(self.config, seed=self.config.seed if seed is None else seed, **settings)
        return self._trained(twin, "retrained", progress)

    def _task(self, config: TrainConfig) -> Task:
        """Return the task of a config, made from the data of the run."""
        task = build_task(config.task, recorded=True)
        if task.data_digest != self.data:
            raise RunDirectoryError(
                f"{self.folder.parent}: its data have changed since, and its twins need what it had"
            )
        return task

    def _trained(self, twin: TrainConfig, kind: str, progress: bool) -> nn.Module:
        if not self.folder.parent.exists():
            raise RunDirectoryError(f"{self.folder.parent} was moved or removed since; load the run from where it is")
        self._task(twin)
        title = kind.replace("_", "-") + " twin"
        with recorded_threads(self.threads):
            made_by = f"{twin.digest}|{torch.__version__}|{torch.get_num_threads()}|{self.device}"
            out = self.folder / f"{kind}-{hashlib.blake2b(made_by.encode(), digest_size=6).hexdigest()}"
            return train(twin, out=out, device=self.device, progress=progress, title=title).model


@checked
@as_configured()
def train(
    config: TrainConfig,
    *,
    out: str | Path | None = None,
    device: str = "cpu",
    progress: bool = True,
    title: str = "",
) -> Subject:
    """Train a network, or resume an interrupted run of the same config.

    The same config gives the same bits on the same machine and thread count, resumed or not. The returned network is in
    evaluation mode: no dropout, and BatchNorm with its running statistics.

        config = mm.TrainConfig(mm.ModularConfig(p=59, noise=mm.LabelNoise(0.3)), weight_decay=1.0, steps=3000)
        network = mm.train(config, out="runs/hidden_rule")

    Args:
        config: the training config.
        out: the run directory; an interrupted run of the same config in it is resumed, a finished one is returned. None
            for a temporary directory.
        device: where to train.
        progress: whether to show a bar (plain lines if standard error is not a terminal).
        title: name of the run in the bar; by default the directory's name.

    Raises:
        ConfigError: the argument is not a config, cannot be built, or stops by a split without examples.
        RunDirectoryError: `out` holds something else, a run of another config, or a damaged run, or another process
            writes to it.
        TrainingFailedError: the loss is not a number, or a result could not be written.
        KeyboardInterrupt: interrupted; the current state is saved in `out`.
        SystemExit: the process was ended by SIGTERM (status 143); the current state is saved in `out`.

    Warns:
        RestartWarning: an interrupted run has lost evaluations, and is trained again from the last checkpoint before
            them whose optimiser was saved, or from the beginning.
        UncheckedWarning: the run was saved by an older version, without hashes.
        LeakWarning: with turn-over dropout, training examples affect units outside their masks.
    """
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"train takes an mm.TrainConfig(task=…, model=…), got a {type(config).__name__}")
    where = resolve_device(device)
    title = title or ("training" if out is None else Path(out).name)
    if out is not None:
        check_path(out)
    begun = None if out is None or not started(Path(out)) else same_run(Path(out), config)
    if out is not None and begun is None:
        check_place(out)
    task = build_task(config.task, recorded=begun is not None)
    if begun is None:
        _check_reachable(config.stop_when, task)

    def build() -> tuple[Network, Optimizers]:
        with recorded_threads(None if begun is None else begun.threads):
            model = build_model(config.model, task, config.seed).to(where)
            check_batches(config, model, task)
            return model, Optimizers(config, model, model.roles)

    # Before anything is written, so that what is refused leaves nothing behind.
    model, optimizers = build()
    with interruptible(), contextlib.nullcontext() if out is None else files.alone(Path(out)):
        if out is not None and begun is None and started(Path(out)):  # by another process, meanwhile
            begun = same_run(Path(out), config)
            model, optimizers = build()
        if isinstance(config.model.masks, TurnOver) and begun is None:
            warn_of_leaks(config, model, task)
        with recorded_threads(None if begun is None else begun.threads):
            recorder = Recorder(
                model,
                task,
                steps=config.steps,
                out=out,
                roles=model.roles,
                loss=config.loss,
                evaluations=config.evaluations,
                checkpoints=config.checkpoints,
                config=config,
            )
            run = recorder.run()
            try:
                last, done = restore(run, recorder, model, optimizers) if begun is not None else (None, False)
                if last is None or not done:
                    last = optimize(
                        config, model, task, optimizers, recorder, first=last, progress=progress, title=title
                    )
            except OSError as error:
                raise TrainingFailedError(f"could not write to {run.path}: {error}") from error
    threads = torch.get_num_threads() if begun is None else begun.threads
    retrainer = ConfigRetrainer(config, last, run.path / TWINS, device, run, threads, task.data_digest)
    return Subject(model, task, model.roles, run=run, retrainer=retrainer, name=title if out is None else run.path.name)


def _check_reachable(stop_when: str, task: Task) -> None:
    """Refuse a condition on a split without examples, which would never hold."""
    condition = stop_condition(stop_when)
    if not isinstance(condition, Threshold):
        return
    known = [split.name for split in labelled_splits(task)]
    if condition.split not in known:
        raise ConfigError(f"stop_when: this task has no examples in {condition.split}, only in {', '.join(known)}")
