"""Growth of each neuron's weights, split into the contributions of clean and of noisy training examples."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.plugins import Analysis, named
from mechmem.core.results import Result
from mechmem.core.roles import Role, read_role
from mechmem.core.stats import bootstrap
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.math.blocks import blocks
from mechmem.math.filtration import frequency_power, key_or_none
from mechmem.models.hooks.running import block_rows, device_of, differentiating, full_precision
from mechmem.models.reading.forward import check_logits
from mechmem.models.reading.separate import check_subject
from mechmem.models.reading.weights import check_no_stream, neuron_weights
from mechmem.plotting.bars import histogram
from mechmem.plotting.lines import lines
from mechmem.plotting.style import SPLIT_STYLES
from mechmem.training.evaluate import loss_of
from mechmem.training.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

QUARTERS = ("lowest IPR quarter", "second IPR quarter", "third IPR quarter", "highest IPR quarter")
"""Classes of neurons by rank, which need no threshold."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class NormDriveResult(Result):
    """The norm budget of each neuron, with θ its input and output weights together, at the network's weights.

    Under gradient flow ½ d‖θ‖²/dt is the learning rate times (clean + noisy + decay); all three are in units of the
    loss (cross-entropy in nats, or squared error). An adaptive optimiser scales gradients, so under it they give the
    direction in which examples push, not the speed: `NormDrive.realised` gives the actual change.

    Attributes:
        norm: ‖θ‖², in the weights' own units. Shape (neuron).
        clean: −⟨θ, ∇L_clean⟩, where L_clean is the loss summed over the clean training examples and divided by the
            number of all training examples, so that clean and noisy add up. Shape (neuron).
        noisy: −⟨θ, ∇L_noisy⟩ likewise. Shape (neuron).
        decay: −λ‖θ‖², λ the run's weight decay; None if it is not known. Shape (neuron).
        key: each neuron's strongest frequency, numbered from 1, 0 for a neuron without energy; None without a group.
            Shape (neuron).
        ipr: each neuron's inverse participation ratio (one-sided), or None. Shape (neuron).
        loss: the loss, "cross_entropy" or "mse".
        note: says if the loss was not recorded and had to be assumed; or "".
    """

    norm: Float[Tensor, " neuron"]
    clean: Float[Tensor, " neuron"]
    noisy: Float[Tensor, " neuron"]
    decay: Float[Tensor, " neuron"] | None
    key: Int[Tensor, " neuron"] | None
    ipr: Float[Tensor, " neuron"] | None
    loss: str
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per neuron: neuron, norm, clean, noisy, total (of the two), decay, key_or_none, ipr."""
        frame = pd.DataFrame({"neuron": range(len(self.norm)), "norm": self.norm.numpy()})
        frame["clean"], frame["noisy"] = self.clean.numpy(), self.noisy.numpy()
        frame["total"] = frame["clean"] + frame["noisy"]
        frame["decay"] = math.nan if self.decay is None else self.decay.numpy()
        frame["key_or_none"] = math.nan if self.key is None else self.key.numpy()
        frame["ipr"] = math.nan if self.ipr is None else self.ipr.numpy()
        return frame

    def summary(self) -> pd.DataFrame:
        """Return means over neurons by class: neurons, quantity, value, low, high, n.

        The classes are all neurons and, where there is an IPR, its four quarters by rank. Quantities: norm, clean,
        noisy, total, decay, and "noisy − clean". Intervals bootstrap over the neurons of this network.
        """
        frame = self.to_frame().assign(**{"noisy − clean": (self.noisy - self.clean).numpy()})
        classes = {"all": frame}
        if self.ipr is not None and len(frame) >= len(QUARTERS):
            ranked = frame.iloc[torch.argsort(self.ipr, stable=True).numpy()]
            cuts = [round(len(ranked) * part / len(QUARTERS)) for part in range(len(QUARTERS) + 1)]
            classes |= {
                name: ranked.iloc[low:high] for name, low, high in zip(QUARTERS, cuts[:-1], cuts[1:], strict=True)
            }
        rows = []
        for name, members in classes.items():
            for quantity in ("norm", "clean", "noisy", "total", "noisy − clean", "decay"):
                values = members[quantity].to_numpy(float)
                if np.isfinite(values).all():
                    found = dataclasses.asdict(bootstrap(np.mean, [values], seed=0))
                    rows.append({"neurons": name, "quantity": quantity, **found})
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return the distributions of the clean and the noisy drive over neurons."""
        series = {"clean examples": self.clean.numpy(), "noisy examples": self.noisy.numpy()}
        splits = ("train_clean", "train_noisy")
        colors = {name: SPLIT_STYLES[split].color for name, split in zip(series, splits, strict=True)}
        unit = "nats" if self.loss == "cross_entropy" else "squared error"
        return histogram(series, x_title=f"drive of the neuron's norm, −⟨θ, ∇L⟩ ({unit})", colors=colors)


