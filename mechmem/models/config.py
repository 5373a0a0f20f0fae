"""Configs of models. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

from mechmem.config import Config, check_choice, check_number, check_whole
from mechmem.errors import ConfigError

Activation = Literal["relu", "gelu", "quadratic", "reverse_relu"]
Initialization = Literal["liu_lu_2026", "doshi_2024", "pytorch"]

MAX_WIDTH, MAX_LAYERS = 16384, 8


@dataclasses.dataclass(frozen=True)
class ModelConfig(Config):
    """Base of the configs that a model can be built from."""


@dataclasses.dataclass(frozen=True)
class MLPConfig(ModelConfig):
    """Network f(a, b) = W φ(U e_a + V e_b) + μ on one-hot inputs, or a deeper one between the same U, V and W.

    Attributes:
        width: number of hidden neurons N, at most 16384.
        activation: φ; "reverse_relu" is relu(−x).
        init: "liu_lu_2026", std 1/√(2p) for U and V and 1/√N for every other matrix; "doshi_2024", std (16N)^(−1/3)
            for all (arXiv 2310.13061); "pytorch", uniform ±1/√fan_in as in nn.Linear.
        bias: whether the readout has a bias μ (it starts at 0).
        tied: whether U = V.
        layers: number of hidden layers, 1 … 8, all of the same width. Doshi et al.'s "3-layer MLP" counts the matrices
            and has 2.
        dropout: share of the pre-activations of every hidden layer that a training step sets to 0, in [0, 1): dropout
            acts before φ (Doshi et al.).
        batch_norm: whether BatchNorm stands after φ in every hidden layer (Doshi et al.).
    """

    kind: ClassVar[str] = "mlp"
    width: int = 512
    activation: Activation = "relu"
    init: Initialization = "liu_lu_2026"
    bias: bool = False
    tied: bool = False
    layers: int = 1
    dropout: float = 0.0
    batch_norm: bool = False

    def __post_init__(self) -> None:
        """Validate."""
        check_whole("width", self.width, 1)
        if self.width > MAX_WIDTH:
            raise ConfigError(f"width must be at most {MAX_WIDTH}, got {self.width}")
        check_whole("layers", self.layers, 1)
        if self.layers > MAX_LAYERS:
            raise ConfigError(f"layers must be at most {MAX_LAYERS}, got {self.layers}")
        check_number("dropout", self.dropout, least=0)
        if self.dropout >= 1:
            raise ConfigError(f"dropout must be below 1, got {self.dropout}")
        check_choice("activation", self.activation, get_args(Activation))
        check_choice("initialization", self.init, get_args(Initialization))
