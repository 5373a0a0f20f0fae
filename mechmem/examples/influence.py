"""Influence of each training example on the predictions for others, by turn-over dropout or another method."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.alike import check_alike, check_same_examples
from mechmem.core.arguments import checked
from mechmem.core.config import check_whole
from mechmem.core.ids import check_distinct, check_sources
from mechmem.core.inputs import Inputs, run_on
from mechmem.core.plugins import named
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Ids
from mechmem.errors import ConfigError, LeakError, NotFiniteError, unknown_name
from mechmem.examples.influence_score import InfluenceScore, influence_scores
from mechmem.math.blocks import blocks
from mechmem.models.hooks.running import block_rows, device_of, evaluating, full_precision
from mechmem.models.networks.masks import Part
from mechmem.models.networks.subnetworks import subnetwork
from mechmem.models.reading.separate import check_subject
from mechmem.plotting.matrices import influence_map
from mechmem.training.isolation import isolation
from mechmem.training.progress import counted

if TYPE_CHECKING:
    import plotly.graph_objects as go


TURN_OVER = "turn_over"
"""The method that needs no estimate, but a network with turn-over dropout."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Influence(Result):
    """Influence of each training example on each target.

    Attributes:
        sources: the training examples. Shape (source).
        targets: the examples whose loss is measured. Shape (target).
        values: positive if the source helps. By turn-over dropout L(f^{1−m(z)}, target) − L(f^{m(z)}, target), where L
            is the cross-entropy with the target's given label (for a test example the true one); by another method what
            that estimates as the effect of training on the source z. Shape (target, source).
        errors: standard error of the mean over networks; None for a single network. Shape (target, source).
        networks: number of networks (mask seeds) averaged over.
        source_labels: the labels given to the sources. Shape (source).
        target_labels: those of the targets. Shape (target).
        note: the accepted leaks, remarks on the estimate, or "".
        method: "turn_over", or the name of another method.
        unit: unit of the values.
    """

    sources: Int[Tensor, " source"]
    targets: Int[Tensor, " target"]
    values: Float[Tensor, "target source"]
    errors: Float[Tensor, "target source"] | None
    networks: int
    source_labels: Int[Tensor, " source"]
    target_labels: Int[Tensor, " target"]
    note: str = ""
    method: str = TURN_OVER
    unit: str = "nats"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per pair: target, source, influence, error (NaN for a single network), same_label."""
        targets, sources = self.values.shape
        errors = torch.full_like(self.values, torch.nan) if self.errors is None else self.errors
        same = self.target_labels[:, None] == self.source_labels[None, :]
        return pd.DataFrame(
            {
                "target": np.repeat(self.targets.numpy(), sources),
                "source": np.tile(self.sources.numpy(), targets),
                "influence": self.values.flatten().numpy(),
                "error": errors.flatten().numpy(),
                "same_label": same.flatten().numpy(),
            }
        )

    def helpful(self, target: int, count: int = 5) -> Int[Tensor, " chosen"]:
        """Return the ids of the sources that help a target most, the most helpful first.

        Raises:
            ConfigError: it is no target.
        """
        return self._extreme(target, count, descending=True)

    def harmful(self, target: int, count: int = 5) -> Int[Tensor, " chosen"]:
        """Return the ids of the sources that harm a target most, the most harmful first.

        Raises:
            ConfigError: it is no target.
        """
        return self._extreme(target, count, descending=False)

    def _extreme(self, target: int, count: int, *, descending: bool) -> Int[Tensor, " chosen"]:
        check_whole("number of examples", count, 1)
        row = (self.targets == target).nonzero().flatten()
        if not len(row):
            raise ConfigError(f"example {target} is not one of the {len(self.targets)} targets")
        order = torch.argsort(self.values[row[0]], stable=True, descending=descending)
        return self.sources[order[:count]]

    def plot(self) -> go.Figure:
        """Return the matrix, targets and sources ordered by label, as a heatmap of at most 400 rows and columns."""
        order = [torch.argsort(labels, stable=True) for labels in (self.target_labels, self.source_labels)]
        values = self.values[order[0]][:, order[1]]
        targets, sources = self.target_labels[order[0]], self.source_labels[order[1]]
        return influence_map(values.numpy(), targets.numpy(), sources.numpy(), self.unit)


@checked
def influence(
    subjects: Subject | Sequence[Subject],
    sources: Ids | None = None,
    targets: Ids | None = None,
    *,
    method: str = TURN_OVER,
    accept_leaks: bool = False,
    progress: bool = False,
) -> Influence:
    """Measure the influence of training examples on the predictions for other examples.

    By turn-over dropout, I(target, z) = L(f^{1−m(z)}, target) − L(f^{m(z)}, target): the loss of the subnetwork not
    trained on z minus that of the subnetwork trained on z. Each source costs two forward passes over all targets.
    (Kobayashi et al. 2020, arXiv 2012.04207, equation 6.) The other methods estimate the effect of training on z in any
    network: they are the scores of examples "grad_dot", "datainf", "ekfac_influence", "trak" and "knn_shapley", with
    their settings.

        mm.influence(network, targets=network.task.test_ids[:10]).plot()
        mm.influence(network, targets=network.task.test_ids[:10], method="datainf(damping=0.01)").to_frame()

    Args:
        subjects: a network, with turn-over dropout for this method; or several with the same training set and other
            seeds (of the masks), over which the influence is averaged.
        sources: ids of training examples; by default all, without their fixed views.
        targets: ids of any examples; by default the test set.
        method: "turn_over", or a score that can be read for any target, by name.
        accept_leaks: measure by turn-over dropout although examples affect units outside their mask (see `isolation`).
        progress: whether to show a bar, by turn-over dropout.

    Raises:
        MissingNeedError: a network lacks what the method needs, such as turn-over dropout.
        LeakError: a network is not isolated, and `accept_leaks` is false.
        ConfigError: ids are not a list of distinct whole numbers, or sources are not training examples; or the networks
            differ in examples, inputs or labels.
        UnknownNameError: an id is not one of the task's, or there is no such method.
        UnsteadyNetworkError: a network is random in evaluation mode, or examples act on each other in it.
        NotFiniteError: an influence is NaN or infinite.
    """
    several = list(subjects) if isinstance(subjects, Sequence) else [subjects]
    if not several or not all(isinstance(each, Subject) for each in several):
        raise ConfigError("influence takes a Subject, or a list of Subjects")
    check_alike(several, "subjects")
    estimate = None if method == TURN_OVER else _estimate(method)
    task = several[0].task
    source_ids = check_sources(task, task.sources if sources is None else sources, "sources")
    target_ids = check_distinct(task, task.test_ids if targets is None else targets, "targets")
    check_same_examples(several, "subjects", target_ids)
    source_labels, target_labels = task.given(source_ids), task.given(target_ids)
    notes: list[str] = []
    found: list[Tensor] = []
    for number, subject in enumerate(several):
        if estimate is None:
            notes += check_isolated(subject, accept_leaks=accept_leaks)
            check_subject(subject)
            title = f"influence, network {number + 1} of {len(several)}"
            found.append(_differences(subject, source_ids, target_ids, title, progress))
        else:
            one, note = estimate.on_targets(subject, source_ids, target_ids)
            found, notes = [*found, one], [*notes, note]
    values = torch.stack(found)
    if len(lost := (~values.isfinite()).any(0).nonzero()):
        target, source = int(target_ids[lost[0, 0]]), int(source_ids[lost[0, 1]])
        raise NotFiniteError(
            f"influence by {method!r} is NaN or infinite for {len(lost):,} of {values[0].numel():,} pairs, as for "
            f"target {target} and source {source}: losses or gradients are no numbers, or too large for them"
        )
    return Influence(
        sources=source_ids,
        targets=target_ids,
        values=values.mean(0),
        errors=None if len(found) == 1 else values.std(0) / len(found) ** 0.5,
        networks=len(found),
        source_labels=source_labels,
        target_labels=target_labels,
        note="; ".join(filter(None, dict.fromkeys(notes))),
        method=method if estimate is None else estimate.label(),
        unit="nats" if estimate is None else estimate.effect,
    )


def _estimate(method: str) -> InfluenceScore:
    """Return the score of examples that is read for targets.

    Raises:
        UnknownNameError: there is no such method.
    """
    name, known = method.partition("(")[0].partition("@")[0].strip(), influence_scores()
    if name not in known:
        raise unknown_name("method of influence", name, [TURN_OVER, *known])
    found = named("example_scores", method)
    assert isinstance(found, InfluenceScore)
    return found


def check_isolated(subject: Subject, *, accept_leaks: bool) -> list[str]:
    """Return a note of the accepted leaks; an empty list if the network is isolated.

    Raises:
        MissingNeedError: the network has no turn-over dropout.
        LeakError: the network is not isolated, and `accept_leaks` is false.
    """
    found = isolation(subject)
    if found.isolated:
        return []
    if not accept_leaks:
        raise LeakError(f"{subject.name!r} is not isolated, {found}; accept_leaks=True measures it anyway")
    return [f"not isolated, {found}"]


@torch.no_grad()
def _differences(
    subject: Subject, sources: Int[Tensor, " source"], targets: Int[Tensor, " target"], title: str, progress: bool
) -> Float[Tensor, "target source"]:
    """Return flipped minus own loss of each target under each source's masks, in nats."""
    model, task, device = subject.model, subject.task, device_of(subject.model)
    found = torch.empty(len(targets), len(sources))
    shown = task.source(sources)
    # Each block of targets is loaded once for all sources.
    parts = list(blocks(len(targets), max(block_rows(model), 1024)))
    steps = ((part, column) for part in parts for column in range(len(sources)))
    batch, loaded = None, None
    with evaluating(model):
        for part, column in counted(steps, title, len(parts) * len(sources), show=progress):
            if loaded != part:
                inputs, labels = task.batch(targets[part])
                batch, loaded = (inputs.to(device), labels.to(device)), part
            assert batch is not None
            source = int(shown[column])
            found[part, column] = _loss(subject, "flipped", source, *batch) - _loss(subject, "own", source, *batch)
    return found


def _loss(subject: Subject, part: Part, source: int, inputs: Inputs, labels: Tensor) -> Float[Tensor, " target"]:
    with subnetwork(subject.model, part, source):
        logits = full_precision(subject.roles.output.read(run_on(subject.model, inputs)))
    return F.cross_entropy(logits, labels, reduction="none").cpu()
