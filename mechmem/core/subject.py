"""Subject: a network with its task, roles, run and retrainer; what every plugin takes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mechmem.core.arguments import Checked, checked
from mechmem.core.fingerprint import fingerprint
from mechmem.core.renamed import NEEDS, renamed_fields
from mechmem.core.roles import Roles
from mechmem.core.task import T, Task
from mechmem.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


TwinKind = Literal["untrained", "one_step", "noise_only", "clean_labels"]


class Retrainer(Protocol):
    """Training procedure of a model, for training its twins."""

    def twin(self, kind: TwinKind, *, progress: bool = False) -> nn.Module:
        """Return the twin with the same initialisation; "noise_only" labels are uniform, "clean_labels" true."""
        ...

    def retrained(
        self, *, without: Int[Tensor, " example"] | None = None, seed: int | None = None, progress: bool = False
    ) -> nn.Module:
        """Return the network retrained without some training examples, or with another seed."""
        ...


class RunFiles(Protocol):
    """The parts of a run directory that plugins may read."""

    @property
    def path(self) -> Path: ...  # noqa: D102

    def history(self) -> pd.DataFrame:
        """One row per evaluation: step, losses, accuracies."""
        ...

    def finished(self) -> Mapping[str, Any] | None:
        """{"step", "reason"} of a finished run; the reason is given if it ended before its last step."""
        ...

    def checkpoint_steps(self) -> list[int]:
        """Steps with a saved state."""
        ...

    def model_at(self, step: int) -> nn.Module:
        """The model as it was at a saved step."""
        ...


@renamed_fields(**NEEDS)
@dataclasses.dataclass(frozen=True, eq=False)
class Subject(Checked):
    """Input of every plugin: a model with its task, the roles of its parts, and its origin.

    Values computed from the model are cached until its parameters, buffers, submodules or hooks change. A changed plain
    attribute (`model.scale = 2`) or `forward` is not detected: create a new subject after that.

    Attributes:
        model: the network; plugins never change it (surgeries copy it).
        task: the data it was trained on.
        roles: roles of its parameters and points.
        run: the run directory it came from, or None.
        retrainer: trains its twins, or None.
        name: its name in tables and reports.
    """

    model: nn.Module
    task: Task
    roles: Roles = Roles()
    run: RunFiles | None = None
    retrainer: Retrainer | None = None
    name: str = "network"
    _memo: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a network that cannot be run, or that has not the parts its roles name."""
        if not self.name.strip():
            raise ConfigError("a subject needs a name, by which tables and reports call it")
        if getattr(self.model.forward, "__name__", "") == "_forward_unimplemented":
            raise ConfigError(f"model must have a forward method, and {type(self.model).__name__} has none")
        if isinstance(self.model, torch.jit.ScriptModule):
            raise ConfigError("model is compiled by torch.jit, which takes no hooks; pass the network it was made from")
        if isinstance(self.model, torch.fx.GraphModule) and "eval" in vars(self.model):
            raise ConfigError(
                "model is exported by torch.export, which has no evaluation mode; pass the network it was made from"
            )
        if any(is_lazy(each) for each in (*self.model.parameters(), *self.model.buffers())):
            raise ConfigError(
                "model has lazy parameters without a shape; run it once on an input, and load its weights"
            )
        if any(each.device.type == "meta" for each in (*self.model.parameters(), *self.model.buffers())):
            raise ConfigError(
                "model is on the meta device, where its parameters hold no numbers; load its weights first"
            )

        self.roles.check(self.model)

    def __repr__(self) -> str:
        size = sum(each.numel() for each in self.model.parameters())
        named = [field.name for field in dataclasses.fields(self.roles) if field.name not in ("output", "logits")]
        roles = ", ".join(name for name in named if getattr(self.roles, name))
        lines = [
            f"{type(self.model).__name__}, {size:,} parameters",
            f"task: {self.task!r}",
            f"roles: {roles or 'none'}",
        ]
        lines += [] if self.run is None else [f"run: {self.run.path}"]
        return "\n  ".join([f"Subject {self.name!r}", *lines])

    @checked
    def memo(self, key: str, compute: Callable[[], T]) -> T:
        """Return a cached value, computed anew only if the model has changed."""
        state = fingerprint(self.model)
        if key not in self._memo or self._memo[key][0] != state:
            self._memo[key] = state, compute()
        return self._memo[key][1]

    @checked
    def with_model(self, model: nn.Module) -> Subject:
        """Return the same subject with another model and an empty cache."""
        return dataclasses.replace(self, model=model)

    def copy_model(self) -> nn.Module:
        """Return a deep copy of the model for a surgery to change."""
        # Pruning and weight normalisation keep tensors that are computed, which Python's copying refuses.
        computed = {
            id(value): value.detach().clone()
            for module in self.model.modules()
            for value in vars(module).values()
            if isinstance(value, Tensor) and not value.is_leaf
        }
        # In inference mode a copy could not be trained or differentiated.
        with torch.inference_mode(False):
            return copy.deepcopy(self.model, computed)


def subject_of(model: nn.Module | Subject, task: Task | None = None, roles: Roles | None = None) -> Subject:
    """Return a call's arguments as a subject: a subject unchanged, or a model with its task.

    Args:
        model: a subject, or a network.
        task: the network's task; only with a network.
        roles: the network's roles; by default its own attribute `roles`, if any.

    Raises:
        ConfigError: a network without a task, or a subject with one.
    """
    if isinstance(model, Subject):
        if task is not None or roles is not None:
            raise ConfigError("a Subject has its own task and roles; pass a bare model to name others")
        return model
    if not isinstance(model, nn.Module) or task is None:
        other = "no task" if task is None else "a task"
        raise ConfigError(f"expected a Subject, or a model with its task; got {type(model).__name__} and {other}")
    own = getattr(model, "roles", None)
    return Subject(model, task, roles or (own if isinstance(own, Roles) else Roles()))
