"""Check that training on an example leaves its flipped subnetwork unchanged, before or after training."""

from __future__ import annotations

import dataclasses
import warnings

import pandas as pd
from torch import nn

from mechmem.core.arguments import checked
from mechmem.core.roles import Roles
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task
from mechmem.errors import LeakWarning, MechmemError
from mechmem.models.networks.build import build_model
from mechmem.models.networks.leaks import Leak, find_leaks
from mechmem.models.reading.input_types import RUNNING_ERRORS, check_runs
from mechmem.tasks.build import build_task
from mechmem.training.config import TrainConfig
from mechmem.training.run import Run


@dataclasses.dataclass(frozen=True)
class Isolation:
    """Leaks through which a training example affects units outside its mask, in a network with turn-over dropout.

    Without leaks the gradient of an example's loss is exactly zero on every weight of its flipped subnetwork. This is
    isolation to first order: the example still has an effect through what the others learn alongside it (see
    `leave_one_out`).

    Attributes:
        leaks: parameters, modules and settings that leak; empty if the network is isolated.
    """

    leaks: tuple[Leak, ...]

    @property
    def isolated(self) -> bool:
        """Whether nothing leaks."""
        return not self.leaks

    def to_frame(self) -> pd.DataFrame:
        """Return one row per leak: name, reason, share (fraction of its entries that leak)."""
        return pd.DataFrame([dataclasses.asdict(leak) for leak in self.leaks], columns=["name", "reason", "share"])

    def _repr_html_(self) -> str:
        return self.to_frame().to_html() if self.leaks else "<p>isolated: nothing leaks</p>"

    def __str__(self) -> str:
        if not self.leaks:
            return "isolated: nothing leaks"
        shown = "; ".join(map(str, self.leaks[:4]))
        more = f"; and {len(self.leaks) - 4} more" if len(self.leaks) > 4 else ""
        return f"{len(self.leaks)} leak{'s' * (len(self.leaks) != 1)}: {shown}{more}"


@checked
def isolation(
    what: TrainConfig | Subject | nn.Module, task: Task | None = None, roles: Roles | None = None
) -> Isolation:
    """Inspect a network with turn-over dropout, before training or after it.

        print(mm.isolation(network))

    Args:
        what: a config, whose network is built but not trained; a subject; or a network.
        task: the network's task, for a bare network.
        roles: the network's roles; by default its own.

    Raises:
        MissingNeedError: the network has no turn-over dropout.
        ConfigError: a network is given without a task, or does not run on its inputs.
    """
    if isinstance(what, TrainConfig):
        built = build_task(what.task)
        return _isolation(build_model(what.model, built, what.seed), built, Roles(), what)
    subject = subject_of(what, task, roles)
    config = subject.run.config if isinstance(subject.run, Run) else None
    try:
        return _isolation(subject.model, subject.task, subject.roles, config)
    except RUNNING_ERRORS as error:
        if not isinstance(error, MechmemError):
            check_runs(subject.model, subject.task, subject.task.train_ids[:1])
        raise


def _isolation(model: nn.Module, task: Task, roles: Roles, config: TrainConfig | None) -> Isolation:
    leaks = find_leaks(model, task, roles.output)
    if config is not None and config.optimizer == "muon":
        leaks += (Leak("optimizer muon", "it mixes the gradients of all entries of a matrix", 1.0),)
    return Isolation(leaks)


def warn_of_leaks(config: TrainConfig, model: nn.Module, task: Task) -> None:
    """Warn if a network with turn-over dropout is about to be trained without isolation.

    Warns:
        LeakWarning: names the leaks and the remedies.
    """
    found = _isolation(model, task, Roles(), config)
    if not found.isolated:
        message = (
            f"turn-over dropout is not isolated here, {found}. Remove the leaks (biases=False, no normalization, "
            "other masked layers), or keep them at their initial values with TurnOver(close_leaks=True)"
        )
        warnings.warn(message, LeakWarning, stacklevel=4)
