"""Networks for images, with a hook point at the output of every layer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.core.randomness import derive_seed
from mechmem.core.roles import Role, Roles
from mechmem.models.hooks.checked import CheckedHooks
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.networks.image_config import CNNConfig, ImageMLPConfig, ImageModelConfig, ResNetConfig
from mechmem.models.networks.masks import mask_layer

Image = Float[Tensor, "example channel row column"]
Smaller = Float[Tensor, "example channel_out row_out column_out"]


class HookedImageNetwork(CheckedHooks):
    """An encoder of layers, an optional projector and a linear readout.

    Points: `layers.0.hook_hidden` and so on, the output of each layer, (example, neuron) or (example, channel, row,
    column); `hook_features` (example, channel), the mean over the image, if the last layer has rows and columns;
    `projector.hook_hidden` (example, neuron) with a projector; `hook_logits` (example, class).

    Parameters: those of the layers (see their classes); `projector.linear.weight` (neuron, feature) with a projector;
    `readout.weight` (class, feature), and `readout.bias` (class) without a projector. All are initialised by PyTorch.
    `biases=False` leaves out the biases of convolutions, fully connected layers and the readout, not BatchNorm's.

    Example masks act on a layer's output, before its hook point.

    Args:
        config: kind and shape of the network.
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
            self.projector = _Projector(features, config) if config.projector else None
            biased = config.biases and not config.projector
            self.readout = nn.Linear(config.projector or features, n_classes, bias=biased)
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
        """Roles of the parameters and points."""
        hidden = [f"layers.{number}.hook_hidden" for number in range(len(self.layers))]
        hidden += ["hook_features"] if self.hook_features is not None else []
        hidden += ["projector.hook_hidden"] if self.projector is not None else []
        return Roles(
            readout=Role("readout.weight", "classes neuron -> neuron classes"),
            bias=Role("readout.bias", "classes -> classes") if self.readout.bias is not None else None,
            hidden=tuple(hidden),
            logits="hook_logits",
        )


class _Dense(nn.Module):
    """ReLU of a linear map of the flattened input: `linear.weight` (neuron, input), `linear.bias` (neuron)."""

    def __init__(self, inputs: int, width: int, config: ImageModelConfig, number: int):
        super().__init__()
        self.linear, self.hook_pre = nn.Linear(inputs, width, bias=config.biases), HookPoint()
        self.mask = mask_layer(config.masks, width, number, config.hidden_layers)
        self.hook_hidden = HookPoint()

    def forward(self, held: Float[Tensor, "example ..."]) -> Float[Tensor, "example neuron"]:
        pre = self.hook_pre(self.linear(rearrange(held, "example ... -> example (...)")))
        return self.hook_hidden(self.mask(pre.relu()))


class _Projector(nn.Module):
    """ReLU of a linear map without bias: `linear.weight` (neuron, feature)."""

    def __init__(self, features: int, config: ImageModelConfig):
        super().__init__()
        self.linear = nn.Linear(features, config.projector, bias=False)
        self.mask = mask_layer(config.masks, config.projector, config.hidden_layers - 1, config.hidden_layers)
        self.hook_hidden = HookPoint()

    def forward(self, features: Float[Tensor, "example feature"]) -> Float[Tensor, "example neuron"]:
        return self.hook_hidden(self.mask(self.linear(features).relu()))


class _Convolution(nn.Module):
    """ReLU of a 3×3 convolution, optionally pooled by 2: `conv.weight` (channel, channel below, 3, 3), `conv.bias`."""

    def __init__(self, below: int, channels: int, config: CNNConfig, number: int, *, pool: bool):
        super().__init__()
        self.conv = nn.Conv2d(below, channels, 3, padding=1, bias=config.biases and not config.batch_norm)
        self.norm = nn.BatchNorm2d(channels) if config.batch_norm else nn.Identity()
        self.hook_pre = HookPoint()
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.mask = mask_layer(config.masks, channels, number, config.hidden_layers, axis=1)
        self.hook_hidden = HookPoint()

    def forward(self, held: Image) -> Smaller:
        return self.hook_hidden(self.mask(self.pool(self.hook_pre(self.norm(self.conv(held))).relu())))


class _Stem(nn.Module):
    """The first convolution of a ResNet: `conv.weight`, `norm.weight`, `norm.bias`."""

    def __init__(self, below: int, config: ResNetConfig):
        super().__init__()
        self.conv = nn.Conv2d(below, config.width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(config.width)
        self.mask = mask_layer(config.masks, config.width, 0, config.hidden_layers, axis=1)
        self.hook_hidden = HookPoint()

    def forward(self, held: Image) -> Smaller:
        return self.hook_hidden(self.mask(self.norm(self.conv(held)).relu()))


class _Residual(nn.Module):
    """A basic block: two convolutions with BatchNorm, and a shortcut added before the last ReLU."""

    def __init__(self, below: int, channels: int, stride: int, config: ResNetConfig, number: int):
        super().__init__()
        self.conv1 = nn.Conv2d(below, channels, 3, stride, padding=1, bias=False)
        self.norm1, self.hook_middle = nn.BatchNorm2d(channels), HookPoint()
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride > 1 or below != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(below, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        self.mask = mask_layer(config.masks, channels, number, config.hidden_layers, axis=1)
        self.hook_hidden = HookPoint()

    def forward(self, held: Image) -> Smaller:
        middle = self.hook_middle(self.norm1(self.conv1(held)).relu())
        return self.hook_hidden(self.mask((self.norm2(self.conv2(middle)) + self.shortcut(held)).relu()))


def _layers(config: ImageModelConfig, shape: tuple[int, int, int]) -> Iterable[nn.Module]:
    below, rows, columns = shape
    if isinstance(config, ImageMLPConfig):
        inputs = below * rows * columns
        for number, width in enumerate(config.widths):
            yield _Dense(inputs, width, config, number)
            inputs = width
    elif isinstance(config, CNNConfig):
        for number, channels in enumerate(config.channels):
            pool = min(rows, columns) >= 2
            yield _Convolution(below, channels, config, number, pool=pool)
            below, rows, columns = channels, rows // (2 if pool else 1), columns // (2 if pool else 1)
    elif isinstance(config, ResNetConfig):
        yield _Stem(below, config)
        below, number = config.width, 0
        for stage, blocks in enumerate(config.blocks):
            for block in range(blocks):
                number += 1
                yield _Residual(below, config.width * 2**stage, 2 if stage and not block else 1, config, number)
                below = config.width * 2**stage


def _last_channels(config: ImageModelConfig) -> int:
    if isinstance(config, CNNConfig):
        return config.channels[-1]
    assert isinstance(config, ResNetConfig)
    return config.width * 2 ** (len(config.blocks) - 1)
