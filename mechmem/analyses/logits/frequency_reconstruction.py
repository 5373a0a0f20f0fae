"""Logits rebuilt from few Fourier modes: restricted and excluded loss, and accuracy by number of modes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_fraction, check_number
from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.stats import Estimate, proportion
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.math.comparisons import means_over_answers
from mechmem.math.reconstruction import ModeRanking, Scored, key_frequencies, score_families, score_modes
from mechmem.models.reading.forward import all_logits
from mechmem.models.reading.grid import labelled_cells, logit_energy, logit_parts
from mechmem.plotting.logits import reconstruction_figure
from mechmem.tasks.grid import answer_sign, grid_rows
from mechmem.tasks.splits import labelled_splits

if TYPE_CHECKING:
    import plotly.graph_objects as go


@record
@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """Accuracy and loss of one reconstruction on one split.

    Attributes:
        family: "diagonal" or "energy_ranked" (the constant and the strongest modes of that family), "restricted" (the
            constant and the key frequencies), "excluded" (all but the key frequencies) or "network".
        modes: number of modes kept, a mode and its conjugate counted as one (removed ones for "excluded"; all of the
            grid's for "network").
        split: one of the four splits; "train_noisy" is measured against the given labels, the others against the true.
        accuracy: share of the cells where the label has the highest logit, with a Wilson interval.
        loss: mean cross-entropy in nats, with a bootstrap interval over answers.
    """

    family: str
    modes: int
    split: str
    accuracy: Estimate
    loss: Estimate


@record
@dataclasses.dataclass(frozen=True, eq=False)
class FrequencyReconstructionResult(Result):
    """Energies on the rule's diagonal, the key frequencies, and every reconstruction on every split.

    Attributes:
        energy: energy of the logits' modes (±k, k), k = 1 … n // 2, in squared logit units, summed over classes after
            subtracting each cell's mean over classes. Shape (freq).
        background: median energy of the modes that are neither additive nor on the diagonal, in the same units.
        threshold: energy above which a frequency is a key frequency (half of it for the Nyquist frequency, which has
            one direction instead of two).
        key: the key frequencies, numbered from 1. Shape (key).
        rebuilt: one entry per reconstruction and split that has cells on the grid.
        n_outside: cells of the task outside the grid (a factor of 0 under multiplication), which are not counted.
        chance: accuracy of a blind guess.
    """

    energy: Float[Tensor, " freq"]
    background: float
    threshold: float
    key: Int[Tensor, " key"]
    rebuilt: tuple[Rebuilt, ...]
    n_outside: int
    chance: float

    def losses(self, family: str) -> dict[str, Estimate]:
        """Return the losses of "restricted", "excluded" or "network" by split, in nats."""
        return {each.split: each.loss for each in self.rebuilt if each.family == family}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per reconstruction and split: accuracy and loss (nats), each with low and high, and n."""
        rows = [
            {
                **{"family": each.family, "modes": each.modes, "split": each.split},
                **{"accuracy": each.accuracy.value, "accuracy_low": each.accuracy.low},
                **{"accuracy_high": each.accuracy.high, "loss": each.loss.value, "loss_low": each.loss.low},
                **{"loss_high": each.loss.high, "n": each.accuracy.n},
            }
            for each in self.rebuilt
        ]
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return accuracy against the number of modes for both families, and below it the three losses per split."""
        return reconstruction_figure(self.to_frame(), len(self.key), len(self.energy), self.chance)


@dataclasses.dataclass(frozen=True)
class FrequencyReconstruction(Analysis):
    """Rebuild the logits on the grid from the modes that a rule of the task's operation would use, and from the rest.

    Per class, the two directions of frequency k are cos and sin of 2πk(a ∘ b)/n over the group's positions: for
    addition (cos·cos − sin·sin)/√2 and (sin·cos + cos·sin)/√2 of the orthonormal real basis. Every frequency counts,
    including the top one; the Nyquist frequency of an even n has one direction. Cross-frequency terms are never kept.
    *Restricted* logits are the constant and the directions of the key frequencies; *excluded* logits are all but those
    directions; on training cells they show how much of the fit the rule carries (Nanda et al., arXiv 2301.05217). All
    projections and losses are in float64.

    For a key frequency, the energy of its two directions, summed over classes, is more than `multiple` times the median
    energy of the modes that are neither additive nor on the diagonal, and its norm is at least `relative` times the
    strongest's. This uses no labels. Without key frequencies the restricted logits are constant. The directions are
    means over training cells too, so on test the reconstruction recovers whatever a vote of the labels would.

    Attributes:
        multiple: smallest ratio of a key frequency's energy to the background's median.
        relative: smallest ratio of a key frequency's norm to the strongest's.
    """

    name: ClassVar[str] = "frequency_reconstruction"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "operation"})
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "input_group", "slopes", "operation", "test_inputs", "given_labels", "true_train_labels"}
        | {"noise_mask", "test_labels"}
    )
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217; Liu & Lu 2026, arXiv 2605.18022"

    multiple: float = 10.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        check_number("multiple of the background's energy", self.multiple, above=0)
        check_fraction("share of the strongest frequency's norm", self.relative)

    def __call__(self, subject: Subject) -> FrequencyReconstructionResult:
        """Return the reconstructions.

        Raises:
            MissingNeedError: the subject lacks something, or no split has a cell on the grid.
        """
        self.require(subject)
        task, logits = subject.task, all_logits(subject)
        rows, sign, parts = grid_rows(task), answer_sign(task), logit_parts(subject)
        energy = logit_energy(subject, centred=True)
        found = key_frequencies(energy, sign, self.multiple, self.relative)
        ranking = ModeRanking.of(logits, rows, parts, energy, sign)
        rebuilt: list[Rebuilt] = []
        for split in labelled_splits(task):
            cells = labelled_cells(subject, split)
            if cells is None:
                continue
            scored = score_families(logits, cells, parts, found.key) + score_modes(ranking, cells)
            truth = task.true(task.ids[cells.rows])
            assert truth is not None
            losses = means_over_answers(torch.stack([each.loss for each in scored]).numpy(), truth.numpy())
            rebuilt += [_rebuilt(split.name, *each) for each in zip(scored, losses, strict=True)]
        if not rebuilt:
            raise MissingNeedError(f"{self.name!r} needs a split with known labels on the grid of the group")
        rebuilt.sort(key=lambda each: (_ORDER.index(each.family), each.modes))
        return FrequencyReconstructionResult(
            energy=found.energy,
            background=found.background,
            threshold=found.threshold,
            key=found.key,
            rebuilt=tuple(rebuilt),
            n_outside=len(task.ids) - rows.numel(),
            chance=1 / task.n_classes,
        )


_ORDER = ("network", "restricted", "excluded", "diagonal", "energy_ranked")


def _rebuilt(split: str, scored: Scored, loss: Estimate) -> Rebuilt:
    accuracy = proportion(scored.hit)
    assert accuracy is not None
    return Rebuilt(scored.family, scored.modes, split, accuracy, loss)
