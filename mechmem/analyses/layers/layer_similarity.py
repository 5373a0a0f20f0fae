"""Similarity of a network's layers to each other, to those before training and to those of a clean-label twin."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_whole
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, unknown_name
from mechmem.layers.analysis import LayerAnalysis, some
from mechmem.layers.features import NETWORKS, over_layers
from mechmem.math.representations import FEWEST_EXAMPLES, centred_gram, cka_of_grams
from mechmem.models.reading.twins import twin_subject
from mechmem.plotting.layers import NETWORK_STYLES, layer_lines, short
from mechmem.plotting.matrices import Panel, heatmaps
from mechmem.plotting.style import SPLIT_STYLES, SplitStyle
from mechmem.tasks.splits import split_ids

if TYPE_CHECKING:
    import plotly.graph_objects as go

SPLITS = ("train", "test")
ITSELF, UNTRAINED, CLEAN = OTHERS = ("itself", *NETWORKS[1:])
"""Networks that a network's layers are compared with: itself, before training, and its twin on true labels."""

STYLES = {
    CLEAN: SplitStyle("trained on true labels", SPLIT_STYLES["train_clean"].color, "square", "solid"),
    UNTRAINED: NETWORK_STYLES[UNTRAINED],
}
_TITLES = {ITSELF: "the network itself", UNTRAINED: "before training", CLEAN: "trained on true labels"}
_SPLIT_TITLES = {"train": "training examples", "test": "test examples"}

Grams = dict[str, dict[str, Tensor]]


