"""The input and output vectors of a layer's neurons, whatever the task: no group, no order of symbols is asked for."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechmem.contracts import Subject
from mechmem.errors import MissingNeedError, RoleError
from mechmem.models.forward import full_precision
from mechmem.models.weights import check_no_stream, neuron_point


def layer_vectors(subject: Subject, point: str = "") -> tuple[str, dict[str, Float[Tensor, "entry neuron"]]]:
    """Return the hook point of a layer, and its neurons' vectors on the CPU: u and v in the first layer, w in the last.

    Args:
        subject: names the roles; one that is missing leaves its vectors out.
        point: which layer, a hook point of the role `hidden`; by default the last.

    Returns:
        the point ("" where the roles name none), and by name "u", "v" (one input vector per operand) and "w" (the
        output vector) as far as the layer has them, one column per neuron.

    Raises:
        UnknownNameError: there is no such layer.
        MissingNeedError: the layer has none of these vectors, or the network has a residual stream.
        RoleError: a role is read in another shape than (1 or 2, entries, neurons) or (neurons, classes).
    """
    roles = subject.roles
    point = neuron_point(subject, point)
    check_no_stream(roles)
    found: dict[str, Tensor] = {}
    if roles.input_embedding is not None and (not roles.hidden or point == roles.hidden[0]):
        embedding = roles.input_embedding.read(subject.model)
        if embedding.ndim != 3 or len(embedding) not in (1, 2):
            raise RoleError(
                f"input_embedding must read as (1 or 2, entries, neurons), and reads as {tuple(embedding.shape)}"
            )
        found |= dict(zip("uv", full_precision(embedding.cpu()), strict=False))
    if roles.readout is not None and (not roles.hidden or point == roles.hidden[-1]):
        readout = roles.readout.read(subject.model)
        if readout.ndim != 2 or any(vectors.shape[1] != len(readout) for vectors in found.values()):
            width = next((vectors.shape[1] for vectors in found.values()), "neurons")
            raise RoleError(f"readout must read as ({width}, classes), and reads as {tuple(readout.shape)}")
        found["w"] = rearrange(full_precision(readout.cpu()), "neuron classes -> classes neuron")
    if not found:
        raise MissingNeedError(
            f"layer {point!r} has neither an input vector per operand nor an output vector over the classes"
        )
    return point, found
