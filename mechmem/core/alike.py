"""Whether figures of several networks may be averaged: networks of one architecture, trained alike on the same data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.core.config import Config
from mechmem.core.inputs import Inputs, same_inputs
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import ConfigError

SAMPLE = 64
"""Number of examples whose inputs are compared."""
OTHER_SCALE = 0.1
"""Greatest difference of inputs that are the same but for a scaling by each training set, in standard deviations."""
CHANCE = 5
"""Standard errors by which the shares of wrong labels of one noise do not differ."""


def check_alike(subjects: Sequence[Subject], name: str) -> None:
    """Refuse networks whose figures cannot be averaged: of one training, another architecture, or other data.

    Their tasks may differ in seeds, of the split and of the noise.

    Args:
        subjects: the networks, as trained with several seeds.
        name: the argument, for errors.

    Raises:
        ConfigError: one differs from the first in more than its seeds, or two are states of one training.
    """
    called = _called(subjects)
    for place, subject in enumerate(subjects):
        same = next((at for at in range(place) if _one_network(subjects[at], subject)), None)
        if same is not None:
            both = f"{called[same]} and {called[place]} have the same weights"
            raise ConfigError(f"{name} must be different networks, but {both}: one is given twice")
        state = next((at for at in range(place) if _one_training(subjects[at], subject)), None)
        if state is not None:
            raise ConfigError(
                f"{name} must be networks of several trainings, but {called[state]} and {called[place]} are of one "
                "(the same config and seed); mm.over_training measures a run at its checkpoints"
            )
    for place in range(1, len(subjects)):
        both = f"{called[place]} and {called[0]}"
        _check_two(subjects[0], subjects[place], name, both)


def _check_two(first: Subject, other: Subject, name: str, both: str) -> None:
    shapes = [{key: each.shape for key, each in subject.model.named_parameters()} for subject in (first, other)]
    if type(other.model) is not type(first.model) or shapes[0] != shapes[1]:
        raise ConfigError(f"{name} must be networks of one architecture, but {both} differ")
    tasks = [(each.task.title, each.task.n_classes, each.task.operation) for each in (first, other)]
    if tasks[0] != tasks[1]:
        raise ConfigError(f"{name} must be of one task, but {both} differ in theirs")
    changed = _changed(*(_settings(each) for each in (first, other)))
    if changed:
        raise ConfigError(
            f"{name} must be trained alike, with several seeds, but {both} differ in {', '.join(changed)}"
        )
    if why := _other_data(first.task, other.task):
        raise ConfigError(f"{name} must be of the same data, with several seeds, but those of {both} differ: {why}")


def check_same_examples(subjects: Sequence[Subject], name: str, targets: Int[Tensor, " target"] | None = None) -> None:
    """Refuse networks whose figures of single examples cannot be averaged.

    Args:
        subjects: the networks, as `check_alike` takes them.
        name: the argument, for errors.
        targets: other examples that the figures are of.

    Raises:
        ConfigError: they differ in training examples, or in labels or inputs of these or the targets; inputs are
            compared on a sample.
    """
    called, task = _called(subjects), subjects[0].task
    for place, subject in enumerate(subjects[1:], 1):
        both, other = f"{called[place]} and {called[0]}", subject.task
        if other is task or other.digest == task.digest:
            continue
        if not torch.equal(other.sources, task.sources):
            raise ConfigError(f"{name}: {both} differ in training examples")
        for ids in (task.sources, *(() if targets is None else (targets,))):
            if not torch.equal(other.given(ids), task.given(ids)):
                raise ConfigError(f"{name}: {both} differ in labels of the examples")
            if (example := _other_input(task, other, ids, exactly=True)) is not None:
                raise ConfigError(f"{name}: {both} differ in inputs of the examples, as of {example}")


def _called(subjects: Sequence[Subject]) -> list[str]:
    """Return what an error calls each network: its name, and its place where others have that name too."""
    names = [subject.name for subject in subjects]
    return [
        repr(each) if names.count(each) == 1 else f"number {place} ({each!r})" for place, each in enumerate(names, 1)
    ]


def _other_data(one: Task, other: Task) -> str:
    """Return in what the data of two tasks differ, as far as can be told, or ""; splits and noise may be others."""
    if one is other or one.digest == other.digest:
        return ""
    configs = [getattr(each, "config", None) for each in (one, other)]
    settings = [dict(_flat(each.to_dict(), seeds=False)) for each in configs if isinstance(each, Config)]
    if len(settings) == 2:
        # Images are scaled by their training set, and sequences drawn anew.
        files = ["the files that they were read from"] if one.data_digest != other.data_digest else []
        return ", ".join([*_changed(*settings), *files])
    sizes = [{len(each.ids), len(each.ids) + each.dropped_copies} for each in (one, other)]
    if not sizes[0] & sizes[1]:
        return f"one has {len(one.ids):,} examples, the other {len(other.ids):,}"
    common = one.ids[torch.isin(one.ids, other.ids)]
    if not len(common):
        return "they have no example in common"
    known = common
    if one.true(common) is None or other.true(common) is None:
        known = common[torch.isin(common, one.test_ids) & torch.isin(common, other.test_ids)]
    truths = one.true(known), other.true(known)
    if truths[0] is not None and truths[1] is not None and not torch.equal(truths[0], truths[1]):
        return "the true labels are others"
    shares = [None if each.noisy is None else each.noisy.double().mean().item() for each in (one, other)]
    if shares[0] is not None and shares[1] is not None and _unlike(shares[0], shares[1], one, other):
        return f"the shares of wrong labels are {shares[0]:.1%} and {shares[1]:.1%}"
    example = _other_input(one, other, common, exactly=False)
    return "" if example is None else f"the inputs are others, as of example {example}"


def _unlike(share: float, other_share: float, one: Task, other: Task) -> bool:
    """Return whether two shares of wrong labels differ by more than several draws of one noise do."""
    sizes = len(one.train_ids), len(other.train_ids)
    both = (share * sizes[0] + other_share * sizes[1]) / sum(sizes)
    return abs(share - other_share) > CHANCE * math.sqrt(both * (1 - both) * (1 / sizes[0] + 1 / sizes[1]))


def _other_input(one: Task, other: Task, ids: Int[Tensor, " example"], *, exactly: bool) -> int | None:
    """Return the first example of a sample whose inputs differ in two tasks, or None."""
    some = ids[torch.linspace(0, len(ids) - 1, min(len(ids), SAMPLE)).round().long()]
    found, others = one.batch(some)[0], other.batch(some)[0]
    if _same(found, others, exactly=exactly):
        return None
    rows = (row for row in range(len(some)) if not same_inputs(found[[row]], others[[row]]))
    return int(some[next(rows, 0)])


def _same(one: Inputs, other: Inputs, *, exactly: bool) -> bool:
    if exactly or not isinstance(one, Tensor) or not isinstance(other, Tensor) or not one.is_floating_point():
        return same_inputs(one, other)
    spread = (one.double() - one.double().mean()).square().mean().sqrt()
    return one.shape == other.shape and bool(
        (one.double() - other.double()).square().mean().sqrt() <= OTHER_SCALE * spread
    )


def _one_network(one: Subject, other: Subject) -> bool:
    """Return whether two subjects are the same network, or copies of it."""
    held, others = one.model.state_dict(), other.model.state_dict()
    alike = held.keys() == others.keys() and all(torch.equal(held[name], others[name]) for name in held)
    return one.model is other.model or (bool(held) and alike)


def _one_training(one: Subject, other: Subject) -> bool:
    """Return whether two subjects are states of one training: of the same run, or of runs of the same settings."""
    if one.run is None or other.run is None:
        return False
    same_run = one.run.path.resolve() == other.run.path.resolve()
    first, second = (_settings(each, seeds=True) for each in (one, other))
    return same_run or (bool(first) and first == second)


def _settings(subject: Subject, *, seeds: bool = False) -> dict[str, Any]:
    """Return the settings of a run's training by dotted name, with or without seeds, but for when it was looked at."""
    config = getattr(subject.run, "config", None)
    return {} if config is None else dict(_flat(config.to_dict(), seeds))


def _flat(settings: Mapping[str, Any], seeds: bool, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, seeds, f"{before}{name}.")
        elif name not in ("evaluations", "checkpoints") and (seeds or name != "seed"):
            yield f"{before}{name}", value


def _changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [key for key in one if one[key] != other.get(key)]
