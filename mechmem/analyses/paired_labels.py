"""Training on the same inputs with real and with random labels: speed of fitting, and memorization."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.analyses.measuring import check_of_one_state, described
from mechmem.core.arguments import checked
from mechmem.core.plugins import named
from mechmem.core.results import Result
from mechmem.core.scores import with_unit
from mechmem.core.stats import Estimate, proportion
from mechmem.core.storage import record
from mechmem.core.tables import Table
from mechmem.errors import ConfigError
from mechmem.math.comparisons import precedence
from mechmem.plotting.layout import stack
from mechmem.plotting.lines import lines
from mechmem.plotting.over_training import X_TITLE
from mechmem.plotting.style import SPLIT_STYLES, SplitStyle
from mechmem.training.config import TrainConfig
from mechmem.training.header import check_folder_of_runs
from mechmem.training.run import Run
from mechmem.training.train import train

if TYPE_CHECKING:
    import plotly.graph_objects as go

REAL, RANDOM = "real", "random"
STYLES = {
    REAL: dataclasses.replace(SPLIT_STYLES["train_clean"], title="real labels"),
    RANDOM: dataclasses.replace(SPLIT_STYLES["train_noisy"], title="random labels"),
}


@record
@dataclasses.dataclass(frozen=True, eq=False)
class RealAndRandom(Result):
    """Two networks of one config and seed, one trained on true labels and one on random ones.

    Attributes:
        score: name of the score measured for each training example at every checkpoint.
        unit: unit of the score, or "".
        distributions: columns labels ("real" or "random"), step, mean, q05, q25, q50, q75, q95, n.
        fitted: columns labels, step, value (share of the training set whose given label is predicted from this
            evaluation on), low, high (95 % Wilson interval), n.
        ids: the training examples. Shape (example).
        learned: step of the evaluation from which on the given label is predicted, infinite for never; with real and
            with random labels. Shape (2, example).
    """

    score: str
    unit: str
    distributions: Table
    fitted: Table
    ids: Int[Tensor, " example"]
    learned: Float[Tensor, "labels example"]

    def to_frame(self) -> pd.DataFrame:
        """Return the distributions, one row per kind of labels and checkpoint."""
        return self.distributions.frame()

    def precedence(self) -> Estimate:
        """Return the probability that an example with its real label is learned before one with a random label.

        A tie counts half. The interval is over the examples of these two networks.
        """
        found = precedence(self.learned[0].numpy(), self.learned[1].numpy())
        assert found is not None
        return found

    @property
    def verdict(self) -> str:
        """The labels learned first: "real first", "random first" or "undecided"."""
        found = self.precedence()
        return "real first" if found.low > 0.5 else "random first" if found.high < 0.5 else "undecided"

    def half_way(self) -> dict[str, Estimate]:
        """Return, for real and random labels, the median step at which an example is learned.

        The 95 % interval is that of the sign test; an end is infinite if there are too few examples, or too few are
        learned.
        """
        found = {}
        for name, values in zip((REAL, RANDOM), self.learned.numpy(), strict=True):
            interval = scipy.stats.quantile_test(values, p=0.5).confidence_interval(0.95)
            median = float(np.quantile(values, 0.5, method="inverted_cdf"))
            # A handful of examples bounds neither end.
            low = -math.inf if math.isnan(interval.low) else float(interval.low)
            high = math.inf if math.isnan(interval.high) else float(interval.high)
            found[name] = Estimate(median, low, high, len(values))
        return found

    def plot(self) -> go.Figure:
        """Return, over log steps, the share fitted, and the median of the score with its middle half."""
        fitted = self.fitted.frame().rename(columns={"step": "x", "labels": "series"})
        shown = self.distributions.frame().rename(columns={"step": "x", "labels": "series"})
        shown = shown.assign(value=shown["q50"], low=shown["q25"], high=shown["q75"])
        styles: dict[str, SplitStyle] = STYLES
        panels = {
            "given label predicted from here on": lines(
                fitted, x_title=X_TITLE, y_title="share of examples<br>(95 % interval)", styles=styles, log_x=True
            ),
            with_unit(f"{self.score} of training examples", self.unit): lines(
                shown, x_title=X_TITLE, y_title="median (band: middle<br>half of examples)", styles=styles, log_x=True
            ),
        }
        return stack(panels)


@checked
def real_and_random(
    config: TrainConfig,
    *,
    score: str = "loss",
    out: str | Path | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> RealAndRandom:
    """Train a config on true labels and on random labels, and measure both over training.

    Inputs, split, initialisation, order and number of steps are the same; every random label is uniform over all
    classes (Liu, Lin & Jaggi 2021, arXiv 2112.08798). For both kinds of label in one training set see `fitting_order`.

        mm.real_and_random(config).plot()

    Args:
        config: config of both networks; the noise of its task is replaced.
        score: score of each training example to measure at every checkpoint, e.g. "self_influence".
        out: folder for the two runs, "real" and "random"; None for temporary ones.
        device: device to train on.
        progress: whether to show bars.

    Raises:
        ConfigError: `config` is not a `TrainConfig`, or the score reads or trains whole runs.
        MissingNeedError: the task has no labels to replace, or the networks lack what the score needs.
        UnknownNameError: there is no such score.
        RunDirectoryError: `out` holds runs of another config.
    """
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"real_and_random takes an mm.TrainConfig, got a {type(config).__name__}")
    if out is not None:
        check_folder_of_runs(out)
    measured = named("example_scores", score)
    check_of_one_state(measured)
    tasks = {REAL: config.task.clean_labels(), RANDOM: config.task.noise_only()}
    distributions, fitted, learned = [], [], []
    ids = torch.empty(0, dtype=torch.long)
    for labels, task in tasks.items():
        where = None if out is None else Path(out) / labels
        chosen = dataclasses.replace(config, task=task, stop_when="")
        subject = train(chosen, out=where, device=device, progress=progress, title=f"{labels} labels")
        ids = subject.task.sources
        run = subject.run
        assert isinstance(run, Run)
        for step in run.checkpoint_steps():
            then = measured(subject.with_model(run.model_at(step).to(device)))
            distributions.append({"labels": labels, "step": step, **described(then.values)})
        learned.append(named("example_scores", "learning_speed")(subject).values)
        fitted += [_share(labels, step, learned[-1]) for step in run.history()["step"]]
    return RealAndRandom(
        measured.label(),
        measured.unit,
        Table.of(pd.DataFrame(distributions).drop(columns="reason")),
        Table.of(pd.DataFrame(fitted)),
        ids,
        torch.stack(learned),
    )


def _share(labels: str, step: int, learned: Float[Tensor, " example"]) -> dict[str, object]:
    found = proportion(learned <= step)
    assert found is not None
    return {"labels": labels, "step": int(step), **dataclasses.asdict(found)}
