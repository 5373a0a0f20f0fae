"""Training a network from a config, loading a run, and retraining a run's twins."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.roles import Roles
from mechmem.core.storage import read_tensors
from mechmem.core.subject import Subject, TwinKind
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError
from mechmem.models.hooks.running import resolve_device
from mechmem.models.networks.build import build_model
from mechmem.models.networks.mask_config import TurnOver
from mechmem.tasks.build import build_task
from mechmem.training.config import TrainConfig
from mechmem.training.isolation import warn_of_leaks
from mechmem.training.loop import check_batches, optimize
from mechmem.training.optimizers import Optimizers
from mechmem.training.recorder import Recorder, TemporaryFolder
from mechmem.training.run import Run, load_state, read_header

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two processes apart
    fcntl = None


@dataclasses.dataclass(frozen=True)
class ConfigRetrainer:
    """Trainer of a run's twins: the same config and initialisation, but other labels or fewer steps.

    Attributes:
        config: the run's config.
        steps: number of steps that the run took.
        folder: directory of the twins, each a run named by a hash of its training.
        device: device of their training.
        owner: object that must live as long as the folder.
    """

    config: TrainConfig
    steps: int
    folder: Path
    device: str = "cpu"
    owner: object = None

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
            return build_model(self.config.model, build_task(self.config.task), self.config.seed).to(self.device)
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

    def _trained(self, twin: TrainConfig, kind: str, progress: bool) -> nn.Module:
        made_by = f"{twin.digest}|{torch.__version__}|{torch.get_num_threads()}|{self.device}"
        out = self.folder / f"{kind}-{hashlib.blake2b(made_by.encode(), digest_size=6).hexdigest()}"
        return train(twin, out=out, device=self.device, progress=progress, title=kind.replace("_", "-") + " twin").model


@checked
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

    Args:
        config: the training config.
        out: the run directory; an interrupted run of the same config in it is resumed, a finished one is returned. None
            for a temporary directory.
        device: where to train.
        progress: whether to show a bar (plain lines if standard error is not a terminal).
        title: name of the run in the bar; by default the directory's name.

    Raises:
        ConfigError: the argument is not a config, or cannot be built.
        RunDirectoryError: `out` holds something else, a run of another config, or a damaged run.
        TrainingFailedError: the loss is not a number, or a result could not be written.
        KeyboardInterrupt: interrupted; the current state is saved in `out`.

    Warns:
        LeakWarning: with turn-over dropout, training examples affect units outside their masks.
    """
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"train takes an mm.TrainConfig(task=…, model=…), got a {type(config).__name__}")
    where = resolve_device(device)
    title = title or ("training" if out is None else Path(out).name)
    started = Path(out) if out is not None and (Path(out) / "config.json").exists() else None
    if started is not None:
        _check_same(started, config)
    task = build_task(config.task, recorded=started is not None)
    with _threads(None if started is None else int(read_header(started)["threads"])):
        model = build_model(config.model, task, config.seed).to(where)
        check_batches(config, model, task)
        if isinstance(config.model.masks, TurnOver) and started is None:
            warn_of_leaks(config, model, task)
        optimizers = Optimizers(config, model, model.roles)
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
        with _alone(run.path):
            last = None if started is None else _restore(run, recorder, model, optimizers)
            if last is None or run.finished() is None:
                last = optimize(config, model, task, optimizers, recorder, first=last, progress=progress, title=title)
    retrainer = ConfigRetrainer(config, steps=last, folder=run.path / "twins", device=device, owner=run)
    return Subject(model, task, model.roles, run=run, retrainer=retrainer, name=title if out is None else run.path.name)


@checked
def load(
    path: str | Path,
    *,
    model: nn.Module | None = None,
    task: Task | None = None,
    roles: Roles = Roles(),
    step: int | None = None,
    device: str = "cpu",
) -> Subject:
    """Open a run as a subject, at its last checkpoint or at `step`, with the network in evaluation mode.

    Args:
        path: the run directory.
        model: for a run recorded in a user-written loop, a network of that shape (its weights are not used).
        task: for such a run, its task.
        roles: for such a run, its roles.
        step: a saved step; the last one by default.
        device: device of the network and of the training of its twins.

    Raises:
        RunDirectoryError: the directory is missing, empty, damaged, truncated, or has no such checkpoint.
        MissingNeedError: the run was recorded in a user-written loop, and its model or task was not passed.
    """
    where = resolve_device(device)
    run = Run(path, model, task, roles)
    steps = run.checkpoint_steps()
    if not steps:
        raise RunDirectoryError(f"{path} has no checkpoint")
    chosen = steps[-1] if step is None else step
    if chosen not in steps:
        raise RunDirectoryError(f"{path} has no checkpoint at step {chosen}; it has {', '.join(map(str, steps))}")
    network = run.model_at(chosen).to(where).eval()
    retrainer = None
    if run.config is not None:
        folder, owner = _twins_folder(run.path)
        retrainer = ConfigRetrainer(run.config, steps=chosen, folder=folder, device=device, owner=owner)
    return Subject(network, run.task(), run.roles(), run=run, retrainer=retrainer, name=run.path.resolve().name)


def _check_same(path: Path, config: TrainConfig) -> None:
    recorded = read_header(path)["config"]
    if recorded is None:
        raise RunDirectoryError(f"{path} was recorded from another training loop; choose another directory")
    wanted = config.to_dict()
    if recorded != wanted:
        changed = [key for key in wanted if recorded.get(key) != wanted[key]]
        raise RunDirectoryError(
            f"{path} holds a run of another config (it differs in {', '.join(changed)}); choose another directory"
        )


def _restore(run: Run, recorder: Recorder, model: nn.Module, optimizers: Optimizers) -> int | None:
    """Restore model, optimiser and history to the newest resumable state; return its step, or None without one."""
    folder = run.path / "checkpoints"
    saved = run.checkpoint_steps()
    steps = [step for step in saved if (folder / f"step_{step}.optimizer.safetensors").exists()]
    if not steps:
        if saved:
            raise RunDirectoryError(f"{run.path} has no optimiser state to resume from")
        recorder.resume_at(-1)
        return None
    load_state(model, folder / f"step_{steps[-1]}.safetensors")
    if run.finished() is None:
        optimizers.load_state_tensors(read_tensors(folder / f"step_{steps[-1]}.optimizer.safetensors"))
        recorder.resume_at(steps[-1])
    return steps[-1]


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lock the run against other processes; the lock is released when the process ends, even if killed."""
    if fcntl is None:
        yield
        return
    with (path / "config.json").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunDirectoryError(f"{path} is being trained by another process") from error
        yield


def _twins_folder(path: Path) -> tuple[Path, object]:
    """Return the directory of a run's twins (a temporary one if the run is read-only), and the object that owns it."""
    if os.access(path, os.W_OK):
        return path / "twins", None
    folder = TemporaryFolder()
    return Path(folder.path), folder


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Run with the recorded number of threads, on which the rounding of sums depends; restore the number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
