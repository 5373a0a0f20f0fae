"""Images and their labels as a task."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.errors import ConfigError
from mechmem.randomness import generator
from mechmem.tasks.configured import ConfiguredTask
from mechmem.tasks.image_config import ImageConfig
from mechmem.tasks.image_data import ImageData, image_data
from mechmem.tasks.label_noise import apply_noise

OWN_SHARE = 0.2
"""Share of data without a test split of its own that is held out, unless a number is named."""


class ImageTask(ConfiguredTask):
    """Images by their place in the data set: training images first, then a test split of the data's own.

    Inputs are float32, one standard deviation of the training pixels around their mean, channel by channel.

    Args:
        config: data, sizes, noise and seed; the same config gives the same task.
        data: the images, where they are not to be read from what the config names.

    Raises:
        ConfigError: the data cannot be read, or there are fewer images than asked for.
    """

    def __init__(self, config: ImageConfig, data: ImageData | None = None):
        self.config = config
        found = image_data(config.data) if data is None else data
        self.n_classes = found.n_classes
        self.train_ids, self.test_ids = _split(config, found)
        self.ids = torch.cat([self.train_ids, self.test_ids]).sort().values
        self._pixels, self._true = found.pixels, found.labels
        self._given = found.labels.clone()
        self._given[self.train_ids] = apply_noise(config.noise, self._true[self.train_ids], self.n_classes, config.seed)
        trained = self._pixels[self.train_ids].double()
        self._mean = trained.mean((0, 2, 3), keepdim=True).float()
        self._scale = trained.std((0, 2, 3), keepdim=True).clamp_min(1e-6).float()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an image."""
        channels, rows, columns = self._pixels.shape[1:]
        return channels, rows, columns

    def batch(
        self, ids: Int[Tensor, " example"], step: int | None = None
    ) -> tuple[Float[Tensor, "example channel row column"], Int[Tensor, " example"]]:
        """Return images and given labels; there is no augmentation, so `step` changes nothing."""
        return (self._pixels[ids] - self._mean) / self._scale, self._given[ids]

    def true(self, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"]:
        """Return the true labels."""
        return self._true[ids]


def _split(config: ImageConfig, data: ImageData) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Return ids of training and test images, in ascending order."""
    order = torch.randperm(len(data.labels), generator=generator(config.seed, "split"))
    own = len(data.labels) - data.n_test
    inside, outside = order[order < own], order[order >= own]
    if data.n_test:
        test = _chosen(outside, data.labels, config.test or len(outside), "test")
    else:
        test = _chosen(inside, data.labels, config.test or round(OWN_SHARE * len(inside)), "test")
        inside = inside[~torch.isin(inside, test)]
    train = _chosen(inside, data.labels, config.train or len(inside), "training")
    return train.sort().values, test.sort().values


def _chosen(
    order: Int[Tensor, " candidate"], labels: Int[Tensor, " image"], count: int, what: str
) -> Int[Tensor, " id"]:
    """Return the first images of an order, of every class the same share, up to one of rounding."""
    if not 0 < count <= len(order):
        raise ConfigError(f"{count} {what} images asked for, and there are {len(order)} to choose from")
    own = labels[order]
    by_class = torch.argsort(own, stable=True)
    sizes = torch.bincount(own)
    starts = torch.cumsum(sizes, 0) - sizes
    rank = torch.empty(len(order))
    # The middle of each image's place in its class: the first of a small class does not go before that of a large one.
    rank[by_class] = (torch.arange(len(order)) - starts[own[by_class]] + 0.5) / sizes[own[by_class]]
    return order[torch.argsort(rank, stable=True)[:count]]
