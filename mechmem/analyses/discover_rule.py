"""Discovery of the rule: the table that a network computes, and the group behind it, without being told anything."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.arguments import checked
from mechmem.core.config import check_whole
from mechmem.core.needs import TOLD_NOTHING
from mechmem.core.results import Result
from mechmem.core.stats import Estimate, proportion
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.math.logits import answers_of, check_finite, margins
from mechmem.plotting.cayley import tables
from mechmem.scorecard.extractor import extractor
from mechmem.scorecard.given_away import given_away
from mechmem.scorecard.wording import percent, percent_with_interval
from mechmem.tasks.group_names import described
from mechmem.tasks.recognition import EVERY_GROUP, Recognised, recognised

if TYPE_CHECKING:
    import plotly.graph_objects as go


@record
@dataclasses.dataclass(frozen=True, eq=False)
class DiscoveredRule(Result):
    """A network's table of answers, and the rule in it.

    Attributes:
        read: the class that the extractor reads at every pair (a, b); −1 for a pair that the task does not have. Shape
            (symbol, symbol).
        found: what the table is up to renaming its rows, columns and classes.
        given: the label given in training to each pair; −1 for other pairs, and for one that has several
            labels. Shape (symbol, symbol).
        extractor: name of the extractor.
        knows: its prior knowledge.
        noise_left: share of the wrongly labelled training pairs at which the table, as read, still has that label; None
            if there are none or it is not known which they are. About 1 for a network as it is.
        contradicted: share of the training labels in the square that the table contradicts; None if it holds no rule.
        agreement: share of held-out pairs in the square at which the table is right. Copies of training pairs, and
            pairs whose answer is the label of (b, a), are left out. None if there are none, or no rule.
    """

    read: Int[Tensor, "symbol symbol"]
    found: Recognised
    given: Int[Tensor, "symbol symbol"]
    extractor: str
    knows: tuple[str, ...]
    noise_left: Estimate | None
    contradicted: Estimate | None
    agreement: Estimate | None

    @property
    def group(self) -> str | None:
        """Name of the group, e.g. "Z59" or "S5"; None if there is no group, or none with a name."""
        return self.found.name or None

    @property
    def table(self) -> Int[Tensor, "symbol symbol"]:
        """The rule's table: as read, but for cells that were outvoted in a group's."""
        return self.found.table

    @property
    def latin(self) -> float:
        """Share of rows and columns of the square, as read, that hold every class once."""
        return (self.found.latin_rows + self.found.latin_columns) / 2

    @property
    def suspects(self) -> Bool[Tensor, "symbol symbol"]:
        """The training pairs in the square whose given label is not the rule's: wrong, if the rule is right."""
        return self.found.inside & (self.given >= 0) & (self.given != self.table)

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        found = self.found
        told = sorted(set(self.knows) - TOLD_NOTHING)
        start = f"Told {', '.join(told) or 'nothing'}, {self.extractor}"
        figures = (
            f"{self.latin:.1%} of rows and columns hold no class twice, and quadrangles agree in "
            f"{found.quadrangles:.1%} (chance {found.quadrangles_null:.1%})"
        )
        if found.kind == "none" and 0 < found.order <= EVERY_GROUP:
            return f"{start} reads a {found.order} × {found.order} table, too small to tell a rule from chance."
        if found.kind == "none":
            return f"{start} reads no rule: {figures}."
        apart = self._set_apart()
        size = f"a {found.order} × {found.order} table{f' ({apart})' if apart else ''}"
        if found.kind == "quasigroup":
            return f"{start} reads {size} of a quasigroup that is no group's isotope: {figures}."
        name = described(found.name) if found.name else f"a group of order {found.order} without a name here"
        parts = [f"{start} writes down {name} from {size}"]
        if found.outvoted:
            cells = f"{found.outvoted:,} of its {found.order**2:,} cells"
            parts.append(f"{cells} {'was' if found.outvoted == 1 else 'were'} outvoted by the others")
        if self.contradicted is not None:
            parts.append(f"it contradicts {percent(self.contradicted)} of the training labels")
        if self.agreement is not None:
            right = percent_with_interval(self.agreement)
            parts.append(f"it is right on {right} of {self.agreement.n:,} held-out pairs")
        return "; ".join(parts) + "."

    def _set_apart(self) -> str:
        found = self.found
        lines = (("row", "rows", found.rows), ("column", "columns", found.columns), ("class", "classes", found.classes))
        words = []
        for one, many, kept in lines:
            missing = int((~kept).sum())
            words += [f"{missing} {one if missing == 1 else many}"] if missing else []
        return f"{', '.join(words)} set apart" if words else ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        found = self.found
        values: dict[str, Any] = {
            "group": self.group,
            "kind": found.kind,
            "order": found.order,
            "latin": self.latin,
            "quadrangle": found.quadrangles,
            "quadrangle_null": found.quadrangles_null,
            "outvoted": found.outvoted,
            "orders": {str(order): count for order, count in found.orders.items()},
            "commuting": found.commuting,
            "centre": found.centre,
        }
        for name in ("noise_left", "contradicted", "agreement"):
            estimate = getattr(self, name)
            values[name] = None if estimate is None else dataclasses.asdict(estimate)
        return values | {"extractor": self.extractor, "knows": list(self.knows), "sentence": self.sentence}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per pair: a, b, read, rule, given (missing where there is none), in_square, a_place, b_place.

        The places are positions in the named group; missing for what was set apart.
        """
        a, b = np.indices(self.read.shape).reshape(2, -1)
        columns = {
            "a": a,
            "b": b,
            "read": self.read.flatten().numpy(),
            "rule": self.table.flatten().numpy(),
            "given": self.given.flatten().numpy(),
            "a_place": self.found.row_place.numpy()[a],
            "b_place": self.found.column_place.numpy()[b],
        }
        frame = pd.DataFrame({name: pd.array(values, dtype="Int64") for name, values in columns.items()})
        may_lack = ["read", "rule", "given", "a_place", "b_place"]
        frame[may_lack] = frame[may_lack].mask(frame[may_lack] < 0)
        frame["in_square"] = self.found.inside.flatten().numpy()
        return frame

    def plot(self) -> go.Figure:
        """Return the training labels, the table as read, and the rule in the group's order, coloured by class.

        In the third panel rows, columns and colours follow the named group's elements: a cyclic group shows as
        diagonals. Without a group it is left out.
        """
        found = self.found
        grids = {"training labels (blank: none)": self.given.numpy(), "table as read": self.read.numpy()}
        arranged = None
        if found.kind == "group":
            rows, columns = (place.argsort()[(place < 0).sum() :] for place in (found.row_place, found.column_place))
            arranged = found.class_place[self.table[rows][:, columns]].numpy()
        title = f"the rule, in the order of {found.name}" if found.name else "the rule, in the group's order"
        return tables(grids, arranged, title, len(found.class_place))


@checked
def discover_rule(subject: Subject, extractor_name: str = "", *, seed: int = 0) -> DiscoveredRule:
    """Read a network's table of answers without being told group, operation, labels or test answers, and recognise it.

    The extractor's answers at all pairs make a table whose rows, columns and classes are bare numbers. Where nothing
    but a Latin square that meets the quadrangle criterion can be found, its group is named by an explicit isomorphism
    (see `recognised`). Labels and the noise mask are only used to describe the result.

        print(mm.discover_rule(network).sentence)

    Args:
        subject: a network on pairs of symbols.
        extractor_name: the extractor; by default `shared_subspaces` with a quadratic activation and `additive_free`,
            `shared_activations` for transformers and deeper networks, and `same_answer` where only logits can be read.
        seed: seed of the quadrangles.

    Raises:
        MissingNeedError: the inputs are not pairs, or the extractor lacks something.
        UnknownNameError: there is no such extractor.
        NotFiniteError: a logit is NaN or infinite.
        ConfigError: the seed is negative.
    """
    check_whole("seed", seed, 0)
    task = subject.task
    if task.operands is None:
        raise MissingNeedError("discover_rule needs a task of pairs of symbols")
    chosen = extractor(extractor_name or default_extractor(subject))
    logits = chosen(subject)(task.ids).cpu()
    check_finite(logits, f"the logits of {chosen.name}")
    n, (a, b) = task.symbols, task.operands.T
    read, sure = torch.full((n, n), -1), torch.zeros(n, n, dtype=logits.dtype)
    answers = answers_of(logits)
    read[a, b], sure[a, b] = answers, margins(logits, answers)
    trained, labels = task.rows(task.train_ids), task.given(task.train_ids)
    pairs = a[trained], b[trained]
    given = _labels(n, pairs, labels)
    found = recognised(read, task.n_classes, seed, sure)
    inside = found.inside
    noise_left = None
    if task.noisy is not None:
        noise_left = proportion((read[pairs] == labels)[task.noisy])
    inner = inside[pairs]
    held = given_away(task)
    kept = held.unseen & inside[tuple(held.pairs.T)]
    right = found.table[tuple(held.pairs[kept].T)] == held.truth[kept]
    return DiscoveredRule(
        read=read,
        found=found,
        given=given,
        extractor=chosen.name,
        knows=tuple(sorted(chosen.knows)),
        noise_left=noise_left,
        contradicted=proportion((labels != found.table[pairs])[inner]),
        agreement=proportion(right),
    )


def _labels(n: int, pairs: tuple[Tensor, Tensor], labels: Int[Tensor, " train"]) -> Int[Tensor, "symbol symbol"]:
    """Return the label of every pair; −1 where there is none, or several that differ."""
    least, greatest = (torch.full((n * n,), -1) for _ in range(2))
    cells = pairs[0] * n + pairs[1]
    least.scatter_reduce_(0, cells, labels, "amin", include_self=False)
    greatest.scatter_reduce_(0, cells, labels, "amax", include_self=False)
    return torch.where(least == greatest, least, -1).reshape(n, n)


def default_extractor(subject: Subject) -> str:
    """Return the extractor that reads most of a network and is told nothing."""
    roles = subject.roles
    if roles.input_embedding is None or roles.readout is None or roles.residual or len(roles.hidden) > 1:
        return "shared_activations" if roles.hidden else "same_answer"
    quadratic = "+quadratic" if roles.activation is not None else ""
    return f"shared_subspaces{quadratic}+additive_free"
