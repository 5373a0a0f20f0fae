"""MLP for modular arithmetic, and its layers of neurons."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.randomness import generator
from mechmem.core.roles import Role, Roles
from mechmem.models.hooks.checked import CheckedHooks
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.networks.config import MLPConfig
from mechmem.models.networks.differentiable import row_sums
from mechmem.models.networks.dropout import StepDropout
from mechmem.models.networks.masks import mask_layer
from mechmem.models.networks.nonlinearities import nonlinearity


class NeuronLayer(nn.Module):
    """Dropout, φ, BatchNorm and example masks of one layer of neurons, with a hook point at every stage.

    Points: `hook_pre` before dropout and φ; `hook_hidden` after everything, the input of the next layer; and, with
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
        """Return the output of the neurons."""
        hidden = self.activation(self.dropout(self.hook_pre(pre)))
        return self.hook_hidden(self.mask(hidden if self.norm is None else self.norm(self.hook_post(hidden))))


class DeeperLayer(NeuronLayer):
    """A layer of neurons on top of another: h' = φ(h W).

    Parameters: `W` (neuron below, neuron), and those of BatchNorm, if any.

    Args:
        config: shape, initialisation and regularization.
        layer: number of the layer, from 1.
        seed: seed of its dropout.
        draw: source of the initial weights.
    """

    def __init__(self, config: MLPConfig, layer: int, seed: int, draw: torch.Generator):
        super().__init__()
        self.W = nn.Parameter(torch.empty(config.width, config.width))
        draw_weights(self.W, config, config.width, draw)
        self.add_neurons(config, layer, seed)

    def forward(self, below: Float[Tensor, "example neuron"]) -> Float[Tensor, "example neuron"]:
        """Return the layer's neurons from those of the layer below."""
        return self.neurons(below @ self.W)


@torch.no_grad()
def draw_weights(weights: Tensor, config: MLPConfig, inputs: int, draw: torch.Generator) -> None:
    """Draw initial weights in place, in the config's convention.

    Args:
        weights: the matrix.
        config: convention and width N.
        inputs: number of inputs of a neuron of the layer (2p in the first layer, N in the others).
        draw: source of the numbers.
    """
    if config.init == "pytorch":
        nn.init.uniform_(weights, -(inputs**-0.5), inputs**-0.5, generator=draw)
    else:
        std = (16 * config.width) ** (-1 / 3) if config.init == "doshi_2024" else inputs**-0.5
        nn.init.normal_(weights, 0, std, generator=draw)


class HookedMLP(CheckedHooks, NeuronLayer):
    """f(a, b) = W φ(U e_a + V e_b) + μ, or with further layers h' = φ(h W') before the readout W.

    Points: `hook_pre` (example, neuron) before dropout and φ; `hook_post` (example, neuron) after φ, only with
    BatchNorm; `hook_hidden` (example, neuron), the input of the next layer; `hook_logits` (example, class). Further
    layers have the same points, as `deeper.0.hook_hidden` and so on. The logits are always the last `hook_hidden` times
    `W_out`, plus `b_out`.

    Parameters: `W_in` (operand·p, neuron), rows of U above rows of V (p rows if they are tied); `W_out` (neuron,
    class); `b_out` (class) with a bias; `deeper.0.W` (neuron below, neuron) and so on; `norm.weight` (γ) and
    `norm.bias` (neuron) with BatchNorm, in every layer.

    Args:
        config: shape, initialisation and regularization.
        p: number of symbols of an operand, and of classes.
        seed: seed of the initialisation.
    """

    def __init__(self, config: MLPConfig, p: int, seed: int = 0):
        super().__init__()
        self.config = config
        self.p = p
        operands = 1 if config.tied else 2
        draw = generator(seed, "init")
        self.W_in = nn.Parameter(torch.empty(operands * p, config.width))
        self.W_out = nn.Parameter(torch.empty(config.width, p))
        bias = nn.Parameter(torch.zeros(p)) if config.bias else None
        self.b_out: nn.Parameter | None
        self.register_parameter("b_out", bias)
        draw_weights(self.W_in, config, 2 * p, draw)
        draw_weights(self.W_out, config, config.width, draw)
        self.add_neurons(config, 0, seed)
        # Drawn last, so that the first and last layers start the same whatever lies between them.
        self.deeper = nn.ModuleList(DeeperLayer(config, layer, seed, draw) for layer in range(1, config.layers))
        self.hook_logits = HookPoint()
        offset = torch.tensor([0, 0 if config.tied else p])
        self.row_offset: Tensor
        self.register_buffer("row_offset", offset, persistent=False)
        self.setup()

    def forward(self, pairs: Int[Tensor, "example 2"]) -> Float[Tensor, "example class"]:
        """Return logits of the pairs (a, b)."""
        # Sums two rows of the table instead of multiplying by a one-hot matrix that is almost all zeros.
        hidden = self.neurons(row_sums(self.W_in, pairs + self.row_offset))
        for layer in self.deeper:
            hidden = layer(hidden)
        # The product takes the parameter itself, not a view: autocast then casts it once per step, not once per block.
        logits = hidden @ self.W_out
        return self.hook_logits(logits if self.b_out is None else logits + self.b_out)

    @property
    def last_norm(self) -> nn.BatchNorm1d | None:
        """The BatchNorm between the last layer's φ and the readout, or None."""
        last = self.deeper[-1] if len(self.deeper) else self
        assert isinstance(last, NeuronLayer)
        return last.norm

    @property
    def roles(self) -> Roles:
        """Roles of the parameters and points."""
        if self.config.tied:
            embedding = Role("W_in", "p neuron -> operand p neuron", {"operand": 2})
        else:
            embedding = Role("W_in", "(operand p) neuron -> operand p neuron", {"operand": 2})
        layers = ("", *(f"deeper.{number}." for number in range(len(self.deeper))))
        return Roles(
            input_embedding=embedding,
            readout=Role("W_out", "neuron classes -> neuron classes"),
            bias=Role("b_out", "classes -> classes") if self.config.bias else None,
            activation="activation" if len(layers) == 1 else tuple(f"{layer}activation" for layer in layers),
            hidden=tuple(f"{layer}hook_hidden" for layer in layers),
            logits="hook_logits",
        )
