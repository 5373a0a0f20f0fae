"""Small hooked networks that several tests look at."""

import warnings

import torch
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.core.roles import Output


class Loop(nn.Module):
    """A small network with a point in a loop, one that never fires, and work done in place after a point."""

    def __init__(self, times=3, dead=False):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.W = nn.Parameter(torch.randn(4, 4, generator=draw, dtype=torch.float64) / 2)
        self.dropout = nn.Dropout(0.5)
        self.hook_in, self.hook_state, self.hook_out = HookPoint(), HookPoint(), HookPoint()
        if dead:
            self.hook_dead = HookPoint()
        self.times = times
        self.fail = False

    def forward(self, x):
        state = self.hook_in(x @ self.W)
        state.mul_(2).relu_()
        for _ in range(self.times):
            state = self.hook_state(torch.tanh(self.dropout(state) @ self.W))
        if self.fail:
            raise RuntimeError("the model failed")
        return self.hook_out(state)


def array_task(n=23, width=4, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, width, generator=draw, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, 4, (n,), generator=draw)
    return mm.ArrayTask(inputs, labels, labels, torch.arange(n) < n - 5, n_classes=4)


def looped(times=3, **settings):
    return mm.Subject(Loop(times, **settings), array_task())


def n_hooks(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    own = [module for module in model.modules() if isinstance(module, HookPoint)]
    lens = sum(len(point.fwd_hooks) + len(point.bwd_hooks) for point in own)
    return lens + sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


P = 5
"""Modulus of the sequence models' task; the token "=" is P."""

CONFIG = {
    "d_model": 8,
    "n_layers": 1,
    "n_heads": 2,
    "d_head": 4,
    "n_ctx": 3,
    "d_vocab": P + 1,
    "d_mlp": 16,
    "act_fn": "relu",
    "normalization_type": "LN",
    "seed": 0,
    "dtype": torch.float64,
}
ANSWER = mm.Roles(output=Output(position=-1, classes=P))


def modular_triples():
    """Addition mod P as the token triples a, b, "=", a third of them held out, two with a wrong label."""
    a, b = torch.cartesian_prod(torch.arange(P), torch.arange(P)).T
    true = (a + b) % P
    given = true.clone()
    given[[1, 7]] = (given[[1, 7]] + 1) % P
    triples = torch.stack([a, b, torch.full_like(a, P)], 1)
    train = torch.arange(P * P) % 3 < 2
    operands = torch.stack([a, b], 1)
    return mm.ArrayTask(triples, given, true, train, operands=operands, operation="add", n_classes=P)


def lens_transformer(**settings):
    """The transformer of the TransformerLens that is installed: `HookedTransformer`, or a native bridge."""
    config = CONFIG | settings
    try:
        from transformer_lens import HookedTransformer, HookedTransformerConfig
    except ImportError:
        from transformer_lens.model_bridge.sources import native

        model = native.boot(config, dtype=config["dtype"])
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="HookedTransformer is deprecated", category=DeprecationWarning)
            model = HookedTransformer(HookedTransformerConfig.from_dict(config | {"device": "cpu"}))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype) / 2)
    return model.eval()


def lens_subject(**settings):
    return mm.Subject(lens_transformer(**settings), modular_triples(), ANSWER)