@record
@dataclasses.dataclass(frozen=True, eq=False)
class LayerSimilarityResult(Result):
    """Linear centred kernel alignment (CKA) of the network's layers with those of itself and its twins.

    Attributes:
        layers: the layers.
        n: number of examples used from "train" (without augmentation) and "test". Shape (split).
        value: the CKA of each of the network's layers with each layer of "itself", "untrained" and "clean_labels"; NaN
            if there is no such twin, too few examples, or a layer is constant over them. Shape (split, other, layer,
            other_layer).
        debiased: whether HSIC is estimated without bias; CKA may then be negative.
        note: what is missing and why, or "".
    """

    layers: tuple[str, ...]
    n: Int[Tensor, " split"]
    value: Float[Tensor, "split other layer other_layer"]
    debiased: bool
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return the CKA of each layer with the same layer of a twin: split, other, layer, value, n."""
        rows = [
            {"split": split, "other": other, "layer": layer, "value": float(value), "n": int(self.n[number])}
            for number, split in enumerate(SPLITS)
            for place, other in enumerate(OTHERS)
            for layer, value in zip(self.layers, self.value[number, place].diagonal(), strict=True)
            if other != ITSELF
        ]
        return pd.DataFrame(rows)

    def matrix(self, other: str = CLEAN, split: str = "test") -> pd.DataFrame:
        """Return the CKA of every layer (rows) with every layer of another network (columns).

        Args:
            other: "itself", "untrained" or "clean_labels".
            split: "train" or "test".

        Raises:
            UnknownNameError: there is no such network or split.
        """
        for kind, name, known in (("network", other, OTHERS), ("split", split, SPLITS)):
            if name not in known:
                raise unknown_name(kind, name, known)
        values = self.value[SPLITS.index(split), OTHERS.index(other)].numpy()
        return pd.DataFrame(values, index=list(self.layers), columns=list(self.layers))

    def plot(self, kind: Literal["lines", "heatmap"] = "lines", split: str = "test") -> go.Figure:
        """Return the CKA of each layer with the same layer of the twins, or of every pair of layers.

        Args:
            kind: "lines", on training and on test examples; or "heatmap", on one split.
            split: "train" or "test"; for heatmaps.

        Raises:
            ConfigError: there is no such kind.
            UnknownNameError: there is no such split.
        """
        if kind not in ("lines", "heatmap"):
            raise ConfigError(f"kind must be 'lines' or 'heatmap', got {kind!r}")
        if kind == "lines":
            frame = self.to_frame().rename(columns={"other": "series"})
            frame["panel"] = [_SPLIT_TITLES[split] for split in frame["split"]]
            figure = layer_lines(frame, self.layers, y_title="CKA with the same layer", styles=STYLES)
            return figure.update_yaxes(range=[float(np.nanmin([*frame["value"], 0])) - 0.04, 1.04])
        places = np.arange(1, len(self.layers) + 1)
        shown = {other: self.matrix(other, split).to_numpy() for other in OTHERS}
        panels = [
            Panel(_TITLES[other], values, places, places)
            for other, values in shown.items()
            if other == ITSELF or np.isfinite(values).any()
        ]
        hover = "layer %{y} with layer %{x}: %{z:.3f}<extra></extra>"
        y_title = f"layer, on {_SPLIT_TITLES[split]}"
        figure = heatmaps(panels, x_title="layer of", y_title=y_title, z_title="CKA", hover=hover)
        figure.update_xaxes(title_text="layer of the other network", tickvals=places)
        return figure.update_yaxes(tickvals=places, ticktext=short(self.layers), col=1).update_yaxes(tickvals=places)


@dataclasses.dataclass(frozen=True)
class LayerSimilarity(LayerAnalysis):
    """Compare layers with those before training and those of a twin trained on true labels, by linear CKA.

    The twin with true labels has the network's config and initialisation; the subject's retrainer makes it, and may
    have to train it. Anagnostidis et al. 2023 claim that wrong labels hardly change the layers before the last: a CKA
    near 1 with that twin up to some layer, and lower after it.

    Attributes:
        points: the layers (see `LayerAnalysis`).
        pool: "none" or "mean" (see `LayerAnalysis`).
        debiased: whether HSIC is estimated without bias. With bias, unrelated layers with more features than examples
            look alike too.
        limit: most training and most test examples, drawn with the seed; the memory per layer grows with the square of
            their number, 8 MB for 1000.
        seed: seed of the draw.
    """

    name: ClassVar[str] = "layer_similarity"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "noise_mask"})
    cites: ClassVar[str] = "Kornblith et al. 2019, arXiv 1905.00414; Anagnostidis et al. 2023, arXiv 2210.14019"

    debiased: bool = True
    limit: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("limit", self.limit, FEWEST_EXAMPLES[True])
        if not isinstance(self.debiased, bool):
            raise ConfigError(f"debiased must be True or False, got {self.debiased!r}")

    def __call__(self, subject: Subject) -> LayerSimilarityResult:
        """Return the similarities. The retrainer may train the clean-label twin.

        Raises:
            MissingNeedError: no layer is named.
            UnknownNameError: there is no such point.
            ActivationError: a point does not fire, or holds numbers that are not finite.
        """
        return self.for_run(subject)(subject)

    def for_run(self, subject: Subject) -> Callable[[Subject], LayerSimilarityResult]:
        """Return a function that measures a checkpoint against twins that are made once.

        Raises:
            MissingNeedError: no layer is named.
            UnknownNameError: there is no such point.
            ActivationError: a point does not fire, or holds numbers that are not finite.
        """
        points = self.asked(subject)
        twins, notes = _twins(subject)
        sources = {"train": subject.task.sources, "test": subject.task.test_ids}
        ids = {split: some(found, self.limit, self.seed) for split, found in sources.items()}
        usable = {split: found for split, found in ids.items() if len(found) >= FEWEST_EXAMPLES[self.debiased]}
        notes += [f"{split} has {len(ids[split])} examples, too few" for split in ids if split not in usable]
        others = {name: self._grams(twin, points, usable) for name, twin in twins.items()}

        def measure(then: Subject) -> LayerSimilarityResult:
            own = self._grams(then, points, usable)
            layers = tuple(next(iter(own.values()))) if own else self.layers(then)
            shape = len(SPLITS), len(OTHERS), len(layers), len(layers)
            value = torch.full(shape, torch.nan, dtype=torch.float64)
            for other, grams in {ITSELF: own, **others}.items():
                for split in usable:
                    found = cka_of_grams(list(own[split].values()), list(grams[split].values()))
                    value[SPLITS.index(split), OTHERS.index(other)] = found
            n = torch.tensor([len(ids[split]) for split in SPLITS])
            return LayerSimilarityResult(layers, n, value, self.debiased, "; ".join(notes))

        return measure

    def _grams(self, subject: Subject, points: Sequence[str], ids: Mapping[str, Tensor]) -> Grams:
        def gram(_layer: str, held: Float[Tensor, "example feature"]) -> Float[Tensor, "example example"]:
            return centred_gram(held, debiased=self.debiased)

        return {split: over_layers(subject, points, found, gram, self.pool)[0] for split, found in ids.items()}


def _twins(subject: Subject) -> tuple[dict[str, Subject], list[str]]:
    """Return the available twins, and why others are missing."""
    before, why = twin_subject(subject, UNTRAINED)
    noisy = split_ids(subject.task, "sources").get("train_noisy")
    if noisy is not None and not len(noisy):
        clean, why_clean = None, "no clean-label twin: no training label is wrong, and it would be this network"
    else:
        clean, why_clean = twin_subject(subject, CLEAN)
    twins = {name: twin for name, twin in ((UNTRAINED, before), (CLEAN, clean)) if twin is not None}
    return twins, [reason for reason in (why, why_clean) if reason]
