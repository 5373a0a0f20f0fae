"""Construction of a network from its config."""

from __future__ import annotations

from mechmem.core.task import Task
from mechmem.errors import ConfigError
from mechmem.models.hooks.running import as_configured
from mechmem.models.networks.causal import HookedCausalTransformer
from mechmem.models.networks.config import CausalTransformerConfig, MLPConfig, ModelConfig, TransformerConfig
from mechmem.models.networks.image_config import ImageModelConfig
from mechmem.models.networks.images import HookedImageNetwork
from mechmem.models.networks.leaks import close_leaks, find_leaks
from mechmem.models.networks.mask_config import TurnOver
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.networks.transformer import HookedModularTransformer
from mechmem.tasks.sequences import SequenceTask

Network = HookedMLP | HookedModularTransformer | HookedCausalTransformer | HookedImageNetwork


@as_configured()
def build_model(config: ModelConfig, task: Task, seed: int) -> Network:
    """Build the network of a config, initialised with this seed and in evaluation mode.

    Raises:
        ConfigError: there is no such model, or it does not fit the task.
    """
    model = _built(config, task, seed).eval()
    if isinstance(config.masks, TurnOver) and config.masks.close_leaks:
        close_leaks(model, find_leaks(model, task))
    return model


def _built(config: ModelConfig, task: Task, seed: int) -> Network:
    if isinstance(config, ImageModelConfig):
        shape = getattr(task, "shape", ())
        if len(shape) != 3:
            raise ConfigError(f"a network of kind {config.kind!r} reads images, but this task has none")
        return HookedImageNetwork(config, shape, task.n_classes, seed)
    if not isinstance(config, MLPConfig | TransformerConfig):
        raise ConfigError(f"no model is built from a {type(config).__name__}")
    if isinstance(config, CausalTransformerConfig):
        if not isinstance(task, SequenceTask):
            raise ConfigError(f"a network of kind {config.kind!r} reads sequences, but this task has none")
        return HookedCausalTransformer(config, task.n_classes, task.positions, seed)
    if task.operands is None:
        raise ConfigError(f"a network of kind {config.kind!r} reads pairs of symbols, but this task has none")
    if task.symbols != task.n_classes:
        raise ConfigError(
            f"this network has as many classes as symbols; the task has {task.n_classes} and {task.symbols}"
        )
    if isinstance(config, MLPConfig):
        return HookedMLP(config, task.symbols, seed)
    return HookedModularTransformer(config, task.symbols, seed)
