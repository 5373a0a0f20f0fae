"""Radius and dimension of each class's cloud of features, layer by layer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.results import Result
from mechmem.core.stats import across_runs
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.layers.analysis import LayerAnalysis, some
from mechmem.layers.features import NETWORKS, over_layers
from mechmem.math.representations import FEWEST_POINTS, QUANTITIES, cloud_geometry, radius_of_chance
from mechmem.models.reading.twins import twin_subject
from mechmem.plotting.layers import layer_lines
from mechmem.plotting.layout import stack
from mechmem.plotting.style import FAINT, WITH_ALL_TRAIN, SplitStyle
from mechmem.tasks.config import SPLITS as LABELLED
from mechmem.tasks.splits import labelled_splits, split_ids, training_set

if TYPE_CHECKING:
    import plotly.graph_objects as go

BOTH = NETWORKS[:2]
SPLITS = ("train", *LABELLED)
CHANCE = "classes that share one centre"

_TITLES = dict(zip(BOTH, ("trained network", "before training"), strict=True))
_POWERS = {"dimension": -1, "corrected_dimension": -1, "radius": -2}
"""The power of each quantity that is averaged over classes."""

Geometry = dict[str, Float[Tensor, "quantity cloud"]]
"""Dimension, corrected dimension and radius of the clouds of each split."""

_PANELS = {
    "corrected_dimension": ("dimension", "effective directions<br>(95 % interval)"),
    "radius": ("radius", "radius over distance<br>(95 % interval)"),
}


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ClassManifoldsResult(Result):
    """Dimension and radius of every class's cloud at every layer, all clouds having the same number of points.

    Attributes:
        layers: the layers.
        counts: examples of each class in "train" (by given label), "train_clean", "train_noisy" (by given label),
            "train_noisy_true" (by true label) and "test"; 0 if the truth is not known. Shape (split, class).
        points: number of points of each cloud; 0 if no class has enough.
        value: dimension, corrected dimension and radius; NaN without a cloud or network. Shape (network, split, layer,
            quantity, class).
        note: what is missing and why, or "".
    """

    layers: tuple[str, ...]
    counts: Int[Tensor, "split class"]
    points: int
    value: Float[Tensor, "network split layer quantity class"]
    note: str = ""

    def classes(self) -> pd.DataFrame:
        """Return one row per network, split, layer and class.

        Columns: network, split, layer, class, count (examples there are), dimension, corrected_dimension, radius.
        """
        axes = [BOTH, SPLITS, self.layers, range(self.counts.shape[1])]
        frame = pd.MultiIndex.from_product(axes, names=["network", "split", "layer", "class"]).to_frame(index=False)
        frame["count"] = self.counts[:, None].expand(len(BOTH), len(SPLITS), len(self.layers), -1).flatten().numpy()
        for number, quantity in enumerate(QUANTITIES):
            frame[quantity] = self.value[:, :, :, number].flatten().numpy()
        return frame

    def to_frame(self) -> pd.DataFrame:
        """Return means over classes, one row per quantity, network, split and layer.

        Columns: quantity ("dimension", "corrected_dimension", "radius"), network ("trained", "untrained"), split,
        layer, value, low, high (95 % Student interval over classes), n (classes that have a cloud). The mean is taken
        over the inverse of a dimension, Σλ² / (Σλ)², and the inverse square of a radius, which few points estimate with
        little bias, and then transformed back.
        """
        rows: list[dict[str, object]] = []
        for quantity, by_class in zip(QUANTITIES, self.value.unbind(3), strict=True):
            for network, by_split in zip(BOTH, by_class, strict=True):
                for split, by_layer in zip(SPLITS, by_split, strict=True):
                    for layer, values in zip(self.layers, by_layer, strict=True):
                        figures = _mean(values[~values.isnan()], _POWERS[quantity])
                        where = {"quantity": quantity, "network": network, "split": split, "layer": layer}
                        rows.append({**where, **figures})
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return the corrected dimension and the radius by layer, before and after training, means over classes."""
        frame = self.to_frame().rename(columns={"split": "series"})
        # The whole training set adds nothing to its two parts.
        frame = frame.loc[(frame["series"] != "train") | (int(self.counts[1:3].sum()) == 0)]
        styles = {**WITH_ALL_TRAIN, CHANCE: SplitStyle(CHANCE, FAINT, "line-ew", "dot")}
        panels: dict[str, go.Figure] = {}
        for quantity, (name, y_title) in _PANELS.items():
            for network, title in _TITLES.items():
                shown = frame.loc[(frame["quantity"] == quantity) & (frame["network"] == network)]
                if network == "untrained" and not shown["n"].any():
                    continue
                if quantity == "radius":
                    shown = pd.concat([shown, self._chance()], ignore_index=True)
                drawn = layer_lines(shown, self.layers, y_title=y_title, styles=styles)
                panels[f"{name} of a class, {title}"] = drawn
        return stack(panels)

    def _chance(self) -> pd.DataFrame:
        clouds = int((self.counts >= max(self.points, 1)).sum(1).max())
        level = radius_of_chance(self.points, clouds) if self.points else np.nan
        values = {"value": level, "low": np.nan, "high": np.nan}
        return pd.DataFrame([{"series": CHANCE, "layer": layer, **values} for layer in self.layers])


