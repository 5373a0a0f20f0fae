"""Configs of networks for modular arithmetic. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

from mechmem.core.config import LATER, Config, check_choice, check_kind, check_number, check_whole
from mechmem.errors import ConfigError
from mechmem.models.networks.mask_config import MaskConfig

Activation = Literal["relu", "gelu", "quadratic", "reverse_relu"]
Initialization = Literal["liu_lu_2026", "doshi_2024", "pytorch"]
TransformerInitialization = Literal["nanda_2023", "doshi_2024", "pytorch"]
Attention = Literal["causal", "bidirectional"]
Biases = Literal["none", "mlp", "all"]

MAX_WIDTH, MAX_LAYERS, MAX_HEADS = 16384, 8, 64


@dataclasses.dataclass(frozen=True)
class ModelConfig(Config):
    """Base class of the configs from which a model can be built.

    Attributes:
        masks: dropout with one mask per training example, or None.
    """

    masks: MaskConfig | None = dataclasses.field(default=None, kw_only=True, metadata=LATER)

    def __post_init__(self) -> None:
        if self.masks is not None:
            check_kind("masks", self.masks, MaskConfig)

    def products(self, p: int) -> int:
        """Return roughly how many multiplications a forward pass takes per example, for p symbols and classes."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class MLPConfig(ModelConfig):
    """MLP f(a, b) = W φ(U e_a + V e_b) + μ on one-hot inputs, or with more hidden layers between U, V and W.

    Attributes:
        width: number of hidden neurons N, at most 16384.
        activation: φ; "reverse_relu" is relu(−x).
        init: "liu_lu_2026", std 1/√(2p) for U and V and 1/√N for every other matrix; "doshi_2024", std (16N)^(−1/3)
            for all (arXiv 2310.13061); "pytorch", uniform ±1/√fan_in as in nn.Linear.
        bias: whether the readout has a bias μ (it starts at 0).
        tied: whether U = V.
        layers: number of hidden layers, 1 … 8, all of the same width. Doshi et al.'s "3-layer MLP" counts the matrices
            and has 2.
        dropout: share of each hidden layer's pre-activations that a training step sets to 0, in [0, 1): dropout acts
            before φ (Doshi et al.).
        batch_norm: whether BatchNorm follows φ in every hidden layer (Doshi et al.).
        masks: dropout of the hidden layers' outputs with one mask per example (`TurnOver`, `ExampleTied`).
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
        super().__post_init__()
        _check_size("width", self.width, 1, MAX_WIDTH)
        _check_size("layers", self.layers, 1, MAX_LAYERS)
        _check_dropout(self.dropout)
        check_choice("activation", self.activation, get_args(Activation))
        check_choice("initialization", self.init, get_args(Initialization))

    def products(self, p: int) -> int:
        """Return roughly how many multiplications a forward pass takes per example; looking up rows takes none."""
        return self.width * p + (self.layers - 1) * self.width**2


@dataclasses.dataclass(frozen=True)
class TransformerConfig(ModelConfig):
    """A transformer that reads the tokens a, b and "=" and predicts at the last one.

    The defaults are the network of Nanda et al. 2023 (arXiv 2301.05217), as in their public code.

    Attributes:
        layers: number of blocks, 1 … 8.
        d_model: width of the residual stream, at most 16384.
        heads: number of attention heads of a block, at most 64.
        d_head: width of a head; None for d_model / heads, which must then be a whole number.
        d_mlp: number of neurons of a block's MLP; None for 4 · d_model, 0 for an attention-only network.
        activation: φ of the MLPs; "reverse_relu" is relu(−x).
        attention: "causal", or "bidirectional" as in an encoder; with one layer the logits are the same.
        tokens: 3 for a, b, "="; 2 for a, b alone, with the prediction at b (the public code of Doshi et al.).
        layer_norm: whether LayerNorm precedes attention, the MLP and the unembedding.
        biases: "none"; "mlp", in the MLPs; or "all", in attention and the unembedding too.
        init: "nanda_2023", normal with std 1/√d_model for every matrix and both embeddings, and 1/√(p+1) for the
            unembedding; "doshi_2024", normal with std 1 for both embeddings and 1/√fan_in for every matrix; "pytorch",
            std 1 as in nn.Embedding and uniform ±1/√fan_in as in nn.Linear. Biases start at 0.
        dropout: share of values that a training step sets to 0, in [0, 1), after the embeddings, in the attention
            patterns, and in the outputs of attention and MLP (as in the code of Doshi et al.).
        masks: dropout of the MLPs' neurons and of the stream with one mask per example (`TurnOver`, `ExampleTied`); its
            layers are the blocks.
    """

    kind: ClassVar[str] = "transformer"
    layers: int = 1
    d_model: int = 128
    heads: int = 4
    d_head: int | None = None
    d_mlp: int | None = None
    activation: Activation = "relu"
    attention: Attention = "causal"
    tokens: int = 3
    layer_norm: bool = False
    biases: Biases = "mlp"
    init: TransformerInitialization = "nanda_2023"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_size("layers", self.layers, 1, MAX_LAYERS)
        _check_size("d_model", self.d_model, 1, MAX_WIDTH)
        _check_size("heads", self.heads, 1, MAX_HEADS)
        if self.d_head is not None:
            _check_size("d_head", self.d_head, 1, MAX_WIDTH)
        elif self.d_model % self.heads:
            raise ConfigError(
                f"d_model must be a multiple of heads if d_head is not given, got {self.d_model} and {self.heads}"
            )
        if self.d_mlp is not None:
            _check_size("d_mlp", self.d_mlp, 0, MAX_WIDTH)
        _check_size("heads times d_head", self.heads * self.head_width, 1, MAX_WIDTH)
        _check_size("d_mlp", self.mlp_width, 0, MAX_WIDTH)
        self._check_tokens()
        _check_dropout(self.dropout)
        check_choice("activation", self.activation, get_args(Activation))
        check_choice("attention", self.attention, get_args(Attention))
        check_choice("biases", self.biases, get_args(Biases))
        check_choice("initialization", self.init, get_args(TransformerInitialization))

    def _check_tokens(self) -> None:
        if isinstance(self.tokens, bool) or self.tokens not in (2, 3):
            raise ConfigError(f"tokens must be 3 (a, b, =) or 2 (a, b), got {self.tokens!r}")

    @property
    def head_width(self) -> int:
        """The width of a head."""
        return self.d_model // self.heads if self.d_head is None else self.d_head

    def products(self, p: int) -> int:
        """Return roughly how many multiplications a forward pass takes per example."""
        block = self.d_model * (4 * self.heads * self.head_width + 2 * self.mlp_width)
        return self.layers * self.tokens * block + self.d_model * p

    @property
    def mlp_width(self) -> int:
        """The number of neurons of a block's MLP; 0 without one."""
        return 4 * self.d_model if self.d_mlp is None else self.d_mlp


