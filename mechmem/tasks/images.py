"""Images and their labels as a task, and the training and test split of their data."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int, Int32, UInt8
from torch import Tensor

from mechmem.core.arguments import checked
from mechmem.core.randomness import derive_seed, generator
from mechmem.core.task import Ids, check_places
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.tasks.augmentation import augmented, check_possible
from mechmem.tasks.copies import without_copies
from mechmem.tasks.grid_tasks import ConfiguredTask
from mechmem.tasks.image_config import ImageConfig
from mechmem.tasks.image_data import ImageData
from mechmem.tasks.image_sources import SHIPPED, image_data
from mechmem.tasks.label_noise import apply_noise

Pixels = UInt8[Tensor, "example channel row column"] | Int32[Tensor, "example channel row column"]
Images = Float[Tensor, "example channel row column"]
OWN_SHARE = 0.2
"""Default fraction held out of data without its own test split."""


class ImageTask(ConfiguredTask):
    """Classification of images. Ids are positions in the data set; the data's own test split, if any, comes last.

    Inputs are float32, standardised by the mean and standard deviation of the training pixels of each channel. With
    augmentation, `batch(ids, step)` returns the training images as augmented at that step, and `batch(ids)` the
    originals. Fixed views are themselves the training examples: view v of image i of N has the id v N + i, and
    `sources` are the original images.

    Args:
        config: data, sizes, noise, augmentation and seed; the same config gives the same task.
        data: the images, if they are not to be read from `config.data`.
        recorded: whether the task is that of a run on disk, whose copies are counted and not refused, and whose data
            are not downloaded.

    Raises:
        ConfigError: the data cannot be read, there are too few images, a class has no training image, a test image is a
            copy of a training image, or the augmentation is impossible.
    """

    @checked
    def __init__(self, config: ImageConfig, data: ImageData | None = None, *, recorded: bool = False):
        self.config = config
        self.title = config.data
        self._data = image_data(config.data, download=not recorded) if data is None else data
        self._read = data is None and config.data in SHIPPED
        self.data_digest = "" if self._read else self._data.digest
        self.n_classes, self.class_names = self._data.n_classes, self._data.class_names
        check_possible(config.augmentation, self._data.pixels.shape[1])
        self._pixels, images = self._data.pixels, len(self._data.labels)
        self._sources, held_out = split(config, self._data)
        self._augmentation = wanted = config.augmentation
        self._others = dealt(config, self._data, self._sources, held_out) if wanted.real else None
        shown = self._sources if self._others is None else torch.cat([self._sources, self._others.flatten()])
        # Data that ships with a library has no copies; were it to have some one day, runs on it should still open.
        kept = without_copies(held_out, shown, {"pixels": self._pixels}, config.copies, keep=recorded or self._read)
        self.test_ids, self.dropped_copies, self.held_out_copies = kept.ids, len(kept.dropped), kept.kept
        # Ids of views follow those of the images.
        starts = images * torch.arange(1, wanted.views + 1)
        views = rearrange(starts[:, None] + self._sources, "view image -> (view image)")
        self.train_ids = views if wanted.views else self._sources
        self.ids = torch.cat([self._sources, self.test_ids]).sort().values
        self.ids = torch.cat([self.ids, views])
        self.augmented = wanted.changes and not wanted.views
        self._trained = torch.zeros(images * (wanted.views + 1), dtype=torch.bool)
        self._trained[self.train_ids] = True
        self._true = repeat(self._data.labels, "image -> (copy image)", copy=wanted.views + 1)
        self._given = self._true.clone()
        self._given[self._sources] = self._noisy(config, self._sources, config.seed)
        if wanted.labels == "independent":
            self._given[views] = self._noisy(config, views, derive_seed(config.seed, "labels of views", wanted.seed))
        else:
            self._given[views] = self._given[views % images]
        trained = self._pixels[self._sources].double()
        self._mean = trained.mean((0, 2, 3), keepdim=True).float()
        self._scale = trained.std((0, 2, 3), keepdim=True).clamp_min(1e-6).float()
        self._views: dict[int, Pixels] = {}

    def _noisy(self, config: ImageConfig, ids: Int[Tensor, " example"], seed: int) -> Int[Tensor, " example"]:
        return apply_noise(config.noise, self._true[ids], self.n_classes, seed)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an image."""
        channels, rows, columns = self._pixels.shape[1:]
        return channels, rows, columns

    @property
    def changes(self) -> bool:
        """Whether augmentation changes images, at every step or once."""
        return self._augmentation.changes

    @property
    def sources(self) -> Int[Tensor, " example"]:
        """Ids of the original training images."""
        return self._sources

    def source(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the ids of the images that these are views of; an image is its own source."""
        return check_places(ids, len(self._given)) % len(self._pixels)

    @property
    def digest(self) -> str:
        """Hash of the config, and of the images unless they ship with a library."""
        return self.config.digest if self._read else f"{self.config.digest}-{self.data_digest}"

    def batch(self, ids: Ids, step: int | None = None) -> tuple[Images, Int[Tensor, " example"]]:
        """Return images and given labels; with `step`, training images as augmented then, unless views are fixed."""
        ids = check_places(ids, len(self._given))
        pixels = self._shown(ids)
        if step is not None and self.augmented:
            trained = self._trained[ids]
            if trained.all():
                pixels = augmented(pixels, self._augmentation, "step", step)
            elif trained.any():
                pixels = pixels.clone()
                pixels[trained] = augmented(pixels[trained], self._augmentation, "step", step)
        return self._scaled(pixels), self._given[ids]

    def true(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the true labels."""
        return self._true[check_places(ids, len(self._true))]

    def given(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the given labels (for test ids, the true labels)."""
        return self._given[check_places(ids, len(self._given))]

    def views(self, ids: Ids, count: int) -> Float[Tensor, "view example channel row column"]:
        """Return new augmented views of training or test images, different from those in training.

        Args:
            ids: ids of the images.
            count: number of views per image.

        Raises:
            ConfigError: the task has no augmentation that changes images.
        """
        if not self.changes:
            raise ConfigError("views need an augmentation that changes images, and this task has none")
        pixels = self._pixels[self.source(ids)]
        shown = (augmented(pixels, self._augmentation, "new view", number) for number in range(count))
        return torch.stack([self._scaled(each) for each in shown])

    def _scaled(self, pixels: Pixels) -> Images:
        return (pixels - self._mean) / self._scale

    def _shown(self, ids: Int[Tensor, " example"]) -> Pixels:
        """Return the pixels of images and of fixed views."""
        images = len(self._pixels)
        if not self._augmentation.views:
            return self._pixels[ids]
        pixels = self._pixels[ids % images]
        number = ids // images
        for view in number[number > 0].unique().tolist():
            chosen = number == view
            place = torch.searchsorted(self._sources, ids[chosen] % images)
            if (self._sources[place.clamp(max=len(self._sources) - 1)] != ids[chosen] % images).any():
                raise UnknownNameError("an id is of a view of an image that is not in the training set")
            pixels[chosen] = self._view(view)[place]
        return pixels

    def _view(self, number: int) -> Pixels:
        """Return one fixed view of every training image, independent of the number of views."""
        if number not in self._views:
            if number > self._augmentation.views:
                raise UnknownNameError(f"no view {number}: there are {self._augmentation.views}")
            shown = self._sources if self._others is None else self._others[number - 1]
            self._views[number] = augmented(self._pixels[shown], self._augmentation, "view", number)
        return self._views[number]


def split(config: ImageConfig, data: ImageData) -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Return ids of training and test images, in ascending order, each with the same fraction of every class.

    Raises:
        ConfigError: there are too few images, or a class has no training image.
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
        label = int(absent.nonzero()[0])
        name = "" if data.class_names is None else f" ({data.class_names[label]})"
        raise ConfigError(f"class {label}{name} of {data.n_classes} has no training image")
    return train.sort().values, test.sort().values


def dealt(
    config: ImageConfig, data: ImageData, train: Int[Tensor, " train"], test: Int[Tensor, " test"]
) -> Int[Tensor, "view train"]:
    """Assign images in neither set to training images of their class, each once.

    Raises:
        ConfigError: a class has too few such images.
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
                f"{views} real views of the {int(own.sum())} training images of class {label} need {needed} others, "
                f"but only {len(pool)} are in neither set: use fewer training images or fewer views"
            )
        found[:, own] = pool[:needed].reshape(views, -1)
    return found


def _chosen(
    order: Int[Tensor, " candidate"], labels: Int[Tensor, " image"], count: int, what: str
) -> Int[Tensor, " id"]:
    """Return the first images of an order, with the same fraction of every class up to rounding."""
    if count == 0:
        raise ConfigError(f"{len(order)} images are too few: a fifth of them is the test set, which would be empty")
    if not 0 < count <= len(order):
        raise ConfigError(f"{count} {what} images requested, but only {len(order)} are available")
    own = labels[order]
    by_class = torch.argsort(own, stable=True)
    sizes = torch.bincount(own)
    starts = torch.cumsum(sizes, 0) - sizes
    rank = torch.empty(len(order))
    # Midpoint ranks within a class, so that the first image of a small class does not precede that of a large one.
    rank[by_class] = (torch.arange(len(order)) - starts[own[by_class]] + 0.5) / sizes[own[by_class]]
    return order[torch.argsort(rank, stable=True)[:count]]