@dataclasses.dataclass(frozen=True)
class ClassManifolds(LayerAnalysis):
    """Measure the dimension and radius of each class's cloud of features, layer by layer.

    It covers the training examples by given label, the clean ones, the noisy ones by given and by true label, and test
    examples, in the network as it is and before training. In a layer that memorizes, the noisy examples form clouds by
    given label that are small compared to their distance; in earlier layers, by true label.

    Both quantities are our own definitions, by second moments: the dimension is the participation ratio (Σλ)² / Σλ² of
    the eigenvalues of the class's covariance, and the radius is √Σλ over the distance of the class's centre from the
    mean of the centres. They are not the mean-field dimension and radius that Stephenson et al. measure, which weigh
    each direction by its part in the capacity of a linear classifier; no capacity is measured here.

    Dimension and radius depend on the number of points, so all clouds are cut to the size of the smallest class with at
    least `fewest` examples in any of these splits; smaller classes are left out. The corrected dimension does not
    depend on that number on average. Clouds with one common centre have a radius of √(n C / (C − 1)) for n points and C
    classes, which the figure shows.

    Attributes:
        points: the layers (see `LayerAnalysis`).
        pool: "none" or "mean" (see `LayerAnalysis`).
        per_class: most points of a cloud, drawn with the seed.
        fewest: smallest number of examples of a class with a cloud, at least 4.
        seed: seed of the draw.
    """

    name: ClassVar[str] = "class_manifolds"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "noise_mask", "test_labels"})
    cites: ClassVar[str] = "after Stephenson et al. 2021, arXiv 2105.14602"

    per_class: int = 50
    fewest: int = FEWEST_POINTS
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("fewest", self.fewest, FEWEST_POINTS)
        check_whole("per_class", self.per_class, self.fewest)

    def __call__(self, subject: Subject) -> ClassManifoldsResult:
        """Return dimensions and radii.

        Raises:
            MissingNeedError: no layer is named.
            UnknownNameError: there is no such point.
            ActivationError: a point does not fire, or holds numbers that are not finite.
        """
        asked = self.asked(subject)
        labelled, note = _labelled(subject.task)
        notes = [note]
        classes = subject.task.n_classes
        nothing = torch.zeros(classes, dtype=torch.long)
        counts = torch.stack(
            [torch.bincount(labelled[s][1], minlength=classes) if s in labelled else nothing for s in SPLITS]
        )
        enough = counts >= self.fewest
        points = min(self.per_class, int(counts[enough].min())) if enough.any() else 0
        if not enough.any():
            notes.append(f"no class has {self.fewest} examples")
        clouds = {split: self._clouds(*labelled[split], points) for split in labelled} if points else {}
        before, why = twin_subject(subject, "untrained")
        notes.append(why)
        found: list[dict[str, Geometry]] = []
        if clouds:
            ids = torch.cat([members.flatten() for _, members in clouds.values()]).unique()

            def geometry(_layer: str, held: Float[Tensor, "example feature"]) -> Geometry:
                return {
                    split: cloud_geometry(held, torch.searchsorted(ids, members))
                    for split, (present, members) in clouds.items()
                    if len(present)
                }

            networks = [subject] if before is None else [subject, before]
            found = [over_layers(network, asked, ids, geometry, self.pool)[0] for network in networks]
        layers = tuple(found[0]) if found else self.layers(subject)
        shape = len(BOTH), len(SPLITS), len(layers), len(QUANTITIES), classes
        value = torch.full(shape, torch.nan, dtype=torch.float64)
        for number, by_layer in enumerate(found):
            for place, by_split in enumerate(by_layer.values()):
                for split, figures in by_split.items():
                    value[number, SPLITS.index(split), place][:, clouds[split][0]] = figures
        return ClassManifoldsResult(layers, counts, points, value, "; ".join(filter(None, notes)))

    def _clouds(
        self, ids: Int[Tensor, " example"], labels: Int[Tensor, " example"], points: int
    ) -> tuple[Int[Tensor, " cloud"], Int[Tensor, "cloud point"]]:
        """Return the classes that have a cloud, and the examples of each."""
        present = (torch.bincount(labels) >= max(points, self.fewest)).nonzero().flatten()
        members = [some(ids[labels == label], points, self.seed) for label in present]
        return present, torch.stack(members) if members else ids.new_empty(0, points)


def _mean(values: Float[Tensor, " cloud"], power: int) -> dict[str, float]:
    """Return the power mean over clouds, with the interval of the mean of powers transformed back; the power is < 0."""
    found = across_runs((values**power).tolist()) if (values > 0).all() else None
    if found is None:
        # A cloud of one point has an infinite power.
        value = 0.0 if len(values) else np.nan
        return {"value": value, "low": value, "high": np.inf if len(values) else np.nan, "n": len(values)}

    def back(mean: float) -> float:
        return mean ** (1 / power) if mean > 0 else np.inf

    return {"value": back(found.value), "low": back(found.high), "high": back(found.low), "n": found.n}


def _labelled(task: Task) -> tuple[dict[str, tuple[Tensor, Tensor]], str]:
    """Return ids and labels of each split that has examples, and why there are not all."""
    ids = split_ids(task, "sources")
    note = "".join(f"{name} is empty" for name, own in ids.items() if not len(own))
    if "train" in ids:
        note = "it is not known which training labels are wrong"
    splits = [training_set(task, "sources"), *labelled_splits(task, "sources")]
    return {split.name: (split.ids, split.labels) for split in splits}, note
