"""Restricted and excluded loss, concentration in frequency, and weight norm of one network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.analyses.logits.embedding_spectrum import matrix_spectrum
from mechmem.core.config import check_fraction, check_number, check_whole
from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.stats import Estimate, proportion
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.comparisons import means_over_answers
from mechmem.math.reconstruction import FAMILIES, key_frequencies, score_families
from mechmem.models.hooks.running import device_of
from mechmem.models.reading.forward import all_logits
from mechmem.models.reading.grid import labelled_cells, logit_energy, logit_parts
from mechmem.models.reading.weights import symbol_matrices
from mechmem.plotting.progress import measures_figure
from mechmem.tasks.grid import answer_sign, cyclic_group
from mechmem.tasks.splits import LabelledSplit, labelled_splits, training_set

if TYPE_CHECKING:
    import plotly.graph_objects as go

NETWORK = "network"
"""Value of the column `split` for measures that belong to no split."""


@record
@dataclasses.dataclass(frozen=True)
class SplitProgress:
    """Loss and accuracy of the three sets of logits on one split.

    Attributes:
        split: "train" (all training examples, given labels) or one of the four splits ("train_noisy" against the given
            labels, the others against the true).
        loss: mean cross-entropy in nats, by the names "network", "restricted" and "excluded", with bootstrap intervals
            over answers.
        accuracy: share of the cells where the label has the highest logit, likewise, with Wilson intervals.
    """

    split: str
    loss: dict[str, Estimate]
    accuracy: dict[str, Estimate]


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ProgressMeasuresResult(Result):
    """The progress measures of one network.

    Attributes:
        key: the key frequencies, numbered from 1. Shape (key).
        key_source: where they come from: "given", "this network", or "the run's last checkpoint (step N)".
        splits: the losses and accuracies on each split that has cells on the grid of the group.
        gini: Gini coefficient of each matrix over the symbols (see `embedding_spectrum`), by name.
        random_gini: the same of random matrices, with the range of 95 % of them.
        squared_weights: sum of the squares of all parameters.
        n_outside: cells of the task outside the grid (a factor of 0 under multiplication), which are not counted.
    """

    key: Int[Tensor, " key"]
    key_source: str
    splits: tuple[SplitProgress, ...]
    gini: dict[str, float]
    random_gini: dict[str, Estimate]
    squared_weights: float
    n_outside: int

    def split(self, name: str) -> SplitProgress:
        """Return the measures on a split.

        Raises:
            KeyError: there is no such split, or it has no cell on the grid.
        """
        return {each.split: each for each in self.splits}[name]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per split, and one for the measures that belong to none (split "network"); NaN where missing.

        Columns: split, loss, restricted_loss, excluded_loss (nats), accuracy, restricted_accuracy, excluded_accuracy,
        gini_MATRIX for each matrix, squared_weights.
        """
        rows = []
        for each in self.splits:
            row: dict[str, object] = {"split": each.split}
            for measure, found in (("loss", each.loss), ("accuracy", each.accuracy)):
                row |= {_column(family, measure): found[family].value for family in FAMILIES}
            rows.append(row)
        whole = {"split": NETWORK, **{f"gini_{name}": value for name, value in self.gini.items()}}
        return pd.DataFrame([*rows, {**whole, "squared_weights": self.squared_weights}])

    def intervals(self) -> pd.DataFrame:
        """Return one row per split, logits and measure: split, logits, measure, value, low, high, n (examples)."""
        rows = [
            {"split": each.split, "logits": family, "measure": measure} | dataclasses.asdict(found[family])
            for each in self.splits
            for measure, found in (("loss", each.loss), ("accuracy", each.accuracy))
            for family in FAMILIES
        ]
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return the three losses of each split, and the Gini coefficients beside those of random matrices."""
        frame = self.intervals()
        frame = frame.loc[frame["measure"] == "loss"]
        random = {name: (each.value, each.low, each.high) for name, each in self.random_gini.items()}
        return measures_figure(frame, self.gini, random, len(self.key))


def _column(family: str, measure: str) -> str:
    return measure if family == "network" else f"{family}_{measure}"


@dataclasses.dataclass(frozen=True)
class ProgressMeasures(Analysis):
    """Measure how far a network's rule has formed, and how much it still relies on memorization.

    *Restricted* loss is the loss of the logits reduced to their constant and the waves cos and sin of ω_k(a ± b) of the
    key frequencies; *excluded* loss is the loss without these waves. The paper does not state the examples of the first
    (its code uses all, another code of its first author test) and computes the second on the training examples; here
    both are given for every split. The projections use the logits on the whole grid, so both losses depend on the
    held-out inputs too.

    The key frequencies should be those of the *final* network: an earlier state of a run is measured with those of its
    last checkpoint, so that `over_training` gives the paper's curves. Without a run they are the network's own. The
    paper takes "nontrivial" frequencies; here the energy of the logits' mode (k, ±k) exceeds `multiple` times the
    median of the modes that are neither additive nor on the rule's diagonal, and its norm is at least `relative` times
    the strongest's.

    Attributes:
        frequencies: key frequencies, numbered from 1; empty to find them.
        multiple: smallest ratio of a key frequency's energy to the background's median.
        relative: smallest ratio of a key frequency's norm to the strongest's.
        seed: seed of the random matrices behind the Gini coefficients.
    """

    name: ClassVar[str] = "progress_measures"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "operation", "role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "input_group", "output_group", "slopes", "operation", "test_inputs", "given_labels"}
        | {"true_train_labels", "noise_mask", "test_labels", "checkpoints"}
    )
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217"

    frequencies: tuple[int, ...] | int = ()
    multiple: float = 10.0
    relative: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        for k in self.numbers:
            check_whole("frequency", k, 1)
        check_number("multiple of the background's energy", self.multiple, above=0)
        check_fraction("share of the strongest frequency's norm", self.relative)
        check_whole("seed", self.seed, 0)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The given frequencies."""
        return self.frequencies if isinstance(self.frequencies, tuple) else (self.frequencies,)

    def __call__(self, subject: Subject) -> ProgressMeasuresResult:
        """Return the measures.

        Raises:
            MissingNeedError: the subject lacks something, the group is not cyclic, or no split has a cell on its grid.
            ConfigError: the group has no such frequency.
        """
        self.require(subject)
        return self.measured(subject, *self.key_of(subject))

    def for_run(self, subject: Subject) -> Callable[[Subject], ProgressMeasuresResult]:
        """Return the measures at the key frequencies of the run's last checkpoint, found once."""
        self.require(subject)
        key, source = self.key_of(subject)
        return lambda then: self.measured(then, key, source)

    def measured(self, subject: Subject, key: Int[Tensor, " key"], source: str) -> ProgressMeasuresResult:
        """Return the measures at key frequencies that the caller has found already.

        Args:
            subject: the network.
            key: the key frequencies, numbered from 1.
            source: where they come from.

        Raises:
            MissingNeedError: the group is not cyclic, or no split has a cell on its grid.
        """
        task, group = subject.task, cyclic_group(subject.task)
        logits, parts = all_logits(subject), logit_parts(subject)
        splits = []
        for split in _splits(subject):
            cells = labelled_cells(subject, split)
            if cells is None:
                continue
            found = score_families(logits, cells, parts, key)
            losses = means_over_answers(torch.stack([each.loss for each in found]).numpy(), cells.answer.numpy())
            hits = [proportion(each.hit) for each in found]
            accuracy = {family: hit for family, hit in zip(FAMILIES, hits, strict=True) if hit is not None}
            splits.append(SplitProgress(split.name, dict(zip(FAMILIES, losses, strict=True)), accuracy))
        if not splits:
            raise MissingNeedError(f"{self.name!r} needs a split with known labels on the grid of the group")
        spectra = [matrix_spectrum(group, each, 0.01, self.seed) for each in symbol_matrices(subject)]
        return ProgressMeasuresResult(
            key=key,
            key_source=source,
            splits=tuple(splits),
            gini={each.name: each.gini for each in spectra},
            random_gini={each.name: each.random_gini for each in spectra},
            squared_weights=float(sum(p.detach().double().square().sum() for p in subject.model.parameters())),
            n_outside=len(task.ids) - len(parts.rule) ** 2,
        )

    def key_of(self, subject: Subject) -> tuple[Int[Tensor, " key"], str]:
        """Return the key frequencies for this network, and where they come from.

        Raises:
            MissingNeedError: the group is not cyclic, or the operation is not ±.
            ConfigError: the group has no such frequency.
        """
        n = cyclic_group(subject.task).n_frequencies
        if self.numbers:
            if max(self.numbers) > n:
                raise ConfigError(f"frequencies lie in 1 … {n} here, got {max(self.numbers)}")
            return torch.tensor(sorted(set(self.numbers))), "given"
        steps = [] if subject.run is None else subject.run.checkpoint_steps()
        if subject.run is None or not steps:
            return self._found(subject), "this network"
        final = subject.run.model_at(steps[-1]).to(device_of(subject.model))
        return self._found(subject.with_model(final)), f"the run's last checkpoint (step {steps[-1]:,})"

    def _found(self, subject: Subject) -> Int[Tensor, " key"]:
        energy, sign = logit_energy(subject, centred=True), answer_sign(subject.task)
        return key_frequencies(energy, sign, self.multiple, self.relative).key


def _splits(subject: Subject) -> Iterator[LabelledSplit]:
    """Yield all training examples with their given labels, then the splits; without noise, only the test split."""
    task = subject.task
    labelled = labelled_splits(task)
    yield training_set(task)
    noisy = any(split.name == "train_noisy" for split in labelled)
    yield from (split for split in labelled if noisy or split.name == "test")
