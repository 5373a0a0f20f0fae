"""Neurons that have to be ablated before a memorized example is forgotten."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from mechmem.core.config import check_choice, check_whole
from mechmem.core.plugins import Score
from mechmem.core.randomness import generator
from mechmem.core.scores import NeuronScores
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.models.hooks.running import block_rows
from mechmem.models.reading.forward import all_logits
from mechmem.models.reading.linear_readout import LinearReadout
from mechmem.neurons.flipping import BLOCK_ELEMENTS, Removed, flipping_readout, sets_by_algebra, sets_by_running

Among = Literal["train_noisy", "train"]


@dataclasses.dataclass(frozen=True)
class NeuronFlipping(Score):
    """Rank neurons by how many memorized examples have them in their flipping set.

    For each of a sample of fitted examples, neurons are ablated greedily until the prediction is no longer the given
    label: each time the one whose ablation most raises the example's loss while sparing other examples, to first order
    (the largest Σ w·g, with g the gradient of mean(other losses) − loss, given the neurons ablated so far). The score
    is the share of the sample whose flipping set holds the neuron. The note reports the mean size of the sets and the
    share of the other fitted examples that are lost with them.

    If the logits are linear in the layer, gradients and ablations follow from its weights; otherwise the network is run
    and differentiated once per sampled example and ablation, and the note says so. A channel is ablated on the whole
    image, a neuron at all positions of a sequence.

    Deviations from the paper: units of one layer are ablated, whereas the paper ablates channels of the whole network;
    the gradient is taken at the unchanged examples, whereas the paper adds 1 % noise; the loss is cross-entropy,
    whatever the network was trained with. An example that is not flipped after `most` ablations has no flipping set and
    counts for no neuron.

    Attributes:
        examples: largest number of fitted examples to sample.
        others: number of other training examples to spare.
        most: largest size of a flipping set.
        seed: seed of both samples.
        among: "train_noisy" samples memorized examples (fitted wrong labels); "train" samples all fitted training
            examples, and needs no knowledge of the noise.
        point: any hook point with such units; by default the last of the role `hidden`.
        units: units to ablate: "neuron", on the point's last axis; or "channel", on its second, (example, channel, …).
    """

    name: ClassVar[str] = "neuron_flipping"
    needs: ClassVar[frozenset[str]] = frozenset({"role:hidden"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "noise_mask"})
    cites: ClassVar[str] = "Maini et al. 2023, arXiv 2307.09542"
    higher: ClassVar[str] = "more memorized examples hang on it"

    examples: int = 64
    others: int = 256
    most: int = 16
    seed: int = 0
    among: Among = "train_noisy"
    point: str = ""
    units: Removed = "neuron"

    def __post_init__(self) -> None:
        check_whole("number of examples", self.examples, 1)
        check_whole("number of others", self.others, 1)
        check_whole("largest set", self.most, 1)
        check_whole("seed", self.seed, 0)
        check_choice("sampled examples", self.among, get_args(Among))
        check_choice("unit", self.units, get_args(Removed))

    def wants(self) -> frozenset[str]:
        """The role that names the point, unless a point is given."""
        return frozenset() if self.point else self.needs

    def told(self) -> frozenset[str]:
        """The noise is prior knowledge only if wrongly labelled examples are sampled."""
        return self.knows if self.among == "train_noisy" else frozenset({"given_labels"})

    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores.

        Raises:
            MissingNeedError: a need is missing, or no example of the split is fitted.
            UnknownNameError: there is no such hook point.
            ConfigError: the point does not have, or may not have, such units.
            DiscardedEditError: the logits do not depend on the point.
        """
        self.require(subject)
        point = self.point or subject.roles.hidden[-1]
        chosen, others = self._sample(subject)
        given = subject.task.given(subject.task.ids)
        readout, how = self._readout(subject, point)
        if readout is None:
            rows = block_rows(subject.model)
            sets, point = sets_by_running(subject, point, self.units, chosen, others, self.most, rows)
        else:
            sets = sets_by_algebra(readout, chosen, others, given, self.most, BLOCK_ELEMENTS)
        removed, flipped = sets.removed, sets.flipped
        score = (removed & rearrange(flipped, "example -> example 1")).double().mean(0)
        note = f"{int(flipped.sum())} of {len(chosen)} sampled examples flipped"
        if flipped.any():
            size = float(removed[flipped].sum(1).double().mean())
            lost = float(sets.collateral[flipped].mean())
            note += f", {size:.1f} neurons each, {lost:.1%} of {len(others)} others lost"
        return NeuronScores(self.label(), score, point, self.higher, "; ".join(filter(None, (note, how))))

    def _readout(self, subject: Subject, point: str) -> tuple[LinearReadout | None, str]:
        """Return the readout if the logits are linear in the layer, or None and a note on how sets are found."""
        return flipping_readout(subject, point, self.units)

    def _sample(self, subject: Subject) -> tuple[Int[Tensor, " sampled"], Int[Tensor, " other"]]:
        """Draw rows of fitted examples and of other training examples."""
        task = subject.task
        ids = task.train_ids if self.among == "train" else task.splits["train_noisy"]
        if ids is None:
            raise MissingNeedError(
                f"{self.name} needs to know which labels are wrong; use among=train if it is not known"
            )
        rows = task.rows(ids)
        fitted = rows[all_logits(subject)[rows].argmax(1) == task.given(ids)]
        if not len(fitted):
            raise MissingNeedError(f"{self.name} needs fitted examples, but none of {len(rows)} in {self.among} is")
        draw = generator(self.seed, "neuron flipping")
        chosen = fitted[torch.randperm(len(fitted), generator=draw)[: self.examples]]
        rest = task.rows(task.train_ids)
        rest = rest[~torch.isin(rest, chosen)]
        return chosen, rest[torch.randperm(len(rest), generator=draw)[: self.others]]
