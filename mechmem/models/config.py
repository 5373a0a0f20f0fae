"""Configs of models. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

from mechmem.config import Config, check_choice, check_whole
from mechmem.errors import ConfigError

Activation = Literal["relu", "gelu", "quadratic", "reverse_relu"]
Initialization = Literal["liu_lu_2026", "doshi_2024", "pytorch"]

MAX_WIDTH = 16384


@dataclasses.dataclass(frozen=True)
class ModelConfig(Config):
    """Base of the configs that a model can be built from."""


@dataclasses.dataclass(frozen=True)
class MLPConfig(ModelConfig):
    """Two-layer network f(a, b) = W φ(U e_a + V e_b) + μ on one-hot inputs.

    Attributes:
        width: number of hidden neurons N, at most 16384.
        activation: φ; "reverse_relu" is relu(−x).
        init: "liu_lu_2026", std 1/√(2p) for U and V and 1/√N for W; "doshi_2024", std (16N)^(−1/3) for all
            (arXiv 2310.13061); "pytorch", uniform ±1/√fan_in as in nn.Linear.
        bias: whether the readout has a bias μ (it starts at 0).
        tied: whether U = V.
    """

    kind: ClassVar[str] = "mlp"
    width: int = 512
    activation: Activation = "relu"
    init: Initialization = "liu_lu_2026"
    bias: bool = False
    tied: bool = False

    def __post_init__(self) -> None:
        """Validate."""
        check_whole("width", self.width, 1)
        if self.width > MAX_WIDTH:
            raise ConfigError(f"width must be at most {MAX_WIDTH}, got {self.width}")
        check_choice("activation", self.activation, get_args(Activation))
        check_choice("initialization", self.init, get_args(Initialization))
