"""Stacked training: several networks of one shape as one network whose parameters have an additional axis.

An elementwise optimiser (SGD, Adam, AdamW) acts on stacked parameters like independent optimisers of the networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.overrides import TorchFunctionMode

from mechmem.core.roles import Roles
from mechmem.errors import ConfigError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.running import FEWEST_ROWS, block_rows
from mechmem.models.networks.differentiable import RowSums
from mechmem.models.networks.dropout import StepDropout
from mechmem.models.networks.subnetworks import mask_layers
from mechmem.training.config import TrainConfig
from mechmem.training.evaluate import loss_of
from mechmem.training.loop import couples_rows
from mechmem.training.optimizers import Optimizers


def why_not_stacked(config: TrainConfig, model: nn.Module) -> str:
    """Return the reason why networks of this config cannot be trained as a stack, or "" if they can."""
    if config.optimizer == "muon":
        return "muon orthogonalises whole matrices, and a stack of them is not a matrix"
    if config.precision == "bf16":
        return "products in bfloat16 would be rounded differently in a stack"
    if config.clip_norm:
        return "gradients would be clipped by the norm of all networks together"
    if couples_rows(model):
        return "BatchNorm keeps a separate state for each network"
    if any(isinstance(module, StepDropout) for module in model.modules()):
        return "dropout draws separate masks for each network"
    if mask_layers(model):
        return "example masks are looked up separately for each network"
    return ""


class Stack:
    """Networks that are trained together, each on its own examples.

    Args:
        config: their training config.
        models: the initialised networks, of one shape; their parameters are copied.

    Raises:
        ConfigError: such networks cannot be stacked.
    """

    def __init__(self, config: TrainConfig, models: Sequence[nn.Module]):
        self._config, self._shape = config, models[0]
        reason = why_not_stacked(config, self._shape)
        if reason:
            raise ConfigError(f"networks of this config cannot be trained as a stack: {reason}; choose how='loop'")
        stacked, _ = stack_module_state(list(models))
        self._names = tuple(stacked)
        # torch allows no dot in the name of a parameter, so they are numbered here.
        self._held = nn.ParameterList(stacked.values())
        self._optimizers = Optimizers(config, self._held, Roles())
        self._rows = max(FEWEST_ROWS, block_rows(self._shape) // len(models))

    def step(
        self, inputs: Shaped[Tensor, "network example ..."], given: Int[Tensor, "network example"]
    ) -> Float[Tensor, " network"]:
        """Take one step of every network on its own examples; return the losses."""
        self._shape.train()
        self._optimizers.zero_grad()
        n = given.shape[1]
        total = torch.zeros(len(given), device=given.device)
        parameters = dict(zip(self._names, self._held, strict=True))
        for block in blocks(n, self._rows):
            with _StackedTables():
                losses = vmap(self._loss)(parameters, inputs[:, block], given[:, block])
            losses = losses * ((block.stop - block.start) / n)
            # A network's loss depends only on its own parameters, so the gradient of the sum separates.
            reduce(losses, "network ->", "sum").backward()
            total += losses.detach()
        self._optimizers.step()
        return total

    def _loss(self, parameters: dict[str, Tensor], inputs: Tensor, given: Tensor) -> Tensor:
        for each in parameters.values():
            # Marks the tensor as a parameter for torch, because modules accept only parameters under these names.
            each._is_param = True  # pyright: ignore[reportAttributeAccessIssue]
        return loss_of(functional_call(self._shape, parameters, (inputs,)).float(), given, self._config.loss)

    @torch.no_grad()
    def unstack(self, number: int, model: nn.Module) -> None:
        """Copy one network's parameters into a model of the same shape."""
        found = dict(model.named_parameters())
        for name, stacked in zip(self._names, self._held, strict=True):
            found[name].copy_(stacked[number])


class _StackedTables(TorchFunctionMode):
    """Supplies the stacked form of sums of rows of a table (`embedding_bag`), which torch lacks."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {name: value for name, value in (kwargs or {}).items() if value not in (None, False)}
        if func is F.embedding_bag and len(args) == 2 and given.pop("norm_type", 2.0) == 2 and given == {"mode": "sum"}:
            rows, table = args
            return RowSums.apply(table, rows)
        return func(*args, **(kwargs or {}))
