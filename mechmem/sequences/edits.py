"""What edits of a network's weights take from it: memorized sequences, and the prediction of sequences never shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.config import check_different
from mechmem.core.plugins import Surgery
from mechmem.core.results import Result
from mechmem.core.roles import Roles
from mechmem.core.stats import across_runs, proportion
from mechmem.core.storage import record
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.plotting.lines import lines
from mechmem.scorecard.extractor import RAW, extractor
from mechmem.sequences.memorized import MemorizedSequences, memorized_sequences
from mechmem.sequences.reading import columns_of, logits_in, sequence_task

if TYPE_CHECKING:
    import plotly.graph_objects as go


@record
@dataclasses.dataclass(frozen=True, eq=False)
class SequenceEdits(Result):
    """Memorized sequences and held-out ones under several edits of one network.

    Attributes:
        edits: names of the edits; the first is "raw", the network as it is.
        prefix: number of tokens from which sequences are continued.
        sequences: the memorized sequences: training sequences that the network as it is continues exactly. Shape
            (memorized).
        times: how often each is shown in an epoch. Shape (memorized).
        exact: whether each is still continued exactly. Shape (edit, memorized).
        memorized_loss: mean loss of each after its first `prefix` tokens, in nats per token. Shape (edit, memorized).
        held_out_loss: mean loss of each held-out sequence, in nats per token. Shape (edit, held_out).
        accuracy: share of held-out prefixes after which the true label is predicted: the most probable next token where
            the source is known, and else the next token. Shape (edit).
        best_loss: least possible expected loss on held-out sequences, in nats per token; NaN if it is not known.
    """

    edits: tuple[str, ...]
    prefix: int
    sequences: Int[Tensor, " memorized"]
    times: Int[Tensor, " memorized"]
    exact: Bool[Tensor, "edit memorized"]
    memorized_loss: Float[Tensor, "edit memorized"]
    held_out_loss: Float[Tensor, "edit held_out"]
    accuracy: Float[Tensor, " edit"]
    best_loss: float = math.nan

    def to_frame(self) -> pd.DataFrame:
        """Return one row per edit.

        Columns: edit; memorized, the number of sequences; exact, the share still continued exactly, with its Wilson
        interval (low, high); memorized_loss; held_out_loss; price, the rise of the held-out loss, with its Student
        interval over sequences (price_low, price_high); above_best, the held-out loss above the least possible one; and
        accuracy. Losses are in nats per token, intervals 95 %.
        """
        rows = []
        for place, edit in enumerate(self.edits):
            share = proportion(self.exact[place].numpy())
            rise = (self.held_out_loss[place] - self.held_out_loss[0]).double()
            # The unedited network has no price, and so no interval.
            price = across_runs(rise.tolist()) if place else None
            assert share is not None
            loss = float(self.held_out_loss[place].double().mean())
            rows.append(
                {
                    "edit": edit,
                    "memorized": share.n,
                    "exact": share.value,
                    "low": share.low,
                    "high": share.high,
                    "memorized_loss": float(self.memorized_loss[place].double().mean()),
                    "held_out_loss": loss,
                    "price": price.value if price else 0.0,
                    "price_low": price.low if price else 0.0,
                    "price_high": price.high if price else 0.0,
                    "above_best": loss - self.best_loss,
                    "accuracy": float(self.accuracy[place]),
                }
            )
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return, for every edit, the share of sequences still continued over the rise of the held-out loss."""
        frame = self.to_frame().rename(columns={"price": "x", "exact": "value", "edit": "series"})
        figure = lines(
            frame.drop(columns=["low", "high"]),
            x_title="rise of the held-out loss (nats per token)",
            y_title="share of memorized sequences continued exactly",
            styles={},
        )
        figure.update_yaxes(range=[-0.05, 1.05])
        return figure


@checked
def sequence_edits(
    subject: nn.Module | Subject,
    edits: Sequence[str | Surgery],
    task: Task | None = None,
    *,
    prefix: int = 8,
    group: str | None = None,
    roles: Roles | None = None,
) -> SequenceEdits:
    """Measure what edits of the weights take from a network: memorized sequences, and what it predicts elsewhere.

    An edit that removes what was memorized and leaves the rest has a share near 0 and a price near 0.

        mm.sequence_edits(network, ["low_rank(unembed.W_U,8)", "drop(ablation_effect,0.1,high)"])

    Args:
        subject: a subject of a sequence task, or a network.
        edits: surgeries by name, several in a row joined by "+", or surgeries themselves; `mechmem list` has the names.
        task: the task of a bare network.
        prefix: number of tokens from which sequences are continued.
        group: a group of the task, to whose sequences those that count as memorized are restricted.
        roles: the network's roles; by default its own.

    Raises:
        MissingNeedError: the task is not one of sequences; the network continues no training sequence exactly; or an
            edit needs something that the network does not have.
        UnknownNameError: there is no such edit or group.
        ConfigError: an edit is a readout, or two have one name; or the prefix is not shorter than the sequences.
    """
    subject = subject_of(subject, task, roles)
    own = sequence_task(subject, "sequence_edits")
    if group is not None and group not in own.group_names:
        raise UnknownNameError(f"no group {group!r}: this task's are {', '.join(map(repr, set(own.group_names)))}")
    named = [(RAW, ()), *map(_chain, edits)]
    check_different(f"edits beside {RAW!r}", [name for name, _ in named])
    chains = dict(named)
    before = memorized_sequences(subject, prefix)
    kept = before.exact(prefix) & (before.times > 0)
    if group is not None:
        kept &= torch.tensor([each == group for each in own.group_names])
    if not kept.any():
        among = "" if group is None else f" of group {group!r}"
        raise MissingNeedError(
            f"the network continues no training sequence{among} exactly from its first {prefix} tokens: there is "
            "nothing to be forgotten"
        )
    held_out, columns = own.sequences("test"), columns_of(subject, own)
    found, accuracies = list[MemorizedSequences](), list[float]()
    for name, chain in chains.items():
        edited = subject
        for surgery in chain:
            edited = surgery(edited)
        found.append(before if name == RAW else memorized_sequences(edited, prefix))
        predicted = logits_in(columns, edited, own, own.test_ids).argmax(1)
        accuracies.append(float((predicted == own.given(own.test_ids)).double().mean()))
    return SequenceEdits(
        tuple(chains),
        prefix,
        before.sequences[kept],
        before.times[kept],
        torch.stack([each.exact(prefix)[kept] for each in found]),
        torch.stack([each.losses(prefix)[kept] for each in found]).float(),
        torch.stack([each.losses(1)[held_out] for each in found]).float(),
        torch.tensor(accuracies),
        float(getattr(own, "best_loss", math.nan)),
    )


def _chain(edit: str | Surgery) -> tuple[str, tuple[Surgery, ...]]:
    """Return an edit's name and its surgeries."""
    if isinstance(edit, Surgery):
        return edit.label(), (edit,)
    parsed = extractor(edit)
    if parsed.readout.name != "logits":
        raise ConfigError(f"an edit changes weights, and {edit!r} ends with the readout {parsed.readout.label()!r}")
    return parsed.name, parsed.surgeries
