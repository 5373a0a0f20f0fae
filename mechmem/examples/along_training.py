"""Influence of training examples on others by their gradients along training (TracIn), for mechmem's own MLP."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.inputs import one_tensor
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.hooking import on_point
from mechmem.models.hooks.points import hook_points
from mechmem.models.hooks.running import block_rows, device_of, evaluating, full_precision
from mechmem.models.networks.mlp import HookedMLP
from mechmem.training.evaluate import loss_of
from mechmem.training.progress import reporter
from mechmem.training.run import Run

MOST_STATES = 24
"""Most saved states in the sum: a state costs one product of matrices of the size targets × sources × neurons."""


@dataclasses.dataclass(frozen=True, eq=False)
class AlongTraining:
    """How far the steps on each training example lowered the loss of each target, to first order.

    Attributes:
        sources: ids of the training examples. Shape (source).
        values: Σ over steps of η / n · ∇ℓ(source) · ∇ℓ(target), n the number of sources. Shape (target, source).
        steps: steps of the saved states whose gradients were read; each state counts for the steps around it.
        note: what the sum takes for granted of this run.
    """

    sources: Int[Tensor, " source"]
    values: Float[Tensor, "target source"]
    steps: tuple[int, ...]
    note: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Signals:
    """Per layer of weights its inputs and the loss's gradient at its outputs; a gradient is their outer product."""

    inputs: list[Float[Tensor, "example _"]]
    slopes: list[Float[Tensor, "example _"]]

    def products(self, others: _Signals) -> Float[Tensor, "example other"]:
        """Return the inner products of the examples' gradients with those of other examples.

        That of two outer products is the product of two inner products, so no gradient of an example is ever formed.
        """
        total = torch.zeros(len(self.inputs[0]), len(others.inputs[0]))
        for x, slope, others_x, others_slope in zip(
            self.inputs, self.slopes, others.inputs, others.slopes, strict=True
        ):
            total += (x @ others_x.T).mul_(slope @ others_slope.T)
        return total

    def rows(self, part: slice) -> _Signals:
        return _Signals([x[part] for x in self.inputs], [slope[part] for slope in self.slopes])


def check_followed(subject: Subject) -> Run:
    """Return the run of a network whose gradients along training are defined and read.

    Raises:
        MissingNeedError: there is no run, the network is another than mechmem's MLP, or its training examples acted
            through masks of their own or on each other.
    """
    run, model = subject.run, subject.model
    if not isinstance(run, Run):
        raise MissingNeedError("influence along training needs the run's saved states, and this network has no run")
    if not isinstance(model, HookedMLP):
        raise MissingNeedError(
            f"influence along training is read from mechmem's own MLP, and this network is a {type(model).__name__}"
        )
    if model.config.masks is not None or model.config.batch_norm:
        what = "BatchNorm lets examples act on each other" if model.config.batch_norm else "examples had masks"
        raise MissingNeedError(f"influence along training needs one loss per example, but in training {what}")
    return run


