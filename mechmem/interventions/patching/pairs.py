"""Pairing of the passes to patch: examples of one network, or two networks on the same inputs."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor, nn

from mechmem.core.ids import check_distinct, check_ids
from mechmem.core.inputs import same_inputs
from mechmem.core.randomness import generator
from mechmem.core.subject import Subject
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.blocks import blocks
from mechmem.math.logits import strongest_rival
from mechmem.models.reading.forward import check_scale, logits_of

_COMPARED = 2**24
"""Pairs of examples compared at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class Runs:
    """Paired passes, example by example: those that are patched and those that the values come from.

    Attributes:
        into: the patched network.
        ids: its examples. Shape (example).
        source: the network that the values come from.
        source_ids: its examples. Shape (example).
    """

    into: Subject
    ids: Int[Tensor, " example"]
    source: Subject
    source_ids: Int[Tensor, " example"]

    def back(self) -> Runs:
        """Return the same pairs, patched in the other direction."""
        return Runs(self.source, self.source_ids, self.into, self.ids)


@dataclasses.dataclass(frozen=True, eq=False)
class Pairing:
    """Paired passes and the two labels that the metric compares.

    Attributes:
        runs: the paired passes.
        labels: label of the pass the values come from, and of the patched pass. Shape (example) each.
        note: examples that were left out, or "".
    """

    runs: Runs
    labels: tuple[Int[Tensor, " example"], Int[Tensor, " example"]]
    note: str


def paired(
    subject: Subject, donor: Subject | nn.Module | None, ids: Ids | None, donor_ids: Ids | None, seed: int
) -> Pairing:
    """Pair the examples of one network, or two networks.

    Raises:
        ConfigError: ids that do not pair, inputs that differ between the networks, no example to patch, or a network
            that returns probabilities.
        MissingNeedError: true labels or operands that are needed are not known.
    """
    if donor is None:
        runs, note = within(subject, ids, donor_ids, seed)
        check_scale(subject)
        first, second = (subject.task.given(each) for each in (runs.source_ids, runs.ids))
        return Pairing(runs, (first, second), note)
    if donor_ids is not None:
        raise ConfigError("donor_ids pairs examples within one network; two networks run on the same ids")
    runs = between(subject, donor, ids)
    check_scale(subject)
    return Pairing(runs, labels_at_stake(runs), "")


def check_donor(donor: object) -> None:
    """Check that a donor is a network or None.

    Raises:
        ConfigError: it is something else.
    """
    if donor is not None and not isinstance(donor, Subject | nn.Module):
        hint = "; the task goes as task=" if isinstance(donor, Task) else ""
        raise ConfigError(f"the donor is a Subject or a model, got {type(donor).__name__}{hint}")


def within(subject: Subject, ids: Ids | None, donor_ids: Ids | None, seed: int) -> tuple[Runs, str]:
    """Pair examples of one network; also return a note on examples left out.

    Raises:
        ConfigError: ids that do not pair, or no example to pair.
        MissingNeedError: pairs are to be drawn, but operands or true labels are not known.
    """
    task = subject.task
    if donor_ids is not None:
        if ids is None:
            raise ConfigError("donor_ids is paired with ids, which are not given")
        ids, donor_ids = check_ids(subject.task, ids, "ids"), check_ids(subject.task, donor_ids, "donor_ids")
        if len(ids) != len(donor_ids):
            raise ConfigError(f"ids and donor_ids are paired one by one, got {len(ids)} and {len(donor_ids)}")
        pairs = torch.stack([ids, donor_ids], 1)
        values, counts = pairs.unique(dim=0, return_counts=True)
        if len(values) < len(pairs):
            again = tuple(values[counts > 1][0].tolist())
            raise ConfigError(f"ids and donor_ids must be distinct pairs, but {again} is repeated")
        return Runs(subject, ids, subject, donor_ids), ""
    noisy = task.splits["train_noisy"]
    if noisy is None or task.operands is None:
        lacking = "operands" if task.operands is None else "the true training labels"
        raise MissingNeedError(f"pairing examples needs {lacking}; name both with ids and donor_ids, or give a donor")
    wanted = noisy if ids is None else check_distinct(subject.task, ids, "ids")
    if not len(wanted):
        raise ConfigError("no training example has a wrong label: name ids and donor_ids, or give a donor")
    kept, chosen = partners(subject, wanted, generator(seed, "patching_pairs"))
    if not len(kept):
        raise ConfigError(
            f"for none of {len(wanted)} examples is there a correctly labelled training example that shares an operand "
            "and has another given label; name both with ids and donor_ids"
        )
    left = len(wanted) - len(kept)
    return Runs(subject, kept, subject, chosen), f"{left} examples have no partner and are left out" if left else ""


