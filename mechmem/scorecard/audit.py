"""Audit of a network: `audit` fills the scorecard."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from mechmem.core.alike import check_alike
from mechmem.core.arguments import checked
from mechmem.core.arrays import Array, numbers
from mechmem.core.config import check_different
from mechmem.core.roles import Roles
from mechmem.core.stats import proportion
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor, Task
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.layers.features import INPUTS
from mechmem.math.logits import NOT_FINITE, answers_of
from mechmem.models.reading.twins import Train, check_twin
from mechmem.scorecard.controls import LABEL_CONTROLS, NETWORK_CONTROLS, LogitTable, control_models
from mechmem.scorecard.extractor import Extractor, extractor
from mechmem.scorecard.pooling import pool
from mechmem.scorecard.rows import Cell, Row
from mechmem.scorecard.scorecard import Scorecard
from mechmem.scorecard.structure import held_out_structure
from mechmem.scorecard.votes import vote_by_answer, vote_by_group
from mechmem.tasks.config import SPLITS
from mechmem.tasks.splits import labelled_splits

DEFAULT_EXTRACTORS = (
    "raw",
    "shared_subspaces+additive_free",
    "frequency",
    "frequency+quadratic",
    "frequency_rest",
    "additive_free",
    "energy_ranked",
    "diagonal",
)
"""Extractors of an audit by default, as far as the task fits them."""

LAYER_EXTRACTOR = "masc@hidden.{}"
"""Additional default extractor for every layer of the role `hidden`, if inputs are not pairs."""

_EMPTY = {
    "train_clean": "no training label is right",
    "train_noisy": "no training label is wrong",
    "train_noisy_true": "no training label is wrong",
}

TASK_NEEDS = ("pairs", "group", "operation")

NOTHING_TO_CONTROL = "no extractor applies to the network"


@checked
def audit(
    subject: Subject | Sequence[Subject],
    extractors: str | Sequence[str] | None = None,
    *,
    untrained: nn.Module | None = None,
    one_step: nn.Module | None = None,
    noise_only: nn.Module | None = None,
    train: Train | None = None,
    progress: bool = False,
) -> Scorecard:
    """Set every extractor beside its controls, its prior knowledge, and the network's held-out structure.

    Twins come from the arguments, from step 0 of the run (the untrained one) or from the retrainer; the cells of a
    missing twin are empty and give the reason, and the sentence says "uncontrolled".

        card = mm.audit(network, ["raw", "frequency+quadratic"])
        print(card.sentence)

    Args:
        subject: the network with its task; several (runs with different seeds) are pooled.
        extractors: one or several names, e.g. "frequency+quadratic"; by default all that fit the task.
        untrained: the network at its initialisation.
        one_step: the network after one gradient step.
        noise_only: the same network trained on labels uniform over all classes.
        train: trains a network on a task like the subject's; used for the noise-only twin.
        progress: whether to show a progress bar while a twin is trained.

    Raises:
        UnknownNameError: there is no such extractor.
        ConfigError: there is nothing to audit, or twins were passed for several subjects.
    """
    extractors = [extractors] if isinstance(extractors, str) else extractors
    if extractors is not None and not len(extractors):
        raise ConfigError("extractors must be at least one name, got none; leave it out for all that fit the task")
    if not isinstance(subject, Subject):
        if isinstance(subject, nn.Module) or not subject or not all(isinstance(one, Subject) for one in subject):
            raise ConfigError("subject must be a Subject, or a list of at least one: mm.Subject(model, task, roles)")
        if any(twin is not None for twin in (untrained, one_step, noise_only)):
            raise ConfigError("twins belong to one subject; give several subjects retrainers, or train=")
        check_alike(subject, "subject")
        return pool([audit(one, extractors, train=train, progress=progress) for one in subject])
    task = subject.task
    chosen = [extractor(name) for name in extractors] if extractors is not None else _default(subject)
    check_different("extractors", [each.name for each in chosen])
    twins = {"untrained": untrained, "one_step": one_step, "noise_only": noise_only}
    for name, twin in twins.items():
        if twin is not None:
            check_twin(subject, name, twin)
    own = [_splits(each, subject) for each in chosen]  # before twins are trained, since a setting may not fit
    controlled: dict[str, Subject | str] = dict.fromkeys((*NETWORK_CONTROLS, *LABEL_CONTROLS), NOTHING_TO_CONTROL)
    if any(cell.estimate is not None for splits in own for cell in splits.values()):
        controls = control_models(subject, twins, train, progress=progress)
        controlled = {
            name: model if isinstance(model, str) else _as_control(subject, name, model)
            for name, model in controls.items()
        }
    structure = held_out_structure(subject)
    return Scorecard(
        name=subject.name,
        task=task.summary | _stopped(subject),
        chance=1 / task.n_classes,
        rows=tuple(_row(each, splits, subject, controlled) for each, splits in zip(chosen, own, strict=True)),
        votes=(vote_by_answer(task), vote_by_group(task)),
        structure=structure,
        verdicts=(structure.verdict,),
    )


@checked
def audit_logits(
    logits: Array,
    task: Task,
    extractors: str | Sequence[str] | None = None,
    *,
    name: str = "logits",
) -> Scorecard:
    """Audit a network of which only the logits are available.

        card = mm.audit_logits(logits, task)  # one row of logits per example, in the order of task.ids

    Args:
        logits: one row per id of the task, in the order of `task.ids`; or the grid (a, b, class).
        task: the task that the network was trained on.
        extractors: one or several names; by default all that read only logits and fit the task.
        name: the network's name.

    Raises:
        ConfigError: the shape does not fit the task, or a value is not finite; or columns or rows of a frame have the
            names of classes or examples in another order.
    """
    _check_names(logits, task)
    table = numbers(logits, "logits")
    if table.dtype == torch.bool:
        raise ConfigError("logits must be numbers, got truth values")
    if table.ndim == 3:
        if task.operands is None or table.shape[:2] != (task.symbols, task.symbols):
            raise ConfigError(
                f"a grid of logits needs a task of pairs, and one row and column per symbol; got {table.shape}"
            )
        table = table[task.operands[:, 0], task.operands[:, 1]]
    subject = Subject(LogitTable(table, task), task, name=name)
    chosen = [e.name for e in _default(subject) if not e.missing(subject)] if extractors is None else extractors
    return audit(subject, chosen)


def _check_names(logits: Array, task: Task) -> None:
    """Refuse a frame of pandas whose columns or rows have the task's names in another order; they count by position."""
    if not hasattr(logits, "iloc"):
        return
    classes, examples = task.class_names or range(task.n_classes), task.example_names or task.ids.tolist()
    for what, axis, names in (("classes", logits.columns, classes), ("examples", logits.index, examples)):
        found, wanted = [*map(str, axis)], [*map(str, names)]
        if found != wanted and sorted(found) == sorted(wanted):
            place = next(place for place, name in enumerate(found) if name != wanted[place])
            raise ConfigError(
                f"logits have the {what} of the task in another order: {found[place]!r} stands where "
                f"{wanted[place]!r} belongs. Choose them by name, in the order {', '.join(wanted[:3])} …"
            )


