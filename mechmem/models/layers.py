"""What every layer of neurons is made of, and the layers after the first."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechmem.models.config import MLPConfig
from mechmem.models.dropout import StepDropout
from mechmem.models.masking import mask_layer
from mechmem.models.nonlinearities import nonlinearity


class NeuronLayer(nn.Module):
    """Dropout, φ, BatchNorm and example masks of one layer of neurons, with a hook point at every stage.

    Points: `hook_pre` before dropout and φ; `hook_hidden` after everything, what the next layer reads; and, with
    BatchNorm, `hook_post` between φ and BatchNorm. All have shape (example, neuron).
    """

    activation: nn.Module
    norm: nn.BatchNorm1d | None

    def add_neurons(self, config: MLPConfig, layer: int, seed: int) -> None:
        """Add the submodules, in the order in which they act.

        Args:
            config: width, activation and regularization.
            layer: number of the layer, from 0.
            seed: seed of its dropout.
        """
        self.hook_pre = HookPoint()
        self.dropout = StepDropout(config.dropout, layer, seed) if config.dropout else nn.Identity()
        self.activation = nonlinearity(config.activation)
        self.norm = nn.BatchNorm1d(config.width) if config.batch_norm else None
        if config.batch_norm:
            self.hook_post = HookPoint()
        self.mask = mask_layer(config.masks, config.width, layer, config.layers)
        self.hook_hidden = HookPoint()

    def neurons(self, pre: Float[Tensor, "example neuron"]) -> Float[Tensor, "example neuron"]:
        """Return what the neurons hand on."""
        hidden = self.activation(self.dropout(self.hook_pre(pre)))
        return self.hook_hidden(self.mask(hidden if self.norm is None else self.norm(self.hook_post(hidden))))


class DeeperLayer(NeuronLayer):
    """A layer of neurons that reads another: h' = φ(h W).

    Parameters: `W` (neuron below, neuron), and BatchNorm's where there is one.

    Args:
        config: shape, initialisation and regularization.
        layer: number of the layer, from 1.
        seed: seed of its dropout.
        draw: source of the initial weights.
    """

    def __init__(self, config: MLPConfig, layer: int, seed: int, draw: torch.Generator):
        super().__init__()
        self.W = nn.Parameter(torch.empty(config.width, config.width))
        initialize(self.W, config, config.width, draw)
        self.add_neurons(config, layer, seed)

    def forward(self, below: Float[Tensor, "example neuron"]) -> Float[Tensor, "example neuron"]:
        """Return the layer's neurons from those of the layer below."""
        return self.neurons(below @ self.W)


@torch.no_grad()
def initialize(weights: Tensor, config: MLPConfig, inputs: int, draw: torch.Generator) -> None:
    """Draw initial weights in place, in the convention that the config names.

    Args:
        weights: the matrix.
        config: names the convention and the width N.
        inputs: how many inputs a neuron of the layer has (2p in the first layer, N in the others).
        draw: source of the numbers.
    """
    if config.init == "pytorch":
        nn.init.uniform_(weights, -(inputs**-0.5), inputs**-0.5, generator=draw)
    else:
        std = (16 * config.width) ** (-1 / 3) if config.init == "doshi_2024" else inputs**-0.5
        nn.init.normal_(weights, 0, std, generator=draw)
