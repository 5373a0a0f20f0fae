"""Quality of influence estimates: how well they predict what training without examples does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.core.arguments import checked
from mechmem.core.config import check_different, check_whole
from mechmem.core.ids import check_distinct
from mechmem.core.randomness import derive_seed, generator
from mechmem.core.results import Result
from mechmem.core.stats import UNKNOWN, Estimate, bootstrap, check_resamples, proportion, rank_correlation
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.tables import Table
from mechmem.core.task import Ids
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.examples.influence import TURN_OVER, Influence, influence
from mechmem.examples.influence_score import places_in
from mechmem.examples.leave_one_out import leave_one_out
from mechmem.examples.subset_networks import networks_on_subsets
from mechmem.examples.table import example_scores
from mechmem.math.attribution import datamodeling_score
from mechmem.math.logits import log_odds
from mechmem.models.reading.forward import logits_of
from mechmem.plotting.bars import dots
from mechmem.training.progress import counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

SIMPLE, RANDOM = "grad_dot", "random"
"""The baselines in every table: products of gradients, and numbers drawn at random."""

LDS, LEFT_OUT, FLIPPED = "lds", "leave_one_out", "flipped"
SELF = {TURN_OVER: "self_influence"}
"""Methods whose influence of an example on itself is a score of another name."""

TITLES = {
    LDS: "linear datamodeling score",
    LEFT_OUT: "correlation with<br>leaving one out",
    FLIPPED: "predictions flipped",
}
MOST_TARGETS = 100


@record
@dataclasses.dataclass(frozen=True, eq=False)
class AttributionQuality(Result):
    """How well methods of influence predict the results of other trainings.

    Attributes:
        table: one row per method and figure (see `to_frame`).
        targets: the test examples whose predictions were attributed. Shape (target).
        networks: number of networks trained on random subsets.
        fraction: share of the training examples in each subset.
    """

    table: Table
    targets: Int[Tensor, " target"]
    networks: int
    fraction: float

    def to_frame(self) -> pd.DataFrame:
        """Return one row per method and figure: method, figure, removed, value, low, high, n.

        The figures: "lds", the linear datamodeling score, the mean over targets of Spearman's correlation over subset
        networks between the margin of the target's label and the sum of the subset's influences (interval: bootstrap
        over targets and networks); "leave_one_out", Spearman's correlation over training examples of the method's score
        of them with the loss that retraining without them adds (bootstrap over these examples); "flipped", the share of
        correctly predicted targets that retraining without the `removed` most helpful examples flips (Wilson). All
        intervals are 95 %. n is the number of targets or examples.
        """
        return self.table.frame()

    def plot(self) -> go.Figure:
        """Return a panel per figure, a row per method."""
        frame = self.to_frame().rename(columns={"method": "row"})
        frame["panel"] = [
            TITLES[figure] + (f"<br>without {removed}" if figure == FLIPPED else "")
            for figure, removed in zip(frame["figure"], frame["removed"], strict=True)
        ]
        return dots(frame, {}, x_title="95 % interval")


@checked
def attribution_quality(
    subject: Subject,
    methods: str | Sequence[str] = ("datainf", "trak"),
    targets: Ids | None = None,
    *,
    networks: int = 32,
    fraction: float = 0.5,
    left_out: int = 0,
    removals: Sequence[int] = (),
    flipped: int = 10,
    seed: int = 0,
    resamples: int = 1000,
    progress: bool = False,
) -> AttributionQuality:
    """Measure how well methods of influence predict what training without examples does, beside two baselines.

    Networks of the run's config and number of steps are trained on random subsets, and are kept in the run's directory.
    The seeds of initialisation and order vary among them, so that even a perfect method does not reach 1.

        mm.attribution_quality(network, ["trak"], networks=4, resamples=20).to_frame()

    Args:
        subject: a run that was trained from a config.
        methods: methods of `mm.influence`; "grad_dot" and random numbers are always included.
        targets: ids of test examples; by default at most 100, drawn with the seed.
        networks: number of networks trained on subsets.
        fraction: share of the training examples in each subset.
        left_out: number of training examples to leave out, one at a time; one training each, none if 0. At least 3, as
            two always correlate.
        removals: numbers of most helpful examples to remove at once; one training per method, number and target.
        flipped: number of correctly predicted targets for which examples are removed.
        seed: seed of all draws.
        resamples: number of bootstrap resamples; at least 2.
        progress: whether to show bars.

    Raises:
        MissingNeedError: the network was not trained from a config, or lacks what a method needs.
        ConfigError: methods are repeated, targets are not test examples, or a number is not allowed.
        UnknownNameError: there is no such method, or an id is not one of the task's.
    """
    task = subject.task
    for what, value, least in (("networks", networks, 2), ("flipped", flipped, 1), ("seed", seed, 0)):
        check_whole(what, value, least)
    check_whole("left_out", left_out, 0, len(task.sources))
    if left_out in (1, 2):
        raise ConfigError(f"left_out must be 0, or at least 3 for a correlation; got {left_out}")
    check_resamples(resamples)
    for count in removals:
        check_whole("number of removed examples", count, 1, len(task.sources) - 1)
    asked = [methods] if isinstance(methods, str) else list(methods)
    if not asked or RANDOM in asked:
        raise ConfigError(f"methods must be at least one, and not {RANDOM!r}; got {methods!r}")
    check_different("methods", asked)
    if subject.retrainer is None or subject.run is None:
        raise MissingNeedError("attribution_quality needs a run of mm.train, to train others like it")
    wanted = _targets(subject, targets, seed)
    names = asked if SIMPLE in asked else [*asked, SIMPLE]
    found = {name: influence(subject, targets=wanted, method=name) for name in names}
    found[RANDOM] = _random(found[names[0]], seed)
    subsets = networks_on_subsets(
        subject,
        "attribution_quality",
        networks=networks,
        fraction=fraction,
        seed=seed,
        logits=True,
        progress=progress,
    )
    assert subsets.test_logits is not None
    logits = subsets.test_logits[:, places_in(subsets.test_ids, wanted)].double()
    labels = task.given(wanted)
    margins = np.stack([log_odds(each, labels).numpy() for each in logits])
    member = subsets.member.numpy()
    rows = []
    for name, one in found.items():
        score = datamodeling_score(
            one.values.double().numpy(), member, margins, seed=derive_seed(seed, "lds"), resamples=resamples
        )
        rows.append(_row(name, LDS, 0, score))
    if left_out:
        rows += _against_leaving_out(subject, names, left_out, seed, resamples, progress)
    if removals:
        rows += _flips(subject, found, wanted, removals, flipped, progress)
    return AttributionQuality(Table.of(pd.DataFrame(rows)), wanted, networks, float(fraction))


def _targets(subject: Subject, targets: Ids | None, seed: int) -> Int[Tensor, " target"]:
    """Return test examples, of which alone the subset networks keep logits."""
    every = subject.task.test_ids
    if targets is None:
        return every[torch.randperm(len(every), generator=generator(seed, "targets"))[:MOST_TARGETS]]
    wanted = check_distinct(subject.task, targets, "targets")
    strangers = wanted[~torch.isin(wanted, every)]
    if len(strangers):
        raise ConfigError(f"targets must be test examples, but {int(strangers[0])} is not one")
    return wanted


def _random(like: Influence, seed: int) -> Influence:
    """Return the same with values drawn at random."""
    values = torch.randn(like.values.shape, generator=generator(seed, "random influence"))
    return dataclasses.replace(like, values=values, errors=None, method=RANDOM)


def _row(name: str, figure: str, removed: int, found: Estimate) -> dict[str, Any]:
    shown = {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
    return {"method": name, "figure": figure, "removed": removed, **shown}


def _against_leaving_out(
    subject: Subject, names: Sequence[str], count: int, seed: int, resamples: int, progress: bool
) -> list[dict[str, Any]]:
    """Return the correlation of influence on oneself with the loss that leaving oneself out adds."""
    retrained = leave_one_out(subject, sample=count, seed=seed, progress=progress)
    effect = retrained.effect[retrained.parts.index("full")].double().numpy()
    draws = torch.randn(len(effect), generator=generator(seed, "random self-influence"), dtype=torch.float64)
    scores = example_scores(subject, [SELF.get(name, name) for name in names])
    places = places_in(scores.ids, retrained.ids)
    own = {name: scores[SELF.get(name, name)].suspicion[places] for name in names}
    return [
        _row(
            name,
            LEFT_OUT,
            1,
            bootstrap(rank_correlation, [values.double().numpy(), effect], seed=seed, resamples=resamples),
        )
        for name, values in {**own, RANDOM: draws}.items()
    ]


def _flips(
    subject: Subject,
    found: Mapping[str, Influence],
    targets: Int[Tensor, " target"],
    removals: Sequence[int],
    most: int,
    progress: bool,
) -> list[dict[str, Any]]:
    """Return the share of correct predictions that retraining without the most helpful examples flips."""
    task, retrainer = subject.task, subject.retrainer
    assert retrainer is not None
    labels = task.given(targets)
    right = logits_of(subject.model, task, targets, subject.roles.output).argmax(1) == labels
    places = right.nonzero().flatten()[:most].tolist()
    cases = [(name, count, place) for name in found for count in removals for place in places]
    flips: dict[tuple[str, int], list[bool]] = {(name, count): [] for name in found for count in removals}
    for name, count, place in counted(cases, "retraining without the most helpful", show=progress):
        target = targets[place : place + 1]
        model = retrainer.retrained(without=found[name].helpful(int(target), count))
        answer = logits_of(model, task, target, subject.roles.output).argmax(1)
        flips[name, count].append(bool(answer != labels[place]))
    return [
        _row(name, FLIPPED, count, proportion(torch.tensor(each, dtype=torch.bool)) or UNKNOWN)
        for (name, count), each in flips.items()
    ]
