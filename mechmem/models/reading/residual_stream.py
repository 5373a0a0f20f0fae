"""Decomposition of a residual stream into its writers, checked against the network's logits."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.errors import NotLinearError
from mechmem.models.reading.activations import activations
from mechmem.models.reading.forward import all_logits
from mechmem.models.reading.linear_readout import ROUNDINGS, TOLERANCE
from mechmem.models.reading.residual import Writer, at_answer, residual_writers, writer_values
from mechmem.models.reading.unembedding import StreamReadout, stream_readout


@dataclasses.dataclass(frozen=True, eq=False)
class StreamValues:
    """Values of the writers on some examples at the output position, in float64.

    Attributes:
        values: each writer's value, in the order of the writers; rows are examples.
        scale: the final norm's scale; None without a norm. Shape (example, 1).
        logits: the network's own logits. Shape (example, class).
        rebuilt: logits of the sum of all writers, through norm and unembedding. Shape (example, class).
    """

    values: tuple[Shaped[Tensor, "example ..."], ...]
    scale: Float[Tensor, "example 1"] | None
    logits: Float[Tensor, "example class"]
    rebuilt: Float[Tensor, "example class"]

    @property
    def gap(self) -> float:
        """Largest difference between the network's logits and the rebuilt ones."""
        return float((self.rebuilt - self.logits).abs().max())


@dataclasses.dataclass(frozen=True, eq=False)
class ResidualStream:
    """Writers of a network's residual stream, and its readout.

    Attributes:
        subject: the network.
        writers: the writers, in float64.
        readout: norm and unembedding, in float64.
        precision: machine epsilon of the network's weights.
    """

    subject: Subject
    writers: tuple[Writer, ...]
    readout: StreamReadout
    precision: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parts of all writers, in order."""
        return tuple(name for writer in self.writers for name in writer.names)

    @property
    def normalization(self) -> str:
        """Normalisation before the unembedding: "none", "LayerNorm" or "RMSNorm"."""
        if self.readout.norm is None:
            return "none"
        return "LayerNorm" if self.readout.norm.centred else "RMSNorm"

    def read(self, ids: Int[Tensor, " example"]) -> StreamValues:
        """Run the network on examples and check that the writers sum to its logits.

        Raises:
            NotLinearError: they do not.
        """
        found = self._read(ids)
        largest = float(found.logits.abs().max())
        if not found.gap <= max(TOLERANCE, ROUNDINGS * self.precision) * largest:
            raise NotLinearError(
                f"the writers of the residual stream do not sum to the logits: they differ by up to {found.gap:.3g}, "
                f"where the largest logit is {largest:.3g}; found {', '.join(self.names)}"
            )
        return found

    def _read(self, ids: Int[Tensor, " example"]) -> StreamValues:
        subject, norm = self.subject, self.readout.norm
        points = [writer.point for writer in self.writers if writer.point] + ([] if norm is None else [norm.point])
        held = activations(subject, points, ids=ids)
        values = writer_values(subject, self.writers, held)
        scale = None if norm is None else at_answer(subject, held[norm.point], 2).double()
        each = [writer.write(value) for writer, value in zip(self.writers, values, strict=True)]
        logits = all_logits(subject)[subject.task.rows(ids)].double()
        return StreamValues(tuple(values), scale, logits, self.readout.logits(torch.stack(each).sum(0), scale))


def residual_stream(subject: Subject, ids: Int[Tensor, " example"]) -> ResidualStream:
    """Find a network's writers, and from the logits of some examples whether its final norm subtracts the mean.

    Args:
        subject: the network, with the roles `residual` and `readout`.
        ids: examples on which to try both kinds of norm; a few suffice.

    Raises:
        MissingNeedError: there is no residual stream, or its writers have unknown names.
        RoleError: the readout does not fit.
        NotLinearError: the writers do not sum to the logits.
    """
    writers = tuple(writer.double() for writer in residual_writers(subject))
    precision = max((torch.finfo(p.dtype).eps for p in subject.model.parameters() if p.is_floating_point()), default=0)
    plain = stream_readout(subject)
    tried = [plain] if plain.norm is None else [plain.with_centring(True), plain.with_centring(False)]
    streams = [ResidualStream(subject, writers, readout, precision) for readout in tried]
    best = min(streams, key=lambda stream: stream._read(ids).gap)
    best.read(ids)
    return best
