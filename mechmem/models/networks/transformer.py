"""Transformers, and that of the modular-arithmetic papers, with the points and parameters of TransformerLens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.randomness import generator
from mechmem.core.roles import Role, Roles
from mechmem.models.hooks.checked import CheckedHooks
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.networks.attention import HookedAttention, is_hooked
from mechmem.models.networks.config import TransformerConfig
from mechmem.models.networks.dropout import StepDropout
from mechmem.models.networks.masks import ExampleMask, mask_layer
from mechmem.models.networks.nonlinearities import nonlinearity

EPSILON = 1e-5
"""Term that LayerNorm adds to the variance, in torch as in TransformerLens."""

Stream = Float[Tensor, "example position d_model"]


class HookedTransformer(CheckedHooks):
    """Base class of transformers: embeddings, blocks and unembedding. A final class runs them.

    Parameters and points have their TransformerLens 4 names and shapes. Parameters: `embed.W_E` (token, d_model);
    `pos_embed.W_pos` (position, d_model); `blocks.0.attn.…` and `blocks.0.mlp.…` (see `HookedAttention` and
    `HookedTransformerMLP`); `unembed.W_U` (d_model, class), and `b_U` (class) with all biases; `blocks.0.ln1`,
    `blocks.0.ln2`, `ln_final` with `w` and `b` (d_model) with LayerNorm. Points: `hook_embed`, `hook_pos_embed`, those
    of the blocks, `ln_final.hook_scale` and `ln_final.hook_normalized`, all (example, position, …); and `hook_logits`
    (example, class).

    Args:
        config: shape, initialisation and regularization; its `tokens` are the positions.
        symbols: number of leading tokens that are the task's symbols.
        vocabulary: number of tokens.
        classes: number of classes.
        seed: seed of initialisation and dropout.
        masked_alike: number of ids that follow each other and share example masks.
    """

    operands = 2

    def __init__(
        self, config: TransformerConfig, symbols: int, vocabulary: int, classes: int, seed: int, masked_alike: int = 1
    ):
        super().__init__()
        self.config, self.symbols = config, symbols
        self.embed = _Table("W_E", vocabulary, config.d_model)
        self.hook_embed = HookPoint()
        self.pos_embed = _Table("W_pos", config.tokens, config.d_model)
        self.hook_pos_embed = HookPoint()
        self.dropout = _dropout(config, 0, seed)
        self.mask = _stream_mask(config)
        self.blocks = nn.ModuleList(TransformerBlock(config, block, seed) for block in range(config.layers))
        self.ln_final = HookedLayerNorm(config) if config.layer_norm else nn.Identity()
        self.unembed = _Table("W_U", config.d_model, classes)
        bias = nn.Parameter(torch.zeros(classes)) if config.biases == "all" else None
        self.unembed.register_parameter("b_U", bias)
        self.hook_logits = HookPoint()
        for layer in self.modules():
            if isinstance(layer, ExampleMask):
                layer.alike = masked_alike
        _initialize(self, config, classes, generator(seed, "init"))

    def embedded(self, tokens: Int[Tensor, "example position"]) -> Stream:
        """Return the stream before the first block."""
        embedded = self.hook_embed(F.embedding(tokens, self.embed.held))
        places = self.pos_embed.held[: tokens.shape[1]]
        positions = self.hook_pos_embed(
            repeat(places, "position d_model -> example position d_model", example=len(tokens))
        )
        return self.mask(self.dropout(embedded + positions))

    def unembedded(self, stream: Float[Tensor, "example d_model"]) -> Float[Tensor, "example class"]:
        """Return the logits of the final stream."""
        # The product takes the parameter itself, not a view: autocast then casts it once per step, not once per block.
        logits = stream @ self.unembed.held
        bias = self.unembed.b_U
        return self.hook_logits(logits + bias if isinstance(bias, Tensor) else logits)

    @property
    def roles(self) -> Roles:
        """Roles of the parameters and points; "neuron" is a dimension of the stream in both embedding roles."""
        names = [f"blocks.{number}." for number in range(self.config.layers)]
        mlp = [f"{block}mlp." for block in names] if self.config.mlp_width else []
        stream = ("hook_resid_pre", "hook_resid_mid") if mlp else ("hook_resid_pre",)
        activation = tuple(f"{each}activation" for each in mlp)
        return Roles(
            input_embedding=Role(
                "embed.W_E", "p neuron -> operand p neuron", {"operand": self.operands}, first=self.symbols
            ),
            readout=Role("unembed.W_U", "neuron classes -> neuron classes"),
            bias=Role("unembed.b_U", "classes -> classes") if self.config.biases == "all" else None,
            activation=(activation[0] if len(activation) == 1 else activation) or None,
            hidden=tuple(f"{each}hook_post" for each in mlp),
            logits="hook_logits",
            residual=(*(f"{block}{point}" for block in names for point in stream), f"{names[-1]}hook_resid_post"),
            heads=tuple(f"{block}attn.hook_z" for block in names),
        )


class HookedModularTransformer(HookedTransformer):
    """A transformer that reads a, b and "=" (token p) and returns the logits at the last position.

    Parameters and points are those of `HookedTransformer`; `embed.W_E` holds the symbols first and "=" last.

    The network predicts at the last position only. In training mode without dropout, as long as nothing hooks the last
    block or `ln_final`, their outputs at the other positions are not computed, since no logit depends on them. (With
    dropout the masks drawn would depend on it.) In evaluation mode every point holds every position.

    Args:
        config: shape, initialisation and regularization.
        p: number of symbols of an operand, and of classes.
        seed: seed of initialisation and dropout.
    """

    def __init__(self, config: TransformerConfig, p: int, seed: int = 0):
        super().__init__(config, p, p + config.tokens - 2, p, seed)
        self.p = p
        self.equals: Tensor
        self.register_buffer("equals", torch.full((1, config.tokens - 2), p), persistent=False)
        self.setup()

    def forward(self, pairs: Int[Tensor, "example 2"]) -> Float[Tensor, "example class"]:
        """Return logits of the pairs (a, b)."""
        stream = self.embedded(torch.cat([pairs, self.equals.expand(len(pairs), -1)], 1))
        every = stream.shape[1]
        for block in self.blocks:
            stream = block(stream, 1 if block is self.blocks[-1] and self._answers_only() else every)
        return self.unembedded(self.ln_final(stream)[:, -1])

    def _answers_only(self) -> bool:
        watched = (*self.blocks[-1].modules(), *self.ln_final.modules())
        return self.training and not self.config.dropout and not any(is_hooked(module) for module in watched)


class TransformerBlock(nn.Module):
    """Attention, then an MLP, each of which reads the residual stream and adds to it.

    Points: `hook_resid_pre`, `hook_attn_out`, `hook_resid_mid`, `hook_mlp_out`, `hook_resid_post`, all (example,
    position, d_model); an attention-only block has no `hook_resid_mid` and no `hook_mlp_out`. With LayerNorm, `ln1`
    precedes attention and `ln2` the MLP.

    Args:
        config: shape and regularization.
        number: the block's number, from 0.
        seed: seed of its dropout.
    """

    def __init__(self, config: TransformerConfig, number: int, seed: int):
        super().__init__()

        def dropout(place: int) -> StepDropout | nn.Identity:
            # Number 0 belongs to the embeddings; each block has three of its own.
            return _dropout(config, 3 * number + place, seed)

        def norm() -> HookedLayerNorm | nn.Identity:
            return HookedLayerNorm(config) if config.layer_norm else nn.Identity()

        self.hook_resid_pre = HookPoint()
        self.ln1 = norm()
        self.attn = HookedAttention(config, dropout(1))
        self.attn_dropout = dropout(2)
        self.mask = _stream_mask(config)
        self.hook_attn_out = HookPoint()
        self.mlp = None
        if config.mlp_width:
            self.hook_resid_mid = HookPoint()
            self.ln2 = norm()
            self.mlp = HookedTransformerMLP(config, number)
            self.mlp_dropout = dropout(3)
            self.hook_mlp_out = HookPoint()
        self.hook_resid_post = HookPoint()

    def forward(self, stream: Stream, queries: int) -> Float[Tensor, "example query d_model"]:
        """Return the stream after the block, at the last `queries` positions."""
        stream = self.hook_resid_pre(stream)
        attended = self.hook_attn_out(self.mask(self.attn_dropout(self.attn(self.ln1(stream), queries))))
        stream = stream[:, -queries:] + attended
        if self.mlp is not None:
            stream = self.hook_resid_mid(stream)
            stream = stream + self.hook_mlp_out(self.mask(self.mlp_dropout(self.mlp(self.ln2(stream)))))
        return self.hook_resid_post(stream)


class HookedTransformerMLP(nn.Module):
    """φ(x W_in + b_in) W_out + b_out at every position.

    Points: `hook_pre` and `hook_post` (example, position, neuron), before and after φ. Parameters: `W_in` (d_model,
    neuron), `W_out` (neuron, d_model), and unless there are no biases `b_in` (neuron) and `b_out` (d_model).

    Args:
        config: widths, activation, biases and example masks, which act after φ.
        number: the block's number, from 0.
    """

    b_in: nn.Parameter | None
    b_out: nn.Parameter | None

    def __init__(self, config: TransformerConfig, number: int):
        super().__init__()
        width, biased = config.mlp_width, config.biases != "none"
        self.W_in = nn.Parameter(torch.empty(config.d_model, width))
        self.W_out = nn.Parameter(torch.empty(width, config.d_model))
        self.register_parameter("b_in", nn.Parameter(torch.zeros(width)) if biased else None)
        self.register_parameter("b_out", nn.Parameter(torch.zeros(config.d_model)) if biased else None)
        self.hook_pre = HookPoint()
        self.activation = nonlinearity(config.activation)
        self.mask = mask_layer(config.masks, width, number, config.layers)
        self.hook_post = HookPoint()

    def forward(self, stream: Stream) -> Stream:
        """Return the MLP's output."""
        pre = stream @ self.W_in
        post = self.activation(self.hook_pre(pre if self.b_in is None else pre + self.b_in))
        post = self.hook_post(self.mask(post))
        written = post @ self.W_out
        return written if self.b_out is None else written + self.b_out


