"""Building a task from its config."""

from __future__ import annotations

from mechmem.core.task import Task
from mechmem.errors import ConfigError
from mechmem.tasks.config import GroupConfig, ModularConfig, TaskConfig
from mechmem.tasks.grammar import GrammarTask
from mechmem.tasks.grid_tasks import GroupTask, ModularTask
from mechmem.tasks.image_config import ImageConfig
from mechmem.tasks.images import ImageTask
from mechmem.tasks.sequence_config import GrammarConfig


def build_task(config: TaskConfig, *, recorded: bool = False) -> Task:
    """Build the task described by a config.

    Args:
        config: the config.
        recorded: whether it is that of a run on disk. Copies of training images in its test set are then counted, not
            refused, since earlier versions recorded such runs; and nothing is downloaded.

    Raises:
        ConfigError: there is no task for this config, or it leaves no training or no test examples.
    """
    if isinstance(config, ModularConfig):
        return ModularTask(config)
    if isinstance(config, GroupConfig):
        return GroupTask(config)
    if isinstance(config, ImageConfig):
        return ImageTask(config, recorded=recorded)
    if isinstance(config, GrammarConfig):
        return GrammarTask(config)
    raise ConfigError(f"no task is built from a {type(config).__name__}")
