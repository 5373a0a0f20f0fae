"""Accuracies of a probe at every layer of several networks: the table, their comparison, and the figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from mechmem.core.results import Result
from mechmem.core.stats import Estimate, wilson
from mechmem.core.storage import record
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.layers.features import INPUTS, NETWORKS, OUTPUT
from mechmem.math.comparisons import paired_difference, paired_ratio
from mechmem.plotting.layers import layers_figure
from mechmem.tasks.config import SPLITS

if TYPE_CHECKING:
    import plotly.graph_objects as go

FITTED = 0.9
"""A network fits its noise if it predicts at least this share of the given labels with noise."""

Twin = Literal["untrained", "clean_labels"]


@record
@dataclasses.dataclass(frozen=True, eq=False)
class LayerProbes(Result):
    """Accuracy of a probe at every layer, beside the inputs themselves and the network before training.

    Training examples are used without augmentation.

    Attributes:
        probe: the probe, without its layer.
        layers: the inputs first, then the requested layers.
        correct: correct predictions of the probe on the trained network, on the untrained one, and on the twin trained
            on true labels; −1 if missing. Shape (network, layer, split).
        both: examples that the probe predicts correctly both on the trained network and on the other one (untrained;
            clean-label twin). Shape (other, layer, split).
        output: correct predictions of the networks themselves; −1 if missing, and for the untrained one. Shape
            (network, split).
        n: examples of each split; 0 if it is empty or not known. Shape (split).
        noise_fit: share of the given labels with noise that the trained network predicts, on its training examples;
            None if no label is wrong, or it is not known which. If no more labels are correct than by chance, all
            labels count as noise.
        cross_validated: the probe's accuracy on held-out parts of the training set, by the labels it is fitted to; NaN
            if not measured. Shape (layer).
        chosen: the layer with the highest such accuracy, inputs excluded; "" if there is none.
        note: why there is no untrained network, or no choice, or "".
    """

    probe: str
    layers: tuple[str, ...]
    correct: Int[torch.Tensor, "network layer split"]
    both: Int[torch.Tensor, "other layer split"]
    output: Int[torch.Tensor, "network split"]
    n: Int[torch.Tensor, " split"]
    noise_fit: Estimate | None
    cross_validated: Float[torch.Tensor, " layer"]
    chosen: str
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per network, layer and split.

        Columns: network ("trained", "untrained"; "clean_labels" if requested; "none" for the inputs), layer
        ("output" for the network's own logits), split, n, accuracy, low, high (95 % Wilson interval), cross_validated
        (of the trained network) and chosen.
        """
        rows = []
        shown = [network for network in NETWORKS if network != "clean_labels" or self._has(network)]
        for network in shown:
            number = NETWORKS.index(network)
            for place, layer in enumerate(self.layers):
                if layer == INPUTS and network != "trained":
                    continue
                own = {"network": "none" if layer == INPUTS else network, "layer": layer}
                cv = float(self.cross_validated[place]) if network == "trained" else np.nan
                own |= {"cross_validated": cv, "chosen": network == "trained" and layer == self.chosen}
                rows += self._rows(own, self.correct[number, place])
        for network in shown:
            if network != "untrained":
                own = {"network": network, "layer": OUTPUT, "cross_validated": np.nan, "chosen": False}
                rows += self._rows(own, self.output[NETWORKS.index(network)])
        names = ["network", "layer", "split", "n", "accuracy", "low", "high", "cross_validated", "chosen"]
        return pd.DataFrame(rows, columns=names)

    def _has(self, network: str) -> bool:
        return bool((self.correct[NETWORKS.index(network), 1:] >= 0).any())

    def _rows(self, own: Mapping[str, object], correct: Int[torch.Tensor, " split"]) -> list[dict[str, object]]:
        rows = []
        for split, right, n in zip(SPLITS, correct.tolist(), self.n.tolist(), strict=True):
            found = wilson(right, n) if right >= 0 else None
            low, high, value = (np.nan,) * 3 if found is None else (found.low, found.high, found.value)
            rows.append({**own, "split": split, "n": n, "accuracy": value, "low": low, "high": high})
        return rows

    def table(self, split: str = "test") -> pd.DataFrame:
        """Return the accuracies of one split: a row per layer, a column per network, and cross_validated.

        Networks are trained, untrained and, if requested, clean_labels; the inputs are in the column trained.

        Raises:
            ConfigError: there is no such split.
        """
        frame = self._of(split)
        wide = frame.assign(network=frame["network"].replace("none", "trained"))
        wide = wide.pivot(index="layer", columns="network", values="accuracy").reindex([*self.layers, OUTPUT])
        wide = wide.reindex(columns=["trained", "untrained", *(["clean_labels"] if self._has("clean_labels") else [])])
        wide["cross_validated"] = [*self.cross_validated.tolist(), np.nan]
        return wide.rename_axis(columns=None)

    def benign_gap(self, split: str = "test") -> pd.DataFrame:
        """Return the effect of training on each layer: the probe's accuracy minus that before training.

        Columns: layer, trained, untrained (accuracies), gap = trained − untrained, low, high (95 % interval of the gap,
        paired because both predict the same examples), n, verdict. If the network fits its noise (`noise_fit` at least
        0.9), memorization is "benign" if the probe is above initialisation, "malign" if it is not, and "undecided" if
        the interval includes 0. Otherwise the verdict is "not fitted", or "no noise known" if no label is wrong or it
        is not known which.

        Raises:
            MissingNeedError: there is no untrained network.
            ConfigError: there is no such split.

        Source: Anagnostidis et al. 2023, arXiv 2210.14019.
        """
        frame = self._compared("untrained", split, paired_difference, "gap")
        if self.noise_fit is None or self.noise_fit.value < FITTED:
            return frame.assign(verdict="no noise known" if self.noise_fit is None else "not fitted")
        verdict = np.where(frame["low"] > 0, "benign", np.where(frame["high"] <= 0, "malign", "undecided"))
        return frame.assign(verdict=np.where(frame["gap"].isna(), "undecided", verdict))

    def clean_ratio(self, split: str = "test") -> pd.DataFrame:
        """Return, for each layer, the probe's accuracy divided by that on the twin trained on true labels.

        Columns: layer, trained, clean_labels (accuracies), ratio = trained / clean_labels, low, high (95 % interval of
        the ratio, paired because both predict the same examples), n.

        Raises:
            MissingNeedError: there is no such twin.
            ConfigError: there is no such split.
        """
        return self._compared("clean_labels", split, paired_ratio, "ratio")

    def _compared(
        self, twin: Twin, split: str, compare: Callable[[int, int, int, int], Estimate | None], name: str
    ) -> pd.DataFrame:
        self._of(split)
        if not self._has(twin):
            why = f": {self.note}" if self.note and twin == "untrained" else f"; pass {twin}="
            raise MissingNeedError(f"there is no {twin.replace('_', '-')} network to compare with{why}")
        at, number = SPLITS.index(split), NETWORKS.index(twin)
        n, rows = int(self.n[at]), []
        for place, layer in enumerate(self.layers):
            if layer == INPUTS:
                continue
            first, second = int(self.correct[0, place, at]), int(self.correct[number, place, at])
            known = min(first, second) >= 0 and n > 0
            found = compare(first, second, int(self.both[number - 1, place, at]), n) if known else None
            value, low, high = (np.nan,) * 3 if found is None else (found.value, found.low, found.high)
            own = {"layer": layer, "trained": first / n if known else np.nan, twin: second / n if known else np.nan}
            rows.append(own | {name: value, "low": low, "high": high, "n": n})
        return pd.DataFrame(rows, columns=["layer", "trained", twin, name, "low", "high", "n"])

    def _of(self, split: str) -> pd.DataFrame:
        if split not in SPLITS:
            raise ConfigError(f"split is one of {', '.join(SPLITS)}, got {split!r}")
        frame = self.to_frame()
        return frame.loc[frame["split"] == split]

    def plot(self, split: str = "test") -> go.Figure:
        """Return accuracy by layer on one split, and below it the gap to the network before training.

        The figure includes the inputs, the other networks and the networks' own outputs.

        Args:
            split: one of the four splits.

        Raises:
            ConfigError: there is no such split.
        """
        gap = self.benign_gap(split) if self._has("untrained") else None
        return layers_figure(self._of(split), self.layers, self.probe, split, gap, inputs=INPUTS, output=OUTPUT)
