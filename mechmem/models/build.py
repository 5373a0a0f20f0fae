"""From a config to a model."""

from __future__ import annotations

from mechmem.contracts import Task
from mechmem.errors import ConfigError
from mechmem.models.config import MLPConfig, ModelConfig, TransformerConfig
from mechmem.models.mlp import HookedMLP
from mechmem.models.transformer import HookedModularTransformer


def build_model(config: ModelConfig, task: Task, seed: int) -> HookedMLP | HookedModularTransformer:
    """Build the network that a config describes, initialised for this seed and in evaluation mode.

    Raises:
        ConfigError: no such model, or the model does not fit the task.
    """
    if not isinstance(config, MLPConfig | TransformerConfig):
        raise ConfigError(f"no model is built from a {type(config).__name__}")
    if task.symbols != task.n_classes:
        raise ConfigError(
            f"this network has as many classes as symbols; the task has {task.n_classes} and {task.symbols}"
        )
    if isinstance(config, MLPConfig):
        return HookedMLP(config, task.symbols, seed).eval()
    return HookedModularTransformer(config, task.symbols, seed).eval()
