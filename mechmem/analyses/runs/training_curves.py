"""The run's history on the four splits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.plotting.lines import lines
from mechmem.tasks.config import SPLITS

if TYPE_CHECKING:
    import plotly.graph_objects as go


@record
@dataclasses.dataclass(frozen=True, eq=False)
class TrainingHistory(Result):
    """Accuracies and losses at every evaluation of a run.

    Attributes:
        step: optimisation step of each evaluation. Shape (evaluation).
        accuracy: accuracy in [0, 1] on train_clean, train_noisy, train_noisy_true, test; NaN if a split is empty or not
            known. Shape (split, evaluation).
        loss: mean cross-entropy in nats, likewise. Shape (split, evaluation).
        chance: accuracy of a blind guess, 1 / classes.
    """

    step: Int[Tensor, " evaluation"]
    accuracy: Float[Tensor, "split evaluation"]
    loss: Float[Tensor, "split evaluation"]
    chance: float

    def to_frame(self) -> pd.DataFrame:
        """Return one row per split and evaluation: step, split, accuracy, loss."""
        return pd.DataFrame(
            {
                "step": repeat(self.step, "evaluation -> (split evaluation)", split=len(SPLITS)).numpy(),
                "split": np.repeat(SPLITS, len(self.step)),
                "accuracy": rearrange(self.accuracy, "split evaluation -> (split evaluation)").numpy(),
                "loss": rearrange(self.loss, "split evaluation -> (split evaluation)").numpy(),
            }
        )

    def plot(self) -> go.Figure:
        """Return the accuracies over log steps."""
        frame = self.to_frame().rename(columns={"step": "x", "split": "series", "accuracy": "value"})
        x_title = "training step (log scale)"
        return lines(frame, x_title=x_title, y_title="accuracy", log_x=True, chance=self.chance)


@dataclasses.dataclass(frozen=True)
class TrainingCurves(Analysis):
    """Read the accuracies and losses on the four splits from the run's history.

    It shows whether the wrong or the correct labels are fitted first, and when the test accuracy moves.
    """

    name: ClassVar[str] = "training_curves"
    needs: ClassVar[frozenset[str]] = frozenset({"run"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "noise_mask", "test_labels"})
    cites: ClassVar[str] = "mechmem"

    def __call__(self, subject: Subject) -> TrainingHistory:
        """Return the history."""
        self.require(subject)
        assert subject.run is not None
        history = subject.run.history()
        # A split without examples is null in every line, so pandas cannot infer its type.
        columns = [*SPLITS, *(f"{split}_loss" for split in SPLITS)]
        table = torch.from_numpy(history.reindex(columns=columns).to_numpy(dtype=np.float64, na_value=np.nan).T.copy())
        return TrainingHistory(
            step=torch.from_numpy(history["step"].to_numpy(np.int64, copy=True)),
            accuracy=table[: len(SPLITS)].clone(),
            loss=table[len(SPLITS) :].clone(),
            chance=1 / subject.task.n_classes,
        )
