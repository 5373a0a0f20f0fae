"""What the page to explore shows of cells: outcomes over training, the parts of their logits, and influences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.analyses.logits.cell_outcomes import CellOutcomes, CellOutcomesResult
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.examples.along_training import influence_along_training
from mechmem.examples.influence import influence
from mechmem.math.additive import centre_classes
from mechmem.math.grid_parts import GridParts
from mechmem.math.logits import NOT_FINITE, answers_of
from mechmem.math.training_phases import fitting_times
from mechmem.models.hooks.running import device_of
from mechmem.models.networks.masks import TurnOverDropout
from mechmem.models.networks.subnetworks import mask_layers
from mechmem.models.reading.forward import all_logits, raw_logits
from mechmem.models.reading.grid import grid_cells, logit_parts
from mechmem.tasks.config import SPLITS
from mechmem.tasks.grid import answer_sign
from mechmem.tasks.splits import Marks
from mechmem.training.progress import reporter

MOST_SYMBOLS = 128
"""Largest side of a grid: a page with more cells would be slow, and its cells too small to see."""
MOST_NUMBERS = MOST_SYMBOLS**3
"""Most numbers with a fraction in one view, which take 6 MB of a page."""
HELPFUL, HARMFUL = 12, 6
"""Number of training cells shown of those that a cell's answer owes most to, and of those that held it down most."""


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """The input pairs, ordered by a, then b; of examples that share a pair the last.

    Attributes:
        outcomes: outcome of every example in the network's own state.
        rows: position of each cell in the task's ids. Shape (cell).
    """

    outcomes: CellOutcomesResult
    rows: Int[Tensor, " cell"]

    def of(self, name: str) -> Int[Tensor, " cell *rest"]:
        """Return a field of the outcomes, cell by cell: "operands", "given", "true", "predicted" or "split"."""
        return getattr(self.outcomes, name)[self.rows]

    @property
    def answer(self) -> Int[Tensor, " cell"]:
        """The network's answer to each cell."""
        return self.of("predicted")

    @property
    def label(self) -> Int[Tensor, " cell"]:
        """The label that training gave to a cell, or the true one of a cell without; −1 if it is not known."""
        given = self.of("given")
        return given.where(given >= 0, self.of("true"))


def cells_of(subject: Subject) -> Cells:
    """Return the cells of a network whose inputs are pairs.

    Raises:
        MissingNeedError: they are not, or the network's logits are not finite.
        ConfigError: there are more symbols than a page can show.
    """
    task = subject.task
    if task.operands is None:
        raise MissingNeedError(f"explore shows a grid of pairs (a, b), but the inputs of {task!r} are not pairs")
    if task.symbols > MOST_SYMBOLS:
        raise ConfigError(f"subject: explore shows grids of at most {MOST_SYMBOLS} symbols, got {task.symbols}")
    a, b = task.operands.unbind(1)
    last = torch.full((task.symbols**2,), -1)
    last.scatter_reduce_(0, a * task.symbols + b, torch.arange(len(a)), "amax")
    return Cells(CellOutcomes()(subject), last[last >= 0])


@dataclasses.dataclass(frozen=True, eq=False)
class Course:
    """Answers at every saved state.

    Attributes:
        steps: optimisation step of each state; None for the network itself if it is none of the saved states.
        own: number of the state that is the network itself.
        answers: answer to each cell, −1 if its logits are not finite. Shape (state, cell).
        outcome: its outcome, numbered as in `CellOutcomesResult`. Shape (state, cell).
        accuracy: accuracy on each split, NaN if it is empty or not known; on all training examples ("train") if it is
            not known which labels are wrong. Shape (state) each.
        fitted: number of the state from which on a cell is answered with its label; −1 if it is not in the last. Shape
            (cell).
    """

    steps: tuple[int | None, ...]
    own: int
    answers: Int[Tensor, "state cell"]
    outcome: Int[Tensor, "state cell"]
    accuracy: dict[str, Float[Tensor, " state"]]
    fitted: Int[Tensor, " cell"]


def course_of(subject: Subject, cells: Cells, *, progress: bool = False) -> Course:
    """Run every saved state over all examples once."""
    count = 1 if subject.run is None else len(subject.run.checkpoint_steps())
    steps, own, everything = list[int | None](), 0, list[Tensor]()
    with reporter(f"{subject.name}, checkpoints", 0, count, show=progress) as report:
        for number, (step, then, same) in enumerate(_states(subject)):
            own = number if same else own
            steps.append(step)
            everything.append(answers_of(raw_logits(then)))
            report.step(number + 1, None)
    answers = torch.stack(everything)
    # No label has the number of classes, so a state without an answer is wrong, and not "as given".
    answered = answers.where(answers != NOT_FINITE, subject.task.n_classes)
    outcome = [dataclasses.replace(cells.outcomes, predicted=each).outcome[cells.rows] for each in answered]
    at_cells = answers[:, cells.rows]
    right = (at_cells == cells.label) & (cells.label >= 0)
    fitted = torch.from_numpy(fitting_times(right.numpy())[0])
    return Course(tuple(steps), own, at_cells, torch.stack(outcome), _accuracies(subject.task, answers), fitted)


