"""Which neurons have to go before a memorized example is forgotten."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.config import check_choice, check_whole
from mechmem.contracts import Subject
from mechmem.errors import MissingNeedError
from mechmem.linear_readout import LinearReadout, linear_readout
from mechmem.math.blocks import blocks
from mechmem.neurons import NeuronScores
from mechmem.plugins import Score
from mechmem.randomness import generator

Among = Literal["train_noisy", "train"]

BLOCK_ELEMENTS = 2**22
"""Numbers per tensor while several examples are worked on at once: 16 MB in float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Sets:
    """Flipping sets: removed (example, neuron), whether the prediction flipped, share of the others lost (example)."""

    removed: Bool[Tensor, "example neuron"]
    flipped: Bool[Tensor, " example"]
    collateral: Float[Tensor, " example"]


@dataclasses.dataclass(frozen=True)
class NeuronFlipping(Score):
    """Rank neurons by how many memorized examples cannot be forgotten without them.

    For each of a sample of fitted examples, neurons are removed greedily until the prediction is no longer the given
    label: each time the one whose removal most raises the example's loss while sparing other examples, to first order
    (the largest Σ w·g, with g the gradient of mean(other losses) − loss, both with what is removed so far). The score
    is the share of the sample whose flipping set holds the neuron. The note reports the mean size of the sets, and the
    share of the other fitted examples that are lost along with them.

    Deviations from the paper: units of one layer with a linear readout are removed, where the paper removes channels of
    the whole network; the gradient is taken in closed form at the examples as they are, where the paper adds 1 % noise
    to them; the loss is cross-entropy, whatever the network was trained with. An example that is not flipped after
    `most` removals has no flipping set and counts for no neuron.

    Attributes:
        examples: how many fitted examples are sampled, at most.
        others: how many other training examples are to be spared.
        most: largest size of a flipping set.
        seed: seed of both samples.
        among: "train_noisy" samples memorized examples (fitted wrong labels); "train" samples all fitted training
            examples, and needs no knowledge of the noise.
        point: the layer of neurons; by default the last.
    """

    name: ClassVar[str] = "neuron_flipping"
    needs: ClassVar[frozenset[str]] = frozenset({"role:hidden", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "noise_mask"})
    cites: ClassVar[str] = "Maini et al. 2023, arXiv 2307.09542"
    higher: ClassVar[str] = "more memorized examples hang on it"

    examples: int = 64
    others: int = 256
    most: int = 16
    seed: int = 0
    among: Among = "train_noisy"
    point: str = ""

    def __post_init__(self) -> None:
        """Validate."""
        check_whole("number of examples", self.examples, 1)
        check_whole("number of others", self.others, 1)
        check_whole("largest set", self.most, 1)
        check_whole("seed", self.seed, 0)
        check_choice("sampled examples", self.among, get_args(Among))

    def told(self) -> frozenset[str]:
        """The noise is known only where wrongly labelled examples are picked out."""
        return self.knows if self.among == "train_noisy" else frozenset({"given_labels"})

    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores.

        Raises:
            MissingNeedError: the subject lacks something, or no example of the split is fitted.
            NotLinearError: the logits are not linear in the layer.
        """
        self.require(subject)
        readout = linear_readout(subject, self.point)
        chosen, others = self._sample(subject, readout)
        given = subject.task.given(subject.task.ids)
        width, classes = readout.weights.shape
        per_example = max(len(others) * classes, width * classes)
        parts = [
            _flipping_sets(readout, chosen[block], others, given, self.most)
            for block in blocks(len(chosen), max(1, BLOCK_ELEMENTS // per_example))
        ]
        removed, flipped, collateral = (
            torch.cat([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(_Sets)
        )
        score = (removed & rearrange(flipped, "example -> example 1")).double().mean(0)
        note = f"{int(flipped.sum())} of {len(chosen)} sampled examples flipped"
        if flipped.any():
            size = float(removed[flipped].sum(1).double().mean())
            note += f", {size:.1f} neurons each, {float(collateral[flipped].mean()):.1%} of {len(others)} others lost"
        return NeuronScores(self.label(), score, readout.point, self.higher, note)

    def _sample(
        self, subject: Subject, readout: LinearReadout
    ) -> tuple[Int[Tensor, " sampled"], Int[Tensor, " other"]]:
        """Draw rows of fitted examples, and of other training examples."""
        task = subject.task
        ids = task.train_ids if self.among == "train" else task.splits["train_noisy"]
        if ids is None:
            raise MissingNeedError(
                f"{self.name} needs to know which labels are wrong; use among=train where it is not known"
            )
        rows = task.rows(ids)
        fitted = rows[readout.logits[rows].argmax(1) == task.given(ids)]
        if not len(fitted):
            raise MissingNeedError(f"{self.name} needs fitted examples, and none of {len(rows)} in {self.among} is")
        draw = generator(self.seed, "neuron flipping")
        chosen = fitted[torch.randperm(len(fitted), generator=draw)[: self.examples]]
        rest = task.rows(task.train_ids)
        rest = rest[~torch.isin(rest, chosen)]
        return chosen, rest[torch.randperm(len(rest), generator=draw)[: self.others]]


def _flipping_sets(
    readout: LinearReadout,
    chosen: Int[Tensor, " sampled"],
    others: Int[Tensor, " other"],
    given: Int[Tensor, " example"],
    most: int,
) -> _Sets:
    """Remove neurons greedily for several examples at once, each with its own set."""
    weights = readout.weights
    own, spared = readout.hidden[chosen], readout.hidden[others]
    logits, label, other_label = readout.logits[chosen].clone(), given[chosen], given[others]
    other_logits = repeat(readout.logits[others], "other classes -> sampled other classes", sampled=len(chosen)).clone()
    fitted = readout.logits[others].argmax(1) == other_label
    removed = torch.zeros(len(chosen), len(weights), dtype=torch.bool)
    active = torch.arange(len(chosen))
    for _ in range(min(most, len(weights))):
        if not len(active):
            break
        # Of a loss by a gate on neuron m: h_m Σ_c (softmax_c − [c is the label]) w_mc.
        gate = -own[active] * (_residual(logits[active], label[active]) @ weights.T)
        if len(others):
            pull = torch.einsum("soc,on->snc", _residual(other_logits[active], other_label), spared)
            gate += torch.einsum("snc,nc->sn", pull, weights) / len(others)
        neuron = gate.masked_fill(removed[active], -torch.inf).argmax(1)
        removed[active, neuron] = True
        logits[active] -= rearrange(own[active, neuron], "sampled -> sampled 1") * weights[neuron]
        other_logits[active] -= torch.einsum("os,sc->soc", spared[:, neuron], weights[neuron])
        active = active[logits[active].argmax(1) == label[active]]
    flipped = logits.argmax(1) != label
    lost = (other_logits.argmax(2) != other_label) & fitted
    return _Sets(removed, flipped, lost.sum(1).double() / max(1, int(fitted.sum())))


def _residual(logits: Float[Tensor, "*row class"], labels: Int[Tensor, " *label"]) -> Float[Tensor, "*row class"]:
    """Derivative of the cross-entropy by the logits: softmax, less one at the label."""
    return logits.softmax(-1) - torch.nn.functional.one_hot(labels, logits.shape[-1])