@record
@dataclasses.dataclass(frozen=True, eq=False)
class NormChange(Result):
    """Change of each neuron's norm between the saved states of a run.

    Attributes:
        step: steps with a saved state. Shape (checkpoint).
        norm: ‖θ‖² at each, in the weights' own units. Shape (checkpoint, neuron).
    """

    step: Int[Tensor, " checkpoint"]
    norm: Float[Tensor, "checkpoint neuron"]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per interval and neuron: neuron, from_step, to_step, change (½ Δ‖θ‖²), per_step."""
        change = (self.norm[1:] - self.norm[:-1]) / 2
        intervals, neurons = change.shape
        frame = pd.DataFrame({"neuron": np.tile(np.arange(neurons), intervals)})
        frame["from_step"] = np.repeat(self.step[:-1].numpy(), neurons)
        frame["to_step"] = np.repeat(self.step[1:].numpy(), neurons)
        frame["change"] = change.flatten().numpy()
        frame["per_step"] = frame["change"] / (frame["to_step"] - frame["from_step"])
        return frame

    def plot(self) -> go.Figure:
        """Return the mean change per step over neurons, by interval of steps, with its 95 % interval over them."""
        rate = (self.norm.diff(dim=0) / 2 / rearrange(self.step.diff(), "interval -> interval 1")).numpy()
        means = [bootstrap(np.mean, [row], seed=0) for row in rate]
        frame = pd.DataFrame([dataclasses.asdict(mean) for mean in means], columns=["value", "low", "high"])
        frame = frame.assign(x=self.step[1:].numpy(), series="mean over neurons")
        x_title, y_title = "training step at the end of the interval (log scale)", "½ Δ‖θ‖² per step"
        return lines(frame, x_title=x_title, y_title=y_title, log_x=True)


@dataclasses.dataclass(frozen=True)
class NormDrive(Analysis):
    """Split the growth of each neuron's weights into the contributions of clean and of noisy training examples.

    This is the norm budget of arXiv 2610.11833, ½ d‖θ‖²/dt = −η⟨θ, ∇L⟩ − λ‖θ‖², at the network's current weights in
    evaluation mode; `over_training(subject, "norm_drive")` gives it over a run. The loss is the run's own, or
    cross-entropy if none was recorded.
    """

    name: ClassVar[str] = "norm_drive"
    needs: ClassVar[frozenset[str]] = frozenset({"role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "input_group", "output_group", "slopes", "given_labels", "true_train_labels", "noise_mask"}
    )
    cites: ClassVar[str] = "follow-up of Liu & Lu 2026, arXiv 2610.11833"

    def __call__(self, subject: Subject) -> NormDriveResult:
        """Return the budget.

        Raises:
            MissingNeedError: a role is missing, there are several layers of neurons between the two, or the true
                training labels are not known.
            RoleError: the two roles do not have the same number of neurons.
            UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
        """
        self.require(subject)
        task = subject.task
        if task.noisy is None:
            raise MissingNeedError(f"{self.name!r} needs the true labels of the training examples")
        config = subject.run.config if isinstance(subject.run, Run) else None
        loss = "cross_entropy" if config is None else config.loss
        note = "the training loss was not recorded: cross-entropy is assumed" if config is None else ""
        roles = _roles(subject)
        check_subject(subject)
        model = subject.copy_model().eval()
        norm = _norms(model, roles)
        clean = _drive(subject, model, roles, task.train_ids[~task.noisy], loss)
        noisy = _drive(subject, model, roles, task.train_ids[task.noisy], loss)
        decay = None if config is None else -config.weight_decay * norm
        return NormDriveResult(norm, clean, noisy, decay, _key(subject), _ipr(subject), loss, note)

    def realised(self, subject: Subject) -> NormChange:
        """Return the actual change of the norms between the checkpoints of the subject's run.

        Raises:
            MissingNeedError: there is no run, a role is missing, or there are several layers between the two.
        """
        self.require(subject)
        if subject.run is None:
            raise MissingNeedError("the realised change of norms needs a run")
        roles, steps = _roles(subject), subject.run.checkpoint_steps()
        norms = [_norms(subject.run.model_at(step), roles) for step in steps]
        return NormChange(torch.tensor(steps), torch.stack(norms))


def _roles(subject: Subject) -> tuple[Role, Role]:
    """Return the roles of θ's two parts, after checking that they have the same neurons."""
    roles = subject.roles
    assert roles.input_embedding is not None and roles.readout is not None
    check_no_stream(roles)
    if len(roles.hidden) > 1:
        raise MissingNeedError(f"the norm budget needs one layer of neurons, got {', '.join(roles.hidden)}")
    embedding = read_role(roles, "input_embedding", subject.model, "operands", "symbols", "neurons")
    read_role(roles, "readout", subject.model, embedding.shape[2], "classes", beside="input_embedding")
    return roles.input_embedding, roles.readout