class HookedLayerNorm(nn.Module):
    """(x − mean) / scale · w + b over the stream's dimensions, scale = √(variance + 1e-5).

    Points: `hook_scale` (example, position, 1) and `hook_normalized` (example, position, d_model), before w and b.

    Centring writes to every dimension, so the output of a masked stream is masked again.

    Args:
        config: width of the stream, and its masks.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.ones(config.d_model)), nn.Parameter(torch.zeros(config.d_model))
        self.mask = _stream_mask(config)
        self.hook_scale, self.hook_normalized = HookPoint(), HookPoint()

    def forward(self, stream: Stream) -> Stream:
        """Normalise."""
        centred = stream - stream.mean(-1, keepdim=True)
        scale = self.hook_scale((centred.square().mean(-1, keepdim=True) + EPSILON).sqrt())
        return self.mask(self.hook_normalized(centred / scale) * self.w + self.b)


class _Table(nn.Module):
    """A module that holds one matrix, so that the matrix gets its TransformerLens name."""

    def __init__(self, name: str, rows: int, columns: int):
        super().__init__()
        self._name = name
        self.register_parameter(name, nn.Parameter(torch.empty(rows, columns)))

    @property
    def held(self) -> Tensor:
        """The matrix: a parameter, or the tensor that `torch.func` puts in its place."""
        return getattr(self, self._name)


def _dropout(config: TransformerConfig, place: int, seed: int) -> StepDropout | nn.Identity:
    return StepDropout(config.dropout, place, seed) if config.dropout else nn.Identity()


def _stream_mask(config: TransformerConfig) -> ExampleMask | nn.Identity:
    return mask_layer(config.masks, config.d_model, "stream", config.layers)


@torch.no_grad()
def _initialize(model: HookedTransformer, config: TransformerConfig, p: int, draw: torch.Generator) -> None:
    """Draw initial weights in place, in the config's convention; the embeddings first."""
    d_model = config.d_model
    fan_in = {"W_O": config.heads * config.head_width, "W_out": config.mlp_width}
    for name, parameter in model.named_parameters():
        kind = name.rpartition(".")[2]
        if not kind.startswith("W_"):
            continue
        embeds = kind in ("W_E", "W_pos")
        if config.init == "nanda_2023":
            # Their unembedding has a column for "=" too, hence p + 1.
            nn.init.normal_(parameter, 0, (p + 1 if kind == "W_U" else d_model) ** -0.5, generator=draw)
        elif embeds:
            nn.init.normal_(parameter, 0, 1, generator=draw)
        elif config.init == "doshi_2024":
            nn.init.normal_(parameter, 0, fan_in.get(kind, d_model) ** -0.5, generator=draw)
        else:
            bound = fan_in.get(kind, d_model) ** -0.5
            nn.init.uniform_(parameter, -bound, bound, generator=draw)
