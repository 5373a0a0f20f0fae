"""Ablating every neuron of a layer by itself in vmapped forward passes, against one hooked forward pass per neuron."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timing import alternately
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm

NEURONS, EXAMPLES, P, D, HEADS = 256, 64, 53, 64, 4


class Block(nn.Module):
    """Attention and 256 neurons, both writing into a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(D), nn.LayerNorm(D)])
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, NEURONS), nn.Linear(NEURONS, D)
        self.hook_post = HookPoint()

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norms[0](stream)).unflatten(-1, (3, HEADS, D // HEADS)).transpose(1, 3).unbind(2)
        pattern = (q @ k.transpose(-1, -2) / (D // HEADS) ** 0.5).softmax(-1)
        stream = stream + self.out((pattern @ v).transpose(1, 2).flatten(2))
        return stream + self.down(self.hook_post(torch.relu(self.up(self.norms[1](stream)))))


class Transformer(nn.Module):
    """Two blocks over the positions (a, b, =)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(P + 1, D), nn.Parameter(torch.randn(3, D))
        self.blocks = nn.ModuleList([Block(), Block()])
        self.unembed = nn.Linear(D, P)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        tokens = torch.cat([pairs, torch.full_like(pairs[:, :1], P)], 1)
        stream = self.embed(tokens) + self.place
        for block in self.blocks:
            stream = block(stream)
        return self.unembed(stream[:, -1])


@torch.no_grad()
def one_by_one(model: nn.Module, inputs: torch.Tensor, point: str) -> torch.Tensor:
    """The reference: a forward pass with a hook per neuron. Shape (neuron, example, class)."""
    rows, hook = [], model.get_submodule(point)
    for neuron in range(NEURONS):
        column = torch.tensor([neuron])
        handle = hook.register_forward_hook(lambda _m, _i, out, column=column: out.index_fill(-1, column, 0))
        rows.append(model(inputs))
        handle.remove()
    return torch.stack(rows)


def run(add: Callable[..., None]) -> None:
    torch.manual_seed(0)
    model = Transformer().eval()
    task = mm.ModularTask(mm.ModularConfig(p=P))
    subject, ids = mm.Subject(model, task), task.train_ids[:EXAMPLES]
    inputs = task.batch(ids)[0]
    for layer, bar in ((1, 1.5), (0, 1.5)):
        point = f"blocks.{layer}.hook_post"
        edit = mm.Edit(point, neurons="each")
        found = mm.intervene(subject, edit, ids=ids)
        assert not found.note, found.note
        torch.testing.assert_close(found.logits, one_by_one(model, inputs, point), rtol=1e-4, atol=1e-5)
        times = alternately(
            lambda point=point: one_by_one(model, inputs, point),
            lambda edit=edit: mm.intervene(subject, edit, ids=ids),
            5,
        )
        add(f"{NEURONS} single-neuron ablations in block {layer} of 2, {EXAMPLES} examples", *times, bar, speedup=True)
