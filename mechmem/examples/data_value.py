"""Value of training examples: test accuracy and loss after training without some of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.arguments import checked
from mechmem.core.config import check_choice, check_whole
from mechmem.core.ids import check_sources
from mechmem.core.randomness import generator
from mechmem.core.results import Result
from mechmem.core.stats import across_runs
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Ids
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.examples.table import ExampleTable
from mechmem.math.logits import correct_of
from mechmem.models.reading.forward import logits_of
from mechmem.plotting.bars import dots
from mechmem.training.progress import counted

if TYPE_CHECKING:
    import plotly.graph_objects as go

NOTHING = "nothing"
"""The row of the networks that are trained on all examples."""
RANDOM = "random"
KINDS = ("suspect", RANDOM, "wrong", "difficult", "easy")
MOST_SEEDS = 10**4
PANELS = {"accuracy": "test accuracy", "loss": "test loss (nats)"}


@record
@dataclasses.dataclass(frozen=True, eq=False)
class DataValue(Result):
    """Test accuracy and loss of networks that were trained without some examples.

    Attributes:
        names: name of each removal; the first is "nothing".
        counts: number of examples removed. Shape (removal).
        seeds: seeds of initialisation and order. Shape (seed).
        accuracy: test accuracy of each network. Shape (removal, seed).
        loss: its mean cross-entropy on the test set, in nats. Shape (removal, seed).
    """

    names: tuple[str, ...]
    counts: Int[Tensor, " removal"]
    seeds: Int[Tensor, " seed"]
    accuracy: Float[Tensor, "removal seed"]
    loss: Float[Tensor, "removal seed"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per removal and quantity.

        Columns: removed, count, quantity, value, low, high, more, more_low, more_high. Values are means over seeds with
        95 % Student intervals; `more` is the difference from the networks of the same seeds trained on all examples.
        """
        rows = []
        for number, name in enumerate(self.names):
            for quantity in PANELS:
                values = getattr(self, quantity).double().numpy()
                row = {"removed": name, "count": int(self.counts[number]), "quantity": quantity}
                row |= _mean(values[number], "value", "low", "high")
                rows.append(row | _mean(values[number] - values[0], "more", "more_low", "more_high"))
        return pd.DataFrame(rows)

    def compare(self, one: str, other: str, quantity: str = "accuracy") -> dict[str, float]:
        """Return the difference in a quantity between removal `one` and removal `other`, as value, low, high.

        Raises:
            ConfigError: there is no such removal.
            UnknownNameError: the quantity is neither "accuracy" nor "loss".
        """
        check_choice("quantity", quantity, PANELS)
        for name in (one, other):
            if name not in self.names:
                raise ConfigError(f"no removal {name!r}; one of {', '.join(self.names)}")
        values = getattr(self, quantity).double().numpy()
        return _mean(values[self.names.index(one)] - values[self.names.index(other)], "value", "low", "high")

    def plot(self) -> go.Figure:
        """Return accuracy and loss by removal, with a line at the networks trained on all examples."""
        frame = self.to_frame()
        labels = [
            name if name == NOTHING else f"{name} ({count})"
            for name, count in zip(frame["removed"], frame["count"], strict=True)
        ]
        frame = frame.assign(row=labels, panel=[PANELS[each] for each in frame["quantity"]])
        whole = frame.loc[frame["removed"] == NOTHING].set_index("panel")["value"]
        return dots(
            frame, {"all examples": {panel: float(whole[panel]) for panel in PANELS.values()}}, x_title="mean (95 %)"
        )


def _mean(values: Float[np.ndarray, " seed"], *names: str) -> dict[str, float]:
    found = across_runs(values.tolist())
    assert found is not None
    return dict(zip(names, (found.value, found.low, found.high), strict=True))


