"""The two-layer network of the modular-arithmetic papers, with a hook point at every stage."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from mechmem.models.config import MLPConfig
from mechmem.models.nonlinearities import nonlinearity
from mechmem.randomness import generator
from mechmem.roles import Role, Roles


class HookedMLP(HookedRootModule):
    """f(a, b) = W φ(U e_a + V e_b) + μ.

    Points: `hook_pre` (example, neuron) before φ; `hook_hidden` (example, neuron) after it; `hook_logits`
    (example, class). Parameters: `W_in` (operand·p, neuron), rows of U above rows of V (p rows where they are tied);
    `W_out` (neuron, class); `b_out` (class) where there is a bias.

    Args:
        config: shape and initialisation.
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
        with torch.no_grad():
            _initialize(config, p, self.W_in, self.W_out, draw)
        self.activation = nonlinearity(config.activation)
        self.hook_pre = HookPoint()
        self.hook_hidden = HookPoint()
        self.hook_logits = HookPoint()
        offset = torch.tensor([0, 0 if config.tied else p])
        self.row_offset: Tensor
        self.register_buffer("row_offset", offset, persistent=False)
        self.setup()

    def forward(self, pairs: Int[Tensor, "example 2"]) -> Float[Tensor, "example class"]:
        """Return logits of the pairs (a, b)."""
        # Two rows of the table are summed in place of a product with a one-hot matrix that is almost all zeros.
        pre = self.hook_pre(F.embedding_bag(pairs + self.row_offset, self.W_in, mode="sum"))
        hidden = self.hook_hidden(self.activation(pre))
        # The product takes the parameter itself, not a view: autocast then casts it once per step, not once per block.
        logits = hidden @ self.W_out
        return self.hook_logits(logits if self.b_out is None else logits + self.b_out)

    @property
    def roles(self) -> Roles:
        """What the parameters and points are for."""
        if self.config.tied:
            embedding = Role("W_in", "p neuron -> operand p neuron", {"operand": 2})
        else:
            embedding = Role("W_in", "(operand p) neuron -> operand p neuron", {"operand": 2})
        return Roles(
            input_embedding=embedding,
            readout=Role("W_out", "neuron classes -> neuron classes"),
            bias=Role("b_out", "classes -> classes") if self.config.bias else None,
            activation="activation",
            hidden=("hook_hidden",),
            logits="hook_logits",
        )


def _initialize(config: MLPConfig, p: int, w_in: Tensor, w_out: Tensor, draw: torch.Generator) -> None:
    if config.init == "pytorch":
        nn.init.uniform_(w_in, -((2 * p) ** -0.5), (2 * p) ** -0.5, generator=draw)
        nn.init.uniform_(w_out, -(config.width**-0.5), config.width**-0.5, generator=draw)
        return
    if config.init == "doshi_2024":
        std_in = std_out = (16 * config.width) ** (-1 / 3)
    else:
        std_in, std_out = (2 * p) ** -0.5, config.width**-0.5
    nn.init.normal_(w_in, 0, std_in, generator=draw)
    nn.init.normal_(w_out, 0, std_out, generator=draw)
