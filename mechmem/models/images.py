"""Networks for images, with a hook point wherever a layer hands on what it holds."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from mechmem.models.checked_hooks import CheckedHooks
from mechmem.models.image_config import CNNConfig, ImageMLPConfig, ImageModelConfig, ResNetConfig
from mechmem.randomness import derive_seed
from mechmem.roles import Role, Roles

Image = Float[Tensor, "example channel row column"]
Smaller = Float[Tensor, "example channel_out row_out column_out"]


class HookedImageNetwork(CheckedHooks):
    """An encoder of layers, and a linear readout of what it ends in, through a projector or without.

    Points: `layers.0.hook_hidden` and so on, what each layer hands on, (example, neuron) or (example, channel, row,
    column); `hook_features` (example, channel), the mean over the image, where the last layer has rows and columns;
    `projector.hook_hidden` (example, neuron) with a projector; `hook_logits` (example, class).

    Parameters: those of the layers (see their classes); `projector.linear.weight` (neuron, feature) with a projector;
    `readout.weight` (class, feature), and `readout.bias` (class) without one. All start as PyTorch has it.

    Args:
        config: what kind of network.
        shape: channels, rows and columns of an image.
        n_classes: number of classes.
        seed: seed of the initialisation.
    """

    def __init__(self, config: ImageModelConfig, shape: tuple[int, int, int], n_classes: int, seed: int = 0):
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "init"))
            self.layers = nn.ModuleList(_layers(config, shape))
            features = config.widths[-1] if isinstance(config, ImageMLPConfig) else _last_channels(config)
            self.projector = _Projector(features, config.projector) if config.projector else None
            self.readout = nn.Linear(config.projector or features, n_classes, bias=not config.projector)
        self.hook_features = HookPoint() if not isinstance(config, ImageMLPConfig) else None
        self.hook_logits = HookPoint()
        self.setup()

    def forward(self, images: Image) -> Float[Tensor, "example class"]:
        """Return logits of images."""
        held = images
        for layer in self.layers:
            held = layer(held)
        if self.hook_features is not None:
            held = self.hook_features(reduce(held, "example channel row column -> example channel", "mean"))
        if self.projector is not None:
            held = self.projector(held)
        return self.hook_logits(self.readout(held))

    @property
    def roles(self) -> Roles:
        """What the parameters and points are for."""
        hidden = [f"layers.{number}.hook_hidden" for number in range(len(self.layers))]
        hidden += ["hook_features"] if self.hook_features is not None else []
        hidden += ["projector.hook_hidden"] if self.projector is not None else []
        return Roles(
            readout=Role("readout.weight", "classes neuron -> neuron classes"),
            bias=None if self.projector is not None else Role("readout.bias", "classes -> classes"),
            hidden=tuple(hidden),
            logits="hook_logits",
        )


class _Dense(nn.Module):
    """ReLU of a linear map of everything below: `linear.weight` (neuron, input), `linear.bias` (neuron)."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.linear, self.hook_pre, self.hook_hidden = nn.Linear(inputs, width), HookPoint(), HookPoint()

    def forward(self, held: Float[Tensor, "example ..."]) -> Float[Tensor, "example neuron"]:
        pre = self.hook_pre(self.linear(rearrange(held, "example ... -> example (...)")))
        return self.hook_hidden(pre.relu())


class _Projector(nn.Module):
    """ReLU of a linear map without bias: `linear.weight` (neuron, feature)."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.linear, self.hook_hidden = nn.Linear(features, width, bias=False), HookPoint()

    def forward(self, features: Float[Tensor, "example feature"]) -> Float[Tensor, "example neuron"]:
        return self.hook_hidden(self.linear(features).relu())


class _Convolution(nn.Module):
    """ReLU of a 3×3 convolution, pooled by 2 or not: `conv.weight` (channel, channel below, 3, 3), `conv.bias`."""

    def __init__(self, below: int, channels: int, *, batch_norm: bool, pool: bool):
        super().__init__()
        self.conv = nn.Conv2d(below, channels, 3, padding=1, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
        self.hook_pre = HookPoint()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.hook_hidden = HookPoint()

    def forward(self, held: Image) -> Smaller:
        return self.hook_hidden(self.pool(self.hook_pre(self.norm(self.conv(held))).relu()))


class _Stem(nn.Module):
    """The first convolution of a ResNet: `conv.weight`, `norm.weight`, `norm.bias`."""

    def __init__(self, below: int, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(below, channels, 3, padding=1, bias=False)
        self.norm, self.hook_hidden = nn.BatchNorm2d(channels), HookPoint()

    def forward(self, held: Image) -> Smaller:
        return self.hook_hidden(self.norm(self.conv(held)).relu())


class _Residual(nn.Module):
    """A basic block: two convolutions with BatchNorm, and what came in added before the last ReLU."""

    def __init__(self, below: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(below, channels, 3, stride, padding=1, bias=False)
        self.norm1, self.hook_middle = nn.BatchNorm2d(channels), HookPoint()
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride > 1 or below != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(below, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        self.hook_hidden = HookPoint()

    def forward(self, held: Image) -> Smaller:
        middle = self.hook_middle(self.norm1(self.conv1(held)).relu())
        return self.hook_hidden((self.norm2(self.conv2(middle)) + self.shortcut(held)).relu())


def _layers(config: ImageModelConfig, shape: tuple[int, int, int]) -> Iterable[nn.Module]:
    below, rows, columns = shape
    if isinstance(config, ImageMLPConfig):
        inputs = below * rows * columns
        for width in config.widths:
            yield _Dense(inputs, width)
            inputs = width
    elif isinstance(config, CNNConfig):
        for channels in config.channels:
            pool = min(rows, columns) >= 2
            yield _Convolution(below, channels, batch_norm=config.batch_norm, pool=pool)
            below, rows, columns = channels, rows // (2 if pool else 1), columns // (2 if pool else 1)
    elif isinstance(config, ResNetConfig):
        yield _Stem(below, config.width)
        below = config.width
        for stage, blocks in enumerate(config.blocks):
            for block in range(blocks):
                yield _Residual(below, config.width * 2**stage, 2 if stage and not block else 1)
                below = config.width * 2**stage


def _last_channels(config: ImageModelConfig) -> int:
    if isinstance(config, CNNConfig):
        return config.channels[-1]
    assert isinstance(config, ResNetConfig)
    return config.width * 2 ** (len(config.blocks) - 1)
