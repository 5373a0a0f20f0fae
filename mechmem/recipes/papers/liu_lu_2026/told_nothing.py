"""Claims about retrieval that is told nothing, which the paper asks for: networks, measurements and conditions."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

from mechmem.analyses.discover_rule import discover_rule
from mechmem.core.subject import Subject
from mechmem.models.networks.config import MLPConfig
from mechmem.models.reading.twins import twin_subject
from mechmem.recipes.claims import Arms, Claim, Scale, Trial, seeded
from mechmem.recipes.conditions import at_least, at_most
from mechmem.recipes.measures import Rows, accuracies, by_arm, measure
from mechmem.recipes.papers.liu_lu_2026.runs import HEAVY, SEEDS, config, trials
from mechmem.tasks.config import GroupConfig, LabelNoise, ModularConfig, Operation
from mechmem.tasks.groups import FiniteGroup
from mechmem.training.config import TrainConfig

READ = "shared_subspaces+additive_free"
"""The extractor that is told nothing."""

PRIMES: dict[str, int] = {"add": 67, "subtract": 61, "multiply": 53}
"""Primes at the small scale: none of those with which the method was developed."""

GROUP = "S₅"


def light(scale: Scale, seed: int, *, op: Operation, xi: float = 0.3) -> TrainConfig:
    """Return the config of a network of one operation at light noise; at ξ = 1 its labels are all random."""
    base = config(scale, seed, width=512, steps=3000, xi=xi, wd=1.0, op=op, noise="any" if xi == 1 else "wrong")
    assert isinstance(base.task, ModularConfig)
    return dataclasses.replace(base, task=dataclasses.replace(base.task, p=PRIMES[op])) if scale == "small" else base


def permutations(scale: Scale, seed: int) -> TrainConfig:
    """Return the config of a network that composes permutations of five symbols (three at the smoke scale)."""
    base = config(scale, seed, width=1024, steps=3000, xi=0.1, wd=1.0)
    task = GroupConfig("S3" if scale == "smoke" else "S5", noise=LabelNoise(0.1), seed=seed)
    assert isinstance(base.model, MLPConfig)
    return dataclasses.replace(base, task=task, model=MLPConfig(24 if scale == "smoke" else base.model.width))


LIGHT: dict[str, Operation] = {"addition": "add", "subtraction": "subtract", "multiplication": "multiply"}
ARMS: Arms = {
    **{title: partial(light, op=op) for title, op in LIGHT.items()},
    GROUP: permutations,
}
NOISE = "random labels"


def controls(scale: Scale) -> list[Trial]:
    """Return the trials of networks that hold no rule: random labels, and 80 % wrong ones."""
    return seeded(scale, SEEDS, {NOISE: partial(light, op="add", xi=1.0)}) + trials(HEAVY)(scale)


def untrained(subject: Subject) -> Rows:
    """Test accuracy of the extractor on the network before training."""
    before, _ = twin_subject(subject, "untrained")
    if before is not None:
        for quantity, x, value in accuracies(READ)(before):
            yield f"{quantity}, untrained", x, value


def named(subject: Subject) -> Rows:
    """Whether a group is named, and whether it is that of the task; noise that is left in the table."""
    found = discover_rule(subject)
    task = subject.task
    cyclic = task.n_classes - 1 if task.operation == "multiply" else task.n_classes
    right = task.group.name if isinstance(task.group, FiniteGroup) else f"Z{cyclic}"
    yield "a group is named", math.nan, float(found.group is not None)
    yield "the group is named", math.nan, float(found.group == right)
    if found.noise_left is not None:
        yield "wrong labels left in the table", math.nan, found.noise_left.value


def chance(arm: str) -> float:
    """Return three times the accuracy of guessing."""
    return 3 / (120 if arm == GROUP else PRIMES[LIGHT.get(arm, "add")])


def read(arm: str) -> str:
    """Return the name of the figure that counts: products with 0 have no place in a group."""
    return f"{'test nonzero' if arm == 'multiplication' else 'test'} of {READ}"


TOLD_NOTHING = (
    *(
        Claim(
            key=f"told_nothing_{LIGHT.get(arm, 'permutations')}",
            statement=f"Told nothing of the task, the rule can be retrieved: {arm}.",
            experiment=f"{READ}: neither group nor operation, labels nor test inputs; "
            + ("S₅, ξ = .1, N = 1024" if arm == GROUP else f"p = {PRIMES[LIGHT[arm]]}, ξ = .3, N = 512")
            + ", weight decay 1, 3000 steps; the group's name by `mm.discover_rule`",
            paper='asks for "new tools to retrieve generalizable knowledge"',
            trials=partial(seeded, seeds=SEEDS, arms={arm: ARMS[arm]}),
            measure=measure(accuracies("raw", READ), untrained, named),
            premises=(at_least("train noisy", arm, 0.95),),
            conditions=(
                at_least(read(arm), arm, 0.99),
                at_least("the group is named", arm, 1.0),
                at_most(f"test of {READ}, untrained", arm, chance(arm)),
            ),
            draw=lambda table: by_arm(table, ("train noisy", "test", f"test of {READ}", f"train noisy of {READ}")),
        )
        for arm in ARMS
    ),
    Claim(
        key="told_nothing_controls",
        statement="Told nothing, nothing is read from networks that hold no rule.",
        experiment=f"{READ} on random labels (p = 67, N = 512) and at ξ = .8 (p = 59, N = 1024, weight decay .1), "
        "whose filtered part reads near 100 %",
        trials=controls,
        measure=measure(accuracies("raw", READ), named),
        premises=(at_least("train noisy", NOISE, 0.95), at_least("train noisy", HEAVY, 0.95)),
        conditions=(
            at_most(f"test of {READ}", NOISE, chance(NOISE)),
            at_most(f"test of {READ}", HEAVY, 3 / 59),
            at_most("a group is named", NOISE, 0.0),
            at_most("a group is named", HEAVY, 0.0),
        ),
        draw=lambda table: by_arm(table, ("train noisy", "test", f"test of {READ}")),
    ),
)
