"""Hook points attached to a network of others' making: asleep, and while some are cached, against the bare one."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from timing import alternately
from torch import nn

import mechmem as mm
from mechmem.training.loop import widen_heap

sys.path.append(str(Path(__file__).parents[1] / "support"))
from foreign_networks import ResNet  # noqa: E402


def encoder() -> nn.Module:
    """A transformer of torch's own, of which every module but the attention's readout is called."""
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet18 of width 64, 16 images of 32×32": (lambda: ResNet((2, 2, 2, 2), 64, 10), (16, 3, 32, 32)),
    "transformer of 4 layers, 16 texts of 64 tokens": (encoder, (16, 64, 128)),
}


def cached_plainly(model: nn.Module, names: list[str]) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    """The reference for caching: torch's own forward hooks, each keeping a copy."""
    kept: dict[str, torch.Tensor] = {}
    for name in names:
        module = model.get_submodule(name)
        module.register_forward_hook(lambda _m, _i, out, name=name: kept.__setitem__(name, out.detach().clone()))

    def run(x: torch.Tensor) -> dict[str, torch.Tensor]:
        kept.clear()
        model(x)
        return dict(kept)

    return run


def run(add: Callable[..., None]) -> None:
    widen_heap()
    for what in NETWORKS:
        measure(add, what)


def measure(add: Callable[..., None], what: str) -> None:
    make, shape = NETWORKS[what]
    torch.manual_seed(0)
    # In training mode torch's encoder takes its modules one by one.
    bare, x = make().train(), torch.randn(shape)
    attached = mm.attach(copy.deepcopy(bare))

    def step(model: nn.Module) -> None:
        model(x).square().mean().backward()

    times = alternately(lambda: step(bare), lambda: step(attached), 9)
    add(f"asleep, forward and backward, {what}", *times, 1.05, speedup=False)
    with torch.no_grad():
        assert torch.allclose(bare(x), attached(x), atol=1e-6), "the attached network computes something else"
        add(f"asleep, forward, {what}", *alternately(lambda: bare(x), lambda: attached(x), 15), 1.05, speedup=False)
        names = ["layer1.0.conv1", "layer2", "fc"] if "ResNet" in what else ["layers.0.linear1", "layers.1"]
        plain, points = cached_plainly(copy.deepcopy(bare), names), [f"{name}.hook_out" for name in names]

        def cached() -> dict[str, torch.Tensor]:
            return attached.run_with_cache(x, names_filter=points)[1]

        for name, value in plain(x).items():
            assert torch.allclose(value, cached()[f"{name}.hook_out"], atol=1e-6), f"{name} disagrees"
        times = alternately(lambda: plain(x), cached, 15)
        add(f"caching {len(names)} modules, against torch's hooks, {what}", *times, 1.1, speedup=False)
