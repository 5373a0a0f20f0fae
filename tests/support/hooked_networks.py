"""Small networks with hook points and every kind of layer that an intervention may have to pass."""

import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.core.roles import Output

P, D, HEADS, NEURONS, CHANNELS = 5, 8, 2, 6, 4


class Attention(nn.Module):
    """Attention by hand, with what its heads read at `hook_z` (example, position, head, dimension)."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.hook_z = HookPoint()

    def forward(self, stream):
        q, k, v = self.qkv(stream).unflatten(-1, (3, HEADS, D // HEADS)).transpose(1, 3).unbind(2)
        z = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.out(self.hook_z(z.transpose(1, 2)).flatten(2))


class Block(nn.Module):
    """Attention and neurons behind layer norms, both writing into a residual stream, with dropout."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(D), nn.LayerNorm(D)])
        self.attn, self.up, self.down = Attention(), nn.Linear(D, NEURONS), nn.Linear(NEURONS, D)
        self.drop = nn.Dropout(0.3)
        self.hook_pre, self.hook_post, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()

    def forward(self, stream):
        stream = stream + self.drop(self.attn(self.norms[0](stream)))
        post = self.hook_post(torch.relu(self.hook_pre(self.up(self.norms[1](stream)))))
        return self.hook_resid_post(stream + self.drop(self.down(post)))


class Transformer(nn.Module):
    """Two blocks over the positions (a, b, =); logits (example, position, class)."""

    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(P + 1, D), nn.Parameter(torch.randn(3, D))
        self.hook_embed = HookPoint()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.unembed = nn.Linear(D, P)

    @property
    def roles(self):
        blocks = ("blocks.0", "blocks.1")
        return mm.Roles(
            hidden=tuple(f"{block}.hook_post" for block in blocks),
            heads=tuple(f"{block}.attn.hook_z" for block in blocks),
            residual=tuple(f"{block}.hook_resid_post" for block in blocks),
            output=Output(position=-1),
        )

    def forward(self, pairs):
        tokens = torch.cat([pairs, torch.full_like(pairs[:, :1], P)], 1)
        stream = self.hook_embed(self.embed(tokens)) + self.place
        for block in self.blocks:
            stream = block(stream)
        return self.unembed(stream)


class Convolutional(nn.Module):
    """Pictures of the pairs through convolutions, batch norms and pooling; points of (example, channel, h, w)."""

    roles = mm.Roles(hidden=("hook_first", "hook_second"))

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(CHANNELS), nn.BatchNorm2d(CHANNELS)])
        self.pool, self.drop, self.out = nn.MaxPool2d(2), nn.Dropout2d(0.3), nn.Linear(4 * CHANNELS, P)
        self.hook_first, self.hook_second = HookPoint(), HookPoint()
        for norm in self.norms:
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, pairs):
        picture = torch.zeros(len(pairs), 1, P, P, dtype=self.out.weight.dtype)
        picture[torch.arange(len(pairs)), 0, pairs[:, 0], pairs[:, 1]] = 1
        hidden = self.hook_first(torch.relu(self.norms[0](self.first(picture))))
        hidden = self.hook_second(torch.relu(self.norms[1](self.second(self.drop(hidden)))))
        return self.out(self.pool(hidden).flatten(1))


class TorchAttention(nn.Module):
    """torch's own attention, once as a module (its fused path) and once as a function."""

    roles = mm.Roles(hidden=("hook_state",))

    def __init__(self):
        super().__init__()
        self.embed, self.attn = nn.Embedding(P, D), nn.MultiheadAttention(D, HEADS, batch_first=True)
        self.out, self.hook_state = nn.Linear(2 * D, P), HookPoint()

    def forward(self, pairs):
        state = self.hook_state(self.embed(pairs))
        state = self.attn(state, state, state, need_weights=False)[0]
        heads = state.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        heads = nn.functional.scaled_dot_product_attention(heads, heads, heads)
        return self.out(heads.transpose(1, 2).flatten(1))


class Awkward(nn.Module):
    """What `vmap` cannot run, or not as it is: `how` says what."""

    roles = mm.Roles(hidden=("hook_hidden",))

    def __init__(self, how):
        super().__init__()
        self.how, self.embed, self.out, self.hook_hidden = how, nn.Embedding(P, D), nn.Linear(D, P), HookPoint()

    def forward(self, pairs):
        stream = self.embed(pairs[:, 0]) - self.embed(pairs[:, 1])
        hidden = self.hook_hidden(torch.tanh(stream))
        if self.how == "decides" and (hidden[:, 0] > 0.3).any():
            hidden = hidden.clone()
        if self.how == "reads a number":
            hidden = hidden if hidden.sum().item() < 1e6 else 0 * hidden
        if self.how == "in place":
            stream += hidden
            hidden = stream
        if self.how == "leaves torch":
            hidden = torch.from_numpy(hidden.detach().numpy() * 2)
        if self.how == "differs in a batch" and torch._C._functorch.maybe_current_level() is not None:
            hidden = hidden * 2
        return self.out(hidden)


def noisy_task():
    return mm.ModularTask(mm.ModularConfig(p=P, train_fraction=0.7, noise=mm.LabelNoise(0.4)))


def subject_of(kind, *settings, dtype=torch.float32):
    """A network of a kind, always the same, in training mode, on a small task with wrong labels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(*settings).to(dtype)
    return mm.Subject(model, noisy_task(), model.roles)
