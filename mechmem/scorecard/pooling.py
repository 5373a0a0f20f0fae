"""Pooled scorecard of several runs, and comparison of scorecards."""

from __future__ import annotations

import dataclasses
import html
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mechmem.core.arguments import checked
from mechmem.core.in_words import shown
from mechmem.core.results import Result
from mechmem.core.stats import Estimate, across_runs, wilson
from mechmem.core.storage import record
from mechmem.errors import ConfigError
from mechmem.plotting.accuracy import dot_plot
from mechmem.plotting.style import SPLIT_STYLES
from mechmem.scorecard.rows import Cell, Row
from mechmem.scorecard.scorecard import Scorecard
from mechmem.scorecard.structure import Structure
from mechmem.scorecard.wording import html_table

if TYPE_CHECKING:
    import plotly.graph_objects as go


def pool(cards: Sequence[Scorecard], name: str = "") -> Scorecard:
    """Pool several runs: every figure becomes its mean over runs, with a 95 % Student interval.

    Args:
        cards: scorecards with the same extractors, of runs with different seeds.
        name: name of the pooled card; by default the first card's.

    Raises:
        ConfigError: there is no card, or the cards list different extractors.
    """
    if not cards:
        raise ConfigError("there is no scorecard to pool")
    names = [tuple(row.extractor for row in card.rows) for card in cards]
    if len(set(names)) != 1:
        raise ConfigError(f"scorecards with different extractors cannot be pooled: {sorted(set(names))}")
    rows = tuple(_pool_rows([card.rows[i] for card in cards]) for i in range(len(names[0])))
    votes = tuple(
        dataclasses.replace(same[0], test=_share([vote.test for vote in same]))
        for same in zip(*(card.votes for card in cards), strict=True)
    )
    task = {key: value for key, value in cards[0].task.items() if all(c.task.get(key) == value for c in cards)}
    return Scorecard(
        name=name or cards[0].name,
        task=task | {"runs": len(cards)},
        chance=cards[0].chance,
        rows=rows,
        votes=votes,
        structure=_pool_structures([card.structure for card in cards]),
        verdicts=tuple(verdict for card in cards for verdict in card.verdicts),
    )


def _pool_rows(rows: Sequence[Row]) -> Row:
    first = rows[0]
    splits = {name: _pool_cells([row.splits[name] for row in rows]) for name in first.splits}
    controls = {name: _pool_cells([row.controls[name] for row in rows]) for name in first.controls}
    return dataclasses.replace(first, splits=splits, controls=controls, n_test=min(row.n_test for row in rows))


def _pool_cells(cells: Sequence[Cell]) -> Cell:
    mean = _share([cell.estimate for cell in cells])
    return Cell(mean, "" if mean is not None else next(cell.reason for cell in cells))


def _mean(estimates: Sequence[Estimate | None]) -> Estimate | None:
    return across_runs([estimate.value for estimate in estimates if estimate is not None])


def _share(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """Pool shares, with Student's interval clipped to 0 … 1, or Wilson's of all outcomes together if runs agree.

    Runs that all have 100 % show no spread, which does not make the next one certain.
    """
    known, mean = [estimate for estimate in estimates if estimate is not None], _mean(estimates)
    if mean is None:
        return None
    if len(known) > 1 and mean.high - mean.low < 1e-12:
        n = sum(estimate.n for estimate in known)
        together = wilson(round(mean.value * n), n)
        return mean if together is None else dataclasses.replace(mean, low=together.low, high=together.high)
    return dataclasses.replace(mean, low=max(mean.low, 0.0), high=min(mean.high, 1.0))


def _pool_structures(structures: Sequence[Structure]) -> Structure:
    verdicts = {structure.verdict for structure in structures}
    means = {
        name: _plain_mean([getattr(structure, name) for structure in structures])
        for name in ("Z", "reference_kappa", "Z_unexplained", "margin", "largest_other_S")
    }
    return dataclasses.replace(
        structures[0],
        S=_mean([structure.S for structure in structures]),
        kappa=_mean([structure.kappa for structure in structures]),
        heldout_vote=_share([structure.heldout_vote for structure in structures]),
        verdict=structures[0].verdict if len(verdicts) == 1 else "mixed",
        reason="; ".join(dict.fromkeys(structure.reason for structure in structures if structure.reason)),
        **means,
    )


def _plain_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Comparison(Result):
    """Several scorecards side by side.

    Attributes:
        cards: the scorecards, in the order given.
    """

    cards: tuple[Scorecard, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per network and extractor, with the columns of `Scorecard.to_frame`, `name` and `verdict`."""
        frames = [card.to_frame().assign(verdict=card.verdict) for card in self.cards]
        labels = [card.name for card in self.cards]
        return pd.concat(frames, keys=labels, names=["name", None]).reset_index(level="name").reset_index(drop=True)

    def plot(self) -> go.Figure:
        """Return a dot plot of test accuracy, one series per network."""
        parts = []
        for card in self.cards:
            frame = card.intervals()
            parts.append(frame[frame["series"] == "test"].assign(series=card.name))
        looks = itertools.cycle(SPLIT_STYLES.values())
        styles = {card.name: dataclasses.replace(next(looks), title=card.name) for card in self.cards}
        return dot_plot(pd.concat(parts), chance=self.cards[0].chance, styles=styles)

    def _repr_html_(self) -> str:
        return "".join(f"<h4>{html.escape(card.name)}</h4>{html_table(card)}" for card in self.cards)


@checked
def compare(cards: Sequence[Scorecard]) -> Comparison:
    """Set scorecards side by side.

        mm.compare([mm.audit(network), mm.audit(other)]).plot()

    Raises:
        ConfigError: there is no scorecard, or two have the same name.
    """
    cards = tuple(cards)
    if not all(isinstance(card, Scorecard) for card in cards):
        raise ConfigError("compare takes scorecards, the results of audit")
    check_names([card.name for card in cards])
    return Comparison(cards)


def check_names(names: Sequence[str]) -> None:
    """Refuse names of scorecards by which a comparison could not tell them apart.

    Raises:
        ConfigError: there is no name, or two are the same.
    """
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"compare needs scorecards with different names, got {shown(names)}")
