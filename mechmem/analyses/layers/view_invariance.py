"""Invariance of layers to augmentation: similarity of the augmented views of one image."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.results import Result
from mechmem.core.stats import across_runs
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Ids, Task, check_places
from mechmem.layers.analysis import LayerAnalysis, some
from mechmem.layers.features import INPUTS, NETWORKS, over_layers
from mechmem.math.blocks import blocks
from mechmem.math.representations import ViewCosines
from mechmem.models.reading.twins import twin_subject
from mechmem.plotting.layers import layer_lines
from mechmem.plotting.style import SPLIT_STYLES, SplitStyle
from mechmem.tasks.images import ImageTask

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROWS = 64
"""Examples whose views are in memory at once."""

BOTH = NETWORKS[:2]
PARTS = ("train", "test")

STYLES = {
    "trained, train": SplitStyle("training images", SPLIT_STYLES["train_clean"].color, "circle", "solid"),
    "trained, test": SplitStyle("test images", SPLIT_STYLES["test"].color, "square", "solid"),
    "untrained, test": SplitStyle(
        "test images, untrained network", SPLIT_STYLES["train_noisy"].color, "diamond", "dash"
    ),
}


class Views(Task):
    """Augmented views of images, as inputs to read layers on; nothing is trained or tested on them.

    Args:
        inputs: the views.
        labels: the true label of each.
        task: the task of the images.
    """

    def __init__(self, inputs: Float[Tensor, "view channel row column"], labels: Int[Tensor, " view"], task: ImageTask):
        self._inputs, self._labels, self._task = inputs, labels, task
        self.ids = self.train_ids = self.test_ids = torch.arange(len(inputs))
        self.n_classes = task.n_classes

    @property
    def digest(self) -> str:
        """Hash of the images' task; views are never stored."""
        return f"{self._task.digest}-views"

    def batch(
        self, ids: Ids, step: int | None = None
    ) -> tuple[Float[Tensor, "view channel row column"], Int[Tensor, " view"]]:
        """Return the views and the true labels."""
        ids = check_places(ids, len(self._labels))
        return self._inputs[ids], self._labels[ids]

    def true(self, ids: Ids) -> Int[Tensor, " view"]:
        """Return the true labels."""
        return self._labels[check_places(ids, len(self._labels))]


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ViewInvarianceResult(Result):
    """Cosines between augmented views, layer by layer. The views are new: training has not used them.

    Attributes:
        layers: the layers.
        count: number of views of each image.
        same: mean cosine between two views of an image, for the trained and the untrained network; NaN without an
            untrained network. Shape (network, layer, image).
        part: 0 for training images, 1 for test images. Shape (image).
        different: mean cosine between views of two images of one part. Shape (network, layer, part).
        note: why there is no untrained network, or "".
    """

    layers: tuple[str, ...]
    count: int
    same: Float[Tensor, "network layer image"]
    part: Int[Tensor, " image"]
    different: Float[Tensor, "network layer part"]
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per network, layer and part.

        Columns: network, layer, part ("train", "test"), n (images), same, different (mean cosines), invariance with its
        bounds low and high. Invariance is (same − different) / (1 − different): 1 if all views of an image agree in
        direction, 0 if they are no closer than those of different images. Its 95 % interval is over images, for this
        network and with `different` fixed.
        """
        rows = []
        for network, layer, part in np.ndindex(*self.different.shape):
            cosines = self.same[network, layer][self.part == part]
            if not len(cosines) or cosines.isnan().all():
                continue
            different = float(self.different[network, layer, part])
            found = across_runs(((cosines - different) / (1 - different)).tolist())
            value, low, high = (np.nan,) * 3 if found is None else (found.value, found.low, found.high)
            row = {"network": BOTH[network], "layer": self.layers[layer], "part": PARTS[part], "n": len(cosines)}
            row |= {"same": float(cosines.mean()), "different": different}
            rows.append({**row, "invariance": value, "low": low, "high": high})
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return invariance by layer, of training and test images, and of test images before training."""
        frame = self.to_frame().rename(columns={"invariance": "value"})
        frame["series"] = frame["network"] + ", " + frame["part"]
        frame = frame.loc[frame["series"].isin(list(STYLES))]
        y_title = "invariance to augmentation<br>(0: none, 1: full; 95 % interval)"
        return layer_lines(frame, self.layers, y_title=y_title, styles=STYLES)


