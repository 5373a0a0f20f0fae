"""Which sequences a network continues from a prefix, beside sequences that it was never shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.config import check_different, check_whole
from mechmem.core.results import Result
from mechmem.core.roles import Roles
from mechmem.core.stats import across_runs, proportion
from mechmem.core.storage import record
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Ids, Task, check_places
from mechmem.errors import ConfigError, unknown_name
from mechmem.math.blocks import blocks
from mechmem.models.reading.forward import check_logits
from mechmem.plotting.lines import lines
from mechmem.sequences.reading import columns_of, logits_in, sequence_task
from mechmem.tasks.sequences import AFTER, SequenceTask

if TYPE_CHECKING:
    import plotly.graph_objects as go

BLOCK_LOGITS = 2**22
"""Most logits that are held at once."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class MemorizedSequences(Result):
    """Which sequences a network continues, token by token.

    A sequence is continued exactly from its first k tokens if the most probable next token, appended again and again,
    gives the rest of it (extractable memorization: Carlini et al. 2021, arXiv 2012.07805; 2022, arXiv 2202.07646). That
    is so if every token after the first k is the most probable one after the true tokens before it: up to its first
    error, a continuation is the sequence. So one pass over the sequences answers for all k, and nothing is generated.

    Attributes:
        sequences: the sequences' numbers in the task. Shape (sequence).
        times: how often each is shown in an epoch. Shape (sequence).
        groups: the group of each.
        parts: of each "train", "test" or "control".
        prefixes: numbers of tokens from which sequences are continued.
        right: whether each token but the first is the most probable one after those before it, among all tokens of the
            network. Shape (sequence, position).
        loss: −ln of the probability of each token but the first, in nats; as the network gives it, also to tokens that
            the task does not have (see `NextToken`). Shape (sequence, position).
    """

    sequences: Int[Tensor, " sequence"]
    times: Int[Tensor, " sequence"]
    groups: tuple[str, ...]
    parts: tuple[str, ...]
    prefixes: tuple[int, ...]
    right: Bool[Tensor, "sequence position"]
    loss: Float[Tensor, "sequence position"]

    def exact(self, prefix: int) -> Bool[Tensor, " sequence"]:
        """Return which sequences are continued exactly from their first tokens."""
        return self.right[:, self._from(prefix) :].all(1)

    def continued(self, prefix: int) -> Int[Tensor, " sequence"]:
        """Return how many tokens of each sequence are continued from its first tokens before the first error."""
        return self.right[:, self._from(prefix) :].long().cumprod(1).sum(1)

    def losses(self, prefix: int) -> Float[Tensor, " sequence"]:
        """Return the mean loss of each sequence's tokens after the first ones, in nats."""
        return self.loss[:, self._from(prefix) :].double().mean(1)

    def _from(self, prefix: int) -> int:
        check_whole("prefix", prefix, 1, self.right.shape[1])
        return prefix - 1

    def others(self, group: str) -> Bool[Tensor, " sequence"]:
        """Return the never-shown sequences of a group: its controls, or else its held-out sequences.

        Raises:
            UnknownNameError: there is no such group.
        """
        if group not in self.groups:
            raise unknown_name("group of sequences", group, set(self.groups))
        own = [each == group for each in self.groups]
        found = {
            part: torch.tensor([here and each == part for here, each in zip(own, self.parts, strict=True)])
            for part in ("control", "test")
        }
        return found["control"] if found["control"].any() else found["test"]

    def ranks(self, prefix: int) -> Float64[Tensor, " sequence"]:
        """Return the rank of each shown sequence's loss among the never-shown ones of its group, from 1 on.

        NaN for sequences that are not shown, and where there are none to compare with.
        """
        return self._ranked(prefix)[0]

    def _ranked(self, prefix: int) -> tuple[Float64[Tensor, " sequence"], Float64[Tensor, " sequence"]]:
        """Return the ranks, and the number of sequences among which each was ranked."""
        losses = self.losses(prefix)
        ranks, among = torch.full_like(losses, math.nan), torch.full_like(losses, math.nan)
        for group in set(self.groups):
            others = losses[self.others(group)].sort()[0]
            rows = torch.tensor([each == group for each in self.groups]) & (self.times > 0)
            if len(others):
                ranks[rows] = 1.0 + torch.searchsorted(others, losses[rows], right=True).double()
                among[rows] = float(len(others))
        return ranks, among

    def exposures(self, prefix: int) -> Float64[Tensor, " sequence"]:
        """Return log₂(m + 1) − log₂(rank) of each shown sequence among the m never-shown ones of its group, in bits.

        Between 0 and log₂(m + 1); 1 / ln 2 on average of a sequence that the network treats like one never shown
        (Carlini et al. 2019, arXiv 1802.08232, with m sampled canaries).
        """
        ranks, among = self._ranked(prefix)
        return (among + 1).log2() - ranks.log2()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per sequence and prefix.

        Columns: sequence, part, group, times, prefix, exact, continued (tokens before the first error), loss (nats per
        token after the prefix), rank and exposure (among sequences never shown).
        """
        about = {"sequence": self.sequences.numpy(), "part": self.parts, "group": self.groups}
        about |= {"times": self.times.numpy()}
        found = [
            pd.DataFrame(about).assign(
                prefix=prefix,
                exact=self.exact(prefix).numpy(),
                continued=self.continued(prefix).numpy(),
                loss=self.losses(prefix).numpy(),
                rank=self.ranks(prefix).numpy(),
                exposure=self.exposures(prefix).numpy(),
            )
            for prefix in self.prefixes
        ]
        return pd.concat(found, ignore_index=True)

    def by_times(self) -> pd.DataFrame:
        """Return one row per part, group, number of times shown, and prefix.

        Columns: part, group, times, prefix, n, exact with its Wilson interval (low, high), the mean loss, and the mean
        exposure with its Student interval (exposure, exposure_low, exposure_high); 95 %, over sequences.
        """
        rows = []
        frame = self.to_frame()
        for key, own in frame.groupby(["part", "group", "times", "prefix"], sort=False):
            share = proportion(own["exact"].to_numpy())
            assert share is not None
            mean = across_runs(own["exposure"].dropna().tolist())
            exposure = (math.nan,) * 3 if mean is None else (mean.value, mean.low, mean.high)
            told = key if isinstance(key, tuple) else (key,)
            rows.append((*told, share.n, share.value, share.low, share.high, own["loss"].mean(), *exposure))
        interval = ["exposure", "exposure_low", "exposure_high"]
        columns = ["part", "group", "times", "prefix", "n", "exact", "low", "high", "loss", *interval]
        return pd.DataFrame(rows, columns=columns).sort_values(["part", "group", "times", "prefix"], ignore_index=True)

    def plot(self) -> go.Figure:
        """Return the share of sequences continued exactly over the number of times shown, one line per prefix."""
        drawn = (
            self.by_times().sort_values(["group", "prefix", "times"]).rename(columns={"times": "x", "exact": "value"})
        )
        drawn["series"] = [f"first {prefix} tokens given" for prefix in drawn["prefix"]]
        if len(set(self.groups)) > 1:
            drawn["panel"] = drawn["group"]
        return lines(drawn, x_title="times shown in an epoch", y_title="share continued exactly", styles={}, log_x=True)


@checked
def memorized_sequences(
    subject: nn.Module | Subject,
    prefix: int | Sequence[int] | None = None,
    task: Task | None = None,
    *,
    roles: Roles | None = None,
) -> MemorizedSequences:
    """Measure which sequences a network continues exactly from their first tokens, and how they compare with others.

        found = mm.memorized_sequences(network, [4, 8, 16])
        found.by_times()

    Args:
        subject: a subject of a sequence task, or a network.
        prefix: number of tokens that are given, or several; by default the powers of 2 below the sequences' length.
        task: the task of a bare network.
        roles: the network's roles; by default its own.

    Raises:
        MissingNeedError: the task is not one of sequences.
        ConfigError: a prefix is not shorter than the sequences, or the network is not causal.
        NotFiniteError: a logit is NaN or infinite.
    """
    subject = subject_of(subject, task, roles)
    own = sequence_task(subject, "memorized_sequences")
    length = own.tokens.shape[1]
    several = [2**power for power in range(length) if 2**power < length] if prefix is None else prefix
    asked = (several,) if isinstance(several, int) else tuple(several)
    for each in asked:
        check_whole("prefix", each, 1)
        if each >= length:
            raise ConfigError(f"prefix must be shorter than the sequences of {length} tokens, got {each}")
    if not asked:
        raise ConfigError("prefix must be at least one number of tokens, got none")
    check_different("prefix", asked)
    columns = columns_of(subject, own)
    right = torch.empty(len(own.tokens), own.positions, dtype=torch.bool)
    loss = torch.empty(len(own.tokens), own.positions)
    for part in blocks(len(own.tokens), max(1, BLOCK_LOGITS // (own.positions * columns))):
        ids = own.ids_of(torch.arange(part.start, part.stop))
        logits = logits_in(columns, subject, own, ids)
        check_logits(logits, ids)
        following = own.tokens[part, 1:].flatten()
        nats = -logits.double().log_softmax(1).gather(1, rearrange(following, "example -> example 1"))[:, 0]
        shape = right[part].shape
        right[part], loss[part] = (logits.argmax(1) == following).reshape(shape), nats.float().reshape(shape)
    numbers = torch.arange(len(own.tokens))
    return MemorizedSequences(numbers, own.times, own.group_names, own.parts, asked, right, loss)


@checked
def continuations(subject: Subject, sequences: Ids, prefix: int) -> Int[Tensor, "sequence token"]:
    """Return sequences as a network continues them from their first tokens, by the most probable token each time.

        task.text(mm.continuations(network, [3], prefix=8)[0])

    Args:
        subject: a subject of a sequence task.
        sequences: numbers of sequences of the task.
        prefix: number of tokens that are given.

    Returns:
        the sequences, each with its first tokens and what the network appends to them; with tokens that the task does
        not have, if a model with further columns (see `NextToken`) says them.

    Raises:
        MissingNeedError: the task is not one of sequences.
        UnknownNameError: there is no such sequence.
        ConfigError: the prefix is not shorter than the sequences.
    """
    task = sequence_task(subject, "continuations")
    check_whole("prefix", prefix, 1)
    if prefix >= task.tokens.shape[1]:
        raise ConfigError(f"prefix must be shorter than the sequences of {task.tokens.shape[1]} tokens, got {prefix}")
    columns = columns_of(subject, task)
    found = task.tokens[task.sequence_of(task.ids_of(sequences)[:: task.positions])].clone()
    for place in range(prefix, found.shape[1]):
        given = _Given(task, found[:, : task.positions].masked_fill(torch.arange(task.positions) >= place, AFTER))
        found[:, place] = logits_in(columns, subject, given, given.ids).argmax(1)
    return found


class _Given(Task):
    """Prefixes that are not a task's own, as the examples of a task."""

    def __init__(self, task: SequenceTask, prefixes: Int[Tensor, "example position"]):
        self._prefixes, self.n_classes, self._digest = prefixes, task.n_classes, task.digest
        self.ids = self.train_ids = self.test_ids = torch.arange(len(prefixes))

    def batch(
        self, ids: Ids, step: int | None = None
    ) -> tuple[Int[Tensor, "example position"], Int[Tensor, " example"]]:
        """Return prefixes; the labels say nothing."""
        ids = check_places(ids, len(self._prefixes))
        return self._prefixes[ids], torch.zeros_like(ids)

    def true(self, ids: Ids) -> None:
        """Return None."""

    @property
    def digest(self) -> str:
        """The task's."""
        return self._digest