def between(subject: Subject, donor: Subject | nn.Module, ids: Ids | None) -> Runs:
    """Pair two networks on the same inputs.

    Raises:
        ConfigError: their inputs or classes differ.
    """
    other = donor if isinstance(donor, Subject) else subject.with_model(donor)
    if ids is None:
        noisy = subject.task.splits["train_noisy"]
        ids = noisy if noisy is not None and len(noisy) else subject.task.test_ids
    ids = check_distinct(subject.task, ids, "ids")
    if not _same_inputs(subject.task, other.task, ids):
        raise ConfigError("the two networks are not given the same inputs on these ids")
    if subject.task.n_classes != other.task.n_classes:
        raise ConfigError(f"the networks have {subject.task.n_classes} and {other.task.n_classes} classes")
    return Runs(subject, ids, other, ids)


def _same_inputs(one: Task, other: Task, ids: Int[Tensor, " example"]) -> bool:
    """Return whether two tasks have the same inputs for some ids of the first."""
    if not bool(torch.isin(ids, other.ids).all()):
        return False
    return same_inputs(one.batch(ids)[0], other.batch(ids)[0])


def labels_at_stake(runs: Runs) -> tuple[Int[Tensor, " example"], Int[Tensor, " example"]]:
    """Return the true label, and the wrong given label or else the receiver's strongest other class.

    Raises:
        MissingNeedError: a true label is not known.
    """
    task = runs.into.task
    true, given = task.true(runs.ids), task.given(runs.ids)
    if true is None:
        raise MissingNeedError("patching between networks compares with the true label, which is not known on every id")
    logits = logits_of(runs.into.model, task, runs.ids, runs.into.roles.output)
    return true, torch.where(given != true, given, strongest_rival(logits, true))


def partners(
    subject: Subject, ids: Int[Tensor, " example"], draw: torch.Generator
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Pair examples with cleanly labelled training examples that share an operand and have another given label.

    A partner that shares the first operand is preferred; among several, one is drawn. Examples without a partner are
    left out.

    Args:
        subject: its task must know the operands and which labels are wrong.
        ids: the examples to pair.
        draw: seeded generator.

    Returns:
        the ids that have a partner, and their partners. Shape (pair) each.
    """
    task = subject.task
    clean = task.splits["train_clean"]
    assert clean is not None and task.operands is not None
    pairs, given = task.operands, task.given(clean)
    place = torch.rand(len(ids), generator=draw, dtype=torch.float64)
    found: list[Tensor] = []
    for block in blocks(len(ids), max(1, _COMPARED // max(len(clean), 1))):
        own = rearrange(pairs[task.rows(ids[block])], "example operand -> operand example 1")
        other = rearrange(pairs[task.rows(clean)], "clean operand -> operand 1 clean")
        fits = (own == other) & (rearrange(task.given(ids[block]), "example -> example 1") != given)
        fits = torch.where(fits[0].any(1, keepdim=True), fits[0], fits[1])
        count = fits.sum(1)
        nth = (place[block] * count).long() + 1
        chosen = torch.searchsorted(fits.cumsum(1), rearrange(nth, "example -> example 1")).squeeze(1)
        found.append(torch.where(count > 0, chosen, -1))
    chosen = torch.cat(found) if found else torch.zeros(0, dtype=torch.long)
    kept = chosen >= 0
    return ids[kept], clean[chosen[kept]]
