"""Curvature of the loss around an example."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.config import check_choice, check_number, check_whole
from mechmem.core.inputs import one_tensor, run_on
from mechmem.core.plugins import ExampleScore
from mechmem.core.randomness import derive_seed
from mechmem.core.subject import Subject
from mechmem.errors import ActivationError, MissingNeedError
from mechmem.interventions.reach import check_edit
from mechmem.layers.features import INPUTS, layer_point
from mechmem.math.blocks import blocks
from mechmem.math.example_masks import example_mask
from mechmem.models.hooks.hooking import hooked, warn_of_leftovers
from mechmem.models.hooks.running import block_rows, device_of, differentiating, full_precision
from mechmem.models.networks.subnetworks import mask_layers, of_examples
from mechmem.models.reading.separate import check_subject

States = Literal["all", "last"]

BLOCK_ELEMENTS = 2**20
"""Number of signs of one direction drawn at a time."""


@dataclasses.dataclass(frozen=True)
class InputCurvature(ExampleScore):
    """Score examples by how much the gradient of their loss with respect to the input changes over a small step.

    This is the mean over directions v of ‖∇L(x + h v) − ∇L(x)‖, the norm neither squared nor divided by h: to first
    order h ‖H v‖, with H the Hessian of the loss with respect to the input and v a vector of independent signs, drawn
    for each example from the seed and its id. L is the cross-entropy with the given label in evaluation mode, whatever
    the training loss.

    As in the paper the score is averaged over training: over the states that the run saved after step 0, which are
    log-spaced (the paper has one per epoch). Without a run it is that of the network alone, and the note says so.

    Whole numbers (pairs of symbols, tokens) have no neighbourhood. For them x is the activation at the first point of
    the role `hidden`, and the loss is differentiated from there; only scores at the same point are comparable.

    Attributes:
        directions: number of directions.
        h: length of the step along each coordinate.
        checkpoints: "all" saved states of the run, or "last" for the network as it is.
        point: where x is taken: a hook point, "hidden.2" for the third of the role `hidden`, or "inputs"; by default
            the inputs if they are floating point.
        seed: seed of the directions.
    """

    name: ClassVar[str] = "input_curvature"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "checkpoints"})
    cites: ClassVar[str] = "Garg, Ravikumar & Roy 2023, arXiv 2307.05831"
    higher: ClassVar[str] = "the loss curves more around it"
    unit: ClassVar[str] = "nats per unit of input"

    directions: int = 10
    h: float = 1e-3
    checkpoints: States = "all"
    point: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole("number of directions", self.directions, 1)
        check_number("step", self.h, above=0)
        check_choice("states", self.checkpoints, get_args(States))
        check_whole("seed", self.seed, 0)

    def told(self) -> frozenset[str]:
        """The checkpoints, if the score averages over them."""
        return self.knows if self.checkpoints == "all" else self.knows - {"checkpoints"}

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the changes.

        Raises:
            MissingNeedError: the loss is not differentiable with respect to the inputs, and the role `hidden` names no
                point.
            UnknownNameError: there is no such hook point.
            ActivationError: the point does not fire, or a step of h does not change its values.
            DiscardedEditError: the logits do not depend on the point.
            UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
        """
        warn_of_leftovers(subject.model)
        check_subject(subject)
        point = self._point(subject)
        if point != INPUTS:
            check_edit(subject, point)
        total, count = torch.zeros(len(subject.task.sources), dtype=torch.float64), 0
        for model in self._networks(subject):
            total += self._bend(subject, model.requires_grad_(False).eval(), point)
            count += 1
        notes = [f"mean over {count} saved states" if self._steps(subject) else "of the network alone"]
        return total / count, "; ".join([*notes, *([] if point == INPUTS else [f"at {point}"])])

    def _point(self, subject: Subject) -> str:
        if self.point:
            return layer_point(subject, self.point)
        first = subject.task.batch(subject.task.sources[:1])[0]
        if isinstance(first, Tensor) and first.is_floating_point():
            return INPUTS
        if not subject.roles.hidden:
            raise MissingNeedError(
                f"{self.name!r} needs role:hidden or a point, since inputs are not one tensor of real numbers"
            )
        return subject.roles.hidden[0]

    def _steps(self, subject: Subject) -> list[int]:
        if self.checkpoints == "last" or subject.run is None:
            return []
        return [step for step in subject.run.checkpoint_steps() if step > 0]

    def _networks(self, subject: Subject) -> Iterator[nn.Module]:
        steps = self._steps(subject)
        for step in steps:
            assert subject.run is not None
            yield subject.run.model_at(step).to(device_of(subject.model))
        if not steps:
            yield subject.copy_model()

    def _bend(self, subject: Subject, model: nn.Module, point: str) -> Float[Tensor, " example"]:
        ids = subject.task.sources
        width = self._slope(subject, model, point, ids[:1]).shape[1]
        found = torch.zeros(len(ids), dtype=torch.float64)
        for block in blocks(len(ids), min(block_rows(model), BLOCK_ELEMENTS // width)):
            here = self._slope(subject, model, point, ids[block])
            for direction in range(self.directions):
                key = derive_seed(self.seed, f"input curvature {direction}")
                step = self.h * (2.0 * example_mask(ids[block], width, 0.5, key).double() - 1)
                found[block] += (self._slope(subject, model, point, ids[block], step) - here).norm(dim=1)
        return found / self.directions

    @differentiating()
    def _slope(
        self,
        subject: Subject,
        model: nn.Module,
        point: str,
        ids: Int[Tensor, " example"],
        step: Float[Tensor, "example feature"] | None = None,
    ) -> Float[Tensor, "example feature"]:
        """Return the gradient of each example's loss with respect to the moved values, after a step, on the CPU."""
        task, device, held = subject.task, device_of(model), []

        def moved(value: Tensor) -> Tensor:
            self._check(point, value, len(ids))
            ahead = value.detach() if step is None else value.detach() + step.to(value).reshape(value.shape)
            held.append(ahead.clone().requires_grad_())
            # The network may change its input in place.
            return held[0].clone()

        inputs, given = task.batch(ids)
        inputs, given = inputs.to(device), given.to(device)
        put = contextlib.nullcontext() if point == INPUTS else hooked(model, point, moved)
        with of_examples(mask_layers(model), task.source(ids)), put:
            returned = model(moved(one_tensor(inputs, self.name))) if point == INPUTS else run_on(model, inputs)
        # In float64 the probability of a near-certain label still differs from 1.
        logits = full_precision(subject.roles.output.read(returned)).double()
        loss = F.cross_entropy(logits, given, reduction="sum")
        if not loss.requires_grad:
            raise MissingNeedError(f"{self.name!r} needs another point: the loss has no gradient at {point}")
        return rearrange(torch.autograd.grad(loss, held[0])[0].double().cpu(), "example ... -> example (...)")

    def _check(self, point: str, value: Tensor, examples: int) -> None:
        shape = tuple(value.shape)
        if not value.is_floating_point() or torch.finfo(value.dtype).eps > self.h / 8 or len(value) != examples:
            raise ActivationError(
                f"{point!r} holds {value.dtype} of shape {shape}, but needs numbers for {examples} examples that a "
                f"step of {self.h} changes"
            )