def _states(subject: Subject) -> Iterator[tuple[int | None, Subject, bool]]:
    """Yield each saved state with its step and whether it is the network itself, which comes last if none is."""
    found = False
    for step in [] if subject.run is None else subject.run.checkpoint_steps():
        assert subject.run is not None
        then = subject.with_model(subject.run.model_at(step).to(device_of(subject.model)))
        same = _same(then.model, subject.model)
        found |= same
        yield step, then, same
    if not found:
        yield None, subject, True


def _same(one: nn.Module, other: nn.Module) -> bool:
    held, others = one.state_dict(), other.state_dict()
    return held.keys() == others.keys() and all(torch.equal(held[name], others[name]) for name in held)


def _accuracies(task: Task, answers: Int[Tensor, "state example"]) -> dict[str, Float[Tensor, " state"]]:
    marks = Marks(task)
    counts = marks.counts(answers[:, task.rows(marks.ids)]).double()
    share = counts.where(counts >= 0, math.nan) / marks.n.clamp(min=1)
    found: dict[str, Tensor] = dict(zip(SPLITS, share.T, strict=True))
    if task.noisy is None:
        trained = answers[:, task.rows(task.train_ids)]
        found["train"] = (trained == task.given(task.train_ids)).double().mean(1)
    return {name: values for name, values in found.items() if not values.isnan().all()}


@dataclasses.dataclass(frozen=True, eq=False)
class CellParts:
    """The parts that, with a remainder, sum to the logits of `cell_logits`.

    Attributes:
        parts: effects of a and of b, and the rule's part, by position in the group.
        place: positions of a cell's operands and of its answer by the rule; −1 outside the group. Shape (cell, 3).
    """

    parts: GridParts
    place: Int[Tensor, "cell 3"]


def cell_logits(subject: Subject, cells: Cells) -> Float[Tensor, "cell class"]:
    """Return the logits of the cells, less each cell's mean over classes.

    Raises:
        MissingNeedError: there are more of them than a page can hold.
    """
    number = len(cells.rows) * subject.task.n_classes
    if number > MOST_NUMBERS:
        raise MissingNeedError(f"a page holds at most {MOST_NUMBERS:,} logits, and these cells have {number:,}")
    return centre_classes(all_logits(subject)[cells.rows].double())


def cell_parts(subject: Subject, cells: Cells) -> CellParts:
    """Return the parts of the logits, as the analysis `suppression` splits them.

    Raises:
        MissingNeedError: the group is not cyclic, a pair is missing, or the operation is not known.
    """
    parts = logit_parts(subject).centred()
    a, b = grid_cells(subject, subject.task.ids[cells.rows]).unbind(1)
    rule = ((a + answer_sign(subject.task) * b) % len(parts.rule)).where(a >= 0, -1)
    return CellParts(parts, torch.stack([a, b, rule], 1))


@dataclasses.dataclass(frozen=True, eq=False)
class Influences:
    """Training cells that the network's answers owe most to.

    Attributes:
        method: the method, in a sentence.
        sources: numbers of training cells, from the most helpful to the most harmful; −1 where fewer help or harm.
            Shape (cell, rank).
        share: their influence as a share of the absolute influences of all training cells. Shape (cell, rank).
    """

    method: str
    sources: Int[Tensor, "cell rank"]
    share: Float[Tensor, "cell rank"]


def influences(subject: Subject, cells: Cells, until: int | None, *, progress: bool = False) -> Influences:
    """Measure influences: by turn-over dropout where the network has it, else by gradients along training.

    Args:
        subject: the network.
        cells: its cells.
        until: step of the network among the saved states of its run; None if it is none of them.
        progress: whether to show a bar.

    Raises:
        MissingNeedError: neither method is defined for this network.
    """
    ids = subject.task.ids[cells.rows]
    if any(isinstance(layer, TurnOverDropout) for layer in mask_layers(subject.model)):
        found = influence(subject, targets=ids, progress=progress)
        method = (
            "Turn-over dropout (Kobayashi et al. 2020): the loss of a cell's label in the subnetwork that was not "
            "trained on the training cell, minus that in the subnetwork that was"
        )
        return _strongest(method, subject.task, cells, found.sources, found.values)
    if subject.run is not None and until is None:
        raise MissingNeedError(
            "influence along training needs a network that its run has saved, and this one is none of the saved states"
        )
    followed = influence_along_training(subject, ids, cells.answer, until=until, progress=progress)
    method = (
        "TracIn (Pruthi et al. 2020): how far the steps on a training cell lowered the loss of the cell's answer at "
        f"the end, by the products of their gradients, {followed.note}"
    )
    return _strongest(method, subject.task, cells, followed.sources, followed.values)


def _strongest(
    method: str, task: Task, cells: Cells, ids: Int[Tensor, " source"], values: Float[Tensor, "cell source"]
) -> Influences:
    number = torch.full((len(task.ids),), -1)
    number[cells.rows] = torch.arange(len(cells.rows))
    share = values / values.abs().sum(1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
    most, least = (min(count, values.shape[1]) for count in (HELPFUL, HARMFUL))
    ends = [share.topk(most, 1), share.topk(least, 1, largest=False)]
    kept = torch.cat([ends[0].values.clamp(min=0), ends[1].values.flip(1).clamp(max=0)], 1)
    chosen = number[task.rows(ids)][torch.cat([ends[0].indices, ends[1].indices.flip(1)], 1)]
    return Influences(method, chosen.where(kept != 0, -1), kept)
