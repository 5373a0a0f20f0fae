"""Random augmentation of images, with kornia."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from einops import reduce, repeat
from jaxtyping import Float, Int32, UInt8
from torch import Tensor, nn

from mechmem.core.randomness import derive_seed
from mechmem.errors import ConfigError
from mechmem.math.blocks import blocks
from mechmem.tasks.image_config import Augmentation
from mechmem.tasks.image_data import brightest

Pixels = UInt8[Tensor, "image channel row column"] | Int32[Tensor, "image channel row column"]

ROWS = 512
"""Number of images changed at once. It determines the random numbers of each image, so it must stay fixed."""

GROUP = 16
"""Number of images to which RandAugment applies the same two changes; one by one takes seconds per batch."""


def check_possible(config: Augmentation, channels: int) -> None:
    """Check that the augmentation is possible, before anything is written.

    Raises:
        ConfigError: kornia is missing, or images with this number of channels have no colours.
    """
    if config.colours and channels not in (1, 3):
        raise ConfigError(f"jitter, grayscale and randaugment need 1 or 3 channels, the images have {channels}")
    if config.changes and importlib.util.find_spec("kornia") is None:
        raise ConfigError("augmentation needs kornia: pip install 'mechmem[images]'")


def augmented(pixels: Pixels, config: Augmentation, stream: str, number: int) -> Pixels:
    """Return augmented copies of images.

    Args:
        pixels: 0 … 255, or 0 … 65535 for images of 16 bits. Shape (image, channel, row, column).
        config: the augmentation.
        stream: purpose of the copies; part of the seed.
        number: number of the step or view; part of the seed.

    Returns:
        copies determined by the images and their order, seed, stream and number. Shape (image, channel, row, column).

    Raises:
        ConfigError: kornia is missing, or the images have no colours to change.
    """
    if not config.changes:
        return pixels
    check_possible(config, pixels.shape[1])
    most = brightest(pixels)
    # kornia draws from torch's global random state, which is restored afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, f"augmentation {stream}", number))
        parts = [_changed(pixels[block].float() / most, config) for block in blocks(len(pixels), ROWS)]
    return (torch.cat(parts) * most).round().clamp(0, most).to(pixels.dtype)


def _changed(
    images: Float[Tensor, "image channel row column"], config: Augmentation
) -> Float[Tensor, "image channel row column"]:
    grey = images.shape[1] == 1
    if config.colours and grey:
        images = repeat(images, "image 1 row column -> image 3 row column")
    for change in _pipeline(config, images.shape[2], images.shape[3]):
        images = change(images)
    if config.colours and grey:
        images = reduce(images, "image channel row column -> image 1 row column", "mean")
    return _mixed(images, config.mixup) if config.mixup else images


@functools.lru_cache(maxsize=8)
def _pipeline(config: Augmentation, rows: int, columns: int) -> tuple[nn.Module, ...]:
    import kornia.augmentation as kornia
    from kornia.augmentation.auto import RandAugment

    changes: list[Any] = []
    if config.crop < 1:
        changes.append(kornia.RandomResizedCrop((rows, columns), scale=(config.crop, 1.0), p=1.0))
    if config.moves:
        settings: dict[str, Any] = {
            "translate": (config.translate, config.translate),
            "scale": (1 - config.zoom, 1 + config.zoom),
            "shear": (-config.shear, config.shear, -config.shear, config.shear) if config.shear else None,
        }
        changes.append(kornia.RandomAffine(config.degrees, **settings, p=1.0))
    if config.flip:
        changes.append(kornia.RandomHorizontalFlip(p=0.5))
    if config.randaugment:
        changes.append(_InGroups(RandAugment(n=2, m=config.randaugment)))
    if config.jitter:
        strength = config.jitter
        changes.append(kornia.ColorJiggle(strength, strength, strength, strength / 4, p=1.0))
    if config.grayscale:
        changes.append(kornia.RandomGrayscale(p=config.grayscale))
    return tuple(changes)


class _InGroups(nn.Module):
    """Applies a change that treats all images of a batch alike to random groups of them."""

    def __init__(self, change: nn.Module):
        super().__init__()
        self._change = change

    def forward(self, images: Float[Tensor, "image channel row column"]) -> Float[Tensor, "image channel row column"]:
        order = torch.randperm(len(images))
        changed = torch.cat([self._change(images[order[group]]) for group in blocks(len(images), GROUP)])
        return changed[order.argsort()]


def _mixed(
    images: Float[Tensor, "image channel row column"], concentration: float
) -> Float[Tensor, "image channel row column"]:
    share = torch.distributions.Beta(concentration, concentration).sample((len(images), 1, 1, 1))
    share = torch.maximum(share, 1 - share)
    return share * images + (1 - share) * images[torch.randperm(len(images))]
