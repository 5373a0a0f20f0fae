"""Detection of wrong labels by scores of examples, compared with the loss."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from mechmem.core.arguments import checked
from mechmem.core.config import check_whole
from mechmem.core.randomness import derive_seed
from mechmem.core.results import Result
from mechmem.core.stats import check_resamples
from mechmem.core.storage import record
from mechmem.core.tables import Table
from mechmem.errors import MissingNeedError
from mechmem.examples.table import BASELINE, ExampleTable
from mechmem.math.detection import FIGURES, detection_figures
from mechmem.plotting.bars import dots

if TYPE_CHECKING:
    import plotly.graph_objects as go

TITLES = {"auroc": "area under the ROC curve", "ap": "average precision", "precision": "precision at the noise rate"}


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Detection(Result):
    """Success of scores at finding wrongly labelled examples.

    Attributes:
        table: one row per score and figure (see `to_frame`).
        noisy: number of wrong labels.
        n: number of examples.
        chance: figure of a random score: ½ for the area, the share of wrong labels for the others.
    """

    table: Table
    noisy: int
    n: int
    chance: dict[str, float]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per score and figure: score, figure, value, low, high, loss, more, more_low, more_high.

        The figures: "auroc"; "ap", average precision; "precision", the share of wrong labels among the most suspect
        examples, as many as there are wrong labels. `loss` is the figure of the network's plain loss, `more` the
        score's figure minus that. All intervals are 95 % percentile bootstrap over the examples of this training set,
        the same resamples for the score and the loss; they do not cover other training runs.
        """
        return self.table.frame()

    def plot(self) -> go.Figure:
        """Return each figure of each score, with the loss and chance as lines."""
        frame = self.to_frame().rename(columns={"score": "row", "figure": "panel"})
        frame["panel"] = [TITLES[name] for name in frame["panel"]]
        lines = {
            "loss": {TITLES[name]: self._of_loss(name) for name in FIGURES},
            "chance": {TITLES[name]: self.chance[name] for name in FIGURES},
        }
        return dots(frame, lines, x_title="95 % interval<br>over examples")

    def _of_loss(self, name: str) -> float:
        frame = self.to_frame()
        return float(frame.loc[frame["figure"] == name, BASELINE].iloc[0])


@checked
def detect_label_noise(table: ExampleTable, *, resamples: int = 1000, seed: int = 0) -> Detection:
    """Measure how well each score finds the wrong labels. The score, not the outcome, fixes which end is suspect.

        table = mm.example_scores(network, ["margin", "learning_speed"])
        mm.detect_label_noise(table).plot()

    Args:
        table: the scores.
        resamples: number of bootstrap resamples; at least 2.
        seed: seed of the resampling.

    Raises:
        ConfigError: the number of resamples or the seed is not allowed.
        MissingNeedError: the wrong labels are not known, or all or none of the labels are wrong.
    """
    check_resamples(resamples)
    check_whole("seed", seed, 0)
    if table.true is None:
        raise MissingNeedError("detection needs to know which labels are wrong")
    wanted = (table.true != table.given).numpy()
    if not wanted.any() or wanted.all():
        kind = "is wrong" if not wanted.any() else "is correct"
        raise MissingNeedError(f"detection needs wrong and correct labels, and no label {kind}")
    n = len(wanted)
    draw = np.random.default_rng(derive_seed(seed, "detection"))
    weights = np.concatenate([np.ones((1, n)), draw.multinomial(n, np.full(n, 1 / n), size=resamples)])
    found = {
        name: detection_figures(_suspicion(each.suspicion), wanted, weights) for name, each in table.scores.items()
    }
    rows = [
        {"score": name, "figure": figure, **_row(values[:, number], found[BASELINE][:, number])}
        for name, values in found.items()
        for number, figure in enumerate(FIGURES)
    ]
    share = float(wanted.mean())
    chance = {"auroc": 0.5, "ap": share, "precision": share}
    return Detection(Table.of(pd.DataFrame(rows)), int(wanted.sum()), n, chance)


def found_or_reason(table: ExampleTable) -> tuple[Detection | None, str]:
    """Return the detection and "", or None and the reason."""
    try:
        return detect_label_noise(table), ""
    except MissingNeedError as error:
        return None, str(error)


def below_chance(table: ExampleTable, name: str) -> str:
    """Return a remark on a score by whose order correct labels come before wrong ones, or "".

    An order "from the most suspect on" needs this remark wherever it is shown: by such a score it is the wrong way
    round. There is none if the wrong labels are not known.
    """
    if table.true is None:
        return ""
    wanted = (table.true != table.given).numpy()
    scores = _suspicion(table[name].suspicion)
    area = float(detection_figures(scores, wanted, np.ones((1, len(wanted))))[0, FIGURES.index("auroc")])
    if not area < 0.5:  # NaN without both kinds of label
        return ""
    return f"AUROC {area:.3f}, below chance: this score puts correct labels before wrong ones here"


def _suspicion(values: Tensor) -> Float[np.ndarray, " example"]:
    return values.double().numpy()


def _row(values: Float[np.ndarray, " resample"], loss: Float[np.ndarray, " resample"]) -> dict[str, float]:
    more = values - loss
    # A resample without wrong labels, or without correct ones, has no figure.
    known = [each[1:][np.isfinite(each[1:])] for each in (values, more)]
    ends = [np.quantile(each, [0.025, 0.975]) if len(each) else (math.nan, math.nan) for each in known]
    return {
        "value": float(values[0]),
        "low": float(ends[0][0]),
        "high": float(ends[0][1]),
        BASELINE: float(loss[0]),
        "more": float(more[0]),
        "more_low": float(ends[1][0]),
        "more_high": float(ends[1][1]),
    }
