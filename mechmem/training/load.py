"""Opening a run: the network of a saved step, with its task and what retrains it."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from mechmem.core.arguments import checked
from mechmem.core.paths import TemporaryFolder, check_path
from mechmem.core.roles import Roles
from mechmem.core.storage import read_about, warn_unchecked
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import ConfigError, RunDirectoryError
from mechmem.models.hooks.running import as_configured, resolve_device
from mechmem.training.answers import other_answers
from mechmem.training.header import TWINS
from mechmem.training.run import Run
from mechmem.training.train import ConfigRetrainer


@checked
@as_configured()
def load(
    path: str | Path,
    *,
    model: nn.Module | None = None,
    task: Task | None = None,
    roles: Roles | None = None,
    step: int | None = None,
    device: str = "cpu",
) -> Subject:
    """Open a run as a subject, at its last checkpoint or at `step`, with the network in evaluation mode.

        network = mm.load("runs/first")

    Args:
        path: the run directory.
        model: for a run recorded in a user-written loop, the network (its weights are not used).
        task: for such a run, its task.
        roles: for such a run, its roles; by default those that were recorded.
        step: a saved step; the last one by default.
        device: device of the network and of the training of its twins.

    Every file that is read is checked against its hash.

    Raises:
        RunDirectoryError: the directory is missing, empty, damaged, truncated, or has no such checkpoint; the last one
            of a finished run is missing; the run's data have changed; or `model` does not answer as the recorded one.
        MissingNeedError: the run was recorded in a user-written loop, and its model or task was not passed.

    Warns:
        UncheckedWarning: the run was saved by an older version, without hashes.
    """
    where = resolve_device(device)
    check_path(path, "path")
    run = Run(path, model, task, roles)
    for name, given in (("model", model), ("task", task), ("roles", roles)):
        if run.config is not None and given is not None:
            raise ConfigError(f"{name} is for a run recorded in a user-written loop; {path} has its own")
    if not run.header.hashed:
        warn_unchecked(run.path)
    run.task()
    steps = run.checkpoint_steps()
    if not steps:
        raise RunDirectoryError(f"{path} has no checkpoint")
    chosen = steps[-1] if step is None else step
    if chosen not in steps:
        raise RunDirectoryError(f"{path} has no checkpoint at step {chosen}; it has {', '.join(map(str, steps))}")
    run.check(chosen)
    network = run.model_at(chosen).to(where).eval()
    retrainer = None
    if run.config is None:
        _check_answers(run, network, chosen)
    else:
        folder, owner = _twins_folder(run.path)
        threads = run.header.threads
        retrainer = ConfigRetrainer(run.config, chosen, folder, device, owner, threads, run.task().data_digest)
    return Subject(network, run.task(), run.roles(), run=run, retrainer=retrainer, name=run.path.resolve().name)


def _check_answers(run: Run, model: nn.Module, step: int) -> None:
    """Check that a network with the weights of a step computes what the recorded one did.

    Raises:
        RunDirectoryError: it does not, as far as the logits tell that were kept with the weights.
    """
    kept = read_about(run.checkpoint(step)).get("logits")
    if kept and (why := other_answers(model, run.task(), run.roles().output, kept)):
        raise RunDirectoryError(
            f"{run.path} was recorded with a network that computes something else: at step {step} the model given has "
            f"{why}. Has it other activation functions, or another order of layers?"
        )


def _twins_folder(path: Path) -> tuple[Path, object]:
    """Return the directory of a run's twins (a temporary one if the run is read-only), and the object that owns it."""
    if os.access(path, os.W_OK):
        return path / TWINS, None
    folder = TemporaryFolder()
    return Path(folder.path), folder