def influence_along_training(
    subject: Subject,
    targets: Int[Tensor, " target"],
    labels: Int[Tensor, " target"],
    *,
    until: int | None = None,
    progress: bool = False,
) -> AlongTraining:
    """Sum the products of gradients of training examples and targets over a run (TracIn, Pruthi et al. 2020).

    A step of gradient descent on the mean loss over n examples changes ℓ(target) by −η/n Σ ∇ℓ(source) · ∇ℓ(target), to
    first order; the sum over the steps attributes the fall of ℓ(target) to the sources. (arXiv 2002.08484, §3.) Saved
    states are log-spaced, so each counts for half of the steps to its neighbours on both sides (the trapezoidal rule);
    the score `tracin` counts each state once. Gradients are those of the network in evaluation mode, of all parameters.

    Args:
        subject: a network with its run.
        targets: ids of any examples.
        labels: label with which each target's loss is measured.
        until: the last step that counts; by default the run's last state.
        progress: whether to show a bar.

    Raises:
        MissingNeedError: see `check_followed`; or fewer than two states were saved.
    """
    run, task = check_followed(subject), subject.task
    left_out = torch.tensor(() if run.config is None else run.config.left_out, dtype=torch.long)
    sources = task.sources[~torch.isin(task.sources, left_out)]
    saved = [step for step in run.checkpoint_steps() if until is None or step <= until]
    if len(saved) < 2:
        raise MissingNeedError(f"influence along training needs at least two saved states, not {len(saved)}")
    steps = [saved[place] for place in torch.linspace(0, len(saved) - 1, min(len(saved), MOST_STATES)).round().long()]
    rate, kind = (1.0, "cross_entropy") if run.config is None else (run.config.lr, run.config.loss)
    if run.config is not None and run.config.optimizer == "sgd":
        rate /= 1 - run.config.momentum  # a gradient acts on all later steps too, with weights that sum to this
    values = torch.zeros(len(targets), len(sources))
    with reporter(f"{subject.name}, influence", 0, len(steps), show=progress) as report:
        for done, (step, width) in enumerate(zip(steps, _widths(steps), strict=True), 1):
            state = subject.with_model(run.model_at(step).to(device_of(subject.model)))
            of_sources = _signals(state, sources, task.given(sources), kind)
            of_targets = _signals(state, targets, labels, kind)
            for part in blocks(len(targets), block_rows(state.model)):
                values[part].add_(of_targets.rows(part).products(of_sources), alpha=rate / len(sources) * width)
            report.step(done, None)
    return AlongTraining(sources, values, tuple(steps), _note(run, len(steps)))


def _widths(steps: Sequence[int]) -> list[float]:
    """Return the number of steps for which each state counts."""
    before, after = (steps[0], *steps[:-1]), (*steps[1:], steps[-1])
    return [(later - earlier) / 2 for earlier, later in zip(before, after, strict=True)]


def _note(run: Run, states: int) -> str:
    note = f"over {states} saved states"
    if run.config is None:
        return f"{note}; no learning rate or loss was recorded: a constant rate and the cross-entropy are assumed"
    if run.config.optimizer != "sgd":
        return (
            f"{note}; the sum attributes a loss for gradient descent, and this run used {run.config.optimizer}: it "
            "tells whose gradients agreed, not what retraining without a cell would change"
        )
    return note


def _signals(subject: Subject, ids: Int[Tensor, " example"], labels: Int[Tensor, " example"], kind: str) -> _Signals:
    model, points = subject.model, hook_points(subject.model)
    assert isinstance(model, HookedMLP)
    model.requires_grad_(True)
    layers = ("", *(f"deeper.{number}." for number in range(len(model.deeper))))
    names = [f"{layer}hook_{what}" for layer in layers for what in ("pre", "hidden")]
    held: dict[str, Tensor] = {}
    parts: list[_Signals] = []
    with torch.enable_grad(), evaluating(model), contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(on_point(points[name], lambda value, name=name: held.update({name: value})))
        for part in blocks(len(ids), block_rows(model)):
            pairs = one_tensor(subject.task.batch(ids[part])[0], "influence along training").to(device_of(model))
            logits = model(pairs)
            loss = loss_of(full_precision(logits), labels[part].to(logits.device), kind) * len(pairs)
            outputs = [*(held[f"{layer}hook_pre"] for layer in layers), logits]
            slopes = torch.autograd.grad(loss, outputs)
            inputs = [_symbols(model, pairs), *(held[f"{layer}hook_hidden"].detach() for layer in layers)]
            if model.b_out is not None:
                inputs[-1] = F.pad(inputs[-1], (0, 1), value=1.0)
            parts.append(_Signals([_plain(x) for x in inputs], [_plain(slope) for slope in slopes]))
    joined = range(len(layers) + 1)
    return _Signals(
        [torch.cat([part.inputs[layer] for part in parts]) for layer in joined],
        [torch.cat([part.slopes[layer] for part in parts]) for layer in joined],
    )


def _symbols(model: HookedMLP, pairs: Int[Tensor, "example 2"]) -> Float[Tensor, "example row"]:
    """Return the first layer's inputs: how often each row of `W_in` is added up (twice for a = b of tied tables)."""
    rows = F.one_hot(pairs + model.row_offset, len(model.W_in))
    return rearrange(rows, "example operand row -> operand example row").sum(0).float()


def _plain(values: Float[Tensor, "example unit"]) -> Float[Tensor, "example unit"]:
    return full_precision(values).float().cpu()
