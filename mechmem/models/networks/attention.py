"""Attention of a transformer, under the names and shapes of TransformerLens."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.models.hooks.lens import HookPoint
from mechmem.models.networks.config import TransformerConfig
from mechmem.models.networks.dropout import StepDropout

FEW = 8
"""Most tokens of which products are summed one by one: faster than launching a batch of tiny matrix products."""


class HookedAttention(nn.Module):
    """Multi-head attention over the tokens of an example.

    Points: `hook_q`, `hook_k`, `hook_v`, `hook_z` (example, position, head, d_head); `hook_attn_scores` (−∞ where
    masked) and `hook_pattern` (example, head, query, key); `hook_result` (example, position, head, d_model), the output
    of each head, computed only if it is hooked.

    Parameters: `W_Q`, `W_K`, `W_V` (head, d_model, d_head), `W_O` (head, d_head, d_model); with biases `b_Q`, `b_K`,
    `b_V` (head, d_head) and `b_O` (d_model). The caller draws their values.

    Args:
        config: shape, mask, biases and dropout.
        dropout: dropout of the patterns.
    """

    W_Q: nn.Parameter
    W_K: nn.Parameter
    W_V: nn.Parameter
    b_Q: nn.Parameter | None
    b_K: nn.Parameter | None
    b_V: nn.Parameter | None
    b_O: nn.Parameter | None

    def __init__(self, config: TransformerConfig, dropout: StepDropout | nn.Identity):
        super().__init__()
        heads, d_head, d_model = config.heads, config.head_width, config.d_model
        self.scale = d_head**-0.5
        for name in "QKV":
            self.register_parameter(f"W_{name}", nn.Parameter(torch.empty(heads, d_model, d_head)))
        self.W_O = nn.Parameter(torch.empty(heads, d_head, d_model))
        biased = config.biases == "all"
        for name, shape in (("b_Q", (heads, d_head)), ("b_K", (heads, d_head)), ("b_V", (heads, d_head))):
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)) if biased else None)
        self.register_parameter("b_O", nn.Parameter(torch.zeros(d_model)) if biased else None)
        ones = torch.ones(config.tokens, config.tokens, dtype=torch.bool)
        self.masked: Tensor
        self.register_buffer("masked", ones.triu(1) if config.attention == "causal" else ~ones, persistent=False)
        self.hook_q, self.hook_k, self.hook_v = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_scores, self.hook_pattern = HookPoint(), HookPoint()
        self.dropout = dropout
        self.hook_z, self.hook_result = HookPoint(), HookPoint()

    def forward(
        self, stream: Float[Tensor, "example position d_model"], queries: int
    ) -> Float[Tensor, "example query d_model"]:
        """Return the summed output of the heads at the last positions.

        Args:
            stream: the input at every position.
            queries: number of last positions to compute the output at.
        """
        q = self.hook_q(_by_head(stream[:, -queries:], self.W_Q, self.b_Q))
        k = self.hook_k(_by_head(stream, self.W_K, self.b_K))
        v = self.hook_v(_by_head(stream, self.W_V, self.b_V))
        few, keys = len(self.masked) <= FEW, stream.shape[1]
        if few:
            by_query = rearrange(q * self.scale, "example query head d_head -> example head query 1 d_head")
            scores = (by_query * _by_key(k)).sum(-1)
        else:
            scores = torch.einsum("eqhd,ekhd->ehqk", q * self.scale, k)
        masked = self.masked[:keys, :keys][-queries:]
        scores = self.hook_attn_scores(scores.masked_fill(masked, -torch.inf))
        pattern = self.dropout(self.hook_pattern(scores.softmax(-1)))
        if few:
            read = (rearrange(pattern, "example head query key -> example head query key 1") * _by_key(v)).sum(3)
            z = rearrange(read, "example head query d_head -> example query head d_head")
        else:
            z = torch.einsum("ehqk,ekhd->eqhd", pattern, v)
        z = self.hook_z(z)
        if is_hooked(self.hook_result):
            # As large as the rest of the network together, so computed only if hooked.
            written = self.hook_result(torch.einsum("eqhd,hdm->eqhm", z, self.W_O)).sum(2)
        else:
            flat = rearrange(z, "example query head d_head -> example query (head d_head)")
            written = flat @ rearrange(self.W_O, "head d_head d_model -> (head d_head) d_model")
        return written if self.b_O is None else written + self.b_O


def is_hooked(point: nn.Module) -> bool:
    """Return whether a module has hooks."""
    hooks = point._forward_hooks, point._forward_pre_hooks, point._backward_hooks, point._backward_pre_hooks
    return any(map(len, hooks))


def _by_head(
    stream: Float[Tensor, "example position d_model"], weights: Tensor, bias: Tensor | None
) -> Float[Tensor, "example position head d_head"]:
    # One product for all heads: the product of one head alone would be too small to be efficient.
    flat = stream @ rearrange(weights, "head d_model d_head -> d_model (head d_head)")
    found = rearrange(flat, "example position (head d_head) -> example position head d_head", head=len(weights))
    return found if bias is None else found + bias


def _by_key(values: Float[Tensor, "example key head d_head"]) -> Float[Tensor, "example head 1 key d_head"]:
    return rearrange(values, "example key head d_head -> example head 1 key d_head")