@dataclasses.dataclass(frozen=True)
class ViewInvariance(LayerAnalysis):
    """Measure how similar each layer makes augmented views of one image.

    Attributes:
        points: the layers (see `LayerAnalysis`); "inputs …" measures the images themselves first.
        pool: "none" or "mean" (see `LayerAnalysis`).
        views: number of views of each image.
        limit: most training images, and most test images.
        seed: seed of their choice.
    """

    name: ClassVar[str] = "view_invariance"
    needs: ClassVar[frozenset[str]] = frozenset({"augmentation"})
    knows: ClassVar[frozenset[str]] = frozenset()
    cites: ClassVar[str] = "Anagnostidis et al. 2023, arXiv 2210.14019"

    views: int = 8
    limit: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("views", self.views, 2)
        check_whole("limit", self.limit, 2)
        check_whole("seed", self.seed, 0)

    def __call__(self, subject: Subject) -> ViewInvarianceResult:
        """Return the cosines.

        Raises:
            MissingNeedError: the task has no augmentation, or no layer is named.
            UnknownNameError: there is no such point.
            ActivationError: a point does not fire, or holds numbers that are not finite.
        """
        points, task = self.asked(subject), subject.task
        assert isinstance(task, ImageTask)
        parts = [some(ids, self.limit, self.seed) for ids in (task.sources, task.test_ids)]
        before, note = twin_subject(subject, "untrained")
        networks = [(subject, points)]
        if before is not None:
            networks.append((before, tuple(point for point in points if point != INPUTS)))
        found = [
            [self._cosines(network, asked, shown, len(ids)) for network, asked in networks]
            for ids, shown in ((ids, self._shown(task, ids)) for ids in parts)
        ]
        layers, sizes = tuple(found[0][0]), torch.tensor([len(ids) for ids in parts])
        same = torch.full((len(BOTH), len(layers), int(sizes.sum())), torch.nan, dtype=torch.float64)
        different = torch.full((len(BOTH), len(layers), len(PARTS)), torch.nan, dtype=torch.float64)
        part = torch.repeat_interleave(torch.arange(len(PARTS)), sizes)
        for number, place in np.ndindex(len(parts), len(networks)):
            for layer, cosines in found[number][place].items():
                same[place, layers.index(layer), part == number] = cosines.same
                different[place, layers.index(layer), number] = cosines.different
        return ViewInvarianceResult(layers, self.views, same, part, different, note)

    def _shown(self, task: ImageTask, ids: Int[Tensor, " image"]) -> Views:
        """Return the views as a separate task; view v of image i has the id v · images + i."""
        inputs = rearrange(task.views(ids, self.views), "view image ... -> (view image) ...")
        return Views(inputs, task.true(ids).repeat(self.views), task)

    def _cosines(self, subject: Subject, points: Sequence[str], shown: Views, images: int) -> dict[str, ViewCosines]:
        viewed = dataclasses.replace(subject, task=shown, run=None, retrainer=None)
        found: defaultdict[str, ViewCosines] = defaultdict(ViewCosines)

        def add(layer: str, held: Float[Tensor, "row feature"]) -> None:
            found[layer].add(rearrange(held, "(view image) feature -> view image feature", view=self.views))

        number = rearrange(shown.ids, "(view image) -> view image", image=images)
        for block in blocks(images, ROWS):
            over_layers(viewed, points, rearrange(number[:, block], "view image -> (view image)"), add, self.pool)
        return found