def _stopped(subject: Subject) -> dict[str, str]:
    """Return the accuracy that stopped training early, if any: stopping on test accuracy has used test labels."""
    ended = None if subject.run is None else subject.run.finished()
    reason = "" if ended is None else str(ended["reason"])
    return {"stopped_by": reason} if any(split in reason for split in SPLITS) else {}


def _default(subject: Subject) -> list[Extractor]:
    """Return the default extractors that fit the task; a missing role gives an empty row with its reason."""
    layers = range(len(subject.roles.hidden) if subject.task.operands is None else 0)
    every = [extractor(name) for name in (*DEFAULT_EXTRACTORS, *(LAYER_EXTRACTOR.format(layer) for layer in layers))]
    return [each for each in every if not any(need in TASK_NEEDS for need in each.missing(subject))]


def _as_control(subject: Subject, name: str, model: nn.Module) -> Subject:
    """Return the subject with a control's model; a table of logits has none of the network's roles."""
    roles = subject.roles if name in NETWORK_CONTROLS else Roles()
    return dataclasses.replace(subject, model=model, roles=roles, run=None, retrainer=None)


def _row(each: Extractor, splits: dict[str, Cell], subject: Subject, controlled: Mapping[str, Subject | str]) -> Row:
    only_logits = not each.surgeries and each.readout.reads == "logits"
    names = [*NETWORK_CONTROLS, *(LABEL_CONTROLS if only_logits else ())]
    controls = {name: _test_cell(each, controlled[name]) for name in names}
    own = each.control()
    if own is not None:
        controls["inputs" if own.name.endswith(f"@{INPUTS}") else "random_choice"] = _test_cell(own, subject)
    return Row(each.name, tuple(sorted(each.knows)), each.cites, splits, controls, len(subject.task.test_ids))


def _splits(each: Extractor, subject: Subject) -> dict[str, Cell]:
    try:
        return split_accuracies(each(subject), subject.task)
    except MissingNeedError as error:
        return dict.fromkeys(_split_names(subject.task), Cell(None, str(error)))


def _split_names(task: Task) -> list[str]:
    outside = task.group is not None and len(task.group.outside) > 0
    return [*SPLITS, "test_in_group"] if outside else list(SPLITS)


def _test_cell(each: Extractor, subject: Subject | str) -> Cell:
    if isinstance(subject, str):
        return Cell(None, subject)
    try:
        return _accuracy(_answers(each(subject), subject.task.test_ids), subject.task.true(subject.task.test_ids))
    except MissingNeedError as error:
        return Cell(None, str(error))


def split_accuracies(predictor: Predictor, task: Task) -> dict[str, Cell]:
    """Score a predictor on the four splits.

    The predictor gets all training ids at once: ids grouped by split would reveal which labels are wrong.
    """
    known = task.noisy is not None
    predicted = torch.full((len(task.ids),), NOT_FINITE)
    for ids in (task.test_ids, task.train_ids) if known else (task.test_ids,):
        predicted[task.rows(ids)] = _answers(predictor, ids)
    cells = {name: Cell(None, _EMPTY[name] if known else "true training labels are not known") for name in SPLITS[:3]}
    cells["test"] = Cell(None, "the true labels are not known")
    for split in labelled_splits(task):
        cells[split.name] = _accuracy(predicted[task.rows(split.ids)], split.labels)
    if "test_in_group" in _split_names(task):
        assert task.group is not None and task.operands is not None
        # A factor of 0 makes the answer 0 whatever the rule, so cells with one carry no evidence about it.
        inside = ~torch.isin(task.operands[task.rows(task.test_ids)], task.group.outside).any(1)
        ids = task.test_ids[inside]
        reason = "every test input has a factor of 0"
        cells["test_in_group"] = _accuracy(predicted[task.rows(ids)], task.true(ids), reason)
    return cells


def _answers(predictor: Predictor, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"]:
    """Return the predicted classes, so that a large grid's logits are freed before the next are computed."""
    return answers_of(predictor(ids))


def _accuracy(answers: Int[Tensor, " example"], labels: Tensor | None, empty: str = "") -> Cell:
    if labels is None:
        return Cell(None, "the true labels are not known")
    if (answers < 0).any():
        return Cell(None, "the scores are not finite")
    return Cell(proportion(answers == labels), "" if len(labels) else empty)
