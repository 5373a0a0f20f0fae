"""Which images are trained on, which are held out, and which stand in for augmented ones."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.errors import ConfigError
from mechmem.randomness import generator
from mechmem.tasks.image_config import ImageConfig
from mechmem.tasks.image_data import ImageData

OWN_SHARE = 0.2
"""Share of data without a test split of its own that is held out, unless a number is named."""


def split(config: ImageConfig, data: ImageData) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Return ids of training and test images, in ascending order, every class with its share of both.

    Raises:
        ConfigError: there are fewer images than asked for, or a class has none to train on.
    """
    order = torch.randperm(len(data.labels), generator=generator(config.seed, "split"))
    own = len(data.labels) - data.n_test
    inside, outside = order[order < own], order[order >= own]
    if data.n_test:
        test = _chosen(outside, data.labels, config.test or len(outside), "test")
    else:
        test = _chosen(inside, data.labels, config.test or round(OWN_SHARE * len(inside)), "test")
        inside = inside[~torch.isin(inside, test)]
    train = _chosen(inside, data.labels, config.train or len(inside), "training")
    absent = torch.bincount(data.labels[train], minlength=data.n_classes) == 0
    if absent.any():
        raise ConfigError(f"class {int(absent.nonzero()[0])} of {data.n_classes} has no training image")
    return train.sort().values, test.sort().values


def dealt(
    config: ImageConfig, data: ImageData, train: Int[Tensor, " train"], test: Int[Tensor, " test"]
) -> Int[Tensor, "view train"]:
    """Deal images that are in neither set out to training images of their class, each once.

    Raises:
        ConfigError: a class has too few of them.
    """
    views = config.augmentation.views
    order = torch.randperm(len(data.labels) - data.n_test, generator=generator(config.seed, "real views"))
    unused = order[~torch.isin(order, torch.cat([train, test]))]
    found = torch.empty(views, len(train), dtype=torch.long)
    for label in range(data.n_classes):
        own = data.labels[train] == label
        pool = unused[data.labels[unused] == label]
        needed = views * int(own.sum())
        if len(pool) < needed:
            raise ConfigError(
                f"{views} real views of the {int(own.sum())} training images of class {label} take {needed} others, "
                f"and {len(pool)} are in neither set: train on fewer images, or ask for fewer views"
            )
        found[:, own] = pool[:needed].reshape(views, -1)
    return found


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
