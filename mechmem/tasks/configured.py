"""What tasks that are built from a config have in common."""

from __future__ import annotations

from typing import Any

from mechmem.contracts import Task
from mechmem.tasks.config import TaskConfig


class ConfiguredTask(Task):
    """Base of tasks that their config decides: the same config always gives the same task.

    Attributes:
        config: everything that the task depends on.
    """

    config: TaskConfig

    @property
    def digest(self) -> str:
        """Hash of the config."""
        return self.config.digest

    @property
    def summary(self) -> dict[str, Any]:
        """The config's values and the sizes of the splits."""
        splits = {f"n_{name}": 0 if ids is None else len(ids) for name, ids in self.splits.items()}
        return {**self.config.to_dict(), "classes": self.n_classes, "n_train": len(self.train_ids), **splits}