def _products(
    roles: tuple[Role, Role], weights: list[list[Tensor]], others: list[list[Tensor]]
) -> Float[Tensor, " neuron"]:
    """Return each neuron's inner product ⟨θ, x⟩ of parameters with tensors of their shapes, in float64."""
    total = torch.zeros(())
    for role, stored, other, axis in zip(roles, weights, others, ((0, 1), (1,)), strict=True):
        shown = role.arrange([(a.double() * b.double()) for a, b in zip(stored, other, strict=True)])
        # A weight that a pattern repeats (tied inputs) counts once.
        repeats = shown.numel() / sum(tensor.numel() for tensor in stored)
        total = total + shown.sum(axis) / repeats
    return total.cpu()


def _stored(model: nn.Module, roles: tuple[Role, Role]) -> list[list[Tensor]]:
    named = dict(model.named_parameters(remove_duplicate=False))
    return [[named[name] for name in role.names] for role in roles]


@torch.no_grad()
def _norms(model: nn.Module, roles: tuple[Role, Role]) -> Float[Tensor, " neuron"]:
    stored = _stored(model, roles)
    return _products(roles, stored, stored)


@differentiating()
def _drive(
    subject: Subject, model: nn.Module, roles: tuple[Role, Role], ids: Int[Tensor, " example"], loss: str
) -> Float[Tensor, " neuron"]:
    """Return −⟨θ, ∇L⟩ per neuron, L being the loss summed over these examples over the number of training examples."""
    stored, device, n = _stored(model, roles), device_of(model), len(subject.task.train_ids)
    flat = [parameter.requires_grad_(True) for part in stored for parameter in part]
    sums = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in flat]
    for block in blocks(len(ids), block_rows(model)):
        inputs, given = subject.task.batch(ids[block])
        logits = full_precision(model(inputs.to(device)))
        check_logits(logits.detach(), ids[block])
        part = loss_of(logits, given.to(device), loss) * (len(given) / n)
        for total, gradient in zip(sums, torch.autograd.grad(part, flat, materialize_grads=True), strict=True):
            total += gradient
    gradients = [sums[: len(stored[0])], sums[len(stored[0]) :]]
    with torch.no_grad():
        return -_products(roles, stored, gradients)


def _key(subject: Subject) -> Int[Tensor, " neuron"] | None:
    try:
        group, embedding, readout = neuron_weights(subject)
    except MissingNeedError:
        return None
    power = frequency_power(group, full_precision(embedding.cpu()), full_precision(readout.cpu()))
    return key_or_none(group, power)


def _ipr(subject: Subject) -> Float[Tensor, " neuron"] | None:
    try:
        found = named("neuron_scores", "ipr")(subject)
    except MissingNeedError:
        return None
    return torch.as_tensor(found.to_frame()["score"].to_numpy(copy=True))