@dataclasses.dataclass(frozen=True)
class CausalTransformerConfig(TransformerConfig):
    """A causal transformer that predicts the next token of a sequence, as GPT-2 does in its arrangement of layers.

    The settings are those of `TransformerConfig`, with other defaults.

    Attributes:
        layers: number of blocks, 1 … 8.
        d_model: width of the residual stream, at most 16384.
        heads: number of attention heads of a block, at most 64.
        d_head: width of a head; None for d_model / heads, which must then be a whole number.
        d_mlp: number of neurons of a block's MLP; None for 4 · d_model, 0 for an attention-only network.
        activation: φ of the MLPs; "reverse_relu" is relu(−x).
        attention: "causal".
        tokens: number of positions; 0 for as many as the task's prefixes have.
        layer_norm: whether LayerNorm precedes attention, the MLP and the unembedding.
        biases: "none"; "mlp", in the MLPs; or "all", in attention and the unembedding too.
        init: as in `TransformerConfig`.
        dropout: share of values that a training step sets to 0, in [0, 1).
        masks: dropout of the MLPs' neurons and of the stream with one mask per sequence (`ExampleTied`, `TurnOver`);
            its layers are the blocks.
    """

    kind: ClassVar[str] = "causal_transformer"
    layers: int = 2
    d_model: int = 64
    activation: Activation = "gelu"
    tokens: int = 0
    layer_norm: bool = True
    biases: Biases = "all"

    def _check_tokens(self) -> None:
        check_whole("tokens", self.tokens, 0)
        if self.attention != "causal":
            raise ConfigError(f"a causal transformer's attention is 'causal', got {self.attention!r}")


def _check_size(setting: str, value: int, least: int, most: int) -> None:
    check_whole(setting, value, least)
    if value > most:
        raise ConfigError(f"{setting} must be at most {most}, got {value}")


def _check_dropout(dropout: float) -> None:
    check_number("dropout", dropout, least=0)
    if dropout >= 1:
        raise ConfigError(f"dropout must be below 1, got {dropout}")
