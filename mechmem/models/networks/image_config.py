"""Configs of networks for images. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from mechmem.core.config import LATER, check_whole
from mechmem.errors import ConfigError
from mechmem.models.networks.config import MAX_WIDTH, ModelConfig


@dataclasses.dataclass(frozen=True)
class ImageModelConfig(ModelConfig):
    """Base class of configs of networks for images: an encoder, and a linear readout or a projector.

    Attributes:
        projector: width b of a projector in place of the readout: Linear d → b, ReLU, Linear b → classes, both
            without biases (Anagnostidis et al. 2023); 0 for a readout with a bias.
        biases: whether fully connected layers, convolutions and the readout have biases.
    """

    projector: int = dataclasses.field(default=0, kw_only=True)
    biases: bool = dataclasses.field(default=True, kw_only=True, metadata=LATER)

    @property
    def hidden_layers(self) -> int:
        """Number of layers before the readout, including the projector."""
        return self._depth() + bool(self.projector)

    def _depth(self) -> int:
        raise NotImplementedError

    def products(self, p: int) -> int:
        """Return roughly how many multiplications a forward pass takes per 28×28 image; p is not used."""
        found, below, side = 0, 1, 28
        for channels, kernel, stride in self._shapes():
            side = max(1, side // stride)
            found += kernel * kernel * below * channels * side * side
            below = channels
        return found

    def _shapes(self) -> Iterator[tuple[int, int, int]]:
        """Yield channels, kernel side and stride of each layer; for a fully connected layer the kernel is the image."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("width of the projector", self.projector, 0)
        if not isinstance(self.biases, bool):
            raise ConfigError(f"biases is True or False, got {self.biases!r}")


@dataclasses.dataclass(frozen=True)
class ImageMLPConfig(ImageModelConfig):
    """A network of fully connected ReLU layers on the pixels.

    Attributes:
        projector: width of a projector, or 0.
        biases: whether there are biases.
        masks: dropout of the layers' outputs with one mask per example (`TurnOver`, `ExampleTied`).
        widths: neurons of each hidden layer, at most 16384; by default the MLP of Ketha & Ramaswamy 2025.
    """

    kind: ClassVar[str] = "image_mlp"
    widths: tuple[int, ...] = (128, 512, 2048, 2048)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_widths("widths", self.widths)

    def _depth(self) -> int:
        return len(self.widths)

    def _shapes(self) -> Iterator[tuple[int, int, int]]:
        for number, width in enumerate(self.widths):
            yield width, 1 if number else 28, 1 if number else 28


@dataclasses.dataclass(frozen=True)
class CNNConfig(ImageModelConfig):
    """3×3 convolutions with ReLU, each followed by 2×2 max pooling while the image has two rows, then a mean.

    Attributes:
        projector: width of a projector, or 0.
        biases: whether there are biases.
        masks: dropout of the layers' outputs with one mask per example (`TurnOver`, `ExampleTied`); channels are masked
            as a whole.
        channels: channels of each convolution, at most 16384.
        batch_norm: whether BatchNorm lies between convolution and ReLU.
    """

    kind: ClassVar[str] = "cnn"
    channels: tuple[int, ...] = (32, 64, 128)
    batch_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_widths("channels", self.channels)

    def _depth(self) -> int:
        return len(self.channels)

    def _shapes(self) -> Iterator[tuple[int, int, int]]:
        for number, channels in enumerate(self.channels):
            yield channels, 3, 2 if number else 1


@dataclasses.dataclass(frozen=True)
class ResNetConfig(ImageModelConfig):
    """ResNet18 for small images: a 3×3 stem of stride 1 without pooling, and four stages of basic blocks.

    Attributes:
        projector: width of a projector, or 0.
        biases: whether there are biases.
        masks: dropout of the layers' outputs with one mask per example (`TurnOver`, `ExampleTied`); channels are masked
            as a whole.
        width: channels of the first stage, doubled in each later stage; 64 in ResNet18.
        blocks: number of blocks of each stage.
    """

    kind: ClassVar[str] = "resnet"
    width: int = 64
    blocks: tuple[int, ...] = (2, 2, 2, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("width", self.width, 1)
        _check_widths("blocks", self.blocks)
        widest = self.width * 2 ** min(len(self.blocks) - 1, 64)
        if widest > MAX_WIDTH:
            raise ConfigError(
                f"width of the last stage must be at most {MAX_WIDTH}, got {widest} of {len(self.blocks)}"
            )

    def _depth(self) -> int:
        return 1 + sum(self.blocks)

    def _shapes(self) -> Iterator[tuple[int, int, int]]:
        yield self.width, 3, 1
        for stage, blocks in enumerate(self.blocks):
            for layer in range(2 * blocks):
                yield self.width * 2**stage, 3, 2 if stage and not layer else 1


def _check_widths(setting: str, values: tuple[int, ...]) -> None:
    if not isinstance(values, tuple) or not values:
        raise ConfigError(f"{setting} is a tuple of at least one number, got {values!r}")
    for value in values:
        check_whole(setting, value, 1)
        if value > MAX_WIDTH:
            raise ConfigError(f"{setting} must be at most {MAX_WIDTH}, got {value}")
