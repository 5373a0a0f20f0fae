"""Readout of logits from a residual stream: the final norm, if any, and the unembedding."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError, RoleError
from mechmem.math.logits import check_finite
from mechmem.models.hooks.points import hook_points
from mechmem.models.reading.residual import residual_writers, tensor_at

NORM = "ln_final"
"""Name of the module between the last block and the unembedding."""


@dataclasses.dataclass(frozen=True, eq=False)
class FinalNorm:
    """The parts of the normalisation before the unembedding that are the same on every example.

    Attributes:
        point: the hook point that holds the scale by which each example is divided.
        weight: factor per dimension after the division. Shape (d_model).
        bias: bias per dimension after the factor. Shape (d_model).
        centred: whether the mean over dimensions is subtracted first (LayerNorm) or not (RMSNorm).
    """

    point: str
    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    centred: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class StreamReadout:
    """logits = norm(stream) · weights + bias; linear in the stream once the norm's scale is frozen.

    Attributes:
        weights: the unembedding. Shape (d_model, class).
        bias: its bias; 0 if it has none. Shape (class).
        norm: the normalisation, or None.
    """

    weights: Float[Tensor, "d_model class"]
    bias: Float[Tensor, " class"]
    norm: FinalNorm | None

    @property
    def offset(self) -> Float[Tensor, " class"]:
        """Contribution of the biases of norm and unembedding to every example's logits."""
        return self.bias if self.norm is None else self.norm.bias @ self.weights + self.bias

    def along(
        self, columns: Float[Tensor, "example d_model"], scale: Float[Tensor, "example 1"] | None
    ) -> Float[Tensor, "example d_model"]:
        """Return the direction whose inner product with the stream is that of `columns` with the normalised stream.

        Args:
            columns: a combination of the unembedding's columns per example.
            scale: the norm's own scale on each example, frozen; None without a norm.
        """
        if self.norm is None or scale is None:
            return columns
        weighted = columns * self.norm.weight
        return (weighted - weighted.mean(1, keepdim=True) if self.norm.centred else weighted) / scale

    def logits(
        self, stream: Float[Tensor, "example d_model"], scale: Float[Tensor, "example 1"] | None
    ) -> Float[Tensor, "example class"]:
        """Return the logits of a stream.

        Args:
            stream: the stream at the output position, before the norm.
            scale: the norm's own scale on each example; None without a norm.
        """
        if self.norm is not None and scale is not None:
            stream = (stream - stream.mean(1, keepdim=True) if self.norm.centred else stream) / scale
            stream = stream * self.norm.weight
        return stream @ self.weights + self.offset

    def with_centring(self, centred: bool) -> StreamReadout:
        """Return the same readout with centring of its norm switched on or off."""
        return dataclasses.replace(self, norm=self.norm and dataclasses.replace(self.norm, centred=centred))


def stream_readout(subject: Subject) -> StreamReadout:
    """Return the readout from the residual stream to the task's logits, in float64 on the CPU.

    The norm is assumed to centre, as LayerNorm does, unless the model's `cfg` calls it an RMSNorm.

    Raises:
        MissingNeedError: the role `readout` is missing.
        RoleError: a role is read in another shape than (d_model, classes) or (classes).
        NotFiniteError: a weight of the readout is NaN or infinite.
    """
    roles, classes = subject.roles, subject.task.n_classes
    if roles.readout is None:
        raise MissingNeedError("this needs the role 'readout'")
    weights = roles.readout.read(subject.model).cpu().double()[..., : roles.output.classes]
    bias = torch.zeros(classes, dtype=torch.float64)
    if roles.bias is not None:
        bias = roles.bias.read(subject.model).cpu().double()[: roles.output.classes]
    if weights.ndim != 2 or weights.shape[1] != classes or tuple(bias.shape) != (classes,):
        raise RoleError(
            f"readout and bias must read as (d_model, {classes}) and ({classes},), but read as {tuple(weights.shape)} "
            f"and {tuple(bias.shape)}"
        )
    check_finite(weights, "the weights of the role readout")
    point = f"{NORM}.hook_scale"
    if point not in hook_points(subject.model):
        return StreamReadout(weights, bias, None)
    weight, shift = (tensor_at(subject.model, f"{NORM}.{name}") for name in ("w", "b"))
    norm = FinalNorm(
        point,
        torch.ones(len(weights), dtype=torch.float64) if weight is None else weight.double(),
        torch.zeros(len(weights), dtype=torch.float64) if shift is None else shift.double(),
        centred=not str(getattr(getattr(subject.model, "cfg", None), "normalization_type", "")).startswith("RMS"),
    )
    return StreamReadout(weights, bias, norm)


def neuron_logit_map(subject: Subject) -> Float[Tensor, "neuron class"] | None:
    """Return W_L, the map from the last MLP's neurons to the logits (Nanda et al. 2023, §4.2); None without an MLP.

    In float64. With a final norm the map leaves out the division by its scale: a neuron's output vector is centred if
    the norm centres, and multiplied by the norm's weights.

    Raises:
        MissingNeedError: the network has no residual stream, or its points have other names.
        RoleError: the readout does not fit.
    """
    layers = [writer for writer in residual_writers(subject) if writer.kind == "neurons"]
    if not layers:
        return None
    readout, written = stream_readout(subject), layers[-1].weights
    assert written is not None
    rows, norm = written.double(), readout.norm
    if norm is not None:
        rows = (rows - rows.mean(1, keepdim=True) if norm.centred else rows) * norm.weight
    return rows @ readout.weights
