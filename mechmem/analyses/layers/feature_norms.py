"""Norms of each layer's features on clean, wrongly labelled and test examples."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.results import Result
from mechmem.core.stats import across_runs
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.layers.analysis import LayerAnalysis
from mechmem.layers.features import over_layers
from mechmem.math.blocks import blocks
from mechmem.math.comparisons import ratio_of_means
from mechmem.plotting.layers import layer_lines
from mechmem.tasks.splits import split_ids

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROWS = 2048
"""Examples whose features are in memory at once."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class FeatureNormsResult(Result):
    """The Euclidean norm of each layer's features, example by example. All intervals are over examples.

    Attributes:
        layers: the layers.
        features: number of features of each layer. Shape (layer).
        splits: the splits: "train_clean", "train_noisy" and "test", or "train" and "test" if the wrong labels are not
            known.
        ids: the examples, training ones first. Shape (example).
        split: number of each example's split. Shape (example).
        norm: the norms, in the layer's own units. Shape (layer, example).
    """

    layers: tuple[str, ...]
    features: Int[Tensor, " layer"]
    splits: tuple[str, ...]
    ids: Int[Tensor, " example"]
    split: Int[Tensor, " example"]
    norm: Float[Tensor, "layer example"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer and split.

        Columns: layer, split, n, norm (mean over examples), low, high (95 % Student interval of the mean), std (over
        examples), relative (norm over the mean of all training examples), features (number of features: norm /
        √features is nearly their root mean square). NaN if a split is empty, or the training mean is 0.
        """
        rows: list[dict[str, object]] = []
        trained = self._trained()
        for number, layer in enumerate(self.layers):
            whole = float(self.norm[number][trained].mean())
            for place, split in enumerate(self.splits):
                norms = self.norm[number][self.split == place].numpy()
                found = across_runs(norms.tolist())
                value, low, high = (np.nan,) * 3 if found is None else (found.value, found.low, found.high)
                row = {"layer": layer, "split": split, "n": len(norms), "norm": value, "low": low, "high": high}
                row["std"] = norms.std(ddof=1) if len(norms) > 1 else np.nan
                row["relative"] = value / whole if whole > 0 else np.nan
                rows.append({**row, "features": int(self.features[number])})
        return pd.DataFrame(rows)

    def ratios(self) -> pd.DataFrame:
        """Return ratios of mean norms, one row per layer and ratio: layer, ratio, value, low, high, n.

        The ratios are "train_noisy / train_clean" and "test / train_clean", or "test / train"; the 95 % interval is for
        two independent means (see `ratio_of_means`). NaN if a split is empty, or a mean is 0.
        """
        first, *others = self.splits
        rows: list[dict[str, object]] = []
        for number, layer in enumerate(self.layers):
            by_split = {name: self.norm[number][self.split == place] for place, name in enumerate(self.splits)}
            for other in others:
                found = ratio_of_means(by_split[other], by_split[first])
                n = len(by_split[other]) + len(by_split[first])
                figures = {"value": np.nan, "low": np.nan, "high": np.nan, "n": n}
                figures |= {} if found is None else dataclasses.asdict(found)
                rows.append({"layer": layer, "ratio": f"{other} / {first}", **figures})
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return each split's mean norm by layer, over the mean of all training examples."""
        frame = self.to_frame().rename(columns={"split": "series", "relative": "value"})
        whole = frame["norm"] / frame["value"]
        frame["low"], frame["high"] = frame["low"] / whole, frame["high"] / whole
        y_title = "mean norm, relative to the<br>training examples' (95 % interval)"
        return layer_lines(frame, self.layers, y_title=y_title)

    def _trained(self) -> Tensor:
        return self.split != self.splits.index("test")


@dataclasses.dataclass(frozen=True)
class FeatureNorms(LayerAnalysis):
    """Measure the norms of each layer's features on clean, wrongly labelled and test examples.

    Attributes:
        points: the layers (see `LayerAnalysis`).
        pool: "none" or "mean" (see `LayerAnalysis`).
    """

    name: ClassVar[str] = "feature_norms"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "noise_mask"})
    cites: ClassVar[str] = "mechmem"

    def __call__(self, subject: Subject) -> FeatureNormsResult:
        """Return the norms.

        Raises:
            MissingNeedError: no layer is named.
            UnknownNameError: there is no such point.
            ActivationError: a point does not fire, or holds numbers that are not finite.
        """
        points, splits = self.asked(subject), split_ids(subject.task, "sources")
        ids = torch.cat(list(splits.values()))
        parts = [over_layers(subject, points, ids[block], _norms, self.pool)[0] for block in blocks(len(ids), ROWS)]
        sizes = torch.tensor([len(members) for members in splits.values()])
        return FeatureNormsResult(
            layers=tuple(parts[0]),
            features=torch.tensor([width for _, width in parts[0].values()]),
            splits=tuple(splits),
            ids=ids,
            split=torch.repeat_interleave(torch.arange(len(splits)), sizes),
            norm=torch.stack([torch.cat([part[layer][0] for part in parts]) for layer in parts[0]]),
        )


def _norms(_layer: str, held: Float[Tensor, "example feature"]) -> tuple[Float[Tensor, " example"], int]:
    """Return the norms, and how many numbers the layer holds of an example."""
    return torch.linalg.vector_norm(held, dim=1, dtype=torch.float64), held.shape[1]