@checked
def choose_removals(
    table: ExampleTable, score: str, count: int, *, kinds: Sequence[str] | None = None, seed: int = 0
) -> dict[str, Int[Tensor, " chosen"]]:
    """Choose examples to remove by a score, the same number of each kind.

        table = mm.example_scores(network, "margin")
        removed = mm.choose_removals(table, "margin", 5)

    Args:
        table: scores of the training examples.
        score: name of the score that ranks them.
        count: number of examples of each kind.
        kinds: which kinds; by default every kind with enough examples.
        seed: seed of the random kind.

    Returns:
        the ids of each kind. "suspect" are the most suspect by the score, whatever their labels; "random" are drawn
        from all. If the wrong labels are known, "wrong" are wrongly labelled examples, the most suspect first;
        "difficult" and "easy" are the most and the least suspect of the correctly labelled ones, at most half of them
        each.

    Raises:
        ConfigError: a requested kind has too few examples, no kind has enough, or a kind needs true labels.
        UnknownNameError: there is no such kind, or the score is not in the table.
        ScoreError: the score could not be computed.
    """
    check_whole("count", count, 1)
    check_whole("seed", seed, 0)
    order = table.ids[torch.argsort(table[score].suspicion, stable=True, descending=True)]
    shuffled = table.ids[torch.randperm(len(table.ids), generator=generator(seed, "removals"))]
    found = {"suspect": order, RANDOM: shuffled}
    if table.true is not None:
        noisy = torch.isin(order, table.ids[table.true != table.given])
        right = order[~noisy]
        # At most half for each kind, so that no example is both.
        found |= {
            "wrong": order[noisy],
            "difficult": right[: len(right) // 2],
            "easy": right.flip(0)[: len(right) // 2],
        }
    for name in () if kinds is None else kinds:
        check_choice("kind of examples", name, KINDS)
        if name not in found:
            raise ConfigError(f"the kind {name!r} needs true labels, which are not known")
    # With kinds=None at least the random kind must be large enough.
    for name in (RANDOM,) if kinds is None else kinds:
        if len(found[name]) < count:
            raise ConfigError(f"{count} {name} examples cannot be removed: there are only {len(found[name])}")
    return {name: ids[:count] for name, ids in found.items() if (kinds is None or name in kinds) and len(ids) >= count}


@checked
def data_value(
    subject: Subject,
    removed: Mapping[str, Ids],
    *,
    seeds: int | Sequence[int] = 3,
    progress: bool = False,
) -> DataValue:
    """Train again without some examples, with several seeds, and compare on the test set.

        removed = mm.choose_removals(mm.example_scores(network, "margin"), "margin", 5)
        mm.data_value(network, removed).plot()

    Args:
        subject: a run; its networks are trained again for the same number of steps.
        removed: ids of training examples by name, e.g. those of `removals`.
        seeds: number of seeds of initialisation and order, or the seeds; the same for every removal.
        progress: whether to show a bar.

    Raises:
        MissingNeedError: the training config or the true labels of the test set are not known.
        ConfigError: nothing or everything is removed, an id is repeated or not that of a training example, or a name is
            reserved.
        UnknownNameError: an id is not one of the task's.
    """
    if subject.retrainer is None:
        raise MissingNeedError("data_value needs the training config: a run of mm.train")
    task = subject.task
    truth = task.true(task.test_ids)
    if truth is None:
        raise MissingNeedError("data_value needs the true labels of the test set, which are not known")
    if not isinstance(removed, Mapping) or not removed or NOTHING in removed:
        got = list(removed) if isinstance(removed, Mapping) else f"a {type(removed).__name__}"
        raise ConfigError(f"data_value takes ids to remove by name, other than {NOTHING!r}; got {got}")
    chosen = {name: check_sources(task, ids, f"the ids of {name!r}") for name, ids in removed.items()}
    everything = next((name for name, ids in chosen.items() if len(ids) == len(task.sources)), None)
    if everything is not None:
        raise ConfigError(f"the ids of {everything!r} are all training examples: none would be left to train on")
    if not isinstance(seeds, Sequence):
        check_whole("number of seeds", seeds, 1, MOST_SEEDS)
    used = list(seeds) if isinstance(seeds, Sequence) else list(range(seeds))
    for seed in used:
        check_whole("seed", seed, 0)
    if not used or len(set(used)) < len(used):
        raise ConfigError(f"seeds must be distinct, at least one; got {seeds!r}")
    runs = [(name, seed) for name in (NOTHING, *chosen) for seed in used]
    figures = torch.full((len(runs), 2), math.nan, dtype=torch.float64)
    for row, (name, seed) in zip(figures, counted(runs, "training without", show=progress), strict=True):
        model = subject.retrainer.retrained(without=chosen.get(name), seed=seed)
        logits = logits_of(model, task, task.test_ids, subject.roles.output).double()
        row[0] = correct_of(logits, truth).mean()
        row[1] = F.cross_entropy(logits, truth)
    accuracy, loss = figures.T.reshape(2, -1, len(used))
    counts = torch.tensor([0, *map(len, chosen.values())])
    return DataValue((NOTHING, *chosen), counts, torch.tensor(used), accuracy, loss)
